"""Every registered component has a case, and every case names a registered component."""

from pathlib import Path

import pytest

from mmdet_losses import registry
from tests import cases

REGISTRIES = [getattr(registry, name) for name in registry.__all__ if name.isupper()]


def registered() -> set[str]:
    """Class names of everything that this package registers, aliases resolved."""
    return {
        component.__name__
        for each in REGISTRIES
        if hasattr(each, 'module_dict')
        for component in each.module_dict.values()
        if component.__module__.startswith('mmdet_losses.')
    }


def covered() -> set[str]:
    names = {case.config['type'] for case in [*cases.LOSSES.values(), *cases.NETWORKS.values()]}
    names |= set(cases.ELSEWHERE)
    for case in cases.DETECTORS.values():
        names |= {part['type'] for part in (case.encoder, case.criterion, case.predictor)}
    return names


def test_every_component_has_a_case():
    assert registered() - covered() == set()


def test_every_case_names_a_component():
    assert covered() - registered() == set()


@pytest.mark.parametrize('module', sorted(set(cases.ELSEWHERE.values())))
def test_modules_named_elsewhere_exist(module):
    assert (Path(cases.__file__).parent / module).is_file()
