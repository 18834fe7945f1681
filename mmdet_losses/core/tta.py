"""Test-time augmentation: of outputs before they are decoded, or of boxes after NMS."""

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
from mmdet_losses.registry import MODELS

OWN_SUPPRESSION = ('darknet_nms', 'official_soft_nms')
WITHOUT_AUGMENTATION = {
    'CornerNetSaccade': 'it looks twice already, at scales of its own',
    'CenterTrack': 'it reads the frames of a video in turn',
}
"""Type of a detector -> why its results are not merged over views."""

View = tuple[tuple, DetDataSample]
"""The outputs for one image, of the encoder's ``outputs_type``, and its sample."""


class OutputsTTAModel(BaseTTAModel):
    """Hands the outputs of all views of an image to ``merge_preds``, undecoded.

    Args:
        module: a ``SingleStageDetector`` with an ``EncodedDenseHead``.
        tta_cfg: ``score_thr, nms, max_per_img`` over all views, see
            :func:`~mmdet_losses.core.postprocess.postprocess`; default: the detector's
            ``test_cfg``.
        data_preprocessor: replaces the detector's own.
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
        """``inputs`` and ``data_samples`` as lists over views of lists over images."""
        said = []
        for inputs, samples in zip(data['inputs'], data['data_samples'], strict=True):
            batch = dict(inputs=inputs, data_samples=samples)
            prepared = self.module.data_preprocessor(batch, False)
            outputs = self.module(**prepared, mode='tensor')
            samples = prepared['data_samples']
            said.append([(_image(outputs, i), sample) for i, sample in enumerate(samples)])
        return self.merge_preds(list(zip(*said, strict=True)))

    @abstractmethod
    def merge_preds(self, data_samples_list: Sequence[Sequence[View]]) -> list[DetDataSample]:
        """Views of each image to its first sample with ``pred_instances``."""


def _image(outputs: tuple, index: int) -> tuple:
    """One image of a batch of outputs."""
    return tree_map_only(Tensor, lambda maps: maps[index : index + 1], outputs)


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
