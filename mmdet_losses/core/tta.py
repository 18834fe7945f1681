"""Test-time augmentation: merges the outputs or the results of several views of an image."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from mmdet.models.test_time_augs import DetTTAModel
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_flip
from mmengine.config import ConfigDict
from mmengine.model import BaseTTAModel
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from mmdet_losses.core.postprocess import postprocess
from mmdet_losses.ops import average_overlapping
from mmdet_losses.registry import MODELS

OWN_NMS_TYPES = ('darknet_nms', 'official_soft_nms')
"""Types of NMS that :func:`mmcv.ops.batched_nms` does not have."""
WITHOUT_AUGMENTATION = {
    'CornerNetSaccade': 'it already processes each image at several scales',
    'CenterTrack': 'it needs the frames of a video in order; model.flip_test=True flips them',
}
"""Detector type -> why it has no test-time augmentation."""

ImageView = tuple[tuple, DetDataSample]
"""Outputs of one view of an image, of the encoder's ``outputs_type``, and its sample."""


class OutputsTTAModel(BaseTTAModel):
    """Passes the outputs of all views of an image to ``merge_preds`` before they are decoded.

    Args:
        module: a ``SingleStageDetector`` with an ``EncodedDenseHead``.
        tta_cfg: ``score_thr, nms, max_per_img`` of the merged result, see
            :func:`~mmdet_losses.core.postprocess.postprocess`; default: the detector's
            ``test_cfg``.
        data_preprocessor: replaces that of the detector.
    """

    def __init__(
        self,
        module: dict | nn.Module,
        tta_cfg: dict | None = None,
        data_preprocessor: dict | None = None,
    ) -> None:
        super().__init__(module, data_preprocessor)
        self.tta_cfg = ConfigDict(tta_cfg) if tta_cfg else self.module.bbox_head.test_cfg

    @torch.no_grad()
    def test_step(self, data: dict) -> list[DetDataSample]:
        """Merged results; ``inputs`` and ``data_samples`` are lists (views) of lists (images)."""
        views = []
        for inputs, samples in zip(data['inputs'], data['data_samples'], strict=True):
            batch = dict(inputs=inputs, data_samples=samples)
            prepared = self.module.data_preprocessor(batch, False)
            outputs = self.module(**prepared, mode='tensor')
            samples = prepared['data_samples']
            views.append([(_image(outputs, i), sample) for i, sample in enumerate(samples)])
        return self.merge_preds(list(zip(*views, strict=True)))

    @abstractmethod
    def merge_preds(self, data_samples_list: Sequence[Sequence[ImageView]]) -> list[DetDataSample]:
        """First sample of each image, with merged ``pred_instances``."""


def _image(outputs: tuple, index: int) -> tuple:
    """Outputs of one image of a batch."""
    return tree_map_only(Tensor, lambda maps: maps[index : index + 1], outputs)


@MODELS.register_module()
class PostprocessTTAModel(DetTTAModel):
    """``DetTTAModel`` that merges by :func:`~mmdet_losses.core.postprocess.postprocess`.

    Args:
        tta_cfg: ``score_thr, nms, max_per_img`` of the merged results, in pixels of the original
            image. The results of each view have passed the NMS of the detector's ``test_cfg``.
    """

    def merge_preds(self, data_samples_list: Sequence[Sequence[DetDataSample]]) -> list:
        """First sample of each image, with merged ``pred_instances``."""
        return [self._merge_views(views) for views in data_samples_list]

    def _merge_views(self, views: Sequence[DetDataSample]) -> DetDataSample:
        unflipped = []
        for view in views:
            found = view.pred_instances
            if view.flip:
                found.bboxes = bbox_flip(found.bboxes, view.ori_shape, view.flip_direction)
            unflipped.append(found)
        views[0].pred_instances = self._merge(InstanceData.cat(unflipped), len(views))
        return views[0]

    def _merge(self, found: InstanceData, views: int) -> InstanceData:
        return postprocess(found, {}, self.tta_cfg)


@MODELS.register_module()
class AveragedBoxesTTAModel(PostprocessTTAModel):
    """Averages the overlapping boxes of the views, instead of keeping only the best one.

    The average is more precise than each box: it raises the AP most at high IoU thresholds. See
    :func:`~mmdet_losses.ops.nms.average_overlapping`.

    Args:
        tta_cfg: ``iou_threshold`` (boxes of a class that overlap by more are one object),
            ``score_thr`` and ``max_per_img`` of the merged results.
    """

    def _merge(self, found: InstanceData, views: int) -> InstanceData:
        boxes, scores, labels = average_overlapping(
            found.bboxes, found.scores, found.labels, self.tta_cfg.iou_threshold, views
        )
        merged = InstanceData(bboxes=boxes, scores=scores, labels=labels)
        return postprocess(merged, {}, self.tta_cfg)
