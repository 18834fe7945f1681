"""Small heads of MMDetection with the slots of their losses, and the losses of both packages."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import nn

import mmdet_losses  # noqa: F401
from mmdet_losses.registry import MODELS

IMAGE = (64, 96)
FOCAL = {'type': 'FocalLoss', 'use_sigmoid': True}
ENTROPY = {'type': 'CrossEntropyLoss', 'use_sigmoid': True}
L1, SMOOTH_L1, MSE = {'type': 'L1Loss'}, {'type': 'SmoothL1Loss', 'beta': 0.5}, {'type': 'MSELoss'}
GAUSSIAN_FOCAL = {'type': 'GaussianFocalLoss'}

PAIRS: dict[str, tuple[dict, dict | None]] = {
    'SigmoidFocalLoss': ({'type': 'SigmoidFocalLoss', 'use_sigmoid': True}, FOCAL),
    'MaskedL1Loss': ({'type': 'MaskedL1Loss'}, L1),
    'MaskedSmoothL1Loss': ({**SMOOTH_L1, 'type': 'MaskedSmoothL1Loss'}, SMOOTH_L1),
    'MaskedWeightedL1Loss': ({'type': 'MaskedWeightedL1Loss'}, L1),
    'BoxIoULoss': ({'type': 'BoxIoULoss', 'scaling': 'log'}, {'type': 'IoULoss'}),
    'GeneralizedIoULoss': ({'type': 'GeneralizedIoULoss'}, {'type': 'GIoULoss'}),
    'DistanceIoULoss': ({'type': 'DistanceIoULoss'}, {'type': 'DIoULoss'}),
    'CompleteIoULoss': ({'type': 'CompleteIoULoss'}, None),
    'PenaltyReducedFocalLoss': (
        {'type': 'PenaltyReducedFocalLoss', 'activated': True},
        GAUSSIAN_FOCAL,
    ),
    'HeatmapMSELoss': ({'type': 'HeatmapMSELoss'}, MSE),
    'PullPushLoss': (
        {'type': 'PullPushLoss', 'pull_weight': 0.25, 'push_weight': 0.25},
        {'type': 'AssociativeEmbeddingLoss'},
    ),
    'CenterTrackFocalLoss': ({'type': 'CenterTrackFocalLoss'}, None),
    'HardNegativeCrossEntropyLoss': ({'type': 'HardNegativeCrossEntropyLoss'}, None),
}
"""Loss of ours -> its config in a stock head, and the stock loss with the same formula."""


@dataclass(frozen=True)
class Head:
    """A small head of MMDetection."""

    config: dict
    slots: dict[str, dict]
    """Slot -> its loss in the recipes of MMDetection."""
    outputs: Callable[[nn.Module], tuple]
    """Random outputs of the head for two images."""
    loss: Callable[[nn.Module, tuple, list[InstanceData]], dict]
    """Losses of the head from its outputs and objects."""
    num_classes: int = 2

    def build(self, slot: str | None = None, loss: dict | None = None) -> nn.Module:
        """The head with the losses of its recipe, or with another loss in one slot."""
        slots = dict(self.slots)
        if slot is not None and loss is not None:
            focal = loss['type'] in ('FocalLoss', 'SigmoidFocalLoss')
            names = ('reduction', 'activated') if focal else ('reduction',)
            kept = {name: slots[slot][name] for name in names if name in slots[slot]}
            slots[slot] = {**kept, **loss}
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope('mmdet'):
            head = MODELS.build(ConfigDict(copy.deepcopy({**self.config, **slots})))
        for parameter in head.parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape)
        return head


METAS = [
    {
        'img_shape': IMAGE,
        'pad_shape': IMAGE,
        'batch_input_shape': IMAGE,
        'ori_shape': IMAGE,
        'scale_factor': (1.0, 1.0),
        'border': (0, 64, 0, 96),
    }
] * 2
SIZES = ((8, 12), (4, 6))
STRIDES = (8, 16)


def run_head(head: nn.Module, levels: int = 2) -> tuple:
    generator = torch.Generator().manual_seed(3)
    feats = tuple(torch.randn(2, 4, *size, generator=generator) for size in SIZES[:levels])
    return head(feats)


def loss_by_feat(head: nn.Module, outputs: tuple, objects: list[InstanceData]) -> dict:
    return head.loss_by_feat(*outputs, batch_gt_instances=objects, batch_img_metas=METAS)


def dense(type_: str, slots: dict, num_classes: int = 2, levels: int = 2, **config: Any) -> Head:
    """A head that reads feature maps."""
    made = {'type': type_, 'in_channels': 4, **config}
    if type_ != 'RPNHead':
        made['num_classes'] = num_classes
    return Head(made, slots, partial(run_head, levels=levels), loss_by_feat, num_classes)


ANCHORS = {
    'anchor_generator': {
        'type': 'AnchorGenerator',
        'ratios': [1.0],
        'octave_base_scale': 3,
        'scales_per_octave': 1,
        'strides': STRIDES,
    },
    'feat_channels': 4,
}
SQUARES = {'type': 'AnchorGenerator', 'ratios': [1.0], 'scales': [3], 'strides': STRIDES}
MAX_IOU = {'type': 'MaxIoUAssigner', 'pos_iou_thr': 0.5, 'neg_iou_thr': 0.4, 'min_pos_iou': 0}
TRAIN = {
    'assigner': MAX_IOU,
    'sampler': {'type': 'PseudoSampler'},
    'allowed_border': -1,
    'pos_weight': -1,
    'debug': False,
}
ATSS = {**TRAIN, 'assigner': {'type': 'ATSSAssigner', 'topk': 9}}
SMALL = {'stacked_convs': 1}
GROUPS = {'norm_cfg': {'type': 'GN', 'num_groups': 2}}
POINTS = {**SMALL, 'feat_channels': 4, 'strides': STRIDES, **GROUPS}
REGRESS = {'regress_ranges': ((-1, 32), (32, 1e8))}
GIOU, IOU = {'type': 'GIoULoss', 'loss_weight': 2.0}, {'type': 'IoULoss'}
QUALITY = {'type': 'QualityFocalLoss', 'use_sigmoid': True}
HUNGARIAN = {
    'type': 'HungarianAssigner',
    'match_costs': [
        {'type': 'FocalLossCost', 'weight': 2.0},
        {'type': 'BBoxL1Cost', 'weight': 5.0, 'box_format': 'xywh'},
        {'type': 'IoUCost', 'iou_mode': 'giou', 'weight': 2.0},
    ],
}
SUM = {'reduction': 'sum'}


def detr_outputs(head: nn.Module) -> tuple:
    generator = torch.Generator().manual_seed(3)
    classes = torch.randn(1, 2, 7, head.cls_out_channels, generator=generator)
    return classes, torch.rand(1, 2, 7, 4, generator=generator) * 0.4 + 0.2


def detr(type_: str) -> Head:
    config = {
        'type': type_,
        'num_classes': 2,
        'embed_dims': 8,
        'train_cfg': {'assigner': HUNGARIAN},
    }
    slots = {'loss_cls': FOCAL, 'loss_bbox': {**L1, 'loss_weight': 5.0}, 'loss_iou': GIOU}
    return Head(config, slots, detr_outputs, loss_by_feat)


def roi_outputs(head: nn.Module) -> tuple:
    generator = torch.Generator().manual_seed(3)
    boxes = 1 if head.reg_class_agnostic else head.num_classes
    width = head.fc_cls.out_features
    return (
        torch.randn(12, width, generator=generator),
        0.3 * torch.randn(12, 4 * boxes, generator=generator),
    )


def roi_loss(head: nn.Module, outputs: tuple, objects: list[InstanceData]) -> dict:
    generator = torch.Generator().manual_seed(4)
    low = torch.rand(12, 2, generator=generator) * 20
    rois = torch.cat((low, low + 20 + 20 * torch.rand(12, 2, generator=generator)), 1)
    labels = torch.full((12,), head.num_classes)
    targets, weights = torch.zeros(2, 12, 4)
    slots = [(image, each) for image, found in enumerate(objects) for each in range(len(found))]
    for place, (image, each) in enumerate(slots):
        labels[place] = objects[image].labels[each]
        weights[place] = 1
        box = objects[image].bboxes[each : each + 1]
        targets[place] = (
            box if head.reg_decoded_bbox else head.bbox_coder.encode(rois[place : place + 1], box)
        )
    rois = torch.cat((torch.zeros(12, 1), rois), 1)
    return head.loss(*outputs, rois, labels, torch.ones(12), targets, weights)


def roi(type_: str, slots: dict, **config: Any) -> Head:
    return Head(
        {'type': type_, 'num_classes': 2, 'in_channels': 4, 'roi_feat_size': 1, **config},
        slots,
        roi_outputs,
        roi_loss,
    )


RETINA = {'loss_cls': FOCAL, 'loss_bbox': L1}
BOXES = {'loss_cls': FOCAL, 'loss_bbox': GIOU}
HEADS: dict[str, Head] = {
    'RetinaHead': dense('RetinaHead', RETINA, **ANCHORS, **SMALL, train_cfg=TRAIN),
    'RetinaHead, reg_decoded_bbox': dense(
        'RetinaHead', BOXES, **ANCHORS, **SMALL, train_cfg=TRAIN, reg_decoded_bbox=True
    ),
    'RetinaSepBNHead': dense(
        'RetinaSepBNHead', RETINA, num_ins=2, **ANCHORS, **SMALL, train_cfg=TRAIN
    ),
    'FreeAnchorRetinaHead': dense(
        'FreeAnchorRetinaHead',
        {'loss_bbox': {'type': 'SmoothL1Loss', 'beta': 0.5}},
        pre_anchor_topk=3,
        **ANCHORS,
        **SMALL,
    ),
    'RPNHead': dense('RPNHead', {'loss_cls': ENTROPY, 'loss_bbox': L1}, **ANCHORS, train_cfg=TRAIN),
    'FCOSHead': dense(
        'FCOSHead', {**BOXES, 'loss_bbox': IOU, 'loss_centerness': ENTROPY}, **POINTS, **REGRESS
    ),
    'FCOSHead as RPN': dense(
        'FCOSHead', {**BOXES, 'loss_centerness': ENTROPY}, num_classes=1, **POINTS, **REGRESS
    ),
    'ATSSHead': dense(
        'ATSSHead',
        {**BOXES, 'loss_centerness': ENTROPY},
        **ANCHORS,
        **SMALL,
        **GROUPS,
        train_cfg=ATSS,
    ),
    'PAAHead': dense(
        'PAAHead',
        {**BOXES, 'loss_centerness': ENTROPY},
        **ANCHORS,
        **SMALL,
        **GROUPS,
        train_cfg={**TRAIN, 'assigner': {**MAX_IOU, 'pos_iou_thr': 0.1, 'neg_iou_thr': 0.1}},
        reg_decoded_bbox=True,
        bbox_coder={'type': 'DeltaXYWHBBoxCoder', 'target_stds': [0.1, 0.1, 0.2, 0.2]},
    ),
    'FSAFHead': dense(
        'FSAFHead',
        {
            'loss_cls': {**FOCAL, 'reduction': 'none'},
            'loss_bbox': {'type': 'IoULoss', 'reduction': 'none'},
        },
        **ANCHORS,
        **SMALL,
        train_cfg={
            **TRAIN,
            'assigner': {
                'type': 'CenterRegionAssigner',
                'pos_scale': 0.2,
                'neg_scale': 0.2,
                'min_pos_iof': 0.01,
            },
        },
        reg_decoded_bbox=True,
        bbox_coder={'type': 'TBLRBBoxCoder', 'normalizer': 4.0},
    ),
    'FoveaHead': dense(
        'FoveaHead',
        {'loss_cls': FOCAL, 'loss_bbox': SMOOTH_L1},
        **SMALL,
        feat_channels=4,
        strides=STRIDES,
        base_edge_list=(16, 32),
        scale_ranges=((8, 48), (32, 128)),
    ),
    'GFLHead': dense(
        'GFLHead',
        {'loss_cls': QUALITY, 'loss_bbox': GIOU},
        **ANCHORS,
        **SMALL,
        **GROUPS,
        train_cfg=ATSS,
    ),
    'YOLOFHead': dense(
        'YOLOFHead',
        BOXES,
        levels=1,
        anchor_generator={**SQUARES, 'strides': [8]},
        reg_decoded_bbox=True,
        num_cls_convs=1,
        num_reg_convs=1,
        train_cfg={
            **TRAIN,
            'assigner': {'type': 'UniformAssigner', 'pos_ignore_thr': 0.15, 'neg_ignore_thr': 0.7},
        },
    ),
    'AutoAssignHead': dense('AutoAssignHead', {'loss_bbox': GIOU}, **POINTS, **REGRESS),
    'RTMDetHead': dense(
        'RTMDetHead',
        {'loss_cls': QUALITY, 'loss_bbox': GIOU},
        anchor_generator={'type': 'MlvlPointGenerator', 'offset': 0, 'strides': STRIDES},
        bbox_coder={'type': 'DistancePointBBoxCoder'},
        feat_channels=4,
        with_objectness=False,
        **SMALL,
        **GROUPS,
        train_cfg={**TRAIN, 'assigner': {'type': 'DynamicSoftLabelAssigner', 'topk': 5}},
    ),
    'YOLOV3Head': dense(
        'YOLOV3Head',
        {
            'loss_cls': {**ENTROPY, **SUM},
            'loss_conf': {**ENTROPY, **SUM},
            'loss_xy': {**ENTROPY, 'loss_weight': 2.0, **SUM},
            'loss_wh': {**MSE, 'loss_weight': 2.0, **SUM},
        },
        anchor_generator={
            'type': 'YOLOAnchorGenerator',
            'base_sizes': [[(20, 18)], [(40, 44)]],
            'strides': STRIDES,
        },
        in_channels=[4, 4],
        featmap_strides=STRIDES,
        out_channels=[4, 4],
        train_cfg={
            'assigner': {
                'type': 'GridAssigner',
                'pos_iou_thr': 0.5,
                'neg_iou_thr': 0.5,
                'min_pos_iou': 0,
            }
        },
    ),
    'YOLOXHead': dense(
        'YOLOXHead',
        {
            'loss_cls': {**ENTROPY, **SUM},
            'loss_bbox': {**IOU, 'mode': 'square', 'loss_weight': 5.0, **SUM},
            'loss_obj': {**ENTROPY, **SUM},
            'loss_l1': {**L1, **SUM},
        },
        **SMALL,
        feat_channels=4,
        strides=STRIDES,
        train_cfg={'assigner': {'type': 'SimOTAAssigner', 'center_radius': 2.5}},
    ),
    'CornerHead': dense(
        'CornerHead',
        {
            'loss_heatmap': {'type': 'GaussianFocalLoss', 'alpha': 2.0, 'gamma': 4.0},
            'loss_embedding': {'type': 'AssociativeEmbeddingLoss'},
            'loss_offset': {'type': 'SmoothL1Loss', 'beta': 1.0},
        },
        num_feat_levels=1,
    ),
    'CenterNetHead': dense(
        'CenterNetHead',
        {
            'loss_center_heatmap': GAUSSIAN_FOCAL,
            'loss_wh': {**L1, 'loss_weight': 0.1},
            'loss_offset': L1,
        },
        levels=1,
        feat_channels=4,
    ),
    'CenterNetUpdateHead': dense(
        'CenterNetUpdateHead',
        {
            'loss_cls': {'type': 'GaussianFocalLoss', 'pos_weight': 0.25, 'neg_weight': 0.75},
            'loss_bbox': GIOU,
        },
        **POINTS,
        regress_ranges=((0, 32), (24, 512)),
    ),
    'SABLRetinaHead': dense(
        'SABLRetinaHead',
        {
            'loss_cls': FOCAL,
            'loss_bbox_cls': {**ENTROPY, 'loss_weight': 1.5},
            'loss_bbox_reg': SMOOTH_L1,
        },
        feat_channels=4,
        **SMALL,
        approx_anchor_generator=ANCHORS['anchor_generator'],
        square_anchor_generator=SQUARES,
        bbox_coder={'type': 'BucketingBBoxCoder', 'num_buckets': 6, 'scale_factor': 3.0},
        train_cfg={**TRAIN, 'assigner': {**MAX_IOU, 'type': 'ApproxMaxIoUAssigner'}},
    ),
    'DETRHead': detr('DETRHead'),
    'Shared2FCBBoxHead': roi(
        'Shared2FCBBoxHead',
        {'loss_cls': {'type': 'CrossEntropyLoss'}, 'loss_bbox': L1},
        fc_out_channels=4,
    ),
    'BBoxHead, reg_decoded_bbox': roi(
        'BBoxHead',
        {'loss_cls': {'type': 'CrossEntropyLoss'}, 'loss_bbox': GIOU},
        reg_decoded_bbox=True,
        reg_class_agnostic=True,
    ),
}
"""Name -> head. SSDHead has no slots: its losses are part of its code."""
