"""Test-time augmentation of the centre detectors: mirrored and resized views."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet_losses.core import OutputsTTAModel, postprocess
from mmdet_losses.core.head import input_size
from mmdet_losses.detectors.center.contracts import (
    CenterNetPointsOutputs,
    CenterNetPoseOutputs,
    CenterTrackOutputs,
)
from mmdet_losses.ops import promote
from mmdet_losses.registry import MODELS

Outputs = CenterNetPointsOutputs | CenterNetPoseOutputs | CenterTrackOutputs


@MODELS.register_module()
class CenterNetTTAModel(OutputsTTAModel):
    """Average the maps of an image and its mirror image, then merge the detections of all scales.

    With views made by ``CenterAffine`` and ``RandomFlip``, in this order, so that the canvas
    itself is mirrored, this is the official test of CenterNetPoints and CenterNetPose.
    MMDetection's ``DetTTAModel`` merges the detections of mirrored images instead.

    Convention:
        Heatmaps (as scores), sizes and keypoint displacements are averaged with those of the
        mirrored view, mirrored back; sub-cell offsets are those of the upright view. A cell x is
        mirrored to W - 1 - x, keypoints too. With one scale there is no NMS unless ``tta_cfg``
        sets it. With several scales, 'official_soft_nms' is the official one for points;
        'soft_nms' also keeps the keypoints of poses.

    Args:
        module: the detector, a ``SingleStageDetector`` with an encoder of points or poses.
        tta_cfg: ``score_thr, nms, max_per_img`` over all scales, see
            :func:`~mmdet_losses.core.postprocess.postprocess`; default: the detector's
            ``test_cfg``.
        flip_pairs: pairs of keypoints that swap in a mirrored image.
        data_preprocessor: replaces the detector's own.

    Raises:
        ValueError: a mirrored view without an upright view of its scale, or padded afterwards.
        KeyError: metas without ``flip``.
    """

    def __init__(
        self,
        module: dict | nn.Module,
        tta_cfg: dict | None = None,
        flip_pairs: Sequence[tuple[int, int]] = (),
        data_preprocessor: dict | None = None,
    ) -> None:
        super().__init__(module, tta_cfg, data_preprocessor)
        self.flip_pairs = tuple(flip_pairs)

    def merge_preds(
        self, data_samples_list: Sequence[Sequence[tuple[tuple, DetDataSample]]]
    ) -> list[DetDataSample]:
        """(outputs, sample) of the views of each image to its first sample with detections."""
        encoder = self.module.bbox_head.encoder
        merged = []
        for views in data_samples_list:
            found = []
            for outputs, meta in self._scales([(each, sample.metainfo) for each, sample in views]):
                [instances] = encoder.decode(outputs, input_size([meta]))
                found.append(postprocess(instances, meta, {}, rescale=True))
            merged.append(views[0][1])
            merged[-1].pred_instances = postprocess(InstanceData.cat(found), {}, self.tta_cfg)
        return merged

    def _scales(self, views: list[tuple[Outputs, dict]]) -> list[tuple[Outputs, dict]]:
        """One (outputs, metas of the upright view) per scale."""
        scales = []
        if any('flip' not in meta for _, meta in views):
            raise KeyError(
                'flip is missing in the image metas, so mirrored views are unknown; add it to '
                'meta_keys of PackDetInputs.'
            )
        raw = getattr(self.module.bbox_head.encoder, 'keypoint_activation', 'sigmoid') == 'none'
        for _, group in groupby(views, lambda view: input_size([view[1]])):
            same_size = list(group)
            upright = [view for view in same_size if not view[1]['flip']]
            mirrored = [outputs for outputs, meta in same_size if meta['flip']]
            if not upright or len(mirrored) > len(upright):
                raise ValueError(
                    'CenterNetTTAModel got a mirrored view without the upright view of its scale; '
                    'list CenterAffine for every scale first, then RandomFlip with prob 0 and 1.'
                )
            for place, (outputs, meta) in enumerate(upright):
                if mirrored and tuple(meta['img_shape'][:2]) != input_size([meta]):
                    raise ValueError(
                        f'A view of {meta["img_shape"][:2]} pixels was padded to '
                        f'{input_size([meta])} after mirroring; use CenterAffine, whose canvas '
                        'needs no padding, or put Pad before RandomFlip.'
                    )
                if place < len(mirrored):
                    outputs = average_mirrored(outputs, mirrored[place], self.flip_pairs, raw)
                scales.append((outputs, meta))
        return scales


def average_mirrored(
    upright: Outputs,
    mirrored: Outputs,
    flip_pairs: Sequence[tuple[int, int]] = (),
    raw_keypoints: bool = False,
) -> Outputs:
    """Outputs of an image, averaged with those of its mirror image.

    Args:
        upright, mirrored: outputs of both, of equal sizes.
        flip_pairs: pairs of keypoints that swap.
        raw_keypoints: the keypoint heatmap holds scores, not logits.
    """
    averaged = {
        'heatmap': _mean_score(upright.heatmap, mirrored.heatmap.flip(-1)),
        'size': _mean(upright.size, mirrored.size.flip(-1)),
    }
    if isinstance(upright, (CenterNetPoseOutputs, CenterTrackOutputs)) and (
        upright.keypoints is not None
    ):
        back = mirrored.keypoints.flip(-1).unflatten(1, (-1, 2))
        order = list(range(back.shape[1]))
        for left, right in flip_pairs:
            order[left], order[right] = right, left
        back = back[:, order] * back.new_tensor([-1, 1])[:, None, None]
        averaged['keypoints'] = _mean(upright.keypoints, back.flatten(1, 2))
        if upright.keypoint_heatmap is not None:
            back = mirrored.keypoint_heatmap.flip(-1)[:, order]
            mean = _mean if raw_keypoints else _mean_score
            averaged['keypoint_heatmap'] = mean(upright.keypoint_heatmap, back)
    return upright._replace(**averaged)


def _mean(one: Tensor, other: Tensor) -> Tensor:
    return (one + other) / 2


def _mean_score(one: Tensor, other: Tensor) -> Tensor:
    """Logits of the mean of two maps' scores."""
    return torch.logit(_mean(promote(one).sigmoid(), promote(other).sigmoid()))
