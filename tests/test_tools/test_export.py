"""export.py: network and decoding of every detector in onnxruntime and torch.export."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import nn

from mmdet_losses import engine
from mmdet_losses.core import Detections, postprocess
from mmdet_losses.engine import export
from mmdet_losses.engine.export_input import describe_input, prepare_image, random_images
from mmdet_losses.engine.predictor import Predictor
from mmdet_losses.registry import MODELS
from tools import export as tool

ROOT = Path(__file__).resolve().parents[2]
DETECTORS = {
    'centernet_points/centernet_points_digits': (32, 32),
    'centernet_pose/centernet_pose_figures': (64, 64),
    'centernet_triplet/centernet_triplet_digits': (64, 64),
    'centertrack/centertrack_videos': (64, 64),
    'cornernet/cornernet_digits': (64, 64),
    'cornernet_saccade/cornernet_saccade_digits': (63, 63),
    'cornernet_squeeze/cornernet_squeeze_digits': (64, 64),
    'retinanet/retinanet_digits': (32, 64),
    'scaled_yolov4/scaled_yolov4_digits': (32, 64),
    'ssd/ssd_digits': (32, 64),
    'yolov1/yolov1_digits': (160, 160),
    'yolov2/yolov2_digits': (32, 64),
    'yolov3/yolov3_digits': (32, 64),
    'yolov4/yolov4-tiny_8xb8-416-273e_coco': (64, 64),  # DarknetFromCfg
    'yolov4/yolov4_digits': (32, 64),
}
"""Config of each detector and (h, w) of its input."""


@torch.no_grad()
def build(cfg, size=None):
    """An exported detector with random scores, and three input images."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg.model)
    for name, parameter in model.bbox_head.predictor.named_parameters():
        if parameter.dim() > 1:
            nn.init.kaiming_normal_(parameter, nonlinearity='linear').mul_(0.7)
        elif name.endswith('bias'):
            parameter.zero_()
    rule = describe_input(cfg, model, size)
    has_nms = (cfg.model.test_cfg.get('nms') or {}).get('type') in export.NMS_TYPES
    detector = export.ExportedDetector(model, tuple(rule['size']), 40, has_nms)
    images = random_images(3, rule)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    detector.train()(*detector.example(images))  # statistics of the norm layers
    return detector.eval(), images


@pytest.mark.parametrize('name', DETECTORS)
def test_onnxruntime_finds_the_boxes_of_pytorch(name):
    cfg = Config.fromfile(ROOT / f'configs/{name}.py')
    if name.startswith(('corner', 'centernet_triplet')):
        cfg.model.bbox_head.encoder.ae_threshold = 1e3  # random embeddings
    detector, images = build(cfg, DETECTORS[name])
    content = export.export_onnx(detector, detector.example(images[:2]), {}, simplify=False)
    found = export.check(detector, export.onnx_runner(content), images)
    assert found.value < export.TOLERANCE and found.rows >= 4


def test_an_exported_program_finds_the_boxes_of_pytorch(tools):
    cfg = Config.fromfile(tools.config)
    cfg.model.test_cfg.nms = dict(type='nms', iou_threshold=0.3)
    detector, images = build(cfg)
    content = export.export_program(detector, detector.example(images[:2]), {'classes': '[]'})
    found = export.check(detector, export.program_runner(content), images)
    assert found.value < export.TOLERANCE and found.rows >= 4


@pytest.mark.parametrize(
    'nms',
    [
        None,
        dict(type='nms', iou_threshold=0.4),
        dict(type='nms', iou_threshold=0.4, class_agnostic=True),
        dict(type='darknet_nms', iou_threshold=0.4, kind='diou', beta=0.6),
    ],
)
def test_the_selection_of_tensors_equals_post_processing(nms):
    generator = torch.Generator().manual_seed(1)
    corner, side = torch.rand(2, 3, 60, 2, generator=generator).mul(30).unbind()
    boxes, scores = torch.cat((corner, corner + side), -1), torch.rand(3, 60, generator=generator)
    scores = scores.sort(descending=True).values
    labels = torch.randint(0, 3, (3, 60), generator=generator)
    cfg = ConfigDict(score_thr=0.1, nms=nms, max_per_img=12)
    found = export.select_detections(Detections(boxes, scores, labels), cfg)
    for i in range(3):
        want = InstanceData(bboxes=boxes[i], scores=scores[i], labels=labels[i])
        want = postprocess(want, {}, cfg)
        assert len(want) == 12 or nms
        torch.testing.assert_close(found.boxes[i][: len(want)], want.bboxes)
        torch.testing.assert_close(found.scores[i][: len(want)], want.scores)
        assert torch.equal(found.labels[i][: len(want)], want.labels)
        assert not found.scores[i][len(want) :].any()


