"""Tracker of CenterTrack: detections with displacements to tracks."""

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


@MODELS.register_module()
class CenterTrackTracker:
    r"""Matches each detection to the track whose centre is at its displaced centre.

    Zhou, Koltun and Krähenbühl, *Tracking Objects as Points*, section 4.2.

    Convention:
        A detection at ``centers`` with displacement ``tracking`` can match a track of the same
        class unless the squared distance of ``centers + tracking`` to the track's centre is
        larger than the area of either box. 'greedy': in the given order (descending score), each
        detection takes the nearest free track, the older one on a tie. 'hungarian': the largest
        number of pairs, with the smallest sum of distances. A matched detection is kept with any
        score. An unmatched one starts a track if its score is above ``new_score``. The state of
        a track is its last detection.

        With public detections, an unmatched detection starts a track only if it is the nearest
        free one to a public detection, in their order, and the squared distance of
        ``centers + tracking`` is below the area of its box.

        Order of the result: matched detections, new tracks, unmatched tracks. Unmatched tracks
        are kept while ``age < max_age``.

    Args:
        new_score: unmatched detections with a higher score start a track.
        max_age: a track is kept for ``max_age - 1`` frames without a match; -1: for none.
        match: 'greedy' or 'hungarian', see above.
        displacement: false uses 0 for every displacement, the baseline of the paper; detections
            without ``tracking`` also have displacement 0.

    Raises:
        ValueError: an unknown ``match``.
    """

    def __init__(
        self,
        new_score: float = 0.3,
        max_age: int = -1,
        match: Literal['greedy', 'hungarian'] = 'greedy',
        displacement: bool = True,
    ) -> None:
        check_choice('match', match, ('greedy', 'hungarian'))
        self.new_score, self.max_age, self.match = new_score, max_age, match
        self.displacement = displacement
        self.reset()

    def reset(self) -> None:
        """Remove all tracks and restart identities at 1, for a new video."""
        self.tracks: InstanceData | None = None
        self.last_id = 0

    def start(self, public: InstanceData) -> None:
        """Begin a video with the tracks of public detections, before its first frame.

        Args:
            public: ``bboxes`` (n, 4), ``scores``, ``labels`` (n,), ``centers`` (n, 2) in image
                pixels; those with a score above ``new_score`` become tracks.
        """
        public = public[public.scores > self.new_score]
        ids = torch.arange(1, len(public) + 1, device=public.labels.device)
        self.tracks, self.last_id = _as_tracks(public, ids, torch.ones_like(ids)), len(public)

    def track(self, detections: InstanceData, public: InstanceData | None = None) -> InstanceData:
        """Detections of the next frame to its tracks.

        Args:
            detections: ``bboxes`` (n, 4), ``scores``, ``labels`` (n,), ``centers`` (n, 2) and
                optionally ``tracking`` (n, 2), in image pixels; other fields are kept.
            public: public detections of the frame, with ``centers`` (k, 2); None: all unmatched
                detections can start tracks.

        Returns:
            The kept detections and tracks, with ``instances_ids``, ``age`` (frames since the
            last match, from 1), ``active`` (consecutive matches, 0 if unmatched now) and
            ``detection`` (row in ``detections``, -1 if unmatched), all int64.
        """
        tracks = self.tracks
        if tracks is None:
            tracks = _as_tracks(detections[:0], *(detections.labels[:0].long() for _ in range(2)))
        tracks = _with_fields_of(detections, tracks)
        chosen = self._match(_costs(detections, tracks, self.displacement))
        rows = detections.labels.new_tensor
        matched = rows([detection for detection, _ in chosen], dtype=torch.int64)
        partner = rows([track for _, track in chosen], dtype=torch.int64)
        free = torch.ones_like(detections.scores, dtype=torch.bool)
        free[matched] = False
        new = free.nonzero()[:, 0] if public is None else self._announced(detections, public, free)
        new = new[detections.scores[new] > self.new_score]
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
        unmatched = tracks[alive]
        unmatched.age, unmatched.active = unmatched.age + 1, torch.zeros_like(unmatched.active)
        unmatched.detection = torch.full_like(unmatched.age, -1)
        self.tracks = InstanceData.cat([current, unmatched])
        return copy.deepcopy(self.tracks)

    def _announced(self, detections: InstanceData, public: InstanceData, free: Tensor) -> Tensor:
        """Free detections that are nearest to a public one, in the order of the public ones."""
        distance = _squared(detections, public, self.displacement).cpu().numpy()
        area = box_size(detections.bboxes).prod(-1).cpu().numpy()
        distance[~free.cpu().numpy()] = np.inf
        chosen = []
        for column in distance.T:  # a view: rows of chosen detections become infinite below
            if column.size and column.min() < area[column.argmin()]:
                chosen.append(int(column.argmin()))
                distance[chosen[-1]] = np.inf
        return torch.tensor(chosen, dtype=torch.int64, device=free.device)

    def _match(self, cost: np.ndarray) -> list[tuple[int, int]]:
        """Pairs (detection, track) from costs, which are infinite for forbidden pairs."""
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


def _with_fields_of(detections: InstanceData, tracks: InstanceData) -> InstanceData:
    """Tracks with zeros in the fields that only detections have (tracks of public detections)."""
    missing = [name for name in detections.keys() if name not in tracks]  # noqa: SIM118
    if missing:
        tracks = tracks[:]
        for name in missing:
            like = detections[name]
            tracks.set_field(like.new_zeros(len(tracks), *like.shape[1:]), name)
    return tracks


def _squared(detections: InstanceData, others: InstanceData, displacement: bool) -> Tensor:
    """(n, k) squared distances of the displaced centres to other centres, in pixels."""
    origin = detections.centers
    if displacement and 'tracking' in detections:
        origin = origin + detections.tracking
    return (origin[:, None] - others.centers[None]).square().sum(-1)


def _costs(detections: InstanceData, tracks: InstanceData, displacement: bool = True) -> np.ndarray:
    """(n, t) squared distances in pixels, infinite for pairs that area or class forbid."""
    cost = _squared(detections, tracks, displacement)
    forbidden = detections.labels[:, None] != tracks.labels
    forbidden = forbidden | (cost > box_size(detections.bboxes).prod(-1)[:, None])
    forbidden = forbidden | (cost > box_size(tracks.bboxes).prod(-1))
    return cost.masked_fill(forbidden, torch.inf).cpu().numpy()
