"""COCO's keypoint annotations as a data set of MMDetection."""

from __future__ import annotations

import logging
from typing import Any, Literal

import numpy as np
from mmdet.datasets import CocoDataset
from mmengine.logging import print_log

from mmdet_losses.data.clean import DataError
from mmdet_losses.data.keypoints import check_traced
from mmdet_losses.ops import check_choice
from mmdet_losses.registry import DATASETS

NAMES = (
    'nose', 'left_eye', 'right_eye', 'left_ear', 'right_ear', 'left_shoulder', 'right_shoulder',
    'left_elbow', 'right_elbow', 'left_wrist', 'right_wrist', 'left_hip', 'right_hip',
    'left_knee', 'right_knee', 'left_ankle', 'right_ankle',
)  # fmt: skip
SKELETON = (
    (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8),
    (7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
)  # fmt: skip
# Standard deviation of the annotators, as a part of the object's size (root of its area).
SIGMAS = (
    0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107,
    0.087, 0.087, 0.089, 0.089,
)  # fmt: skip


@DATASETS.register_module()
class CocoKeypointDataset(CocoDataset):
    """Boxes and keypoints of persons (or of anything else) from a COCO keypoint file.

    Gives what MMDetection's ``CocoDataset`` gives, and for every instance ``keypoints``: J lists
    of x, y in pixels and visibility (0 not labelled, 1 labelled but hidden, 2 visible). Pictures
    without a person stay, unless ``filter_cfg`` has ``filter_empty_gt``.

    Other joints need four keys of ``metainfo`` beside ``classes``: ``keypoints``, the names of the
    J joints; ``skeleton``, pairs of joints to connect; ``flip_pairs``, pairs that change places in
    a mirrored picture; and ``sigmas``, J tolerances of
    :class:`~mmdet_losses.metrics.coco_keypoints.CocoKeypointMetric`.

    Args:
        wrong_keypoints: what to do about a visibility that is not 0, 1 or 2, or a labelled joint
            whose place is not finite: 'raise', or 'drop' the joint (it becomes not labelled) and
            say how many there were.
        *args, **kwargs: of ``CocoDataset``.

    Raises:
        ValueError: ``wrong_keypoints`` is neither 'raise' nor 'drop'.
        DataError: metainfo that does not fit together, a transform that leaves keypoints behind,
            an annotation without keypoints or with another number of them, a wrong joint (see
            ``wrong_keypoints``).
    """

    METAINFO = {
        'classes': ('person',),
        'palette': [(220, 20, 60)],
        'keypoints': NAMES,
        'skeleton': SKELETON,
        'flip_pairs': tuple((i, i + 1) for i in range(1, 17, 2)),
        'sigmas': SIGMAS,
    }

    def __init__(
        self, *args: Any, wrong_keypoints: Literal['raise', 'drop'] = 'raise', **kwargs: Any
    ) -> None:
        check_choice('wrong_keypoints', wrong_keypoints, ('raise', 'drop'))
        self.wrong_keypoints = wrong_keypoints
        self.num_dropped_keypoints = 0
        super().__init__(*args, **kwargs)

    @property
    def num_keypoints(self) -> int:
        """J, joints of an object."""
        return len(self.metainfo['keypoints'])

    def full_init(self) -> None:
        """Check the joints and the pipeline, read the file, say how many joints were dropped."""
        if self._fully_initialized:
            return
        check_joints(self.metainfo)
        check_traced(self.pipeline.transforms)
        super().full_init()
        if self.num_dropped_keypoints:
            print_log(
                f'{self.ann_file}: {self.num_dropped_keypoints} keypoints with a visibility '
                'other than 0, 1 and 2, or without a finite place, are taken as not labelled.',
                logger='current',
                level=logging.WARNING,
            )

    def parse_data_info(self, raw_data_info: dict) -> dict:
        """One picture; ``CocoDataset`` decides which of its annotations are used."""
        picture, notes = raw_data_info['raw_img_info'], raw_data_info['raw_ann_info']
        record = super().parse_data_info(dict(raw_img_info=picture, raw_ann_info=[]))
        for note in notes:
            alone = dict(raw_img_info=picture, raw_ann_info=[note])
            for instance in super().parse_data_info(alone)['instances']:
                instance['keypoints'] = self._keypoints(note).tolist()
                record['instances'].append(instance)
        return record

    def get_data_info(self, idx: int) -> dict:
        """The record of a picture, with what transforms must know of the joints."""
        record = super().get_data_info(idx)
        record['num_keypoints'] = self.num_keypoints
        record['flip_pairs'] = self.metainfo['flip_pairs']
        return record

    def _keypoints(self, note: dict) -> np.ndarray:
        """(J, 3) float64."""
        given, wanted = note.get('keypoints'), 3 * self.num_keypoints
        where = f'annotation {note.get("id")} of picture {note.get("image_id")} in {self.ann_file}'
        if given is None:
            raise DataError(
                f'{where} has no keypoints: take the file with keypoints (COCO: '
                f'person_keypoints_*.json), or give it {wanted} numbers, zeros for what is not '
                'labelled.'
            )
        if not isinstance(given, list) or len(given) != wanted:
            length = len(given) if isinstance(given, list) else 'not a list of'
            raise DataError(
                f'{where} has {length} numbers as keypoints instead of {wanted} '
                f'({self.num_keypoints} times x, y, visibility): correct the annotation, or the '
                'keypoints in metainfo of the data set.'
            )
        try:
            joints = np.array(given, np.float64).reshape(-1, 3)
        except (TypeError, ValueError):
            raise DataError(
                f'{where} has keypoints that are not all numbers: correct the annotation.'
            ) from None
        visibility = joints[:, 2]
        unknown = ~np.isin(visibility, (0, 1, 2))
        wrong = unknown | ((visibility > 0) & ~np.isfinite(joints).all(1))
        if not wrong.any():
            return np.where(visibility[:, None] > 0, joints, 0)
        first = int(wrong.argmax())
        if self.wrong_keypoints == 'raise':
            fault = (
                f'visibility {visibility[first]:g}, which is not 0, 1 or 2'
                if unknown[first]
                else f'the place {joints[first, :2].tolist()}, which is not finite'
            )
            raise DataError(
                f'{where} gives {self.metainfo["keypoints"][first]} {fault}: correct it, or set '
                "wrong_keypoints='drop' of the data set to take such joints as not labelled."
            )
        self.num_dropped_keypoints += int(wrong.sum())
        return np.where((visibility[:, None] > 0) & ~wrong[:, None], joints, 0)


def check_joints(metainfo: dict) -> None:
    """Raise a ``DataError`` unless skeleton, pairs and tolerances fit the names of the joints."""
    count = len(metainfo['keypoints'])
    for key in ('skeleton', 'flip_pairs'):
        for pair in metainfo[key]:
            if len(pair) != 2 or not all(0 <= joint < count for joint in pair):
                raise DataError(
                    f'metainfo has {tuple(pair)} in {key}, but {count} keypoints (0 to '
                    f'{count - 1}): give pairs of their numbers.'
                )
    if len(metainfo['sigmas']) != count:
        raise DataError(
            f'metainfo has {len(metainfo["sigmas"])} sigmas, but {count} keypoints: give one each.'
        )
