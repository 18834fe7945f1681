"""Tracking metrics, CLEAR MOT and identity, computed by TrackEval."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmdet.evaluation.metrics.base_video_metric import BaseVideoMetric
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from mmdet_losses.registry import METRICS, MODELS

NAMES = {
    'mota': ('CLEAR', 'MOTA'),
    'motp': ('CLEAR', 'MOTP'),
    'idf1': ('Identity', 'IDF1'),
    'id_switches': ('CLEAR', 'IDSW'),
    'false_positives': ('CLEAR', 'CLR_FP'),
    'misses': ('CLEAR', 'CLR_FN'),
    'fragmentations': ('CLEAR', 'Frag'),
    'mostly_tracked': ('CLEAR', 'MT'),
    'mostly_lost': ('CLEAR', 'ML'),
}
"""Our name of a value -> TrackEval's metric and field."""


class Frame(NamedTuple):
    """Ground truth and tracks of one frame; identities are unique per video."""

    video: Hashable
    number: int
    gt_ids: NDArray[np.int64]
    ids: NDArray[np.int64]
    similarity: NDArray[np.float64]
    """(objects, tracks) IoU, 0 between different classes."""
    rows: NDArray[np.float64]
    """(all tracks, 6) identity, xywh, score."""
    path: str
    """Image file, in the folder layout of MOT Challenge."""


