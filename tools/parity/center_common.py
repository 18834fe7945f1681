"""What the golden checks of the centre family share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.ops import Peaks, Splats
from tools.parity.golden_file import GoldenFile
from tools.parity.rows import Row

TARGET = {'atol': 1e-6}
LOSS = {'rtol': 1e-5}
# Gradients beyond 1 occur where nothing divides a saturated heatmap; float32 has seven digits.
GRADIENT = {'atol': 1e-6, 'rtol': 1e-6}
DECODED = {'atol': 1e-4}
L1 = {'type': 'MaskedL1Loss'}
FOCAL = {'type': 'PenaltyReducedFocalLoss', 'clamp': 1e-4}


def splats_of(heatmap: Tensor) -> Splats:
    """The same map as position and value pairs."""
    flat = heatmap.reshape(-1)
    index = flat.nonzero()[:, 0]
    return Splats(index, flat[index], tuple(heatmap.shape))


def instances_of(
    golden: GoldenFile,
    boxes: str = 'gt_boxes',
    labels: str | None = 'gt_labels',
    count: str = 'n_gt',
) -> list[InstanceData]:
    """The ground truth of every image; without labels all are class 0."""
    numbers, rows = golden.array(count), golden.array(boxes)
    kinds = np.zeros(rows.shape[:2], np.int64) if labels is None else golden.array(labels)
    return [
        InstanceData(bboxes=torch.tensor(box[:n]), labels=torch.tensor(kind[:n]))
        for n, box, kind in zip(numbers.tolist(), rows, kinds, strict=True)
    ]


def input_size(golden: GoldenFile) -> tuple[int, int]:
    """(h, w) of the network input."""
    width, height = golden.array('input_wh').tolist()
    return height, width


def feature_size(golden: GoldenFile) -> tuple[int, int]:
    """(H, W) of the output map."""
    height, width = input_size(golden)
    return height // golden.number('stride'), width // golden.number('stride')


def padded(rows: Tensor, slots: int) -> Tensor:
    """(B, M, ...) with zero rows up to ``slots``."""
    more = rows.new_zeros(rows.shape[0], slots - rows.shape[1], *rows.shape[2:])
    return torch.cat((rows, more), 1)


def compare_gradients(
    golden: GoldenFile, total: Tensor, leaves: dict[str, Tensor], prefix: str = ''
) -> None:
    """The gradient of ``total`` by each leaf against ``<prefix>grad_<name>``, where stored."""
    stored = {name: leaf for name, leaf in leaves.items() if f'{prefix}grad_{name}' in golden}
    if not stored:
        return
    grads = torch.autograd.grad(total, list(stored.values()), retain_graph=True)
    for name, grad in zip(stored, grads, strict=True):
        golden.compare(f'{prefix}grad_{name}', grad, **GRADIENT)


def compare_terms(
    golden: GoldenFile,
    terms: dict[str, Tensor],
    names: Sequence[tuple[str, str, float]],
    total: str,
) -> None:
    """Terms (ours, official name, weight) where stored, unweighted, and their weighted sum."""
    for ours, official, weight in names:
        if official in golden:
            golden.compare(official, terms[ours].detach() / weight, **LOSS)
    golden.compare(total, sum(terms.values()).detach(), **LOSS)


def compare_detections(
    golden: GoldenFile, key: str, got: Sequence[np.ndarray], score_column: int
) -> None:
    """Rows of each image; those with equal scores may come in any order (a plateau has none).

    Only rows with a positive golden score count: below, the official order is arbitrary.

    Args:
        key: the golden array (B, K, F).
        got: (N, F) rows of each image, best first, N >= K: beyond K, rows that tie with the last.
    """
    worst = largest = 0.0
    for have, rows in zip(got, golden.array(key).astype(np.float64), strict=True):
        want = rows[rows[:, score_column] > 0]
        order = np.abs(have[: len(want), score_column] - want[:, score_column])
        worst = max(worst, float(order.max(initial=0)))
        free = np.ones(len(have), bool)
        for row in want:
            distance = np.where(free, np.abs(have - row).max(1), math.inf)
            best = int(distance.argmin())
            worst, free[best] = max(worst, float(distance[best])), False
        largest = max(largest, float(np.abs(want).max(initial=0)))
    relative = worst / largest if largest else worst
    atol = DECODED['atol']
    golden.rows.append(Row(golden.name, key, worst, relative, f'atol {atol:g}', worst <= atol))


def count_candidates(heat: Tensor, k: int) -> int:
    """``k``, and the cells that tie with the k-th peak of an image."""
    flat = heat.flatten(1)
    last = flat.topk(k).values[:, -1:]
    return max(k, int((flat >= last).sum(1)[last[:, 0] > 0].max())) if (last > 0).any() else k


def compare_indices(golden: GoldenFile, key: str, peaks: Peaks, scores: np.ndarray) -> None:
    """Cells of the peaks, exactly; those of equal scores may come in any order."""
    wrong = 0
    for image, cells in enumerate(golden.array(key).tolist()):
        have = list(zip(peaks.index[image].tolist(), peaks.scores[image].tolist(), strict=True))
        for cell, score in zip(cells, scores[image].tolist(), strict=True):
            same = [abs(other - score) for index, other in have if index == cell]
            wrong += score > 0 and min(same, default=math.inf) > DECODED['atol']
    golden.rows.append(Row(golden.name, key, wrong, wrong, 'exact', wrong == 0))


def detections(instances: Sequence[InstanceData], *fields: str) -> list[np.ndarray]:
    """Fields of each image as the columns of one array (N, F)."""
    return [
        torch.cat(
            [
                each[name].flatten(1) if each[name].dim() > 1 else each[name][:, None]
                for name in fields
            ],
            1,
        )
        .double()
        .numpy()
        for each in instances
    ]
