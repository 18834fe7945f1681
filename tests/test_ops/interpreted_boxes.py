"""Triton kernels of paired boxes in Triton's interpreter, against the eager path.

TRITON_INTERPRET=1 python -m pytest tests/test_ops/interpreted_boxes.py
"""

import pytest
import torch
from torch import Tensor

from mmdet_losses.ops import box_similarity, darknet_direction_and_iou
from mmdet_losses.ops.kernels.launch import intercept_launches
from tests.test_ops.interpreted_kernels import (  # noqa: F401 (the first is a fixture)
    _interpreter,
    assert_equal_paths,
)


def boxes(count: int, inverted: bool = True) -> Tensor:
    """Pairs of random boxes (2, count, 4): apart, nested, equal, points and inverted ones."""
    corners = 8 * torch.rand(2, count, 2, 2, generator=torch.manual_seed(5))
    pairs = corners.sort(2).values.flatten(2)
    pairs[1, 0] = pairs[0, 0]  # equal
    pairs[0, 1] = torch.tensor([3.0, 3.0, 3.0, 3.0])  # a point
    pairs[:, 2] = torch.tensor([1.0, 2.0, 1.0, 2.0])  # the same point
    pairs[:, 3] = torch.tensor([[0.0, 0.0, 9.0, 9.0], [2.0, 2.0, 3.0, 5.0]])  # nested
    pairs[:, 4] = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 4.0, 2.0, 6.0]])  # apart, aligned
    if inverted:
        pairs[0, 5] = torch.tensor([4.0, 1.0, 2.0, 3.0])
    return pairs


@pytest.mark.parametrize(
    ('mode', 'aspect_factor'),
    [('iou', False), ('giou', False), ('diou', False), ('ciou', False), ('ciou', True)],
)
def test_paired_similarity(mode: str, aspect_factor: bool) -> None:
    pred, target = boxes(300)
    weight = torch.rand(300, generator=torch.manual_seed(6))
    assert_equal_paths(
        lambda x: weight * box_similarity(x, target, mode, aspect_factor), pred, launches=1
    )


@pytest.mark.parametrize('mode', ['iou', 'giou', 'diou', 'ciou'])
def test_direction_of_darknet(mode: str) -> None:
    pred, target = (
        torch.cat(((each[:, :2] + each[:, 2:]) / 2, each[:, 2:] - each[:, :2]), 1)
        for each in boxes(200, inverted=False)
    )
    want = darknet_direction_and_iou(pred, target, mode)
    with intercept_launches():
        have = darknet_direction_and_iou(pred, target, mode)
    for have_part, want_part in zip(have, want, strict=True):
        atol = 1e-6 * float(want_part.nan_to_num(0, 0, 0).abs().max())
        torch.testing.assert_close(have_part, want_part, rtol=2e-5, atol=atol, equal_nan=True)


def test_a_gradient_of_the_target_takes_the_eager_path() -> None:
    pred, target = boxes(6)
    assert_equal_paths(lambda x: box_similarity(pred, x, 'giou'), target, launches=0)
