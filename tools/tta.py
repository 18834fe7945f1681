"""Test-time augmentation of detectors whose suppression MMCV does not know."""

from __future__ import annotations

from collections.abc import Sequence

from mmdet.models.test_time_augs import DetTTAModel
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_flip
from mmengine.structures import InstanceData

from mmdet_losses.core import postprocess
from mmdet_losses.registry import MODELS

OWN_SUPPRESSION = ('darknet_nms', 'official_soft_nms')
WITHOUT_AUGMENTATION = {
    'CornerNetSaccade': 'it looks twice already, at scales of its own',
    'CenterTrack': 'it reads the frames of a video in turn',
}
"""Type of a detector -> why its results are not merged over views."""


@MODELS.register_module()
class SuppressedTTAModel(DetTTAModel):
    """``DetTTAModel`` that merges by :func:`~mmdet_losses.core.postprocess.postprocess`.

    Args:
        tta_cfg: ``score_thr, nms, max_per_img`` over the results of all views, in pixels of the
            original picture; each view was suppressed by the detector's ``test_cfg`` before.
    """

    def merge_preds(self, data_samples_list: Sequence[Sequence[DetDataSample]]) -> list:
        """Views of each picture to its first sample with the ``pred_instances`` of all."""
        return [self._merge_views(views) for views in data_samples_list]

    def _merge_views(self, views: Sequence[DetDataSample]) -> DetDataSample:
        upright = []
        for view in views:
            found = view.pred_instances
            if view.flip:
                found.bboxes = bbox_flip(found.bboxes, view.ori_shape, view.flip_direction)
            upright.append(found)
        views[0].pred_instances = postprocess(InstanceData.cat(upright), {}, self.tta_cfg)
        return views[0]
