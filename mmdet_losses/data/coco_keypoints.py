"""COCO's keypoint annotations as an MMDetection data set."""

from __future__ import annotations

import logging
from typing import Any, Literal

import numpy as np
from mmdet.datasets import CocoDataset
from mmengine.logging import print_log

from mmdet_losses.data.clean import DataError
from mmdet_losses.data.keypoints import check_traced
from mmdet_losses.data.object_weights import weight_of
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
# Standard deviation of the annotators, relative to the object size (square root of its area).
SIGMAS = (
    0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107,
    0.087, 0.087, 0.089, 0.089,
)  # fmt: skip


@DATASETS.register_module()
class CocoKeypointDataset(CocoDataset):
    """Boxes and keypoints of persons (or other objects) from a COCO keypoint file.

    The items are those of MMDetection's ``CocoDataset``, and every instance also has
    ``keypoints``: J lists of x, y in pixels and visibility (0 not labelled, 1 labelled but hidden,
    2 visible). Images without an object are kept, unless ``filter_cfg`` has ``filter_empty_gt``.

    Other keypoints than COCO's need four keys of ``metainfo`` beside ``classes``: ``keypoints``
    (J names), ``skeleton`` (pairs to connect), ``flip_pairs`` (pairs that are swapped in a
    mirrored image) and ``sigmas`` (J tolerances of
    :class:`~mmdet_losses.metrics.coco_keypoints.CocoKeypointMetric`).

    Args:
        wrong_keypoints: a keypoint is wrong if its visibility is not 0, 1 or 2, or if it is
            labelled and its position is not finite. 'raise' raises an error; 'drop' treats it as
            not labelled and logs the number of such keypoints.
        *args, **kwargs: of ``CocoDataset``.

    Raises:
        ValueError: ``wrong_keypoints`` is neither 'raise' nor 'drop'.
        DataError: inconsistent metainfo, a transform that moves boxes but not keypoints, an
            annotation without keypoints or with a wrong number of them, a wrong keypoint (see
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
        """J, the number of keypoints per object."""
        return len(self.metainfo['keypoints'])

    def full_init(self) -> None:
        """Check metainfo and pipeline, read the file, log the number of dropped keypoints."""
        if self._fully_initialized:
            return
        check_keypoints(self.metainfo)
        check_traced(self.pipeline.transforms)
        super().full_init()
        if self.num_dropped_keypoints:
            print_log(
                f'{self.ann_file}: {self.num_dropped_keypoints} keypoints are treated as not '
                'labelled: their visibility is not 0, 1 or 2, or their position is not finite.',
                logger='current',
                level=logging.WARNING,
            )

    def parse_data_info(self, raw_data_info: dict) -> dict:
        """One image, with the annotations that ``CocoDataset`` uses."""
        image, notes = raw_data_info['raw_img_info'], raw_data_info['raw_ann_info']
        record = super().parse_data_info(dict(raw_img_info=image, raw_ann_info=[]))
        for note in notes:
            alone = dict(raw_img_info=image, raw_ann_info=[note])
            for instance in super().parse_data_info(alone)['instances']:
                instance['keypoints'] = self._keypoints(note).tolist()
                instance |= weight_of(note, self.ann_file)
                record['instances'].append(instance)
        return record

    def get_data_info(self, idx: int) -> dict:
        """The record of an image, with the number of keypoints and the pairs for mirroring."""
        record = super().get_data_info(idx)
        record['num_keypoints'] = self.num_keypoints
        record['flip_pairs'] = self.metainfo['flip_pairs']
        return record

    def _keypoints(self, note: dict) -> np.ndarray:
        """(J, 3) float64 of x, y, visibility; zeros for keypoints that are not labelled.

        Raises:
            DataError: missing or wrong keypoints.
        """
        given, wanted = note.get('keypoints'), 3 * self.num_keypoints
        where = f'annotation {note.get("id")} of image {note.get("image_id")} in {self.ann_file}'
        if given is None:
            raise DataError(
                f'{where} has no keypoints; use the file with keypoints (COCO: '
                f'person_keypoints_*.json), or add {wanted} numbers, zeros where not labelled.'
            )
        if not isinstance(given, list) or len(given) != wanted:
            length = len(given) if isinstance(given, list) else 'not a list of'
            raise DataError(
                f'{where} has {length} numbers as keypoints instead of {wanted} '
                f'({self.num_keypoints} times x, y, visibility); correct the annotation, or the '
                'keypoints in metainfo of the data set.'
            )
        try:
            keypoints = np.array(given, np.float64).reshape(-1, 3)
        except (TypeError, ValueError):
            raise DataError(
                f'{where} has keypoints that are not all numbers; correct the annotation.'
            ) from None
        wrong = self._wrong(keypoints, where)
        self.num_dropped_keypoints += int(wrong.sum())
        return np.where((keypoints[:, 2:] > 0) & ~wrong[:, None], keypoints, 0)

    def _wrong(self, keypoints: np.ndarray, where: str) -> np.ndarray:
        """(J,) bool, the wrong keypoints; a ``DataError`` if they raise."""
        visibility = keypoints[:, 2]
        unknown = ~np.isin(visibility, (0, 1, 2))
        wrong = unknown | ((visibility > 0) & ~np.isfinite(keypoints).all(1))
        if wrong.any() and self.wrong_keypoints == 'raise':
            first = int(wrong.argmax())
            fault = (
                f'the visibility {visibility[first]:g}, which is not 0, 1 or 2'
                if unknown[first]
                else f'the position {keypoints[first, :2].tolist()}, which is not finite'
            )
            raise DataError(
                f'{where} gives {self.metainfo["keypoints"][first]} {fault}; correct it, or set '
                "wrong_keypoints='drop' of the data set to treat such keypoints as not labelled."
            )
        return wrong


def check_keypoints(metainfo: dict) -> None:
    """Raise a ``DataError`` unless skeleton, pairs and tolerances fit the keypoint names."""
    count = len(metainfo['keypoints'])
    for key in ('skeleton', 'flip_pairs'):
        for pair in metainfo[key]:
            if len(pair) != 2 or not all(0 <= index < count for index in pair):
                raise DataError(
                    f'metainfo has {tuple(pair)} in {key}, but {count} keypoints (0 to '
                    f'{count - 1}); give pairs of their indices.'
                )
    if len(metainfo['sigmas']) != count:
        raise DataError(
            f'metainfo has {len(metainfo["sigmas"])} sigmas, but {count} keypoints; give one per '
            'keypoint.'
        )
