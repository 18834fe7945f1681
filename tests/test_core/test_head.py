"""The dense head in a two-stage detector."""

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from mmdet_losses.registry import MODELS
from tests.detector_cases import DETECTORS


def rpn(num_classes):
    case = DETECTORS['RetinaNet']
    return dict(
        type='EncodedDenseHead',
        predictor=dict(case.predictor, num_classes=num_classes),
        encoder=dict(case.encoder, num_classes=num_classes, strides=((8, 8), (16, 16))),
        criterion=case.criterion,
    )


def two_stages(num_classes):
    coder = dict(type='DeltaXYWHBBoxCoder', target_stds=(0.1, 0.1, 0.2, 0.2))
    assigner = dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5)
    sampler = dict(type='RandomSampler', num=16, pos_fraction=0.5, add_gt_as_proposals=True)
    nms = dict(type='nms', iou_threshold=0.7)
    roi_head = dict(
        type='StandardRoIHead',
        bbox_roi_extractor=dict(
            type='SingleRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=3),
            out_channels=8,
            featmap_strides=[8, 16],
        ),
        bbox_head=dict(
            type='Shared2FCBBoxHead',
            in_channels=8,
            fc_out_channels=8,
            roi_feat_size=3,
            num_classes=3,
            bbox_coder=coder,
        ),
    )
    stages = [((3, 8, 2),), ((3, 8, 2),), ((3, 8),)]
    return MODELS.build(
        ConfigDict(
            type='FasterRCNN',
            _scope_='mmdet',
            data_preprocessor=dict(type='DetDataPreprocessor'),
            backbone=dict(type='PlainDarknet', arch=stages, out_indices=(1, 2)),
            rpn_head=rpn(num_classes),
            roi_head=roi_head,
            train_cfg=dict(
                rpn=None,
                rpn_proposal=dict(nms=nms, max_per_img=20),
                rcnn=dict(assigner=assigner, sampler=sampler, pos_weight=-1, debug=False),
            ),
            test_cfg=dict(
                rpn=dict(nms=nms, max_per_img=20),
                rcnn=dict(score_thr=0.0, nms=nms, max_per_img=5),
            ),
        )
    )


def test_the_head_proposes_regions():
    torch.manual_seed(0)
    detector = two_stages(1)
    sample = DetDataSample(
        metainfo=dict(img_shape=(64, 64), batch_input_shape=(64, 64), scale_factor=(1.0, 1.0))
    )
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor([[8.0, 8, 40, 48]]), labels=torch.tensor([2])
    )
    images = torch.randn(1, 3, 64, 64)
    losses = detector.loss(images, [sample])
    assert {'rpn_loss_cls', 'rpn_loss_box', 'loss_cls', 'loss_bbox'} <= set(losses)
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    assert all(each.grad is not None for each in detector.rpn_head.parameters())
    found = detector.eval().predict(images, [sample])[0].pred_instances
    assert 0 < len(found) <= 5 and found.bboxes.isfinite().all()


def test_another_number_of_classes_in_the_head_raises():
    with pytest.raises(ValueError, match=r'num_classes is 1 in the head but 3 in its predictor'):
        two_stages(3)
