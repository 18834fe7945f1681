"""Checkpoints of MMDetection's RetinaNet fill ours."""

from __future__ import annotations

import pytest
import torch
from mmengine.hub import get_config
from mmengine.registry import DefaultScope

from mmdet_losses.core.checkpoint import CheckpointMismatch, convert, network_of, read_checkpoint
from mmdet_losses.detectors.anchor.checkpoints import RETINANET
from mmdet_losses.registry import MODELS
from tools.parity.models import forward, recipe


def mmdetections(num_classes: int = 3) -> torch.nn.Module:
    model = get_config('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py').model
    model.backbone.init_cfg = None
    model.bbox_head.num_classes = num_classes
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(model).eval()


def ours(num_classes: int) -> torch.nn.Module:
    changes = {'bbox_head.predictor.num_classes': num_classes}
    return network_of(recipe('retinanet/retinanet_r50_fpn_8xb2-12e_coco.py', changes)).eval()


def test_the_same_outputs(tmp_path):
    official = mmdetections()
    for name, parameter in official.bbox_head.named_parameters():
        torch.nn.init.normal_(parameter, std=0.05 if name.endswith('weight') else 0.5)
    path = tmp_path / 'retinanet.pth'
    torch.save(dict(meta={}, state_dict=official.state_dict()), path)
    network = ours(num_classes=3)
    result = convert(read_checkpoint(path), network.state_dict(), RETINANET)
    network.load_state_dict(result.state_dict, assign=True)
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        want_cls, want_box = official.bbox_head(official.extract_feat(image))
        have = forward(network, image)
    for want, got in zip([*want_cls, *want_box], [*have.cls, *have.box], strict=True):
        assert want.std() > 0
        torch.testing.assert_close(got, want, rtol=0, atol=0)


def test_other_classes_leave_out_the_classifier():
    source, target = mmdetections().state_dict(), ours(num_classes=5).state_dict()
    with pytest.raises(CheckpointMismatch, match='of another shape'):
        convert(source, target, RETINANET)
    result = convert(source, target, RETINANET, allow_class_layers=True)
    left = [f'bbox_head.predictor.retina_cls.{part}' for part in ('weight', 'bias')]
    assert result.class_layers == left
    assert result.state_dict.keys() == target.keys() - set(left)
