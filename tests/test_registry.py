"""Every spelling of a component name builds, in a fresh process and an empty folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from mmdet_losses import registry
from tests import cases
from tests.processes import ROOT, run_command


def configs() -> list[tuple[str, dict]]:
    """(registry, config) of every component that the contract tests build."""
    found = [('MODELS', case.config) for case in [*cases.LOSSES.values(), *cases.NETWORKS.values()]]
    for case in cases.DETECTORS.values():
        found += [('TASK_UTILS', case.encoder)]
        found += [('MODELS', part) for part in (case.criterion, case.predictor)]
    return [*found, ('HOOKS', dict(type='NumPositivesHook')), ('HOOKS', dict(type='EpochSeedHook'))]


def names() -> list[tuple[str, str]]:
    """(registry, name) of every registered component, including aliases."""
    return [
        (kind, name)
        for kind in registry.__all__
        for name, item in getattr(getattr(registry, kind), 'module_dict', {}).items()
        if item.__module__.startswith('mmdet_losses.')
    ]


def run(code: str, folder: Path) -> str:
    done = run_command(
        [sys.executable, '-c', code],
        cwd=folder,
        env={'PYTHONPATH': ROOT},
        text=json.dumps([configs(), names()]),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip().splitlines()[-1]


# Builds every config and finds every name, in MMEngine's root registries like the runner and in
# MMDetection's registries like its detectors.
BUILD_ALL = """
import json, sys
import mmengine.registry as root
from mmengine.config import Config
from mmengine.registry import DefaultScope

def build_all(configs, names, prefix):
    import mmdet.registry
    for package in (root, mmdet.registry):
        for kind, config in configs:
            built = getattr(package, kind).build({**config, 'type': prefix + config['type']})
            assert type(built).__module__.startswith('mmdet_losses.'), built
        for kind, name in names:
            with getattr(package, kind).switch_scope_and_registry(None) as chosen:  # as build does
                assert chosen.get(prefix + name) is not None, prefix + name

configs, names = json.load(sys.stdin)
if imports:
    text = "custom_imports = dict(imports=['mmdet_losses'], allow_failed_imports=False)"
    Config.fromstring(text, '.py')
    Config.fromstring(text, '.py')  # a second import changes nothing
elif 'mmdet_losses' in sys.modules:
    raise AssertionError('imported too early')
for scope, prefixes in scopes:
    if scope:
        DefaultScope.get_instance(f'run {scope}', scope_name=scope)
    for prefix in prefixes:
        build_all(configs, names, prefix)
print('built', len(configs), len(names))
"""


@pytest.mark.parametrize(
    ('imports', 'scopes'),
    [
        (True, [(None, ['mmdet.']), ('mmengine', ['mmdet.']), ('mmdet', ['', 'mmdet_losses.'])]),
        (False, [('mmdet', ['mmdet_losses.'])]),
    ],
    ids=['import line', 'no import line'],
)
def test_every_component_builds(tmp_path, imports, scopes):
    assert len(names()) >= len(configs()) > 0
    output = run(f'{imports=}\n{scopes=}\n{BUILD_ALL}', tmp_path)
    assert output == f'built {len(configs())} {len(names())}'


# The class of every name in MMDetection's registries, before and after the import of the package.
SNAPSHOTS = """
import json
import mmdet.registry
from mmdet.utils import register_all_modules
from mmengine.registry import Registry

def snapshot():
    kinds = {k: r for k, r in vars(mmdet.registry).items() if isinstance(r, Registry)}
    return {k: {n: f'{c.__module__}.{c.__qualname__}' for n, c in r.module_dict.items()}
            for k, r in kinds.items()}

register_all_modules(init_default_scope=False)
theirs = snapshot()
import mmdet_losses
print(json.dumps([theirs, snapshot()]))
"""


def test_no_name_of_mmdetection_is_replaced(tmp_path):
    theirs, both = json.loads(run(SNAPSHOTS, tmp_path))
    assert sum(map(len, theirs.values())) > 300
    for kind, known in theirs.items():
        assert {name: both[kind][name] for name in known} == known
        added = {name: c for name, c in both[kind].items() if name not in known}
        assert all(c.startswith('mmdet_losses.') for c in added.values())
