"""Further small heads of MMDetection: newer ones, and those with deformable convolution.

They need MMCV's compiled operators.
"""

from __future__ import annotations

import torch
from mmdet.structures.mask import BitmapMasks
from mmengine.logging import MessageHub
from mmengine.structures import InstanceData
from torch import nn

from docs.stock_head_cases import (
    ANCHORS,
    ATSS,
    BOXES,
    ENTROPY,
    FOCAL,
    GAUSSIAN_FOCAL,
    GIOU,
    GROUPS,
    HUNGARIAN,
    IMAGE,
    IOU,
    L1,
    MAX_IOU,
    METAS,
    POINTS,
    QUALITY,
    REGRESS,
    RETINA,
    SMALL,
    SMOOTH_L1,
    SQUARES,
    STRIDES,
    TRAIN,
    Head,
    dense,
    detr_outputs,
    loss_by_feat,
    run_head,
)

GA_TRAIN = {
    **TRAIN,
    'ga_assigner': {**MAX_IOU, 'type': 'ApproxMaxIoUAssigner'},
    'ga_sampler': {
        'type': 'RandomSampler',
        'num': 256,
        'pos_fraction': 0.5,
        'add_gt_as_proposals': False,
    },
    'center_ratio': 0.2,
    'ignore_ratio': 0.5,
}
GUIDED = {
    'feat_channels': 4,
    'deform_groups': 1,
    'approx_anchor_generator': ANCHORS['anchor_generator'],
    'square_anchor_generator': SQUARES,
    'train_cfg': GA_TRAIN,
}
GUIDED_LOSSES = {
    'loss_loc': FOCAL,
    'loss_shape': {'type': 'BoundedIoULoss', 'beta': 0.2},
    'loss_cls': FOCAL,
    'loss_bbox': SMOOTH_L1,
}
TOOD = {
    **ATSS,
    'initial_assigner': {'type': 'ATSSAssigner', 'topk': 9},
    'assigner': {'type': 'TaskAlignedAssigner', 'topk': 13},
    'alpha': 1,
    'beta': 6,
}
TOOD_LOSSES = {
    'initial_loss_cls': {**FOCAL, 'activated': True},
    'loss_cls': {**QUALITY, 'activated': True},
    'loss_bbox': GIOU,
}


def tood(initial_epoch: int) -> Head:
    """TOOD before or after the epoch from which it uses the second loss of classes."""
    unused = 'loss_cls' if initial_epoch else 'initial_loss_cls'
    kept = {name: loss for name, loss in TOOD_LOSSES.items() if name != unused}
    config = {**ANCHORS, **SMALL, **GROUPS, 'feat_channels': 8, unused: TOOD_LOSSES[unused]}
    train_cfg = {**TOOD, 'initial_epoch': initial_epoch}
    made = {'type': 'TOODHead', 'num_classes': 2, 'in_channels': 4, 'train_cfg': train_cfg}
    return Head({**made, **config}, kept, run_head, first_epoch_loss)


def first_epoch_loss(head: nn.Module, outputs: tuple, objects: list[InstanceData]) -> dict:
    """The head reads the epoch of the training."""
    MessageHub.get_current_instance().update_info('epoch', 0)
    return loss_by_feat(head, outputs, objects)


def distilled_loss(head: nn.Module, outputs: tuple, objects: list[InstanceData]) -> dict:
    """LD also reads the distributions of a teacher."""
    generator = torch.Generator().manual_seed(5)
    teacher = [torch.randn(each.shape, generator=generator) for each in outputs[1]]
    return head.loss_by_feat(
        *outputs, batch_gt_instances=objects, batch_img_metas=METAS, soft_targets=teacher
    )


def two_stage_outputs(head: nn.Module) -> tuple:
    """Outputs of a decoder layer, and of the encoder."""
    classes, boxes = detr_outputs(head)
    return classes, boxes, classes[0].flip(1), boxes[0].flip(1)


def denoised_loss(head: nn.Module, outputs: tuple, objects: list[InstanceData]) -> dict:
    """DINO, whose first queries are for denoising."""
    queries = {'num_denoising_queries': 6, 'num_denoising_groups': 1}
    return head.loss_by_feat(
        *outputs, batch_gt_instances=objects, batch_img_metas=METAS, dn_meta=queries
    )


def detr(type_: str, loss=loss_by_feat) -> Head:
    config = {
        'type': type_,
        'num_classes': 2,
        'embed_dims': 8,
        'num_pred_layer': 2,
        'as_two_stage': True,
        'train_cfg': {'assigner': HUNGARIAN},
    }
    slots = {'loss_cls': FOCAL, 'loss_bbox': {**L1, 'loss_weight': 5.0}, 'loss_iou': GIOU}
    return Head(config, slots, two_stage_outputs, loss)


def pyramid_outputs(head: nn.Module) -> tuple:
    """SOLO halves its first feature map."""
    generator = torch.Generator().manual_seed(3)
    sizes = ((16, 24), (4, 6))
    return head(tuple(torch.randn(2, 4, *size, generator=generator) for size in sizes))


def masked_loss(head: nn.Module, outputs: tuple, objects: list[InstanceData]) -> dict:
    """SOLO reads masks; those of the boxes."""
    for each in objects:
        masks = torch.zeros(len(each), *IMAGE, dtype=torch.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, each.bboxes.int().tolist(), strict=True):
            mask[y1:y2, x1:x2] = 1
        each.masks = BitmapMasks(masks.numpy(), *IMAGE)
    return head.loss_by_feat(*outputs, batch_gt_instances=objects, batch_img_metas=METAS)


