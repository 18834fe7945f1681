"""Triton kernels of target encoders in Triton's interpreter: the bits of the eager path.

TRITON_INTERPRET=1 python -m pytest tests/test_ops/interpreted_encoders.py
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mmdet_losses.ops import BoxRule, outside_windows, usable_objects, window_radii
from mmdet_losses.ops.kernels import region_cells
from mmdet_losses.ops.kernels.launch import Launch, intercept_launches
from tests.test_ops.interpreted_kernels import _interpreter  # noqa: F401 (a fixture)


def assert_same_bits(function: Callable[[], tuple[Tensor, ...] | Tensor]) -> None:
    """One launch gives the bits of the eager path."""
    want, calls = function(), []

    def run(call: Launch) -> None:
        calls.append(call)
        call.run()

    with intercept_launches(run):
        have = function()
    assert len(calls) == 1
    torch.testing.assert_close(have, want, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    'rule',
    [
        BoxRule((39, 29), (90, 70), 'clip', (0.3, 0.7)),
        BoxRule((39, 29), (90, 70), 'clip', fill=(0.0, 0.0)),
        BoxRule((40, 30), (90, 70), 'center', (0.3, 0.7)),
        BoxRule((40, 30), (90, 70), 'overlap', fill=(-120.0, -80.0)),
    ],
    ids=lambda rule: rule.region,
)
def test_usable_objects(rule: BoxRule) -> None:
    generator = torch.manual_seed(8)
    corners = 120 * torch.rand(2, 70, 2, 2, generator=generator) - 30
    given = corners.sort(2).values.flatten(2)
    given[0, :3] = torch.tensor([[5.0, 5, 5, 9], [9, 5, 7, 8], [40, 30, 50, 50]])
    given[0, 3, 2], given[0, 4, 1], given[1, 0, 3] = torch.nan, torch.inf, 1e30
    labels = torch.randint(-2, 6, (2, 70), generator=generator)
    real = torch.rand(2, 70, generator=generator) > 0.2
    assert 10 < int(usable_objects(given, labels, real, 4, rule)[2].sum()) < 100
    assert_same_bits(lambda: usable_objects(given, labels, real, 4, rule))


@pytest.mark.parametrize('mode', ['fixed', 'legacy'])
def test_window_radii(mode: str) -> None:
    size = 60 * torch.rand(2, 150, 2, generator=torch.manual_seed(9)).square()
    size[0, :2] = torch.tensor([[0.0, 0.0], [0.0, 3.0]])
    assert_same_bits(lambda: window_radii(size, 0.7, mode))
    assert_same_bits(lambda: window_radii(size, 0.3, mode, False, (0.25, 0.3)))


@pytest.mark.parametrize('classes', [None, 3])
def test_region_cells(classes: int | None) -> None:
    corners = 60 * torch.rand(2, 5, 2, 2, generator=torch.manual_seed(10)) - 10
    given = corners.sort(2).values.flatten(2)
    given[0, 1] = torch.nan
    labels = torch.tensor([[-1, 0, 2, -3, -4], [1, -2, 0, 0, -1]])
    mask = torch.tensor([[True, False, True, True, True], [True, True, True, True, False]])
    assert_same_bits(lambda: region_cells(given, labels, mask, (7, 11), (0.25, 0.2), classes))


def test_cells_outside_of_windows() -> None:
    xy = torch.tensor([[[2, 3], [8, 0], [0, 0]], [[5, 5], [5, 6], [4, 4]]])
    radius, sigma = torch.tensor([[2, 1, 3]] * 2), torch.tensor([[0.8, 0.5, 1.2]] * 2)
    channel = torch.tensor([[0, 1, 1], [1, 1, 0]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    assert_same_bits(lambda: outside_windows(xy, radius, sigma, channel, mask, (2, 7, 9), 2))


def test_no_objects_and_no_regions() -> None:
    boxes, labels = torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.int64)
    rule, mask = BoxRule((39, 29), (90, 70), 'clip'), labels.bool()
    with intercept_launches():
        assert [len(each[0]) for each in usable_objects(boxes, labels, mask, 4, rule)] == [0, 0, 0]
        assert window_radii(boxes[..., 2:], 0.7, 'legacy')[0].shape == (2, 0)
        cells = region_cells(boxes, labels, mask, (7, 11), (0.25, 0.2), 3)
    assert cells.shape == (2, 3, 7, 11) and not cells.any()