@METRICS.register_module()
class MOTMetric(BaseVideoMetric):
    """CLEAR MOT and identity metrics over all videos.

    Returns ``mot/mota``, ``mot/idf1``, ``mot/id_switches``, ``mot/motp`` (mean IoU of matches),
    ``mot/false_positives``, ``mot/misses``, ``mot/fragmentations``, ``mot/mostly_tracked`` and
    ``mot/mostly_lost`` (numbers of objects). Classes are not averaged: there is one value over all
    classes, and a track matches only objects of its class.

    Reads ``gt_instances`` (``bboxes``, ``labels``, ``instances_ids``), ``ignored_instances`` and
    ``pred_track_instances`` of every frame, boxes in image pixels, with ``video_id`` and
    ``frame_id`` in its meta data. With several processes, each needs whole videos in order
    (``TrackImgSampler``). As in MOT Challenge, tracks assigned to an ignored box are not counted.

    Args:
        iou_thr: lowest IoU of a match.
        tracker: config of a tracker that assigns identities to ``pred_instances``, instead of
            ``pred_track_instances``. This compares two trackers on the same detections.
        results_dir: also write ``<video>.txt`` there, in MOT Challenge's result format; the video
            name is the folder above ``img1``, the frame number is the file name.
        format_only: write the files and compute nothing, for videos without ground truth.
        collect_device, prefix: of MMEngine's metrics.

    Raises:
        ImportError: TrackEval is not installed.
        KeyError: a frame lacks one of these fields.
        ValueError: ``format_only`` without ``results_dir``; two objects of a frame have the same
            identity, which CLEAR MOT does not define.
    """

    default_prefix = 'mot'

    def __init__(
        self,
        iou_thr: float = 0.5,
        tracker: dict | None = None,
        results_dir: str | None = None,
        format_only: bool = False,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if format_only and results_dir is None:
            raise ValueError('MOTMetric: format_only=True needs results_dir.')
        if not format_only:
            trackeval_metrics(iou_thr)  # raise before the training, not after it
        self.iou_thr, self.results_dir, self.format_only = iou_thr, results_dir, format_only
        self.tracker = None if tracker is None else MODELS.build(tracker)
        self._last: tuple[Hashable, int] | None = None

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Collect the frames of a batch."""
        for sample in data_samples:
            needed = ('video_id', 'frame_id', 'gt_instances')
            absent = [key for key in needed if key not in sample]
            if 'instances_ids' not in sample.get('gt_instances', {}):
                absent.append('gt_instances.instances_ids')
            if absent:
                raise KeyError(
                    f'{", ".join(absent)} is missing from a data sample; MOTMetric needs a video '
                    'data set, LoadTrackAnnotations and PackPairInputs in its pipeline.'
                )
            self.results.append(self._frame(sample))

    def _frame(self, sample: dict) -> Frame:
        video, number = sample['video_id'], int(sample['frame_id'])
        tracks = self._tracks(sample, video, number)
        gt, ignored = sample['gt_instances'], sample.get('ignored_instances') or {}
        boxes = corners(gt)
        similarity = iou(boxes, corners(tracks), gt['labels'], tracks['labels'])
        kept = np.ones(len(tracks['labels']), bool)
        if len(ignored.get('labels', ())):
            blocked = iou(corners(ignored), corners(tracks))
            assigned = assign(np.concatenate((similarity, blocked)), self.iou_thr)
            kept = assigned < len(similarity)
        gt_ids = np.asarray(torch.as_tensor(gt['instances_ids']).cpu(), np.int64)
        known, counts = np.unique(gt_ids, return_counts=True)
        if (counts > 1).any():
            raise ValueError(
                f'{counts.max()} objects in frame {number} of video {video} have the identity '
                f'{known[counts.argmax()]}: give each object its own identity, or ignore it.'
            )
        ids = np.asarray(tracks['instances_ids'].cpu(), np.int64)
        places = corners(tracks).numpy()
        places[:, 2:] -= places[:, :2]
        rows = np.column_stack((ids, places, np.asarray(tracks['scores'].cpu(), np.float64)))
        return Frame(
            video,
            number,
            gt_ids,
            ids[kept],
            similarity[:, kept],
            rows,
            str(sample.get('img_path', '')),
        )

    def _tracks(self, sample: dict, video: Hashable, number: int) -> dict:
        if self.tracker is None:
            if 'pred_track_instances' not in sample:
                raise KeyError(
                    'pred_track_instances is missing from a data sample; MOTMetric needs a '
                    'detector that tracks, such as CenterTrack, or the argument tracker.'
                )
            return sample['pred_track_instances']
        if self._last is None or video != self._last[0] or number <= self._last[1]:
            self.tracker.reset()
        self._last = video, number
        tracks = self.tracker.track(InstanceData(**sample['pred_instances']))
        return tracks[tracks.active > 0].to_dict()

    def compute_metrics(self, results: list[Frame]) -> dict[str, float]:
        """Metrics over all frames."""
        videos = defaultdict(list)
        for frame in results:
            videos[frame.video].append(frame)
        self._last = None
        if self.results_dir is not None:
            for frames in videos.values():
                write_results(Path(self.results_dir), frames)
        if self.format_only:
            return {}
        sequences = {
            str(video): as_sequence(sorted(frames, key=lambda frame: frame.number))
            for video, frames in videos.items()
        }
        combined = {}
        for name, metric in trackeval_metrics(self.iou_thr).items():
            single = {video: metric.eval_sequence(data) for video, data in sequences.items()}
            combined[name] = metric.combine_sequences(single)
        return {ours: float(combined[name][field]) for ours, (name, field) in NAMES.items()}


def write_results(folder: Path, frames: Sequence[Frame]) -> None:
    """Write ``<video>.txt`` of MOT Challenge: frame, identity, xywh, score and three -1."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for frame in sorted(frames, key=lambda frame: frame.number):
        stem = Path(frame.path).stem
        number = int(stem) if stem.isdigit() else frame.number + 1
        for identity, *values in frame.rows.tolist():
            numbers = ','.join(f'{value:.2f}' for value in values)
            lines.append(f'{number},{int(identity)},{numbers},-1,-1,-1\n')
    parts = Path(frames[0].path).parts
    name = parts[-3] if len(parts) > 2 else str(frames[0].video)
    (folder / f'{name}.txt').write_text(''.join(lines))


def trackeval_metrics(iou_thr: float) -> dict[str, Any]:
    """TrackEval's metrics by name.

    Raises:
        ImportError: it is not installed.
    """
    try:
        from trackeval import metrics
    except ImportError as error:
        raise ImportError(
            f'MOTMetric needs TrackEval, which cannot be imported ({error}); run `pip install '
            'trackeval`, or `make env`.'
        ) from error
    config = {'THRESHOLD': iou_thr, 'PRINT_CONFIG': False}
    return {name: getattr(metrics, name)(config) for name in ('CLEAR', 'Identity')}


def corners(instances: dict) -> torch.Tensor:
    """Boxes (n, 4) in float64 on the host, from a tensor, an array or MMDetection's box type."""
    boxes = instances['bboxes']
    return torch.as_tensor(getattr(boxes, 'tensor', boxes)).cpu().double().reshape(-1, 4)


def iou(
    one: torch.Tensor, two: torch.Tensor, labels: Any = None, others: Any = None
) -> NDArray[np.float64]:
    """(n, m) IoU of boxes (n, 4) and (m, 4); 0 where labels are given and differ."""
    overlap = bbox_overlaps(one, two).numpy()
    if labels is not None:
        one_class, other_class = (torch.as_tensor(each).cpu() for each in (labels, others))
        overlap = overlap * (one_class[:, None] == other_class).numpy()
    return overlap


def assign(similarity: NDArray[np.float64], threshold: float) -> NDArray[np.int64]:
    """(m,) row assigned to each of m columns in the best assignment, -1 for none."""
    assigned = np.full(similarity.shape[1], -1)
    allowed = np.where(similarity >= threshold, similarity, 0)
    rows, columns = linear_sum_assignment(-allowed)
    good = allowed[rows, columns] > 0
    assigned[columns[good]] = rows[good]
    return assigned


def as_sequence(frames: Sequence[Frame]) -> dict[str, Any]:
    """Frames of one video in TrackEval's format: identities are numbered from 0."""
    gt_ids, count = renumber([frame.gt_ids for frame in frames])
    ids, found = renumber([frame.ids for frame in frames])
    return {
        'gt_ids': gt_ids,
        'tracker_ids': ids,
        'num_gt_ids': count,
        'num_tracker_ids': found,
        'num_gt_dets': sum(map(len, gt_ids)),
        'num_tracker_dets': sum(map(len, ids)),
        'num_timesteps': len(frames),
        'similarity_scores': [frame.similarity for frame in frames],
    }


def renumber(ids: Sequence[NDArray[np.int64]]) -> tuple[list[NDArray[np.int64]], int]:
    """Identities renumbered from 0 in ascending order, and their number."""
    known = np.unique(np.concatenate([np.zeros(0, np.int64), *ids]))
    return [np.searchsorted(known, each) for each in ids], len(known)