MORE_HEADS: dict[str, Head] = {
    'VFNetHead': dense(
        'VFNetHead',
        {
            'loss_cls': {'type': 'VarifocalLoss', 'use_sigmoid': True},
            'loss_bbox': GIOU,
            'loss_bbox_refine': GIOU,
        },
        **POINTS,
        **REGRESS,
        anchor_generator={**ANCHORS['anchor_generator'], 'center_offset': 0.0},
        train_cfg=ATSS,
    ),
    'TOODHead, first epochs': tood(4),
    'TOODHead, later epochs': tood(0),
    'DDODHead': dense(
        'DDODHead',
        {**BOXES, 'loss_iou': ENTROPY},
        **ANCHORS,
        **SMALL,
        **GROUPS,
        use_dcn=False,
        train_cfg={
            **ATSS,
            'assigner': {'type': 'ATSSAssigner', 'topk': 9, 'alpha': 0.8},
            'reg_assigner': {'type': 'ATSSAssigner', 'topk': 9, 'alpha': 0.5},
        },
    ),
    'LDHead': Head(
        {'type': 'LDHead', 'num_classes': 2, 'in_channels': 4, **ANCHORS, **SMALL, **GROUPS}
        | {'train_cfg': ATSS},
        {
            'loss_cls': QUALITY,
            'loss_bbox': GIOU,
            'loss_ld': {'type': 'KnowledgeDistillationKLDivLoss', 'T': 10},
        },
        run_head,
        distilled_loss,
    ),
    'PISARetinaHead': dense(
        'PISARetinaHead',
        RETINA,
        **ANCHORS,
        **SMALL,
        train_cfg={**TRAIN, 'isr': {'k': 2.0, 'bias': 0.0}, 'carl': {'k': 1.0, 'bias': 0.2}},
    ),
    'NASFCOSHead': dense(
        'NASFCOSHead',
        {**BOXES, 'loss_bbox': IOU, 'loss_centerness': ENTROPY},
        **REGRESS,
        **GROUPS,
        feat_channels=4,
        strides=STRIDES,
    ),
    'RepPointsHead': dense(
        'RepPointsHead',
        {'loss_cls': FOCAL, 'loss_bbox_init': SMOOTH_L1, 'loss_bbox_refine': SMOOTH_L1},
        **SMALL,
        feat_channels=4,
        point_feat_channels=4,
        point_strides=STRIDES,
        train_cfg={
            'init': {**TRAIN, 'assigner': {'type': 'PointAssigner', 'scale': 4, 'pos_num': 1}},
            'refine': TRAIN,
        },
    ),
    'GARetinaHead': dense('GARetinaHead', GUIDED_LOSSES, **SMALL, **GUIDED),
    'GARPNHead': Head(
        {'type': 'GARPNHead', 'in_channels': 4, **GUIDED},
        {**GUIDED_LOSSES, 'loss_cls': ENTROPY},
        run_head,
        loss_by_feat,
        num_classes=1,
    ),
    'CentripetalHead': dense(
        'CentripetalHead',
        {
            'loss_heatmap': {**GAUSSIAN_FOCAL, 'alpha': 2.0, 'gamma': 4.0},
            'loss_offset': {'type': 'SmoothL1Loss', 'beta': 1.0},
            'loss_guiding_shift': {'type': 'SmoothL1Loss', 'beta': 1.0},
            'loss_centripetal_shift': {'type': 'SmoothL1Loss', 'beta': 1.0},
        },
        num_feat_levels=1,
        corner_emb_channels=0,
        levels=1,
    ),
    'DeformableDETRHead': detr('DeformableDETRHead'),
    'DINOHead': detr('DINOHead', denoised_loss),
    'YOLACTHead': dense(
        'YOLACTHead',
        {
            'loss_cls': {'type': 'CrossEntropyLoss', 'reduction': 'none'},
            'loss_bbox': SMOOTH_L1,
        },
        **ANCHORS,
        num_protos=2,
        train_cfg={**TRAIN, 'neg_pos_ratio': 3},
    ),
    'CondInstBboxHead': dense(
        'CondInstBboxHead',
        {**BOXES, 'loss_centerness': ENTROPY},
        num_params=3,
        **POINTS,
        **REGRESS,
    ),
    'CondInstMaskHead': Head(
        {
            'type': 'CondInstMaskHead',
            'mask_feature_head': {'in_channels': 4, 'feat_channels': 4, 'out_channels': 2}
            | {'start_level': 0, 'end_level': 0, 'mask_stride': 8},
        },
        {'loss_mask': {'type': 'DiceLoss', 'use_sigmoid': True}},
        pyramid_outputs,  # no loss of this package gets that far
        masked_loss,
    ),
    'SOLOHead': Head(
        {'type': 'SOLOHead', 'num_classes': 2, 'in_channels': 4, 'feat_channels': 4, **SMALL}
        | {'strides': STRIDES, 'scale_ranges': ((8, 48), (32, 128)), 'num_grids': [6, 4], **GROUPS},
        {'loss_cls': FOCAL, 'loss_mask': {'type': 'DiceLoss', 'use_sigmoid': True}},
        pyramid_outputs,
        masked_loss,
    ),
}
"""Name -> head, as :data:`docs.stock_head_cases.HEADS`."""
