"""One entry for every registered component; the contract tests run over all of them.

A component without an entry fails ``test_contracts/test_inventory.py``. Three kinds of entries:

* ``LOSSES``: a term, with inputs in float64 that make sense for it.
* ``DETECTORS``: a stem, whose encoder, criterion and predictor are tested together.
* ``NETWORKS``: a backbone or neck, with the shapes it is given.

Everything else (transforms, metrics, hooks, ...) is named in ``ELSEWHERE`` with the test module
that holds its facts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from mmengine.structures import InstanceData
from torch import Tensor
from torch.overrides import TorchFunctionMode

from mmdet_losses.ops import Splats

IMG_SIZE = (96, 160)
"""(h, w) of the network input in the detector cases."""


@dataclass(frozen=True)
class LossCase:
    """How to call a term.

    ``inputs(generator)`` returns keyword arguments of its forward; float tensors in float64.
    Those named in ``wrt`` get gradients.
    """

    config: dict
    inputs: Callable[[torch.Generator], dict]
    wrt: tuple[str, ...] = ('pred',)
    empty: Callable[[torch.Generator], dict] = field(kw_only=True)
    """Inputs without any object."""


@dataclass(frozen=True)
class DetectorCase:
    """A complete head: everything between feature maps and boxes."""

    encoder: dict
    criterion: dict
    predictor: dict
    feats: tuple[tuple[int, int, int], ...]
    """(channels, H, W) of the feature maps that the predictor takes; strides differ in x and y."""
    enrich: Callable[[InstanceData, torch.Generator], None] = lambda instances, generator: None
    """Adds what the encoder needs beside boxes and labels (keypoints, track ids, ...)."""
    round_trip: float = 0.999
    """IoU that every box must reach after encode, ideal_outputs and decode."""
    test_cfg: dict = field(default_factory=lambda: {'score_thr': 0.5, 'max_per_img': 100})
    num_classes: int = 3


@dataclass(frozen=True)
class NetworkCase:
    """A backbone (one shape) or a neck (one shape a level): (C, H, W)."""

    config: dict
    shapes: tuple[tuple[int, int, int], ...]


def heatmap_target(positives: bool = True) -> Tensor:
    """A (2, 3, 8, 10) map with two Gaussians-like bumps a class, or without any."""
    target = torch.zeros(2, 3, 8, 10, dtype=torch.float64)
    if positives:
        target[0, 1, 2:5, 3:6], target[1, 2, 6, 7] = 0.4, 1.0
        target[0, 1, 3, 4] = 1.0
    return target


def heatmap_inputs(generator: torch.Generator, positives: bool = True) -> dict:
    """Random logits against :func:`heatmap_target`."""
    pred = torch.randn(2, 3, 8, 10, dtype=torch.float64, generator=generator)
    return {'pred': pred, 'target': heatmap_target(positives)}


def slot_inputs(generator: torch.Generator, depth: int = 2, positives: bool = True) -> dict:
    """Random (2, 5, depth) predictions and targets; three of ten slots hold objects."""
    pred, target = torch.randn(2, 2, 5, depth, dtype=torch.float64, generator=generator)
    mask = torch.zeros(2, 5, dtype=torch.bool)
    mask[0, :2] = mask[1, 4] = positives
    return {'pred': pred, 'target': target, 'weight': mask}


def weighted_inputs(generator: torch.Generator, positives: bool = True) -> dict:
    """:func:`slot_inputs` with a weight for every value instead of a mask."""
    inputs = slot_inputs(generator, positives=positives)
    mask = inputs['weight'][..., None]
    weight = torch.rand(inputs['pred'].shape, dtype=torch.float64, generator=generator)
    return {**inputs, 'weight': weight * mask}


def gathered_inputs(generator: torch.Generator, positives: bool = True) -> dict:
    """:func:`heatmap_inputs` with the objects that made the target, two of them in one cell."""
    return {
        **heatmap_inputs(generator, positives),
        'index': torch.tensor([[34, 34, 0], [67, 0, 0]]),
        'labels': torch.tensor([[1, 1, 0], [2, 0, 0]]),
        'mask': torch.tensor([[True, True, False], [True, False, False]]) & positives,
    }


def without_objects(inputs: Callable[..., dict]) -> Callable[[torch.Generator], dict]:
    """The same inputs with nothing to find."""
    return lambda generator: inputs(generator, positives=False)


def with_keypoints(instances: InstanceData, generator: torch.Generator) -> None:
    """Five keypoints inside every box; the second is not labelled."""
    inside = torch.tensor([[0.5, 0.1], [0.5, 0.5], [0.125, 0.3], [0.875, 0.3], [0.5, 0.95]])
    low, high = instances.bboxes[:, None, :2], instances.bboxes[:, None, 2:]
    instances.keypoints = low + inside * (high - low)
    instances.keypoints_visible = torch.tensor([2, 0, 1, 2, 2]).repeat(len(instances), 1)


def with_previous(instances: InstanceData, generator: torch.Generator) -> None:
    """A centre in the previous picture for every object but the first."""
    boxes = instances.bboxes
    instances.previous_centers = (boxes[:, :2] + boxes[:, 2:]) / 2 + torch.tensor([3.0, -2.5])
    instances.previous_mask = torch.arange(len(instances)) > 0


def box_inputs(generator: torch.Generator, positives: bool = True) -> dict:
    """Random (12, 4) boxes xyxy in pixels, or none; a third of the pairs do not overlap."""
    shape = (2, 12 if positives else 0, 2)
    low = 40 * torch.rand(shape, dtype=torch.float64, generator=generator)
    size = 5 + 30 * torch.rand(shape, dtype=torch.float64, generator=generator)
    pred, target = torch.cat((low, low + size), -1)
    return {'pred': pred, 'target': target}


def prior_inputs(generator: torch.Generator, positives: bool = True) -> dict:
    """Random (2, 20, 4) logits of three classes and the background, five priors positive."""
    labels = torch.full((2, 20), 3)
    if positives:
        labels[0, 2:5], labels[1, 7:9] = torch.tensor([0, 2, 1]), torch.tensor([1, 1])
    pred = torch.randn(2, 20, 4, dtype=torch.float64, generator=generator)
    return {'pred': pred, 'labels': labels}


def anchor_inputs(generator: torch.Generator, positives: bool = True) -> dict:
    """:func:`prior_inputs` without a background logit, every fourth anchor ignored."""
    inputs = prior_inputs(generator, positives)
    counted = torch.arange(20).expand(2, 20) % 4 != 0
    return {'pred': inputs['pred'][..., :3], 'target': inputs['labels'], 'weight': counted}


LOSSES: dict[str, LossCase] = {
    'BoxIoULoss': LossCase(
        {'type': 'BoxIoULoss', 'mode': 'iou'}, box_inputs, empty=without_objects(box_inputs)
    ),
    'GeneralizedIoULoss': LossCase(
        {'type': 'GeneralizedIoULoss'}, box_inputs, empty=without_objects(box_inputs)
    ),
    'DistanceIoULoss': LossCase(
        {'type': 'DistanceIoULoss'}, box_inputs, empty=without_objects(box_inputs)
    ),
    'HardNegativeCrossEntropyLoss': LossCase(
        {'type': 'HardNegativeCrossEntropyLoss'}, prior_inputs, empty=without_objects(prior_inputs)
    ),
    'SigmoidFocalLoss': LossCase(
        {'type': 'SigmoidFocalLoss'}, anchor_inputs, empty=without_objects(anchor_inputs)
    ),
    'CenterTrackFocalLoss': LossCase(
        {'type': 'CenterTrackFocalLoss'},
        gathered_inputs,
        empty=without_objects(gathered_inputs),
    ),
    'CenterTrackFocalLoss, clamped': LossCase(
        {'type': 'CenterTrackFocalLoss', 'clamp': 1e-4},
        gathered_inputs,
        empty=without_objects(gathered_inputs),
    ),
    'HeatmapMSELoss': LossCase(
        {'type': 'HeatmapMSELoss'}, heatmap_inputs, empty=without_objects(heatmap_inputs)
    ),
    'MaskedSmoothL1Loss': LossCase(
        {'type': 'MaskedSmoothL1Loss'}, slot_inputs, empty=without_objects(slot_inputs)
    ),
    'MaskedWeightedL1Loss': LossCase(
        {'type': 'MaskedWeightedL1Loss'}, weighted_inputs, empty=without_objects(weighted_inputs)
    ),
    'PenaltyReducedFocalLoss': LossCase(
        {'type': 'PenaltyReducedFocalLoss'},
        heatmap_inputs,
        empty=without_objects(heatmap_inputs),
    ),
    'PenaltyReducedFocalLoss, clamped': LossCase(
        {'type': 'PenaltyReducedFocalLoss', 'clamp': 1e-4},
        heatmap_inputs,
        empty=without_objects(heatmap_inputs),
    ),
    'MaskedL1Loss': LossCase(
        {'type': 'MaskedL1Loss'}, slot_inputs, empty=without_objects(slot_inputs)
    ),
}

DETECTORS: dict[str, DetectorCase] = {
    'CenterNetPoints': DetectorCase(
        encoder={'type': 'CenterNetPointsTargetEncoder', 'num_classes': 3},
        criterion={'type': 'CenterNetPointsLoss'},
        predictor={
            'type': 'CenterNetPointsPredictor',
            'in_channels': 8,
            'num_classes': 3,
            'channels': 8,
        },
        feats=((8, 24, 20),),
    ),
    'CenterNetPose': DetectorCase(
        encoder={'type': 'CenterNetPoseTargetEncoder', 'num_keypoints': 5, 'num_classes': 3},
        criterion={'type': 'CenterNetPoseLoss'},
        predictor={
            'type': 'CenterNetPosePredictor',
            'in_channels': 8,
            'num_classes': 3,
            'num_keypoints': 5,
            'channels': 8,
        },
        feats=((8, 24, 20),),
        enrich=with_keypoints,
    ),
    'CenterTrack': DetectorCase(
        encoder={'type': 'CenterTrackTargetEncoder', 'num_classes': 3},
        criterion={'type': 'CenterTrackLoss'},
        predictor={
            'type': 'CenterTrackPredictor',
            'in_channels': 8,
            'num_classes': 3,
            'channels': 8,
            'with_ltrb_amodal': True,
            'with_ltrb': True,
        },
        feats=((8, 24, 20),),
        enrich=with_previous,
    ),
}

CORNERS = {'in_channels': 8, 'num_classes': 3, 'channels': 8, 'pool_channels': 8}
DETECTORS |= {
    'CornerNet': DetectorCase(
        encoder={'type': 'CornerNetTargetEncoder', 'num_classes': 3},
        criterion={'type': 'CornerNetLoss'},
        predictor={'type': 'CornerNetPredictor', **CORNERS},
        feats=((8, 24, 20),),
    ),
    'CornerNetSaccade': DetectorCase(
        encoder={'type': 'CornerNetSaccadeTargetEncoder', 'num_classes': 3, 'topk': 100},
        criterion={'type': 'CornerNetSaccadeLoss'},
        predictor={
            'type': 'CornerNetSaccadePredictor',
            'attention_channels': (6, 6, 4),
            **CORNERS,
        },
        feats=((8, 24, 20), (6, 6, 10), (6, 12, 20), (4, 24, 40)),
    ),
    'CenterNetTriplet': DetectorCase(
        encoder={'type': 'CenterNetTripletTargetEncoder', 'num_classes': 3},
        criterion={'type': 'CenterNetTripletLoss'},
        predictor={'type': 'CenterNetTripletPredictor', **CORNERS},
        feats=((8, 24, 20),),
    ),
}

GRIDS = {
    'YOLOV3': ((8, 3, 4), (8, 6, 8), (8, 12, 16)),
    'YOLOV4': ((8, 12, 16), (8, 6, 8), (8, 3, 4)),
    'ScaledYOLOV4': ((8, 12, 16), (8, 6, 8), (8, 3, 4)),
}
DETECTORS |= {
    stem: DetectorCase(
        encoder={'type': f'{stem}TargetEncoder', 'num_classes': 3},
        criterion={'type': f'{stem}Loss'},
        predictor={'type': f'{stem}Predictor', 'num_classes': 3, 'in_channels': (8, 8, 8)},
        feats=feats,
    )
    for stem, feats in GRIDS.items()
}
DETECTORS |= {
    'SSD': DetectorCase(
        encoder={
            'type': 'SSDTargetEncoder',
            'num_classes': 3,
            'min_sizes': (24, 60),
            'max_sizes': (60, 110),
            'strides': None,
            'aspect_ratios': ((2,), (2, 3)),
        },
        criterion={'type': 'SSDLoss'},
        predictor={
            'type': 'SSDPredictor',
            'num_classes': 3,
            'in_channels': (8, 6),
            'num_anchors': (4, 6),
        },
        feats=((8, 12, 10), (6, 6, 5)),
    ),
    'RetinaNet': DetectorCase(
        encoder={
            'type': 'RetinaNetTargetEncoder',
            'num_classes': 3,
            'score_thr': 0.001,  # a fresh predictor gives 0.01
            'strides': ((16, 8), (32, 16)),
        },
        criterion={'type': 'RetinaNetLoss'},
        predictor={
            'type': 'RetinaNetPredictor',
            'num_classes': 3,
            'in_channels': 8,
            'feat_channels': 8,
            'stacked_convs': 1,
        },
        feats=((8, 12, 10), (8, 6, 5)),
    ),
    'YOLOV1': DetectorCase(
        encoder={'type': 'YOLOV1TargetEncoder', 'num_classes': 3},
        criterion={'type': 'YOLOV1Loss'},
        predictor={
            'type': 'YOLOV1Predictor',
            'num_classes': 3,
            'in_channels': 8,
            'feat_size': (6, 5),
            'num_boxes': 2,
            'hidden': 'connected',
            'hidden_channels': 16,
        },
        feats=((8, 6, 5),),
    ),
    'YOLOV2': DetectorCase(
        encoder={'type': 'YOLOV2TargetEncoder', 'num_classes': 3},
        criterion={'type': 'YOLOV2Loss'},
        predictor={'type': 'YOLOV2Predictor', 'num_classes': 3, 'in_channels': 8},
        feats=((8, 6, 5),),
    ),
}

SMALL_HOURGLASS = {'stage_channels': (8, 8, 12), 'stage_blocks': (1, 1, 1), 'feat_channels': 8}

NETWORKS: dict[str, NetworkCase] = {
    'CascadeCornerPooling': NetworkCase(
        {
            'type': 'CascadeCornerPooling',
            'in_channels': 4,
            'corner': 'top_left',
            'pool_channels': 3,
        },
        ((4, 9, 12),),
    ),
    'CenterPooling': NetworkCase(
        {'type': 'CenterPooling', 'in_channels': 4, 'pool_channels': 3}, ((4, 9, 12),)
    ),
    'CornerPooling': NetworkCase(
        {
            'type': 'CornerPooling',
            'in_channels': 4,
            'corner': 'bottom_right',
            'pool_channels': 3,
        },
        ((4, 9, 12),),
    ),
    'DLANet': NetworkCase({'type': 'DLANet', 'channels': (4, 4, 8, 8, 12, 12)}, ((3, 64, 96),)),
    'DLAUpNeck': NetworkCase(
        {'type': 'DLAUpNeck', 'in_channels': (4, 6, 8), 'conv': 'conv'},
        ((4, 24, 20), (6, 12, 10), (8, 6, 5)),
    ),
    'PreviousFrameBackbone': NetworkCase(
        {
            'type': 'PreviousFrameBackbone',
            'backbone': {
                'type': 'mmdet.ResNet',
                'depth': 18,
                'base_channels': 8,
                'stem_channels': 8,
                'num_stages': 2,
                'strides': (1, 2),
                'dilations': (1, 1),
                'out_indices': (0, 1),
            },
            'stem': 'conv1',
            'channels': 8,
        },
        ((7, 64, 96),),
    ),
    'SaccadeHourglassNet': NetworkCase(
        {'type': 'SaccadeHourglassNet', 'num_stacks': 2, **SMALL_HOURGLASS}, ((3, 64, 96),)
    ),
    'SqueezeHourglassNet': NetworkCase(
        {'type': 'SqueezeHourglassNet', 'num_stacks': 2, **SMALL_HOURGLASS}, ((3, 64, 96),)
    ),
    'StackedHourglassNet': NetworkCase(
        {'type': 'StackedHourglassNet', 'num_stacks': 2, **SMALL_HOURGLASS}, ((3, 64, 96),)
    ),
    'DarknetCSP': NetworkCase(
        {'type': 'DarknetCSP', 'arch': 'v4', 'depth': 0.1, 'width': 0.125}, ((3, 64, 96),)
    ),
    'DarknetFromCfg': NetworkCase(
        {
            'type': 'DarknetFromCfg',
            'layers': [
                {'type': 'convolutional', 'filters': 4, 'size': 3, 'batch_normalize': True}
                | {'activation': 'leaky'},
                {'type': 'maxpool', 'size': 2, 'stride': 2, 'padding': 1},
                {'type': 'convolutional', 'filters': 6, 'size': 1, 'activation': 'linear'},
                {'type': 'yolo'},
            ],
        },
        ((3, 32, 48),),
    ),
    'LocallyConnected2d': NetworkCase(
        {'type': 'LocallyConnected2d', 'in_channels': 4, 'out_channels': 6, 'feat_size': (5, 4)},
        ((4, 5, 4),),
    ),
    'PlainDarknet': NetworkCase({'type': 'PlainDarknet', 'width': 0.125}, ((3, 64, 96),)),
    'SPPYOLOV3Neck': NetworkCase(
        {'type': 'SPPYOLOV3Neck', 'in_channels': [16, 8, 4], 'out_channels': [8, 4, 2]},
        ((4, 24, 20), (8, 12, 10), (16, 6, 5)),
    ),
    'ScaledYOLOV4Neck': NetworkCase(
        {'type': 'ScaledYOLOV4Neck', 'in_channels': [4, 8, 16], 'out_channels': [2, 4, 8]},
        ((4, 24, 20), (8, 12, 10), (16, 6, 5)),
    ),
    'YOLOV2Neck': NetworkCase(
        {
            'type': 'YOLOV2Neck',
            'in_channels': (8, 16),
            'out_channels': 8,
            'passthrough_channels': 4,
        },
        ((8, 12, 10), (16, 6, 5)),
    ),
    'YOLOV4Neck': NetworkCase(
        {'type': 'YOLOV4Neck', 'in_channels': [4, 8, 16], 'out_channels': [2, 4, 8]},
        ((4, 24, 20), (8, 12, 10), (16, 6, 5)),
    ),
    'TopDownNeck': NetworkCase(
        {'type': 'TopDownNeck', 'in_channels': [4, 8, 16], 'out_channels': 6},
        ((4, 24, 20), (8, 12, 10), (16, 6, 5)),
    ),
}

SIDES = ('Top', 'Left', 'Bottom', 'Right')

ELSEWHERE: dict[str, str] = {
    'CompleteIoULoss': 'test_losses/test_box_iou.py',
    'PullPushLoss': 'test_losses/test_pull_push.py',
    'CenterAffine': 'test_data/test_affine.py',
    'CenterNetTTAModel': 'test_detectors/test_center_tta.py',
    'CheckAnnotations': 'test_data/test_clean.py',
    'CheckDataHook': 'test_engine/test_check.py',
    'RandomCenterCropPadMinObjects': 'test_data/test_crop.py',
    'CenterTrack': 'test_detectors/test_center_track_detector.py',
    'CenterTrackTracker': 'test_detectors/test_center_tracker.py',
    'IdentityVideoDataset': 'test_data/test_video.py',
    'MOTMetric': 'test_metrics/test_tracking.py',
    'PackPairInputs': 'test_data/test_pairs.py',
    'PairAffine': 'test_data/test_pairs.py',
    'PairDataPreprocessor': 'test_data/test_pairs.py',
    'SamplePair': 'test_data/test_pairs.py',
    'WithPrevious': 'test_data/test_pairs.py',
    **{f'{side}Pool': 'test_networks/test_corner_pool.py' for side in SIDES},
    'CPUAutocastOptimWrapper': 'test_engine/test_cpu.py',
    'ChannelsLastHook': 'test_engine/test_cpu.py',
    'CocoKeypointDataset': 'test_data/test_keypoints.py',
    'CocoKeypointMetric': 'test_metrics/test_coco_keypoints.py',
    'ColorJitterLighting': 'test_data/test_color.py',
    'CornerCanvas': 'test_data/test_canvas.py',
    'CornerNetSaccade': 'test_detectors/test_corner_saccade.py',
    'HeadTimeHook': 'test_engine/test_head_time.py',
    'CornerNetTTAModel': 'test_detectors/test_corner_tta.py',
    'PackCropInputs': 'test_data/test_reference_crop.py',
    'ReferenceScaleCrop': 'test_data/test_reference_crop.py',
    'SeenPixels': 'test_metrics/test_seen_pixels.py',
    'EncodedDenseHead': 'test_contracts/test_heads.py',
    'EpochSeedHook': 'test_engine/test_hooks.py',
    'KeypointVisualizer': 'test_visualization/test_skeletons.py',
    'LoadKeypointAnnotations': 'test_data/test_keypoints.py',
    'PackKeypointInputs': 'test_data/test_keypoints.py',
    'NumPositivesHook': 'test_engine/test_hooks.py',
    'KernelDecayOptimWrapperConstructor': 'test_engine/test_scaled_yolov4.py',
    'NominalBatchAmpOptimWrapper': 'test_engine/test_scaled_yolov4.py',
    'NominalBatchOptimWrapper': 'test_engine/test_scaled_yolov4.py',
    'ScaledYOLOV4EMA': 'test_engine/test_scaled_yolov4.py',
    'ScaledYOLOV4ScheduleHook': 'test_engine/test_scaled_yolov4.py',
    'UpdateEMAHook': 'test_engine/test_scaled_yolov4.py',
    'DarknetEMAHook': 'test_engine/test_darknet.py',
    'DarknetLR': 'test_engine/test_darknet.py',
    'PicturesHook': 'test_visualization/test_pictures.py',
    'PostprocessTTAModel': 'test_tools/test_tta.py',
}


def instances(
    case: DetectorCase, count: int, generator: torch.Generator, device: str = 'cpu'
) -> InstanceData:
    """``count`` (at most 3) boxes, one a class, that no convention clips and no cell shares."""
    boxes = torch.tensor(
        [[10.0, 9.0, 58.5, 50.25], [70.0, 20.0, 139.0, 86.5], [20.5, 60.0, 44.0, 88.0]]
    )[:count]
    found = InstanceData(bboxes=boxes, labels=torch.tensor([2, 0, 1])[:count])
    case.enrich(found, generator)
    return found.to(device)


def meta(img_size: tuple[int, int] = IMG_SIZE) -> dict:
    """Image meta data of an input that was neither scaled nor padded."""
    return {
        'batch_input_shape': img_size,
        'img_shape': img_size,
        'ori_shape': img_size,
        'scale_factor': (1.0, 1.0),
    }


def splats_of(dense: Tensor) -> Splats:
    """The sparse form of a dense heatmap."""
    index = dense.flatten().nonzero()[:, 0]
    return Splats(index, dense.flatten()[index].float(), tuple(dense.shape))


class NothingIsSent(TorchFunctionMode):
    """Fails where a tensor with values of the host arrives on another device."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.device.type != 'cpu':
            made = func in (torch.tensor, torch.as_tensor, Tensor.new_tensor)
            moved = (
                func in (Tensor.to, Tensor.cuda, Tensor.type_as) and args[0].device.type == 'cpu'
            )
            assert not (made or moved), f'{func.__name__} sends values to the device and waits'
        return result
