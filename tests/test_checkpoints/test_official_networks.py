"""Converted checkpoints of the corner and centre families give the official outputs."""

from __future__ import annotations

import json
import shutil
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
import torch

from mmdet_losses.compat import has_mmcv_ops
from mmdet_losses.core.checkpoint import CheckpointMismatch, KeyMap, convert, network_of
from mmdet_losses.detectors.checkpoints import LAYOUTS
from tools.parity import models
from tools.parity.models import NETWORKS, check_model, find, strip

GOLDEN = Path(__file__).parents[1] / 'golden' / 'models'
LARGE = ('hg104', 'ctdet_hourglass', 'cornernet_saccade')
DEFORMABLE = ('resdcn', 'dla')
LAYOUT = ('cornernet', 'centernet_')
PATTERNS = [pattern for pattern, each in NETWORKS.items() if each.layout.startswith(LAYOUT)]
FOLDERS = sorted(
    path.parent.name
    for path in GOLDEN.glob('*/meta.json')
    if any(fnmatch(path.parent.name, pattern) for pattern in PATTERNS)
)

needs_ops = pytest.mark.skipif(
    not has_mmcv_ops(), reason='deformable convolution needs the compiled operators of MMCV'
)


def cases(*slow: str) -> list:
    """All folders; those whose names end like ``slow`` are marked so."""
    return [
        pytest.param(
            name,
            marks=[
                *([pytest.mark.slow] if name.endswith(slow) else []),
                *([needs_ops] if any(word in name for word in DEFORMABLE) else []),
            ],
        )
        for name in FOLDERS
    ]


def shapes_of(name: str) -> dict[str, list[int]]:
    return strip(json.loads((GOLDEN / name / 'keys.json').read_text()))


def skeleton(
    name: str, more_classes: int = 0
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], KeyMap]:
    """Official and our state dict as shapes without numbers, and the rules."""
    shapes, network = shapes_of(name), find(name)
    model = network.model(shapes, name)
    model.bbox_head.predictor.num_classes += more_classes
    with torch.device('meta'):
        source = {key: torch.empty(shape) for key, shape in shapes.items()}
    key_map = LAYOUTS[network.layout].key_map(model)
    return source, network_of(model).state_dict(), key_map


def test_every_kind_of_network_has_a_golden_folder():
    without = ['multi_pose_hourglass*']  # its rules and branches are those of two other folders
    missing = [each for each in PATTERNS if not any(fnmatch(name, each) for name in FOLDERS)]
    assert missing == without


@pytest.mark.parametrize('name', cases(*LARGE))
def test_outputs_equal_the_official_network(name):
    rows = check_model(GOLDEN / name)
    meta = json.loads((GOLDEN / name / 'meta.json').read_text())
    assert {row.quantity for row in rows} == set(meta['outputs'])
    assert [row for row in rows if not row.ok] == []


def test_parity_sees_one_changed_weight(tmp_path):
    """One layer, scaled by a hundredth, changes exactly the outputs that depend on it."""
    folder = tmp_path / 'cornernet_squeeze'
    shutil.copytree(GOLDEN / folder.name, folder)
    meta = json.loads((folder / 'meta.json').read_text())
    meta['scale'].append([r'^module\.tl_modules\.1\.p2_conv1\.conv\.weight$', 1.01])
    (folder / 'meta.json').write_text(json.dumps(meta))
    failed = {row.quantity for row in check_model(folder) if not row.ok}
    assert failed == {'tl_heat_1', 'tl_tag_1', 'tl_off_1'}


def test_an_error_fails_every_output_by_its_name(monkeypatch):
    monkeypatch.setattr(models, 'make_weights', lambda *_: 1 / 0)
    rows = check_model(GOLDEN / 'ctdet_resdcn18')
    assert [row.quantity for row in rows if not row.ok and 'division' in row.quantity] == [
        f'{name}_0 ZeroDivisionError: division by zero' for name in ('hm', 'wh', 'reg')
    ]


def test_an_absent_empty_or_wrong_array_fails():
    output = torch.arange(6.0).view(2, 3)
    spread = dict(mean=2.5, std=float(output.std(correction=0)), abs_sum=15.0)
    stored = dict(stored='full', shape=[2, 3], **spread)
    right = output.numpy()
    wrong = (right[:0], right * 1.001, np.where(right == 4, np.nan, right))
    assert models.compare('', 'hm', output, stored, {'hm': right}).ok
    assert not any(models.compare('', 'hm', output, stored, {'hm': each}).ok for each in wrong)
    assert not models.compare('', 'hm', output, stored, {}).ok
    assert not models.compare('', 'hm', None, stored, {'hm': right}).ok
    unknown = dict(stored, mean=float('nan'))
    assert not models.compare('', 'hm', output, unknown, {'hm': right}).ok


@pytest.mark.parametrize('name', cases())
def test_only_dead_parameters_are_ignored(name):
    source, target, key_map = skeleton(name)
    ignored = convert(source, target, key_map).ignored
    meta = json.loads((GOLDEN / name / 'meta.json').read_text())
    dead = {key.removeprefix('module.') for key in meta['dead_parameters']}
    assert {key for key in ignored if not key.endswith('num_batches_tracked')} == dead


@pytest.mark.parametrize('name', cases())
def test_every_lost_key_is_listed(name):
    source, target, key_map = skeleton(name)
    needed = set(source) - set(convert(source, target, key_map).ignored)
    renamed = {key: key_map.rename(key) for key in source if key in needed}
    lost = [key for key, ours in renamed.items() if ours in target][::7]
    for key in lost:
        del source[key]
    with pytest.raises(CheckpointMismatch) as caught:
        convert(source, target, key_map)
    listed = {line.strip() for line in str(caught.value).splitlines()}
    assert {renamed[key] for key in lost} <= listed


@pytest.mark.parametrize('name', cases())
def test_a_different_number_of_classes_changes_heatmaps_only(name):
    source, target, key_map = skeleton(name, more_classes=1)
    with pytest.raises(CheckpointMismatch, match='of another shape'):
        convert(source, target, key_map)
    left_out = convert(source, target, key_map, True).class_layers
    assert left_out
    assert all('heatmap' in key and 'keypoint' not in key for key in left_out)


def test_the_file_of_another_variant_raises():
    source, _, key_map = skeleton('centernet_triplet_hg104')
    _, one_stack, _ = skeleton('centernet_triplet_hg52')
    with pytest.raises(CheckpointMismatch, match='unexpected'):
        convert(source, one_stack, key_map)
