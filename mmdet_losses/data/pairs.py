"""Transforms of pairs: a frame and its previous frame."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform, Compose
from mmcv.transforms.utils import cache_randomness
from mmdet.datasets.transforms import PackDetInputs

from mmdet_losses.data.affine import CenterAffine, draw_motion
from mmdet_losses.data.clean import DataError
from mmdet_losses.data.keypoints import KEYPOINT_FIELDS, settle_keypoints
from mmdet_losses.data.object_weights import WEIGHT_FIELD, add_weights, check_weights
from mmdet_losses.data.pixels import warped
from mmdet_losses.ops import compose_affine
from mmdet_losses.registry import TRANSFORMS


@TRANSFORMS.register_module()
class SamplePair(BaseTransform):
    """Select a frame and its previous frame from a video; the first step of a pipeline.

    In training, an item of the data set is a video. ``TrackImgSampler`` chooses a frame of this
    video; without this sampler the frame is random. The previous frame is a random one of the
    frames whose distance to this frame (difference of ``frame_id``) is in ``gaps``. If there is
    none, the frame is its own previous frame. In a test, an item is one frame. The result then has
    no ``previous``, because the detector stores the previous frame.

    Added keys: those of the frame, ``video_id``, ``previous`` (a dict with the same keys) and
    ``frame_gap`` (``frame_id`` of this frame minus that of the previous one).

    Args:
        gaps: allowed values of ``frame_gap``. The official recipes draw from (-2, -1, 0, 1, 2)
            (``max_frame_dist`` 3). For a gap of 0, :class:`PairAffine` can simulate motion. Use
            (0,) for single images.

    Raises:
        ValueError: ``gaps`` is empty.
    """

    def __init__(self, gaps: Sequence[int] = (-2, -1, 0, 1, 2)) -> None:
        if not gaps:
            raise ValueError('SamplePair: gaps is empty; give at least one, for example gaps=(0,).')
        self.gaps = tuple(gaps)

    def transform(self, results: dict) -> dict:
        """See the class."""
        if 'images' not in results:
            return self._single(results)
        frames, video = results['images'], results['video_id']
        place = results.get('key_frame_id')
        frame = frames[random.randrange(len(frames)) if place is None else place]
        by_id = {each['frame_id']: each for each in frames}
        wanted = [frame['frame_id'] - gap for gap in self.gaps]
        candidates = [by_id[number] for number in wanted if number in by_id]
        previous = random.choice(candidates or [frame])
        return {
            **frame,
            'video_id': video,
            'previous': {**copy.deepcopy(previous), 'video_id': video},
            'frame_gap': frame['frame_id'] - previous['frame_id'],
        }

    @staticmethod
    def _single(results: dict) -> dict:
        """The frame of a test item, whose values are lists of length one."""
        count = len(results['img_path'])
        if count != 1:
            raise DataError(
                f'a test item has {count} frames instead of one; set '
                "sampler=dict(type='TrackImgSampler') in the data loader."
            )
        return {key: value[0] for key, value in results.items()}

    def __repr__(self) -> str:
        return f'{type(self).__name__}(gaps={self.gaps})'


@TRANSFORMS.register_module()
class WithPrevious(BaseTransform):
    """Apply transforms to the image and, with other random numbers, to the previous frame.

    Args:
        transforms: configs.
    """

    def __init__(self, transforms: Sequence[dict]) -> None:
        self.transforms = Compose([TRANSFORMS.build(each) for each in transforms])

    def transform(self, results: dict) -> dict:
        """See the class."""
        previous = results.pop('previous', None)
        results = self.transforms(results)
        if previous is not None:
            results['previous'] = self.transforms(previous)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.transforms})'


@TRANSFORMS.register_module()
class PairAffine(CenterAffine):
    r"""``CenterAffine`` of an image and its previous frame.

    Two frames of a video get the same map. If an image is its own previous frame (``frame_gap``
    0), or with ``same_map=False``, the previous frame gets a second map that simulates motion: the
    map of the image, then a shift by ``shift * normal`` canvas widths, limited to ``2 * shift``,
    then a zoom about the canvas centre by the factor 1 / (1 + ``zoom * normal``), with the
    denominator limited to ``1 ± zoom``.

    Args:
        *args, **kwargs: of :class:`~mmdet_losses.data.affine.CenterAffine`.
        shift, zoom: see above. The official pre-training on single images uses 0.05 and 0.05, the
            official recipes for videos use 0 (no motion).
        same_map: see above; the official option ``same_aug``.
    """

    def __init__(
        self,
        *args: Any,
        shift: float = 0.0,
        zoom: float = 0.0,
        same_map: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.shift, self.zoom, self.same_map = shift, zoom, same_map

    @cache_randomness
    def _move(self) -> tuple[float, float, float]:
        """Shift in x and y in canvas widths, zoom."""
        return draw_motion(self.shift, self.zoom)

    def transform(self, results: dict) -> dict:
        """See the class."""
        previous = results.pop('previous', None)
        results = super().transform(results)
        if previous is None:
            return results
        matrix, (height, width) = results['affine'], results['img_shape']
        if results.get('frame_gap', 1) == 0 or not self.same_map:
            matrix = compose_affine(self._motion(height, width), matrix)
        previous['img'] = warped(previous['img'], matrix, (width, height))
        previous.update(img_shape=previous['img'].shape[:2], affine=matrix)
        self._map_labels(previous, matrix, results['flip'])
        results['previous'] = previous
        return results

    def _motion(self, height: int, width: int) -> np.ndarray:
        """(2, 3) map from the canvas of the image to that of the previous frame."""
        x, y, zoom = self._move()
        left = (1 - 1 / zoom) * width / 2 - x * width / zoom
        top = (1 - 1 / zoom) * height / 2 - y * width / zoom
        return np.array([[1 / zoom, 0, left], [0, 1 / zoom, top]])


@TRANSFORMS.register_module()
class PackPairInputs(PackDetInputs):
    """``PackDetInputs`` for an image and its previous frame.

    Beside ``inputs`` and ``data_samples`` the result has ``previous``, the previous frame
    (3, h, w). The data sample has ``previous``, a data sample with the ``gt_instances`` and
    ``ignored_instances`` of the previous frame. Instances have ``instances_ids``, and
    ``keypoints``, ``keypoints_visible`` and ``weights`` if the annotations have them.

    Args:
        meta_keys: of ``PackDetInputs``; the defaults include video and frame.

    Raises:
        DataError: the two frames differ in size.
    """

    mapping_table = {
        **PackDetInputs.mapping_table,
        **KEYPOINT_FIELDS,
        **WEIGHT_FIELD,
        'gt_instances_ids': 'instances_ids',
    }

    def __init__(
        self,
        meta_keys: Sequence[str] = (
            'img_id',
            'img_path',
            'ori_shape',
            'img_shape',
            'scale_factor',
            'border',
            'video_id',
            'frame_id',
            'public_detections',
        ),
    ) -> None:
        super().__init__(meta_keys=tuple(meta_keys))

    def transform(self, results: dict) -> dict:
        """See the class."""
        previous = results.pop('previous', None)
        for frame in (each for each in (results, previous) if each is not None):
            if 'gt_keypoints' in frame:
                settle_keypoints(frame)
            elif 'gt_bboxes' in frame and 'instances' in frame:
                add_weights(frame)  # MMDetection's LoadTrackAnnotations does not load them
            check_weights(frame)
        packed = super().transform(results)
        if previous is not None:
            other = super().transform(previous)
            if other['inputs'].shape != packed['inputs'].shape:
                sizes = (tuple(each['inputs'].shape[1:]) for each in (packed, other))
                raise DataError(
                    f'{results["img_path"]} and its previous frame {previous["img_path"]} have '
                    f'{" and ".join(map(str, sizes))} pixels (h, w); give all frames of a video '
                    'one size, and transform both with PairAffine or WithPrevious.'
                )
            packed['previous'] = other['inputs']
            packed['data_samples'].previous = other['data_samples']
        return packed
