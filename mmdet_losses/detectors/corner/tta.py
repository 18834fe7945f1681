"""Test-time augmentation of the corner detectors: mirrored and resized views."""

from __future__ import annotations

from collections.abc import Sequence

from mmdet.structures import DetDataSample

from mmdet_losses.core import OutputsTTAModel, postprocess
from mmdet_losses.core.head import input_size
from mmdet_losses.detectors.corner.views import InputView
from mmdet_losses.registry import MODELS


@MODELS.register_module()
class CornerNetTTAModel(OutputsTTAModel):
    """Decode every view of an image, then apply NMS to the detections of all views together.

    With views made by ``CornerCanvas`` and ``RandomFlip`` (also a single one) this is the official
    test of CornerNet, CornerNet-Squeeze and CenterNet triplets. Detections are clipped to the
    image and moved to its pixels before NMS, and the triplets' centres of the views at scale 1
    confirm the corners of all views. MMDetection's ``DetTTAModel`` applies NMS to each view first.

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
        """(outputs, sample) of the views of each image to its first sample with detections."""
        encoder = self.module.bbox_head.encoder
        merged = []
        for image in data_samples_list:
            outputs = [outputs for outputs, _ in image]
            views = [view_of(sample.metainfo) for _, sample in image]
            [instances] = encoder.decode_views(outputs, views)
            merged.append(image[0][1])
            merged[-1].pred_instances = postprocess(instances, {}, self.tta_cfg)
        return merged


def view_of(meta: dict) -> InputView:
    """The view that the metas of an image describe.

    ``CornerCanvas`` sets ``border`` and ``resized_shape``; without them the image is in the
    top-left corner of the input, as after ``Resize`` and ``Pad``. Mirroring comes before the
    preprocessor's padding on the right.

    Raises:
        KeyError: the metas lack ``scale_factor``.
    """
    size = input_size([meta])
    shape = meta.get('img_shape', size)
    top, _, left, _ = meta.get('border', (0, 0, 0, 0))
    if 'scale_factor' not in meta:
        raise KeyError(
            'scale_factor is missing in the image metas, so boxes cannot be rescaled to the '
            'original image; add it to meta_keys of PackDetInputs.'
        )
    flipped = bool(meta.get('flip', False))
    left += (size[1] - shape[1]) * flipped
    across, down = map(float, meta['scale_factor'][:2])
    resized = tuple(meta.get('resized_shape', meta['img_shape']))
    return InputView(size, resized, (top, left), (across, down), flipped)
