"""Soft-NMS of the official corner codes: lowers the scores of boxes that overlap a better one.

Bodla et al., *Soft-NMS: Improving Object Detection With One Line of Code*.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from mmengine.structures import InstanceData

from mmdet_losses.ops import check_choice

Method = Literal['gaussian', 'linear', 'naive']
METHODS = ('gaussian', 'linear', 'naive')


class SoftNMSResult(NamedTuple):
    """Rows in their final order."""

    rows: np.ndarray
    """(n, 5 + E) float32; the first ``kept`` are the result, the others are leftovers."""
    kept: int


def soft_nms(
    rows: np.ndarray,
    *,
    method: Method = 'gaussian',
    sigma: float = 0.5,
    iou_threshold: float = 0.5,
    min_score: float = 0.001,
    offset: float = 0.0,
    merge_exponent: float | None = None,
    frozen_extras: bool = False,
) -> SoftNMSResult:
    r"""Soft-NMS of the boxes of one class.

    In each step the best remaining box is kept. The scores of the boxes after it are multiplied by
    a factor that depends on the IoU :math:`o` with the kept box: :math:`\exp(-o^2 / \sigma)`
    ('gaussian'), or for :math:`o` above the threshold :math:`1 - o` ('linear') or 0 ('naive').
    Boxes with a score below ``min_score`` are dropped.

    Convention:
        The official codes measure sides as :math:`x_2 - x_1 + 1` (``offset=1``). They drop a row
        by copying the last row over it. The copied row remains at its old place beyond ``kept``,
        with its old score: CornerNet, Squeeze and CenterNet triplets use all rows, Saccade only
        the kept rows. They also move only box and score (``frozen_extras``), so the other columns
        belong to another box after a move. The defaults have none of these effects.

    Args:
        rows: (n, 5 + E) x1, y1, x2, y2, score, and E other columns; not modified.
        merge_exponent: replace each kept box by the weighted mean of itself and the boxes whose
            scores it lowers. The weights are column 5 for top-left corners and column 6 for
            bottom-right corners, times (1 - factor) ** exponent.

    Raises:
        ValueError: an unknown method.
    """
    check_choice('method', method, METHODS)
    rows = np.array(rows, dtype=np.float32)
    moving = 5 if frozen_extras else rows.shape[1]
    live = len(rows)
    best = 0
    while best < live:
        top = best + int(rows[best:live, 4].argmax())
        rows[[best, top], :moving] = rows[[top, best], :moving]
        rest = slice(best + 1, live)
        overlap = _iou(rows[best], rows[rest], offset)
        factor = _factor(overlap, method, sigma, iou_threshold)
        before = rows[rest].copy()
        rows[rest, 4] *= factor
        lost = (overlap > 0) & (rows[rest, 4] < min_score)
        place = np.arange(best + 1, live)  # row index of each box when it was processed
        live = _drop(rows, before, lost, place, best + 1, moving)
        if merge_exponent is not None:
            weight = np.where(overlap > 0, 1 - factor, 0).astype(np.float64) ** merge_exponent
            extras = rows[place, 5:7] if frozen_extras else before[:, 5:7]
            _merge(rows[best], before[:, :4], weight[:, None] * extras)
        best += 1
    return SoftNMSResult(rows, live)


def _iou(box: np.ndarray, others: np.ndarray, offset: float) -> np.ndarray:
    low = np.maximum(box[:2], others[:, :2])
    sides = np.minimum(box[2:4], others[:, 2:4]) - low + np.float32(offset)
    inter = np.where((sides > 0).all(1), sides.prod(1), 0)
    area = (box[2:4] - box[:2] + np.float32(offset)).prod()
    areas = (others[:, 2:4] - others[:, :2] + np.float32(offset)).prod(1)
    union = area + areas - inter
    return np.divide(inter, union, out=np.zeros_like(union), where=inter > 0)


def _factor(overlap: np.ndarray, method: Method, sigma: float, threshold: float) -> np.ndarray:
    """Factors of the scores: (n,) float32."""
    if method == 'gaussian':
        return np.exp(-(overlap.astype(np.float64) ** 2) / sigma).astype(np.float32)
    less = 1 - overlap if method == 'linear' else np.zeros_like(overlap)
    return np.where(overlap > threshold, less, 1).astype(np.float32)


def _drop(
    rows: np.ndarray,
    before: np.ndarray,
    lost: np.ndarray,
    place: np.ndarray,
    start: int,
    moving: int,
) -> int:
    """Overwrite dropped rows with rows from the end; returns the number of remaining rows.

    A moved row also remains at the end, with the score it had ``before`` this step.
    """
    live = start + len(lost)
    lost = lost.copy()
    at = 0
    while (gaps := np.flatnonzero(lost[at : live - start])).size:
        at += int(gaps[0])
        last = live - 1 - start
        if at != last:
            rows[start + at, :moving] = rows[start + last, :moving]
            rows[start + last, 4] = before[last, 4]
            lost[at], place[last] = lost[last], start + at
        live -= 1
    return live


def _merge(box: np.ndarray, others: np.ndarray, weights: np.ndarray) -> None:
    """Average corners in place, with ``weights`` (n, 2) for top-left and bottom-right."""
    for corner, column in ((slice(0, 2), 5), (slice(2, 4), 6)):
        weight = weights[:, column - 5 : column - 4]
        total = box[corner] * box[column] + (others[:, corner] * weight).sum(0)
        box[corner] = total / (box[column] + weight.sum())


def official_soft_nms(
    instances: InstanceData,
    *,
    sigma: float = 0.5,
    iou_threshold: float = 0.5,
    min_score: float = 0.001,
    method: Method = 'gaussian',
    merge_exponent: float | None = None,
    stale_rows: bool = True,
    max_num: int | None = None,
) -> InstanceData:
    """Soft-NMS per class, with the results of the official codes of the corner detectors.

    Args:
        instances: ``bboxes, scores, labels``; ``merge_exponent`` also needs ``tl_scores,
            br_scores``.
        stale_rows: also return the leftover rows (see :func:`soft_nms`), as CornerNet,
            CornerNet-Squeeze and CenterNet triplets do. Set it to False for CornerNet-Saccade.
        max_num: maximum number of rows per image. If other rows have the same score as the last
            row, they are also returned.

    The other arguments are those of :func:`soft_nms`. Returns the same fields, sorted by class.
    """
    names = [name for name in ('tl_scores', 'br_scores') if name in instances]
    columns = [instances.bboxes, *(instances[name][:, None] for name in ('scores', *names))]
    block = torch.cat([each.float() for each in columns], 1).cpu().numpy()
    labels = instances.labels.cpu().numpy()
    found, classes = [block[:0]], [labels[:0]]
    for label in np.unique(labels):
        rows, kept = soft_nms(
            block[labels == label],
            method=method,
            sigma=sigma,
            iou_threshold=iou_threshold,
            min_score=min_score,
            offset=1.0,
            merge_exponent=merge_exponent,
            frozen_extras=True,
        )
        found.append(rows if stale_rows else rows[:kept])
        classes.append(np.full(len(found[-1]), label))
    rows, labels = np.concatenate(found), np.concatenate(classes)
    if max_num is not None and len(rows) > max_num:
        chosen = rows[:, 4] >= np.partition(rows[:, 4], -max_num)[-max_num]
        rows, labels = rows[chosen], labels[chosen]
    result = torch.from_numpy(rows).to(instances.bboxes)
    extras = {name: result[:, 5 + place] for place, name in enumerate(names)}
    return InstanceData(
        bboxes=result[:, :4],
        scores=result[:, 4],
        labels=torch.from_numpy(labels).to(instances.labels),
        **extras,
    )
