"""Import rules between the folders, checked in the source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / 'mmdet_losses'
FAMILIES = sorted(
    path.name for path in (PACKAGE / 'detectors').iterdir() if (path / '__init__.py').exists()
)

# Folder (or module) of the package -> what it may import of the package.
SHARED = {'registry', 'compat', 'ops', 'core', 'networks'}
ALLOWED = {
    'compat': {'compat', 'ops'},
    'registry': set(),
    'ops': {'ops'},
    'losses': {'losses', 'ops', 'registry'},
    'core': {'core', 'ops', 'registry', 'compat'},
    'networks': {'networks', 'ops', 'registry', 'compat', 'core'},
    'data': {'data', 'ops', 'registry', 'compat', 'core'},
    'engine': {'engine', 'ops', 'registry', 'compat', 'core', 'data'},
    'metrics': {'metrics', 'ops', 'registry', 'compat', 'core', 'data'},
    'visualization': {'visualization', 'metrics', 'ops', 'registry', 'compat', 'core', 'data'},
    'detectors': {f'detectors.{name}' for name in FAMILIES},
    '__init__': {
        'compat',
        'core',
        'data',
        'detectors',
        'engine',
        'losses',
        'metrics',
        'networks',
        'registry',
        'visualization',
    },
    **{f'detectors.{name}': {*SHARED, f'detectors.{name}'} for name in FAMILIES},
}


def owner_of(path: Path) -> str:
    """The key of ``ALLOWED`` that a source file falls under: its folder, family or module."""
    parts = path.relative_to(PACKAGE).with_suffix('').parts
    if parts[0] == 'detectors' and len(parts) > 2:
        return '.'.join(parts[:2])
    return parts[0]


def imports_of(source: str, module: str) -> Iterator[str]:
    """Absolute names of all modules that a source imports, at any depth."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ''
            if node.level:
                above = module.split('.')[: -node.level]
                base = '.'.join([*above, base] if base else above)
            yield from (f'{base}.{alias.name}' for alias in node.names)


def is_wrong(name: str, owner: str) -> bool:
    """Whether the owner may not import the module of that name."""
    top, *rest = name.split('.')
    if top != 'mmdet_losses':
        return (
            top in ('tools', 'configs', 'tests')
            or (name.startswith('mmdet.registry') and owner != 'registry')
            or (owner == 'ops' and top.startswith('mm'))
        )
    target = '.'.join(rest[:2]) if rest[:1] == ['detectors'] else '.'.join(rest[:1])
    return target not in ALLOWED[owner]


def wrong_imports(source: str, module: str, owner: str) -> list[str]:
    """Modules that a source imports although its owner may not."""
    return [name for name in imports_of(source, module) if is_wrong(name, owner)]


SOURCES = sorted(path for path in PACKAGE.rglob('*.py') if '.mim' not in path.parts)


@pytest.mark.parametrize(
    'path', SOURCES, ids=[str(path.relative_to(PACKAGE.parent)) for path in SOURCES]
)
def test_imports_follow_the_rules(path: Path) -> None:
    module = '.'.join(path.relative_to(PACKAGE.parent).with_suffix('').parts)
    wrong = wrong_imports(path.read_text(encoding='utf-8'), module, owner_of(path))
    assert not wrong, f'{module} may not import {", ".join(wrong)} (see CONTRIBUTING.md)'


def test_a_module_with_a_similar_name_is_allowed() -> None:
    assert not wrong_imports('import torch.testing', 'mmdet_losses.ops.boxes', 'ops')


@pytest.mark.parametrize(
    ('module', 'source'),
    [
        ('mmdet_losses.ops.boxes', 'from mmdet_losses.losses import masked_l1'),
        ('mmdet_losses.ops.boxes', 'import mmengine'),
        ('mmdet_losses.losses.masked_l1', 'from mmdet.registry import MODELS'),
        ('mmdet_losses.losses.masked_l1', 'from mmdet_losses.core.types import Size'),
        ('mmdet_losses.losses.masked_l1', 'from ..core import types'),
        ('mmdet_losses.core.head', 'def late():\n    import mmdet_losses.detectors.center'),
        ('mmdet_losses.detectors.center.snap', 'from mmdet_losses.detectors.yolo import losses'),
        ('mmdet_losses.detectors.center.snap', 'from mmdet_losses.losses import masked_l1_loss'),
        ('mmdet_losses.data.digits', 'from tests import cases'),
        ('mmdet_losses.data.digits', 'from mmdet_losses.engine import UsageError'),
        ('mmdet_losses.engine.check', 'from mmdet_losses.detectors.yolo import contracts'),
        ('mmdet_losses.visualization.sheets', 'from mmdet_losses.detectors.yolo import contracts'),
        ('mmdet_losses.metrics.oracle', 'from mmdet_losses.detectors.corner import contracts'),
        ('mmdet_losses.metrics.oracle', 'from mmdet_losses.visualization import draw_targets'),
        ('mmdet_losses.ops.nms', 'from mmcv.ops import nms'),
        ('mmdet_losses.compat.patches', 'from mmdet_losses.core import types'),
        ('mmdet_losses.registry', 'from mmdet_losses.ops import boxes'),
    ],
)
def test_wrong_imports_are_found(module: str, source: str) -> None:
    owner = owner_of(PACKAGE.parent / Path(*module.split('.')).with_suffix('.py'))
    assert len(wrong_imports(source, module, owner)) == 1
