"""Weights that trainings start from: files of other networks that fill a part of ours."""

import json
from pathlib import Path

import pytest
import torch

from mmdet_losses.core.checkpoint import CheckpointMismatch, choose_layout, convert, network_of
from mmdet_losses.detectors.checkpoints import LAYOUTS
from tools.convert_checkpoint import main, read_model

ROOT = Path(__file__).resolve().parents[2]
CONFIGS, GOLDEN = ROOT / 'configs', ROOT / 'tests' / 'golden' / 'models'
HOURGLASS = CONFIGS / 'centernet_points' / 'centernet_points_hg104_8xb3-50e_coco.py'
DLA = CONFIGS / 'centernet_points' / 'centernet_points_dla34_8xb16-230e_coco.py'
KITTI = CONFIGS / 'centertrack' / 'centertrack_dla34_2xb8-70e_kitti-half.py'
SSD = CONFIGS / 'ssd' / 'ssd300_vgg16_4xb8-232e_voc0712.py'


def tensors(folder):
    """Names of an official checkpoint with tensors that take no memory."""
    keys = json.loads((GOLDEN / folder / 'keys.json').read_text())
    return {key.removeprefix('module.'): torch.zeros(()).expand(s) for key, s in keys.items()}


@pytest.mark.parametrize('names', [('t_heats', 'ct_regrs'), ('hm_t', 'reg_c')])
def test_the_hourglass_of_extremenet_fills_the_backbone(names, tmp_path):
    trunk = {
        key: value
        for key, value in tensors('ctdet_hourglass').items()
        if key.startswith(('pre.', 'kps.', 'cnvs', 'inters'))
    }
    branches = {f'{name}.0.0.conv.weight': torch.zeros(2, 2, 3, 3) for name in names}
    file = tmp_path / 'ExtremeNet_250000.pkl'
    torch.save({f'module.{key}': torch.zeros(1) for key in (*trunk, *branches)}, file)
    model = read_model(HOURGLASS)
    name, layout = choose_layout(file, model, LAYOUTS)
    assert name == 'extremenet_hourglass'
    target = layout.target(network_of(model))
    result = convert({**trunk, **branches}, target, layout.key_map(model))
    assert result.state_dict.keys() == target.keys() and not result.missing
    assert set(branches) <= result.ignored.keys()
    with pytest.raises(CheckpointMismatch, match='1 missing'):
        trunk.pop('kps.1.low1.0.conv1.weight')
        convert({**trunk, **branches}, target, layout.key_map(model))


def test_a_3d_detector_for_nuscenes_starts_the_tracker_of_kitti(tmp_path):
    """The converted file fills all but the stems of the previous frame and new branches."""
    source = tensors('ctdet_dla34')
    branches = {f'{name}.0.weight': torch.zeros(256, 64, 3, 3) for name in ('dep', 'rot', 'dim')}
    classes = {'hm.2.weight': torch.zeros(10, 256, 1, 1), 'hm.2.bias': torch.zeros(10)}
    model = read_model(DLA)
    layout = LAYOUTS['centernet_dla']
    target = layout.target(network_of(model))
    source |= {**branches, **classes}
    result = convert(source, target, layout.key_map(model), allow_class_layers=True)
    assert set(branches) <= result.ignored.keys()
    assert len(result.class_layers) == 2
    tracker = network_of(read_model(KITTI)).state_dict()
    kept = {key for key, value in result.state_dict.items() if tracker[key].shape == value.shape}
    assert kept == result.state_dict.keys()
    new = {'.'.join(key.split('.')[:3]) for key in tracker.keys() - kept}
    assert new == {
        'backbone.pre_img_layer.conv', 'backbone.pre_img_layer.bn', 'backbone.pre_hm_layer.conv',
        'backbone.pre_hm_layer.bn', 'bbox_head.predictor.tracking', 'bbox_head.predictor.heatmap',
    }  # fmt: skip


def test_vgg_with_two_convolutions_for_its_connected_layers_starts_ssd(tmp_path):
    model = read_model(SSD)
    target = LAYOUTS['vgg16_reducedfc'].target(network_of(model))
    prefix = 'backbone.features.'
    source = {key.removeprefix(prefix): torch.rand(value.shape) for key, value in target.items()}
    assert {'0.weight', '28.bias', '31.weight', '33.bias'} <= source.keys()
    official, ours = tmp_path / 'vgg16_reducedfc.pth', tmp_path / 'vgg.pth'
    torch.save(source, official)
    assert main([str(SSD), str(official), str(ours)]) == 0
    found = torch.load(ours, weights_only=True)['state_dict']
    assert found.keys() == target.keys()
    assert torch.equal(found[f'{prefix}33.bias'], source['33.bias'])
