"""The matching for a CPU against the one for a GPU, which reads no value."""

import pytest
import torch

from mmdet_losses.ops import match_forced_best, match_max_iou

RANK = torch.randperm(40, generator=torch.Generator().manual_seed(1)).int()


def overlaps() -> torch.Tensor:
    """IoUs (3, 6, 40) with many equal ones; objects and an image without any overlap."""
    iou = torch.randint(0, 8, (3, 6, 40), generator=torch.Generator().manual_seed(0)) / 8
    iou[0, 2], iou[1, 4:], iou[2] = 0, 0, 0
    return iou


@pytest.fixture
def as_on_gpu(monkeypatch):
    """Function that calls another one as a GPU would."""

    def call(function, *args):
        with monkeypatch.context() as patch:
            patch.setattr(torch.compiler, 'is_compiling', lambda: True)
            return function(*args)

    return call


@pytest.mark.parametrize(
    'options', [(), (0.8,), (0.0, False), (0.0, True, RANK), (0.9, True, RANK)]
)
def test_max_iou_matching_on_a_cpu_equals_the_one_on_a_gpu(options, as_on_gpu):
    have = match_max_iou(overlaps(), 0.7, 0.4, *options)
    want = as_on_gpu(match_max_iou, overlaps(), 0.7, 0.4, *options)
    assert torch.equal(have.positive, want.positive) and have.positive.any()
    assert torch.equal(have.negative, want.negative)
    assert torch.equal(have.index[have.positive], want.index[have.positive])


def test_forced_matching_on_a_cpu_equals_the_one_on_a_gpu(as_on_gpu):
    mask = torch.ones(3, 6, dtype=torch.bool)
    mask[1, 4:], mask[2] = False, False
    have = match_forced_best(overlaps(), mask, RANK, 0.7)
    want = as_on_gpu(match_forced_best, overlaps(), mask, RANK, 0.7)
    for ours, other in zip(have, want, strict=True):
        assert torch.equal(ours, other)
