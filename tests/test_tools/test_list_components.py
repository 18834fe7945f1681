"""The list is what the registries hold, no more and no less."""

from __future__ import annotations

import importlib.util
import json

import pytest

from mmdet_losses.registry import MODELS


@pytest.fixture(scope='module')
def tool(tools):
    path = tools.root / 'tools' / 'list_components.py'
    spec = importlib.util.spec_from_file_location('list_components', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_lists_a_new_component_with_its_aliases(tool, capsys, monkeypatch):
    monkeypatch.setattr(MODELS, '_module_dict', dict(MODELS.module_dict))
    before = tool.components()

    class FreshLoss:
        """A formula.

        And more about it.
        """

    FreshLoss.__module__ = 'mmdet_losses.losses.fresh'
    for name in ('OldName', 'FreshLoss', 'AnotherName'):
        MODELS.register_module(name=name, module=FreshLoss)
    fresh = ('MODELS', 'FreshLoss', ['AnotherName', 'OldName'], 'A formula.')
    assert sorted([*before, fresh]) == tool.components()

    assert tool.main(['oldn', '--json']) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry == dict(zip(('kind', 'name', 'aliases', 'summary'), fresh, strict=True))
    assert tool.main(['fresh*']) == 0
    text = 'MODELS      FreshLoss (AnotherName, OldName): A formula.\n1 component(s)\n'
    assert capsys.readouterr().out == text


def test_names_are_complete(tool):
    listed = {
        name for c in tool.components() for name in (c.name, *c.aliases) if c.kind == 'MODELS'
    }
    ours = {n for n, c in MODELS.module_dict.items() if c.__module__.startswith('mmdet_losses.')}
    assert listed == ours
    assert {'EncodedDenseHead', 'MaskedL1Loss', 'CenterNetPointsPredictor'} <= listed
    assert not {'L1Loss', 'CenterNetHead'} & listed


def test_every_component_has_a_summary(tool):
    assert [c.name for c in tool.components() if not c.summary] == []


def test_nothing_found(tool, capsys):
    assert tool.main(['no such name']) == 1
    assert capsys.readouterr().out == '0 component(s)\n'
