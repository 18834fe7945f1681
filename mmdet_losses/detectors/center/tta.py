"""Tests of the centre detectors over several views: mirrored, resized."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet_losses.core import OutputsTTAModel, postprocess
from mmdet_losses.core.head import input_size
from mmdet_losses.detectors.center.contracts import CenterNetPointsOutputs, CenterNetPoseOutputs
from mmdet_losses.ops import promote
from mmdet_losses.registry import MODELS

Outputs = CenterNetPointsOutputs | CenterNetPoseOutputs


@MODELS.register_module()
class CenterNetTTAModel(OutputsTTAModel):
    """Average the maps of a picture and its mirror image, then gather the detections of all scales.

    The official test of CenterNetPoints and CenterNetPose when the pipeline makes its views by
    ``CenterAffine`` and ``RandomFlip``, in this order, so that the canvas itself is mirrored.
    MMDetection's ``DetTTAModel`` puts detections of mirrored pictures together instead.

    Convention:
        Heatmaps (as scores), sizes and the ways to the keypoints are averaged with those of the
        mirrored view, put back in their places; sub-cell offsets are those of the upright view.
        A cell x is mirrored to W - 1 - x, and so are keypoints. With one scale nothing is
        suppressed unless ``tta_cfg`` says so; over several, 'official_soft_nms' is the official one
        for points, and 'soft_nms' carries the joints of poses along.

    Args:
        module: the detector, a ``SingleStageDetector`` with an encoder of points or poses.
        tta_cfg: ``score_thr, nms, max_per_img`` over all scales, see
            :func:`~mmdet_losses.core.postprocess.postprocess`; default: the detector's
            ``test_cfg``.
        flip_pairs: pairs of joints that change places in a mirrored picture.
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
        """Views of each image, as (outputs, sample) pairs, to its first sample with results."""
        encoder = self.module.bbox_head.encoder
        merged = []
        for views in data_samples_list:
            found = []
            said = [(encoder.outputs_type(*fields), sample.metainfo) for fields, sample in views]
            for outputs, meta in self._scales(said):
                [instances] = encoder.decode(outputs, input_size([meta]))
                found.append(postprocess(instances, meta, {}, rescale=True))
            merged.append(views[0][1])
            merged[-1].pred_instances = postprocess(InstanceData.cat(found), {}, self.tta_cfg)
        return merged

    def _scales(self, said: list[tuple[Outputs, dict]]) -> list[tuple[Outputs, dict]]:
        """One (outputs, metas of the upright view) a scale."""
        scales = []
        if any('flip' not in meta for _, meta in said):
            raise KeyError(
                'flip is missing from the image meta data, so mirrored views cannot be told; add '
                'it to meta_keys of PackDetInputs.'
            )
        raw = getattr(self.module.bbox_head.encoder, 'keypoint_activation', 'sigmoid') == 'none'
        for _, group in groupby(said, lambda view: input_size([view[1]])):
            views = list(group)
            upright = [view for view in views if not view[1]['flip']]
            mirrored = [outputs for outputs, meta in views if meta['flip']]
            if not upright or len(mirrored) > len(upright):
                raise ValueError(
                    'CenterNetTTAModel got a mirrored view without the upright view of its scale; '
                    'list CenterAffine for every scale first, then RandomFlip with prob 0 and 1.'
                )
            for place, (outputs, meta) in enumerate(upright):
                if mirrored and tuple(meta['img_shape'][:2]) != input_size([meta]):
                    raise ValueError(
                        f'a view of {meta["img_shape"][:2]} pixels was padded to '
                        f'{input_size([meta])} after it was mirrored; let the pipeline make '
                        'canvases that need no padding (CenterAffine), or Pad before RandomFlip.'
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
    """Outputs of a picture, averaged with those of its mirror image.

    Args:
        upright, mirrored: outputs of both, of equal sizes.
        flip_pairs: pairs of joints that change places.
        raw_keypoints: the keypoint heatmap holds scores, not logits.
    """
    averaged = {
        'heatmap': _mean_score(upright.heatmap, mirrored.heatmap.flip(-1)),
        'size': _mean(upright.size, mirrored.size.flip(-1)),
    }
    if isinstance(upright, CenterNetPoseOutputs):
        back = mirrored.keypoints.flip(-1).unflatten(1, (-1, 2))
        joints = list(range(back.shape[1]))
        for left, right in flip_pairs:
            joints[left], joints[right] = right, left
        back = back[:, joints] * back.new_tensor([-1, 1])[:, None, None]
        averaged['keypoints'] = _mean(upright.keypoints, back.flatten(1, 2))
        if upright.keypoint_heatmap is not None:
            back = mirrored.keypoint_heatmap.flip(-1)[:, joints]
            mean = _mean if raw_keypoints else _mean_score
            averaged['keypoint_heatmap'] = mean(upright.keypoint_heatmap, back)
    return upright._replace(**averaged)


def _mean(one: Tensor, other: Tensor) -> Tensor:
    return (one + other) / 2


def _mean_score(one: Tensor, other: Tensor) -> Tensor:
    """Logits of the mean of two maps' scores."""
    return torch.logit(_mean(promote(one).sigmoid(), promote(other).sigmoid()))