def test_a_moved_box_a_changed_label_and_a_lost_box_are_differences():
    boxes = np.array([[[0, 0, 10, 10], [5, 5, 20, 20.0]]])
    want = [boxes, np.array([[0.9, 0.0]]), np.array([[1, 0]])]
    assert export.compare(want, want, (10, 100)) == (0, 1)
    assert export.compare([boxes + 1, *want[1:]], want, (10, 100)).value == pytest.approx(0.01)
    assert export.compare([*want[:2], np.array([[2, 0]])], want, (10, 100)).value == np.inf
    assert export.compare([boxes, 0 * want[1], want[2]], want, (10, 100)).value == np.inf


PREPROCESSOR = SimpleNamespace(
    _enable_normalize=True,
    mean=torch.tensor([10.0, 20, 30])[:, None, None],
    std=torch.tensor([2.0, 2, 2])[:, None, None],
    _channel_conversion=True,
    pad_size_divisor=32,
    pad_value=0,
)


def describe(step, size=None):
    dataset = dict(type='CocoDataset', pipeline=[step])
    cfg = Config(dict(test_dataloader=dict(dataset=dataset)))
    return describe_input(cfg, SimpleNamespace(data_preprocessor=PREPROCESSOR), size)


@pytest.mark.parametrize(
    ('step', 'size', 'fit', 'keep_ratio', 'place', 'fill'),
    [
        (dict(type='Resize', scale=(200, 100), keep_ratio=True), [128, 224], [100, 200], True,
         'top_left', [10, 20, 30]),
        (dict(type='Resize', scale=(64, 96), keep_ratio=False), [96, 64], [96, 64], False,
         'top_left', [10, 20, 30]),
        (dict(type='mmdet_losses.DarknetLetterBox', size=(64, 32)), [32, 64], [32, 64], True,
         'center', [127.5] * 3),
        (dict(type='ScaledYOLOv4LetterBox', size=64, stride=32), [96, 96], [64, 64], True,
         'center', [114] * 3),
        (dict(type='CenterAffine', size=(64, 32)), [32, 64], [64, 64], True, 'center', [0] * 3),
    ],
)  # fmt: skip
def test_the_test_pipeline_gives_the_preprocessing(step, size, fit, keep_ratio, place, fill):
    rule = describe(step)
    assert rule == dict(
        size=size, fit=fit, keep_ratio=keep_ratio, place=place, fill=fill,
        channel_order='RGB', mean=[10, 20, 30], std=[2, 2, 2],
    )  # fmt: skip


def test_a_pipeline_that_keeps_the_size_needs_one():
    step = dict(type='CornerCanvas')
    with pytest.raises(engine.UsageError, match='--size HEIGHT WIDTH'):
        describe(step)
    assert describe(step, (64, 96))['size'] == [64, 96]


def test_an_image_of_half_the_size_is_placed_in_the_middle():
    rule = describe(dict(type='DarknetLetterBox', size=(32, 64)))
    x = prepare_image(np.full((16, 16, 3), (1, 2, 3), np.uint8), rule)
    assert x.shape == (3, 64, 32)
    blue = x[2] * 2 + 30  # channels are R, G, B
    assert torch.allclose(blue[18:46, 2:30], torch.ones(28, 28))
    assert torch.allclose(blue[:15], torch.full((15, 32), 127.5))


def test_nms_that_cannot_be_exported_raises():
    for nms, text in (
        (dict(type='soft_nms', iou_threshold=0.5), '--nms cannot export soft_nms'),
        (dict(type='nms', iou_threshold=0.5, offset=1), 'the option offset'),
    ):
        model = nn.Module()
        model.bbox_head = SimpleNamespace(test_cfg=dict(nms=nms))
        export.ExportedDetector(model, (32, 32))
        with pytest.raises(engine.UsageError, match=text):
            export.ExportedDetector(model, (32, 32), nms=True)


