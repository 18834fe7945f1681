"""Reductions and divisors."""

import pytest
import torch

from mmdet_losses.ops import positives_divisor


@pytest.mark.parametrize(
    'normalizer, counts, divisor',
    [
        ('positives', [2, 0, 4], 6),
        ('positives', [0, 0], 1),
        ('positives_all_ranks', [2, 0, 4], 6),  # one process
        ('positives_and_empty_images', [2, 0, 4], 7),
        ('positives_and_empty_images', [0, 0], 2),
    ],
)
def test_divisor_from_the_positives_of_each_image(normalizer, counts, divisor):
    assert float(positives_divisor(torch.tensor(counts), normalizer)) == divisor


def test_all_ranks_divide_by_the_mean_number_of_positives(monkeypatch):
    monkeypatch.setattr('mmdet_losses.ops.reduce.mean_over_ranks', lambda count: (count + 10) / 2)
    counts = torch.tensor([2, 0, 4])
    assert float(positives_divisor(counts, 'positives_all_ranks')) == 8
    assert float(positives_divisor(counts, 'positives')) == 6
