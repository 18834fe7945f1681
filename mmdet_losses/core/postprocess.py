"""Post-processing: from decoded boxes to results in image pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any

import torch
from mmcv.ops import batched_nms
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.core.soft_nms import official_soft_nms
from mmdet_losses.ops import adaptive_nms, check_choice, clip_boxes, greedy_nms, voted_boxes

GREEDY: dict[str, Callable[..., Tensor]] = {'darknet_nms': greedy_nms, 'adaptive_nms': adaptive_nms}

PER_CLASS = 4000
"""Number of boxes from which NMS is faster on a CPU if every class has a call of its own."""


def postprocess(
    instances: InstanceData, img_meta: dict, cfg: ConfigDict | dict, rescale: bool = False
) -> InstanceData:
    """Results of one image: score threshold, NMS, limit, border, rescaling and clipping.

    Args:
        instances: ``bboxes`` (n, 4) xyxy in input pixels, ``scores`` (n,), ``labels`` (n,), and
            any other fields of n rows. ``POINT_FIELDS`` (..., 2k) are shifted and scaled like the
            boxes, ``VECTOR_FIELDS`` only scaled.
        img_meta: of the image: ``border`` (default 0), ``scale_factor`` for ``rescale``, and for
            ``clip`` ``ori_shape`` (rescaled) or ``img_shape``.
        cfg: ``score_thr`` (scores must exceed it), ``nms``, ``max_per_img`` and ``clip`` (True:
            clip the final boxes at the image, as in darknet, SSD and Scaled-YOLOv4).
            ``nms`` is a config of :func:`mmcv.ops.batched_nms`, or has ``type='official_soft_nms'``
            (corner detectors, :func:`~mmdet_losses.core.soft_nms.official_soft_nms`) or
            ``type='darknet_nms'`` (YOLOv4, :func:`~mmdet_losses.ops.nms.greedy_nms`) or
            ``type='adaptive_nms'`` (Caffe's ``eta``, :func:`~mmdet_losses.ops.nms.adaptive_nms`);
            None: no NMS. With ``vote``, the boxes that the last two keep are averages:
            :func:`~mmdet_losses.ops.nms.voted_boxes` with this IoU threshold. A negative
            ``max_per_img`` keeps all boxes.
        rescale: return boxes in pixels of the original image.

    Raises:
        KeyError: ``img_meta`` lacks a key that ``rescale`` or ``clip`` needs.
    """
    kept = instances[instances.scores > cfg.get('score_thr', 0.0)]
    nms = cfg.get('nms')
    if nms is not None and nms['type'] == 'official_soft_nms':
        kept = official_soft_nms(kept, **{key: nms[key] for key in nms if key != 'type'})
    elif nms is not None and nms['type'] in GREEDY:
        kept = _greedy(kept, **nms)
    elif nms is not None and len(kept):
        # one call for all classes on a GPU; a CPU compares fewer boxes in one call per class
        split = len(kept) + 1 if kept.bboxes.is_cuda else PER_CLASS
        nms = {'split_thr': split, **nms}
        boxes, order = batched_nms(kept.bboxes.float(), kept.scores.float(), kept.labels, nms)
        kept = kept[order]
        kept.scores = boxes[:, -1].to(kept.scores)
    kept = kept[kept.scores.argsort(descending=True, stable=True)]
    limit = cfg.get('max_per_img', -1)
    kept = kept if limit < 0 else kept[:limit]
    border = img_meta.get('border')
    if border is not None:
        kept = _map_points(kept, lambda x, y: (x - float(border[2]), y - float(border[0])))
    if rescale:
        scale_x, scale_y = _scale_factor(img_meta)
        names = POINT_FIELDS + VECTOR_FIELDS
        kept = _map_points(kept, lambda x, y: (x / scale_x, y / scale_y), names)
    if cfg.get('clip', False):
        height, width = _image_size(img_meta, rescale)
        kept.bboxes = clip_boxes(kept.bboxes, width, height)
    return kept


def _greedy(
    found: InstanceData,
    type: str,
    class_agnostic: bool = False,
    vote: float | None = None,
    **options: Any,
) -> InstanceData:
    """The instances that a type of :data:`GREEDY` keeps."""
    labels = found.labels * (not class_agnostic)
    index = GREEDY[type](found.bboxes, found.scores, labels, **options)
    kept = found[index]
    if vote is not None:
        kept.bboxes = voted_boxes(found.bboxes, found.scores, labels, index, vote)
    return kept


_MMCV = ('iou_threshold', 'offset', 'max_num', 'class_agnostic', 'split_thr')
NMS_OPTIONS = {
    'nms': (*_MMCV, 'score_threshold'),
    'soft_nms': (*_MMCV, 'sigma', 'min_score', 'method'),
    'darknet_nms': ('iou_threshold', 'kind', 'beta', 'class_agnostic', 'vote'),
    'adaptive_nms': ('iou_threshold', 'eta', 'class_agnostic', 'vote'),
    'official_soft_nms': tuple(
        name for name in signature(official_soft_nms).parameters if name != 'instances'
    ),
}
"""Types of NMS that :func:`postprocess` takes, and their options."""


def check_nms(cfg: ConfigDict | dict) -> None:
    """Raise ``ValueError`` unless ``nms`` of a test config has a known type and known options.

    Without this check a wrong name is an error only when the first box is found.
    """
    nms = cfg.get('nms')
    if nms is None:
        return
    check_choice('type of nms', nms.get('type'), NMS_OPTIONS)
    options = NMS_OPTIONS[nms['type']]
    for name in nms:
        if name not in (*options, 'type'):
            raise ValueError(
                f'{nms["type"]} has no option {name!r}; it takes {", ".join(options)}.'
            )


POINT_FIELDS = ('bboxes', 'keypoints', 'centers')
VECTOR_FIELDS = ('tracking',)


def _map_points(
    instances: InstanceData,
    move: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    names: tuple[str, ...] = POINT_FIELDS,
) -> InstanceData:
    for name in names:
        if name in instances:
            flat = instances[name].flatten(1)
            x, y = move(flat[:, 0::2], flat[:, 1::2])
            moved = torch.stack((x, y), -1).view(instances[name].shape)
            instances.set_field(moved, name)
    return instances


def _image_size(img_meta: dict, rescale: bool) -> tuple[float, float]:
    """(height, width) of the image without border, in the pixels of the boxes."""
    border = img_meta.get('border')
    if border is not None and not rescale:
        top, bottom, left, right = (float(edge) for edge in border)
        return bottom - top, right - left
    name = 'ori_shape' if rescale else 'img_shape'
    if name not in img_meta:
        raise KeyError(
            f'{name} is missing from the image meta data, but clip=True of test_cfg needs it; add '
            'it to meta_keys of PackDetInputs, or remove clip.'
        )
    return img_meta[name][:2]


def _scale_factor(img_meta: dict) -> Sequence[float]:
    if 'scale_factor' not in img_meta:
        raise KeyError(
            'scale_factor is missing from the image meta data, but rescaling to the original image '
            'needs it; add it to meta_keys of PackDetInputs, or predict with rescale=False.'
        )
    return [float(s) for s in img_meta['scale_factor'][:2]]