@pytest.fixture(name='checkpoint', scope='module')
def _checkpoint(tools, tmp_path_factory):
    """Initial weights with scores near 0.5 and boxes of positive size."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        torch.manual_seed(0)
        state = MODELS.build(Config.fromfile(tools.config).model).state_dict()
    for name, value in state.items():
        if re.search(r'predictor\.(size|heatmap)\..*2\.bias$', name):
            value.fill_(4.0 if '.size.' in name else 0.0)
    path = tmp_path_factory.mktemp('export') / 'untrained.pth'
    torch.save(dict(state_dict=state), path)
    return path


def run(*arguments):
    engine.run_tool(tool.work, tool.parse_args([str(argument) for argument in arguments]))


def test_the_script_of_the_documentation_predicts_as_pytorch(
    tools, checkpoint, tmp_path, capsys, monkeypatch
):
    out, image = tmp_path / 'small.onnx', tools.folder / 'data' / 'images' / '0.png'
    run(tools.config, checkpoint, '--out', out, '--nms', '--simplify', '--images', image)
    text = capsys.readouterr().out
    assert re.search(
        r'small\.onnx: .* largest difference from PyTorch \d\.\de-\d\d \(\d\d boxes', text
    )
    rule = json.loads(re.search('^preprocessing: (.*)$', text, re.MULTILINE)[1])
    assert rule['size'] == [64, 64] and rule['channel_order'] == 'RGB' and rule['std'] == [60] * 3

    page = (ROOT / 'docs' / 'deployment.md').read_text(encoding='utf-8')
    (script,) = re.findall(r'^```python\n(import .*?)^```$', page, re.MULTILINE | re.DOTALL)
    monkeypatch.setattr(sys, 'argv', ['predict.py', str(out), str(image)])
    exec(compile(script, 'predict.py', 'exec'), {})
    lines = capsys.readouterr().out.splitlines()
    predictor = Predictor(Config.fromfile(tools.config), str(checkpoint), 'cpu')
    frame = SimpleNamespace(image=cv2.imread(str(image)), name='0.png', number=0)
    ((_, want),) = predictor.predict([frame])
    want = want[want.scores > 0.3]
    assert len(lines) >= len(want) > 5  # the tool drops boxes outside of the image
    have = {tuple(re.findall(r'[\w.-]+', line)[:2]) for line in lines}
    for score, label in zip(want.scores.tolist(), want.labels.tolist(), strict=True):
        assert (predictor.classes[label], f'{score:.2f}') in have


def test_a_difference_ends_with_status_1(tools, checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(export, 'export_onnx', lambda *_: b'')
    monkeypatch.setattr(export, 'onnx_runner', lambda content: None)
    monkeypatch.setattr(export, 'check', lambda *_: export.Difference(2e-4, 7))
    with pytest.raises(SystemExit) as end:
        run(tools.config, checkpoint, '--out', tmp_path / 'small.onnx')
    assert end.value.code == 1
    assert 'differs from PyTorch by 2.0e-04, more than 0.0001' in capsys.readouterr().err


def test_a_check_without_a_box_ends_with_status_1(tools, checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(export, 'export_onnx', lambda *_: b'')
    monkeypatch.setattr(export, 'onnx_runner', lambda content: None)
    monkeypatch.setattr(export, 'check', lambda *_: export.Difference(0.0, 0))
    with pytest.raises(SystemExit) as end:
        run(tools.config, checkpoint, '--out', tmp_path / 'small.onnx')
    assert end.value.code == 1
    assert 'was not compared with PyTorch, because no box' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (('--out', 'x.txt'), '--out is x.txt: give the path of a file that ends with .onnx'),
        (('--out', 'x.onnx', '--format', 'torch_export'), 'a file that ends with .pt2'),
        (('--out', 'there.onnx'), 'there.onnx exists; choose another --out, or replace it with'),
    ],
)
def test_a_wrong_suffix_or_an_existing_file_prints_one_message(
    options, message, tools, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path('there.onnx').write_text('')
    with pytest.raises(SystemExit):
        run(tools.config, 'none.pth', *options)
    assert message in capsys.readouterr().err


def test_what_is_missing_is_named(tools, checkpoint, tmp_path, capsys, monkeypatch):
    arguments = (tools.config, checkpoint, '--out', tmp_path / 'small.onnx')
    with pytest.raises(SystemExit):
        run(tools.config, tmp_path / 'none.pth', '--out', tmp_path / 'small.onnx')
    assert 'none.pth not found' in capsys.readouterr().err
    other = tmp_path / 'other.pth'
    torch.save(dict(state_dict=dict(a=torch.ones(1))), other)
    with pytest.raises(SystemExit):
        run(tools.config, other, '--out', tmp_path / 'small.onnx')
    assert 'has no layer of' in capsys.readouterr().err
    monkeypatch.setattr(export, 'find_spec', lambda name: None)
    with pytest.raises(SystemExit):
        run(*arguments)
    message = capsys.readouterr().err
    assert 'onnx, onnxruntime not installed' in message and 'mmdet_losses[export]' in message
