"""SSD's and RetinaNet's last layers, against MMDetection's heads with the same weights."""

from __future__ import annotations

import torch
from mmdet.models.dense_heads import RetinaHead, SSDHead
from mmdet.models.necks.ssd_neck import L2Norm

from mmdet_losses.detectors.anchor.predictors import RetinaNetPredictor, SSDPredictor


def test_retinanet_equals_mmdetection_with_the_same_state_dict() -> None:
    torch.manual_seed(0)
    theirs = RetinaHead(num_classes=3, in_channels=8, feat_channels=8, stacked_convs=2)
    ours = RetinaNetPredictor(3, 8, 9, 8, 2)
    ours.load_state_dict(theirs.state_dict())
    feats = tuple(torch.randn(2, 8, size, size + 1) for size in (8, 4))
    expected, got = theirs(feats), ours(feats)
    for want, have in zip((*expected[0], *expected[1]), (*got.cls, *got.box), strict=True):
        torch.testing.assert_close(have, want, rtol=0, atol=0)


def test_retinanet_starts_at_a_score_of_one_percent() -> None:
    torch.manual_seed(0)
    predictor = RetinaNetPredictor(5, 16, 3, 16)
    predictor.init_weights()
    outputs = predictor((torch.randn(2, 16, 8, 8),))
    assert abs(outputs.cls[0].sigmoid().mean().item() - 0.01) < 0.002


def test_ssd_equals_mmdetection_with_the_same_weights() -> None:
    torch.manual_seed(0)
    generator = dict(
        type='SSDAnchorGenerator',
        min_sizes=[10, 20],
        max_sizes=[20, 40],
        strides=[8, 16],
        ratios=[[2], [2, 3]],
    )
    theirs = SSDHead(3, (8, 16), anchor_generator=generator)
    ours = SSDPredictor(3, (8, 16), (4, 6))
    theirs.init_weights()
    state = theirs.state_dict()
    names = {'cls_convs': 'cls_convs', 'box_convs': 'reg_convs'}
    for key, value in ours.state_dict().items():
        part, level, leaf = key.split('.')
        value.copy_(state[f'{names[part]}.{level}.0.{leaf}'])
    feats = (torch.randn(2, 8, 8, 9), torch.randn(2, 16, 4, 5))
    expected, got = theirs(feats), ours(feats)
    for want, have in zip((*expected[0], *expected[1]), (*got.cls, *got.box), strict=True):
        torch.testing.assert_close(have, want, rtol=0, atol=0)


def test_mmdetections_norm_has_its_epsilon_outside_the_root() -> None:
    layer = L2Norm(2, scale=1.0, eps=0.5)
    torch.nn.init.ones_(layer.weight)
    x = torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1)
    torch.testing.assert_close(layer(x).flatten(), torch.tensor([3.0, 4.0]) / 5.5)
    assert L2Norm(2).eps == 1e-10
