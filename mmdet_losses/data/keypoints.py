"""Transforms of keypoints, from the annotation to the data sample."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.datasets.transforms import LoadAnnotations, LoadTrackAnnotations, PackDetInputs

from mmdet_losses.data.clean import DataError
from mmdet_losses.data.object_weights import WEIGHT_FIELD, add_weights, check_weights
from mmdet_losses.ops import apply_affine
from mmdet_losses.registry import TRANSFORMS

# Transforms that move boxes and do not update homography_matrix: MMDetection's and ours.
UNTRACED = (
    'CachedMixUp', 'CachedMosaic', 'CopyPaste', 'Expand', 'MinIoURandomCrop', 'MixUp', 'Mosaic',
    'RandomAffine', 'RandomCenterCropPad', 'RandomShift',
    'CornerNetCrop', 'DarknetJitter', 'ExpandCrop', 'RedmonCrop', 'RedmonPlace',
    'ReferenceScaleCrop', 'SSDAugmentation', 'ScaledYOLOv4Mosaic',
)  # fmt: skip


@TRANSFORMS.register_module()
class LoadKeypointAnnotations(LoadAnnotations):
    """Load boxes, labels and keypoints.

    Required keys: ``instances``, each with ``keypoints`` (J, 3) of x, y, visibility, and
    ``num_keypoints``, as in :class:`~mmdet_losses.data.coco_keypoints.CocoKeypointDataset`.
    Added keys beside MMDetection's: ``gt_keypoints`` (n, J, 2) float32 in pixels,
    ``gt_keypoints_visible`` (n, J) int64 of 0 (not labelled), 1 (labelled, hidden) or 2 (visible),
    ``gt_instances_ids`` and ``gt_keypoints_ids`` (n,), which match keypoints with boxes.

    Convention:
        MMDetection's ``Resize``, ``RandomFlip`` and ``RandomCrop`` do not move keypoints, but they
        update ``homography_matrix``; :func:`settle_keypoints` applies it to the keypoints.
    """

    def transform(self, results: dict) -> dict:
        """See the class."""
        results = super().transform(results)
        results['gt_instances_ids'] = np.arange(len(results['instances']))
        return add_keypoints(results)


@TRANSFORMS.register_module()
class LoadTrackKeypointAnnotations(LoadTrackAnnotations):
    """:class:`LoadKeypointAnnotations` for pairs of frames: ``gt_instances_ids`` are identities."""

    def transform(self, results: dict) -> dict:
        """See the class."""
        return add_keypoints(super().transform(results))


def add_keypoints(results: dict) -> dict:
    """Add keypoints and weights of all instances to ``results``."""
    shape = (-1, results['num_keypoints'], 3)
    rows = [each['keypoints'] for each in results['instances']]
    block = np.array(rows, np.float32).reshape(shape)
    results.update(
        gt_keypoints=block[..., :2].copy(),
        gt_keypoints_visible=block[..., 2].astype(np.int64),
        gt_keypoints_ids=results['gt_instances_ids'].copy(),
        keypoint_frame=_frame(results).copy(),
    )
    return add_weights(results)


KEYPOINT_FIELDS = {'gt_keypoints': 'keypoints', 'gt_keypoints_visible': 'keypoints_visible'}
"""Entry of the results -> field of the instances in a data sample."""


@TRANSFORMS.register_module()
class PackKeypointInputs(PackDetInputs):
    """MMDetection's ``PackDetInputs`` that also packs ``keypoints`` and ``keypoints_visible``.

    They become fields of ``gt_instances``: (n, J, 2) in pixels of the input and (n, J). So do
    ``weights`` (n,), if the annotations have them.
    """

    mapping_table = {**PackDetInputs.mapping_table, **KEYPOINT_FIELDS, **WEIGHT_FIELD}

    def transform(self, results: dict) -> dict:
        """See the class."""
        if 'gt_keypoints' in results:
            settle_keypoints(results)
        check_weights(results)
        return super().transform(results)


def settle_keypoints(results: dict) -> None:
    """Apply to the keypoints what transforms did to image and boxes since the last call.

    Coordinates are mapped by ``homography_matrix`` (3, 3). In a mirrored image (negative
    determinant) the keypoints of ``flip_pairs`` are swapped. Rows whose box was dropped are
    removed. ``results`` is changed.

    Raises:
        DataError: boxes and keypoints cannot be matched, because a transform dropped boxes without
            their ids.
    """
    kept = np.isin(results['gt_keypoints_ids'], results['gt_instances_ids'])
    for key in ('gt_keypoints', 'gt_keypoints_visible', 'gt_keypoints_ids'):
        results[key] = results[key][kept]
    if len(results['gt_keypoints']) != len(results['gt_bboxes']):
        raise DataError(
            f'{results.get("img_path", "an image")} has {len(results["gt_bboxes"])} boxes, but '
            f'keypoints of {len(results["gt_keypoints"])} objects: a transform drops boxes without '
            'their gt_instances_ids; use CenterAffine, Resize, RandomFlip or RandomCrop.'
        )
    frame = _frame(results)
    since = frame @ np.linalg.inv(results['keypoint_frame'])
    results['keypoint_frame'] = frame.copy()
    if np.allclose(since, np.eye(3), rtol=0, atol=1e-9):
        return
    results['gt_keypoints'] = apply_affine(results['gt_keypoints'], since[:2])
    if np.linalg.det(since[:2, :2]) < 0:
        swap_sides(results, results.get('flip_pairs', ()))


def swap_sides(results: dict, pairs: Sequence[tuple[int, int]]) -> None:
    """Swap the keypoints of each pair, because left becomes right in a mirrored image."""
    order = np.arange(results['gt_keypoints'].shape[1])
    for left, right in pairs:
        order[[left, right]] = right, left
    for key in ('gt_keypoints', 'gt_keypoints_visible'):
        if key in results:
            results[key] = results[key][:, order]


def check_traced(steps: list[BaseTransform]) -> None:
    """Check that no transform moves boxes without their keypoints.

    Raises:
        DataError: one of :data:`UNTRACED` is in the pipeline.
    """
    for step in steps:
        for kind in type(step).__mro__:
            if kind.__name__ in UNTRACED:
                raise DataError(
                    f'the pipeline has {type(step).__name__}, which moves boxes but not '
                    'keypoints; use CenterAffine, Resize, RandomFlip or RandomCrop instead.'
                )


def _frame(results: dict) -> np.ndarray:
    """(3, 3) float64 map from pixels of the loaded image to pixels of the current one."""
    frame = results.get('homography_matrix')
    return np.eye(3) if frame is None else np.asarray(frame, np.float64)
