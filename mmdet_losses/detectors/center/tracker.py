"""From detections with displacements to tracks."""

from __future__ import annotations

import copy
from typing import Literal

import numpy as np
import torch
from mmengine.structures import InstanceData
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mmdet_losses.ops import box_size, check_choice
from mmdet_losses.registry import MODELS

Match = Literal['greedy', 'hungarian']


@MODELS.register_module()
class CenterTrackTracker:
    r"""Give each detection the identity of the track whose centre it points back to.

    Zhou, Koltun and Krähenbühl, *Tracking Objects as Points*, section 4.2.

    Convention:
        A detection at ``centers`` with displacement ``tracking`` and a track of the same class
        may match unless the squared distance of ``centers + tracking`` to the track's centre
        exceeds the area of either box. 'greedy': detections choose in the order given (the
        decoder's, by descending score), each the nearest free track, the older one on a tie;
        'hungarian' makes as many pairs as it can and minimises their sum. A matched detection is
        kept whatever its score; an unmatched one becomes a track if its score exceeds
        ``new_score``. A track's state is its last detection.

        Order of the result: matched, new, then unmatched tracks, which live on while
        ``age < max_age``.

    Args:
        new_score: score above which an unmatched detection is a new track.
        max_age: a track outlives ``max_age - 1`` pictures without it; -1 ends it at once.
        match: see above.
        displacement: false takes every displacement for zero, the paper's comparison; so do
            detections without ``tracking``.

    Raises:
        ValueError: an unknown ``match``.
    """

    def __init__(
        self,
        new_score: float = 0.3,
        max_age: int = -1,
        match: Match = 'greedy',
        displacement: bool = True,
    ) -> None:
        check_choice('match', match, ('greedy', 'hungarian'))
        self.new_score, self.max_age, self.match = new_score, max_age, match
        self.displacement = displacement
        self.reset()

    def reset(self) -> None:
        """Forget all tracks and begin to count identities at 1, for a new video."""
        self.tracks: InstanceData | None = None
        self.last_id = 0

    def track(self, detections: InstanceData) -> InstanceData:
        """Detections of the next picture to its tracks.

        Args:
            detections: ``bboxes`` (n, 4), ``scores``, ``labels`` (n,), ``centers`` and, where
                known, ``tracking`` (n, 2), all in image pixels; other fields follow their rows.

        Returns:
            The detections kept and the tracks alive, with ``instances_ids``, ``age`` (pictures
            since the last match, from 1), ``active`` (matches in a row, 0 if missed now) and
            ``detection`` (row of this picture's detections, -1 if missed), int64 each.
        """
        tracks = self.tracks
        if tracks is None:
            tracks = _as_tracks(detections[:0], *(detections.labels[:0].long() for _ in range(2)))
        chosen = self._match(_costs(detections, tracks, self.displacement))
        rows = detections.labels.new_tensor
        matched = rows([detection for detection, _ in chosen], dtype=torch.int64)
        partner = rows([track for _, track in chosen], dtype=torch.int64)
        new = detections.scores > self.new_score
        new[matched] = False
        new = new.nonzero()[:, 0]
        alive = tracks.age < self.max_age
        alive[partner] = False

        ids = self.last_id + 1 + torch.arange(len(new), device=new.device)
        self.last_id += len(new)
        order = torch.cat((matched, new))
        current = _as_tracks(
            detections[order],
            torch.cat((tracks.instances_ids[partner], ids)),
            torch.cat((tracks.active[partner] + 1, torch.ones_like(new))),
        )
        current.detection = order
        missed = tracks[alive]
        missed.age, missed.active = missed.age + 1, torch.zeros_like(missed.active)
        missed.detection = torch.full_like(missed.age, -1)
        self.tracks = InstanceData.cat([current, missed])
        return copy.deepcopy(self.tracks)

    def _match(self, cost: np.ndarray) -> list[tuple[int, int]]:
        """Pairs (detection, track) from costs, infinite where a pair is forbidden."""
        if self.match == 'hungarian':
            allowed = np.isfinite(cost)
            worse = 1 + cost.sum(where=allowed, dtype=np.float64)  # than all allowed pairs
            finite = np.where(allowed, cost, worse)
            pairs = zip(*(side.tolist() for side in linear_sum_assignment(finite)), strict=True)
            return [pair for pair in pairs if allowed[pair]]
        cost, pairs = cost.copy(), []
        for detection, row in enumerate(cost):
            if row.size and np.isfinite(row.min()):
                track = int(row.argmin())
                pairs.append((detection, track))
                cost[:, track] = np.inf
        return pairs


def _as_tracks(detections: InstanceData, ids: Tensor, active: Tensor) -> InstanceData:
    tracks = detections[:]
    tracks.instances_ids, tracks.active = ids, active
    tracks.age = torch.ones_like(ids)
    tracks.detection = torch.full_like(ids, -1)
    return tracks


def _costs(detections: InstanceData, tracks: InstanceData, displacement: bool = True) -> np.ndarray:
    """(n, t) squared distances in pixels, infinite where area or class forbid the pair."""
    origin = detections.centers
    if displacement and 'tracking' in detections:
        origin = origin + detections.tracking
    cost = (origin[:, None] - tracks.centers[None]).square().sum(-1)
    forbidden = detections.labels[:, None] != tracks.labels
    forbidden = forbidden | (cost > box_size(detections.bboxes).prod(-1)[:, None])
    forbidden = forbidden | (cost > box_size(tracks.bboxes).prod(-1))
    return cost.masked_fill(forbidden, torch.inf).cpu().numpy()
