"""The command line of the conversion, on a small network's official checkpoint."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope

from mmdet_losses.core.checkpoint import choose_layout, network_of
from mmdet_losses.detectors.checkpoints import LAYOUTS
from mmdet_losses.registry import MODELS
from tools.convert_checkpoint import accepted, main, read_model
from tools.parity.models import make_weights

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / 'configs'
GOLDEN = ROOT / 'tests' / 'golden' / 'models' / 'ctdet_resdcn18'
CONFIG = str(CONFIGS / 'centernet_points' / 'centernet_points_resdcn18_8xb14-140e_coco.py')
SQUEEZE = str(CONFIGS / 'cornernet_squeeze' / 'cornernet_squeeze_8xb7-500k_coco.py')
YOLOV2 = str(CONFIGS / 'yolov2' / 'yolov2_d19_8xb8-ms-273e_coco.py')
CLASSES = 'model.bbox_head.predictor.num_classes'


@pytest.fixture(scope='module')
def official(tmp_path_factory) -> Path:
    keys = json.loads((GOLDEN / 'keys.json').read_text())
    meta = json.loads((GOLDEN / 'meta.json').read_text())
    path = tmp_path_factory.mktemp('official') / 'ctdet_coco_resdcn18.pth'
    torch.save({'epoch': 140, 'state_dict': make_weights(keys, meta)}, path)
    return path


def detector():
    with torch.device('meta'), DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(read_model(CONFIG))


def test_the_result_fills_the_whole_detector(official, tmp_path, capsys):
    path = tmp_path / 'new folder' / 'converted.pth'
    assert main([CONFIG, str(official), str(path)]) == 0
    assert 'left out 26 keys: a counter' in capsys.readouterr().out
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    content = torch.load(path, weights_only=True)
    assert content['meta']['layout'] == 'centernet_resdcn'
    assert content['meta']['source'] == official.name
    assert content['meta']['config'] == Path(CONFIG).name
    model = detector()
    assert set(content['state_dict']) == set(model.state_dict())
    model.load_state_dict(content['state_dict'], assign=True)


def test_an_existing_file_is_kept_unless_forced(official, tmp_path, capsys):
    path = tmp_path / 'mine.pth'
    path.write_text('mine')
    assert main([CONFIG, str(official), str(path)]) == 1
    assert '--force' in capsys.readouterr().err
    assert path.read_text() == 'mine'
    assert main([CONFIG, str(official), str(path), '--force']) == 0
    assert torch.load(path, weights_only=True)['state_dict']


def test_the_source_is_never_overwritten(official, capsys):
    before = official.read_bytes()
    assert main([CONFIG, str(official), str(official), '--force']) == 1
    assert 'is the file to convert' in capsys.readouterr().err
    assert official.read_bytes() == before


def test_what_does_not_fit_writes_nothing(official, tmp_path, capsys):
    path = tmp_path / 'converted.pth'
    assert main([SQUEEZE, str(official), str(path)]) == 1
    error = capsys.readouterr().err
    assert 'missing' in error
    assert 'unexpected' in error
    assert list(tmp_path.iterdir()) == []


def test_class_layers_are_left_out_on_request(official, tmp_path, capsys):
    path = tmp_path / 'converted.pth'
    command = [CONFIG, str(official), str(path), '--cfg-options', f'{CLASSES}=3']
    assert main(command) == 1
    assert 'hm.2.weight [80, 64, 1, 1]' in capsys.readouterr().err
    assert main([*command, '--allow-class-layers']) == 0
    assert 'left out bbox_head.predictor.heatmap.0.2.bias' in capsys.readouterr().out
    state = torch.load(path, weights_only=True)['state_dict']
    left_out = set(detector().state_dict()) - set(state)
    assert left_out == {f'bbox_head.predictor.heatmap.0.2.{part}' for part in ('weight', 'bias')}


def test_missing_arguments_show_the_usage(capsys):
    with pytest.raises(SystemExit, match='2'):
        main([CONFIG])
    assert 'give CONFIG, SRC and DST, or --list' in capsys.readouterr().err


def test_a_config_that_is_missing_or_of_another_package_is_named(official, tmp_path, capsys):
    assert main(['missing.py', str(official), str(tmp_path / 'x.pth')]) == 1
    assert 'config file missing.py not found (from ' in capsys.readouterr().err
    baseline = str(CONFIGS / 'baselines' / 'mmdet_centernet_digits.py')
    assert main([baseline, str(official), str(tmp_path / 'x.pth')]) == 1
    assert 'accepts no official file' in capsys.readouterr().err
    with pytest.raises(ValueError, match='without a bbox_head'):
        network_of(read_model(baseline))


def test_list_shows_what_a_config_accepts(capsys):
    assert main(['--list', CONFIG]) == 0
    out = capsys.readouterr().out
    assert 'centernet_resdcn: CenterNet (objects as points, pose) and CenterTrack on ResNet' in out
    digits = str(CONFIGS / 'yolov3' / 'yolov3_digits.py')
    assert main(['--list', digits]) == 0
    assert 'no official file has this network' in capsys.readouterr().out


def test_the_layout_is_found_in_the_file(tmp_path):
    """DLA's config accepts detectors and ImageNet weights; names in the file decide."""
    config = CONFIGS / 'centernet_points' / 'centernet_points_dla34_8xb16-140e_coco.py'
    model = read_model(config)
    assert accepted(model) == ['centernet_dla', 'dla34_imagenet']
    path = tmp_path / 'x.pth'
    for key, layout in (('base.level2.x', 'centernet_dla'), ('level2.x', 'dla34_imagenet')):
        torch.save({key: torch.ones(1)}, path)
        assert choose_layout(path, model, LAYOUTS)[0] == layout


def test_a_file_of_another_kind_is_named(official, tmp_path, capsys):
    assert main([YOLOV2, str(official), str(tmp_path / 'x.pth')]) == 1
    assert 'is a PyTorch checkpoint, but the network of the config' in capsys.readouterr().err
    weights = tmp_path / 'yolov2.weights'
    weights.write_bytes(struct.pack('<3iQ', 0, 2, 5, 0))
    assert main([CONFIG, str(weights), str(tmp_path / 'x.pth')]) == 1
    assert 'is a darknet weights file (or damaged)' in capsys.readouterr().err


def test_first_layers_alone_fill_the_backbone(tmp_path, capsys):
    backbone = network_of(read_model(YOLOV2))['backbone']
    floats = [value for key, value in backbone.state_dict().items() if 'num_batches' not in key]
    source, path = tmp_path / 'darknet19.conv.19', tmp_path / 'backbone.pth'
    count = sum(value.numel() for value in floats)
    header = struct.pack('<3iQ', 0, 2, 5, 0)
    source.write_bytes(header + torch.ones(count).numpy().tobytes())
    assert main([YOLOV2, str(source), str(path)]) == 1
    assert '(convert_checkpoint.py --partial)' in capsys.readouterr().err
    assert main([YOLOV2, str(source), str(path), '--partial']) == 0
    assert 'left out 22 keys of bbox_head, neck: SRC ends before them' in capsys.readouterr().out
    state = torch.load(path, weights_only=True)['state_dict']
    assert set(state) == {f'backbone.{key}' for key in backbone.state_dict()}
    assert all(value.eq(1).all() for key, value in state.items() if 'num_batches' not in key)


def test_partial_is_for_files_without_names(official, tmp_path, capsys):
    assert main([CONFIG, str(official), str(tmp_path / 'x.pth'), '--partial']) == 1
    assert 'remove --partial' in capsys.readouterr().err
