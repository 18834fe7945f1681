"""Peaks of heatmaps."""

import pytest
import torch

from mmdet_losses.ops import find_peaks, peaks


def peaks_by_loop(logits: torch.Tensor, k: int, kernel: int) -> list[tuple[float, int, int]]:
    """(score, label, index) of the local maxima of one image (C, H, W), by descending score."""
    classes, height, width = logits.shape
    reach, found = kernel // 2, []
    for label in range(classes):
        for y in range(height):
            for x in range(width):
                window = logits[
                    label,
                    max(y - reach, 0) : y + reach + 1,
                    max(x - reach, 0) : x + reach + 1,
                ]
                if logits[label, y, x] == window.max():
                    found.append((float(logits[label, y, x].sigmoid()), label, y * width + x))
    return sorted(found, reverse=True)[:k]


@pytest.mark.parametrize('kernel', [1, 3, 5])
def test_peaks_equal_a_loop_over_cells(kernel):
    logits = torch.randn(2, 3, 7, 5, generator=torch.Generator().manual_seed(0))
    found = find_peaks(logits, 6, kernel)
    for image in range(2):
        want = peaks_by_loop(logits[image], 6, kernel)
        rows = zip(found.scores[image], found.labels[image], found.index[image], strict=True)
        for (score, label, index), (want_score, *want_place) in zip(rows, want, strict=False):
            assert float(score) == pytest.approx(want_score, abs=1e-6)
            assert [int(label), int(index)] == want_place


@pytest.mark.parametrize('kernel', [1, 3, 7])
@pytest.mark.parametrize('scale', [1.0, 0.0, 40.0])  # also a plateau, and scores of 1
def test_the_highest_cells_give_the_peaks_of_the_whole_map(monkeypatch, kernel, scale):
    logits = scale * torch.randn(2, 20, 32, 24, generator=torch.Generator().manual_seed(0))
    found = find_peaks(logits, 10, kernel)
    monkeypatch.setattr(peaks, 'CELLS_PER_PEAK', logits.numel())  # the whole map
    whole = find_peaks(logits, 10, kernel)
    torch.testing.assert_close(found.scores, whole.scores, rtol=1e-6, atol=0)
    if scale == 1:
        torch.testing.assert_close(found, whole, rtol=1e-6, atol=0)


def test_few_peaks_are_filled_with_scores_of_zero():
    """A cone has one peak, far from most of its cells."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing='ij')
    found = find_peaks(-((y - 9).abs() + (x - 7).abs())[None, None], 3)
    assert found.index[0, 0] == 9 * 64 + 7
    assert found.scores[0].tolist() == [0.5, 0, 0]


def test_a_plateau_keeps_all_its_cells():
    logits = torch.tensor([[[[1.0, 1.0, 0.0, -9.0]]]])
    assert sorted(find_peaks(logits, 2).index[0].tolist()) == [0, 1]


def test_more_peaks_than_cells_return_every_cell():
    assert find_peaks(torch.zeros(2, 3, 2, 2), 100).scores.shape == (2, 12)


def test_half_precision_gives_float32_scores():
    logits = torch.randn(1, 2, 4, 4).half()
    torch.testing.assert_close(find_peaks(logits, 3), find_peaks(logits.float(), 3))
    assert find_peaks(logits, 3).scores.dtype == torch.float32
