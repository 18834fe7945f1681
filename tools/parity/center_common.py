"""What the golden checks of the centre family share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.ops import Splats
from tools.parity.golden import EXACT, Case
from tools.parity.rows import failure

# The largest terms and gradients belong to saturated heatmaps, which nothing divides.
LOSS, GRADIENT = 5e-6, 2e-6
L1 = {'type': 'MaskedL1Loss'}
SMOOTH_L1 = {'type': 'MaskedSmoothL1Loss', 'beta': 1.0}
FOCAL = {'type': 'PenaltyReducedFocalLoss', 'clamp': 1e-4}
UNSORTED = 'the official order is arbitrary where no peak is left'


def splats_of(heatmap: Tensor) -> Splats:
    """The same map as position and value pairs."""
    flat = heatmap.reshape(-1)
    index = flat.nonzero()[:, 0]
    return Splats(index, flat[index], tuple(heatmap.shape))


def feature_size(case: Case) -> tuple[int, int]:
    """(H, W) of the output map."""
    height, width = case.img_size()
    return height // case.number('stride'), width // case.number('stride')


def padded(rows: Tensor, slots: int) -> Tensor:
    """(B, M, ...) with zero rows up to ``slots``."""
    more = rows.new_zeros(rows.shape[0], slots - rows.shape[1], *rows.shape[2:])
    return torch.cat((rows, more), 1)


def counts(mask: Tensor) -> dict[str, Tensor]:
    """Fields of every target type that follow from the mask."""
    return {'mask': mask, 'num_pos': mask.sum().float(), 'num_dropped': torch.zeros(())}


def compare_all(case: Case, values: Mapping[str, Tensor], slots: int) -> None:
    """Targets: maps within rounding; indices and masks exactly; (B, M, ...) rows padded."""
    for key, value in values.items():
        exact = not value.is_floating_point()
        rows = value if value.shape[-2:] == case.array(key).shape[-2:] else padded(value, slots)
        case.compare(key, rows, 0.0 if exact else EXACT)


def compare_gradients(
    case: Case, total: Tensor, leaves: dict[str, Tensor], prefix: str = ''
) -> None:
    """The gradient of ``total`` by each leaf against ``<prefix>grad_<name>``, where stored."""
    stored = {name: leaf for name, leaf in leaves.items() if f'{prefix}grad_{name}' in case}
    if not stored:
        return
    grads = torch.autograd.grad(total, list(stored.values()), retain_graph=True)
    for name, grad in zip(stored, grads, strict=True):
        case.compare(f'{prefix}grad_{name}', grad, GRADIENT)


def compare_terms(
    case: Case,
    terms: dict[str, Tensor],
    names: Sequence[tuple[str, str, float]],
    total: str,
) -> None:
    """Terms (ours, official name, weight) where stored, unweighted, and their weighted sum."""
    for ours, official, weight in names:
        if official in case:
            case.compare(official, terms[ours].detach() / weight, LOSS)
    case.compare(total, sum(terms.values()).detach(), LOSS)


def compare_detections(
    case: Case, keys: str, got: Sequence[Tensor], want: Tensor, score: int, tol: float = EXACT
) -> None:
    """Rows of each image with a positive golden score; ties in any order.

    Args:
        keys: the golden arrays.
        got: (N, F) rows of each image, best first, N >= K: beyond K, rows that tie with the last.
        want: (B, K, F) golden rows, best first.
        score: column of the score.
    """
    for image, (have, rows) in enumerate(zip(got, want, strict=True)):
        positive = rows[rows[:, score] > 0]
        if bool((have[:, score].diff() > 0).any()):
            error = ValueError(f'the detections of image {image} are not sorted by score')
            case.add(failure(case.file.name, error, keys))
        case.compare_rows(keys, have, positive, tol, ties=True, empty=UNSORTED)


def count_candidates(heat: Tensor, k: int) -> int:
    """``k``, and the cells that tie with the k-th peak of an image."""
    flat = heat.flatten(1)
    last = flat.topk(k).values[:, -1:]
    return max(k, int((flat >= last).sum(1)[last[:, 0] > 0].max())) if (last > 0).any() else k


def detections(instances: Sequence[InstanceData], *fields: str) -> list[Tensor]:
    """Fields of each image as the columns of one array (N, F)."""
    return [torch.cat([_columns(each[name]) for name in fields], 1).double() for each in instances]


def _columns(values: Tensor) -> Tensor:
    return values.flatten(1) if values.dim() > 1 else values[:, None]
