"""MMDetection's RetinaNet in our names."""

from __future__ import annotations

import pytest
import torch
from mmengine.hub import get_config
from mmengine.registry import DefaultScope

from mmdet_losses.core.checkpoint import CheckpointMismatch, convert
from mmdet_losses.detectors.anchor.checkpoints import FAMILIES
from mmdet_losses.registry import MODELS

FAMILY = FAMILIES['retinanet_mmdet']


def mmdetections(num_classes: int = 3) -> torch.nn.Module:
    model = get_config('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py').model
    model.backbone.init_cfg = None
    model.bbox_head.num_classes = num_classes
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(model).eval()


def test_the_same_outputs(tmp_path):
    official = mmdetections()
    for name, parameter in official.bbox_head.named_parameters():
        torch.nn.init.normal_(parameter, std=0.05 if name.endswith('weight') else 0.5)
    path = tmp_path / 'retinanet.pth'
    torch.save(dict(meta={}, state_dict=official.state_dict()), path)
    ours = FAMILY.build(num_classes=3).eval()
    result = convert(FAMILY.load(path, ours), ours.state_dict(), FAMILY.key_map)
    ours.load_state_dict(result.state_dict)
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        want_cls, want_box = official.bbox_head(official.extract_feat(image))
        have = ours['bbox_head']['predictor'](ours['neck'](ours['backbone'](image)))
    for want, got in zip([*want_cls, *want_box], [*have.cls, *have.box], strict=True):
        assert want.std() > 0
        torch.testing.assert_close(got, want, rtol=0, atol=0)


def test_other_classes_leave_out_the_classifier():
    source, target = mmdetections().state_dict(), FAMILY.build(num_classes=5).state_dict()
    with pytest.raises(CheckpointMismatch, match='of another shape'):
        convert(source, target, FAMILY.key_map)
    result = convert(source, target, FAMILY.key_map, allow_class_layers=True)
    left = [f'bbox_head.predictor.retina_cls.{part}' for part in ('weight', 'bias')]
    assert result.class_layers == left
    assert result.state_dict.keys() == target.keys() - set(left)
