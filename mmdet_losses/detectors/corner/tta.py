"""Tests of the corner detectors over several views: mirrored, resized, or just as officially."""

from __future__ import annotations

from collections.abc import Sequence

from mmdet.structures import DetDataSample

from mmdet_losses.core import OutputsTTAModel, postprocess
from mmdet_losses.core.head import input_size
from mmdet_losses.detectors.corner.views import View
from mmdet_losses.registry import MODELS


@MODELS.register_module()
class CornerNetTTAModel(OutputsTTAModel):
    """Decode every view of an image, then suppress the detections of all views together.

    This is the official test of CornerNet, CornerNet-Squeeze and CenterNet triplets when the
    pipeline makes its views by ``CornerCanvas`` and ``RandomFlip`` (one view is fine):
    detections are clipped to the image and brought to its pixels before suppression, and
    a triplet's centres of the views at scale 1 confirm the corners of all. MMDetection's
    ``DetTTAModel`` suppresses each view by itself first.

    Args:
        module: the detector, a ``SingleStageDetector`` with one of the family's encoders.
        tta_cfg: ``score_thr, nms, max_per_img`` over all views, see
            :func:`~mmdet_losses.core.postprocess.postprocess`; default: the detector's
            ``test_cfg``.
        data_preprocessor: replaces the detector's own.
    """

    def merge_preds(
        self, data_samples_list: Sequence[Sequence[tuple[tuple, DetDataSample]]]
    ) -> list[DetDataSample]:
        """Views of each image, as (outputs, sample) pairs, to its first sample with results."""
        head = self.module.bbox_head
        merged = []
        for said in data_samples_list:
            outputs = [head.encoder.outputs_type(*fields) for fields, _ in said]
            views = [view_of(sample.metainfo) for _, sample in said]
            [instances] = head.encoder.decode_views(outputs, views)
            merged.append(said[0][1])
            merged[-1].pred_instances = postprocess(instances, {}, self.tta_cfg)
        return merged


def view_of(meta: dict) -> View:
    """The view that the metas of a picture describe.

    ``border`` and ``resized_shape`` are ``CornerCanvas``'s; without them the picture begins in
    the corner, as ``Resize`` and ``Pad`` leave it. A mirrored picture was mirrored before the
    preprocessor padded it on the right.

    Raises:
        KeyError: a scaled picture without ``scale_factor``.
    """
    size = input_size([meta])
    shape = meta.get('img_shape', size)
    top, _, left, _ = meta.get('border', (0, 0, 0, 0))
    if 'scale_factor' not in meta:
        raise KeyError(
            'scale_factor is missing from the image meta data, so boxes cannot return to the '
            'original image; add it to meta_keys of PackDetInputs.'
        )
    flipped = bool(meta.get('flip', False))
    left += (size[1] - shape[1]) * flipped
    across, down = map(float, meta['scale_factor'][:2])
    resized = tuple(meta.get('resized_shape', meta['img_shape']))
    return View(size, resized, (top, left), (across, down), flipped)
