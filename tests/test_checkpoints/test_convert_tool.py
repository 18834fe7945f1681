"""The command line of the conversion, on a small network's official checkpoint."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch

from mmdet_losses.registry import MODELS
from tools.convert_checkpoint import families, main
from tools.parity.models import make_weights

GOLDEN = Path(__file__).parents[1] / 'golden' / 'models' / 'ctdet_resdcn18'
FAMILY = 'centernet_points_resdcn'
DETECTOR = {
    'type': 'SingleStageDetector',
    'backbone': {'type': 'ResNet', 'depth': 18, 'out_indices': (3,)},
    'neck': {
        'type': 'CTResNetNeck',
        'in_channels': 512,
        'num_deconv_filters': (256, 128, 64),
        'num_deconv_kernels': (4, 4, 4),
    },
    'bbox_head': {
        'type': 'EncodedDenseHead',
        'predictor': {'type': 'CenterNetPointsPredictor', 'in_channels': 64, 'num_classes': 80},
        'encoder': {'type': 'CenterNetPointsTargetEncoder', 'num_classes': 80},
        'criterion': {'type': 'CenterNetPointsLoss'},
    },
}


@pytest.fixture(scope='module')
def official(tmp_path_factory) -> Path:
    keys = json.loads((GOLDEN / 'keys.json').read_text())
    meta = json.loads((GOLDEN / 'meta.json').read_text())
    path = tmp_path_factory.mktemp('official') / 'ctdet_coco_resdcn18.pth'
    torch.save({'epoch': 140, 'state_dict': make_weights(keys, meta)}, path)
    return path


def test_the_result_fills_the_whole_detector(official, tmp_path, capsys):
    path = tmp_path / 'new folder' / 'converted.pth'
    assert main([FAMILY, str(official), str(path)]) == 0
    assert 'left out 26 keys: a counter' in capsys.readouterr().out
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    content = torch.load(path, weights_only=True)
    assert content['meta']['family'] == FAMILY
    assert content['meta']['source'] == official.name
    detector = MODELS.build(DETECTOR)
    assert set(content['state_dict']) == set(detector.state_dict())
    detector.load_state_dict(content['state_dict'])


def test_an_existing_file_is_kept_unless_forced(official, tmp_path, capsys):
    path = tmp_path / 'mine.pth'
    path.write_text('mine')
    assert main([FAMILY, str(official), str(path)]) == 1
    assert '--force' in capsys.readouterr().err
    assert path.read_text() == 'mine'
    assert main([FAMILY, str(official), str(path), '--force']) == 0
    assert torch.load(path, weights_only=True)['state_dict']


def test_the_source_is_never_overwritten(official, capsys):
    before = official.read_bytes()
    assert main([FAMILY, str(official), str(official), '--force']) == 1
    assert 'is the file to convert' in capsys.readouterr().err
    assert official.read_bytes() == before


def test_what_does_not_fit_writes_nothing(official, tmp_path, capsys):
    path = tmp_path / 'converted.pth'
    assert main(['cornernet_squeeze', str(official), str(path)]) == 1
    said = capsys.readouterr().err
    assert 'missing' in said
    assert 'unexpected' in said
    assert list(tmp_path.iterdir()) == []


def test_class_layers_are_left_out_on_request(official, tmp_path, capsys):
    path = tmp_path / 'converted.pth'
    command = [FAMILY, str(official), str(path), '--options', 'num_classes=3']
    assert main(command) == 1
    assert 'hm.2.weight [80, 64, 1, 1]' in capsys.readouterr().err
    assert main([*command, '--allow-class-layers']) == 0
    assert 'left out bbox_head.predictor.heatmap.0.2.bias' in capsys.readouterr().out
    state = torch.load(path, weights_only=True)['state_dict']
    left_out = set(MODELS.build(DETECTOR).state_dict()) - set(state)
    assert left_out == {f'bbox_head.predictor.heatmap.0.2.{part}' for part in ('weight', 'bias')}


@pytest.mark.parametrize('word', ['num_clases=3', 'num_classes'])
def test_unknown_options_are_named(official, tmp_path, word, capsys):
    assert main([FAMILY, str(official), str(tmp_path / 'x.pth'), '--options', word]) == 1
    assert f'--options {word} is no option' in capsys.readouterr().err


def test_an_unknown_family_lists_the_known_ones(capsys):
    with pytest.raises(SystemExit, match='2'):
        main(['centernet', 'a', 'b'])
    assert FAMILY in capsys.readouterr().err


def test_families_of_all_detectors_are_there():
    assert {FAMILY, 'cornernet', 'ssd300', 'scaled_yolov4_p5', 'darknet_yolov3'} <= set(families())


def test_first_layers_alone_fill_the_backbone(tmp_path, capsys):
    family = families()['darknet_yolov2']
    backbone = family.build()['backbone']
    floats = [value for key, value in backbone.state_dict().items() if 'num_batches' not in key]
    source, path = tmp_path / 'darknet19.conv.19', tmp_path / 'backbone.pth'
    count = sum(value.numel() for value in floats)
    header = struct.pack('<3iQ', 0, 2, 5, 0)
    source.write_bytes(header + torch.ones(count).numpy().tobytes())
    assert main(['darknet_yolov2', str(source), str(path)]) == 1
    assert '(convert_checkpoint.py --partial)' in capsys.readouterr().err
    assert main(['darknet_yolov2', str(source), str(path), '--partial']) == 0
    assert 'left out 22 keys of bbox_head, neck: SRC ends before them' in capsys.readouterr().out
    state = torch.load(path, weights_only=True)['state_dict']
    assert set(state) == {f'backbone.{key}' for key in backbone.state_dict()}
    assert all(value.eq(1).all() for key, value in state.items() if 'num_batches' not in key)


def test_partial_is_for_files_without_names(official, tmp_path, capsys):
    assert main([FAMILY, str(official), str(tmp_path / 'x.pth'), '--partial']) == 1
    assert 'leave it out' in capsys.readouterr().err
