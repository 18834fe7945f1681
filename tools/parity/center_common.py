"""Names of the centre family's branches, and the comparison of its targets and detections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tools.parity.golden import EXACT, Case
from tools.parity.rows import failure

BRANCHES = {
    'hm': 'heatmap',
    'wh': 'size',
    'reg': 'offset',
    'hps': 'keypoints',
    'hm_hp': 'keypoint_heatmap',
    'hp_offset': 'keypoint_offset',
    'tracking': 'tracking',
    'ltrb_amodal': 'ltrb_amodal',
    'ltrb': 'ltrb',
}
"""Official name of a branch -> ours."""
FIELDS = {**BRANCHES, 'ind': 'index', 'hp_ind': 'keypoint_index', 'cat': 'labels'}
"""Official name of a target -> ours."""
UNSORTED = 'the official order is arbitrary where no peak is left'


def feature_size(case: Case) -> tuple[int, int]:
    """(H, W) of the output map."""
    height, width = case.img_size()
    return height // case.number('stride'), width // case.number('stride')


def read_outputs(
    case: Case, kind: type, prefix: str = '', grad: bool = False
) -> tuple[dict[str, Tensor], Any]:
    """Stored name -> map, and the same maps as outputs; a missing branch is None."""
    names = {f'{name}_logit' if name.startswith('hm') else name: name for name in BRANCHES}
    leaves = {
        stored: case.tensor(prefix + stored, torch.float32 if grad else None, grad)
        for stored, name in names.items()
        if prefix + stored in case and BRANCHES[name] in kind._fields
    }
    fields = dict.fromkeys(set(kind._fields) - set(kind._field_defaults))
    return leaves, kind(**fields | {BRANCHES[names[key]]: leaf for key, leaf in leaves.items()})


def pad_like(rows: Tensor, golden: np.ndarray) -> Tensor:
    """(B, M, ...) with zero rows up to the number of golden rows."""
    more = max(golden.shape[1] - rows.shape[1], 0)
    return torch.cat((rows, rows.new_zeros(len(rows), more, *rows.shape[2:])), 1)


def compare_encoded(case: Case, encoded: Any, more: Mapping[str, Tensor]) -> None:
    """Every target that the file has: fields under their official names, and ``more``."""
    values = {name: getattr(encoded, ours, None) for name, ours in FIELDS.items()} | dict(more)
    for key, value in values.items():
        if key in case:
            dense = value.dense() if hasattr(value, 'dense') else value
            case.table({key: pad_like(dense, case.array(key))})


def compare_detections(
    case: Case, keys: str, got: Sequence[Tensor], want: Tensor, score: int, tol: float = EXACT
) -> None:
    """Rows of each image whose golden score is not 0; ties in any order.

    Args:
        keys: the golden arrays.
        got: (N, F) rows of each image, best first, N >= K: beyond K, rows that tie with the last.
        want: (B, K, F) golden rows, best first.
        score: column of the score.
    """
    for image, (have, rows) in enumerate(zip(got, want, strict=True)):
        peaks = rows[rows[:, score] != 0]
        full = len(peaks) == len(rows)
        if bool((have[:, score].diff() > 0).any()):
            error = ValueError(f'the detections of image {image} are not sorted by score')
            case.add(failure(case.file.name, error, keys))
        have = have if full else have[have[:, score] != 0]
        case.compare_rows(keys, have, peaks, tol, ties=full, empty=UNSORTED)


def count_candidates(heat: Tensor, k: int) -> int:
    """``k``, and the cells that tie with the k-th peak of an image."""
    flat = heat.flatten(1)
    last = flat.topk(k).values[:, -1:]
    return max(k, int((flat >= last).sum(1)[last[:, 0] > 0].max())) if (last > 0).any() else k
