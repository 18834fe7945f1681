"""One entry per registered component; the contract tests run over all entries.

A component without an entry fails ``test_contracts/test_inventory.py``. The entries are in:

* ``LOSSES``: a term, with inputs from ``case_inputs.py``.
* ``DETECTORS`` of ``detector_cases.py``: a stem, with its encoder, criterion and predictor.
* ``NETWORKS``: a backbone or neck, with the shapes of its inputs.
* ``ELSEWHERE``: any other component (transform, metric, hook, ...), with its test module.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from tests.case_inputs import (
    anchor_inputs,
    box_inputs,
    gathered_inputs,
    heatmap_inputs,
    prior_inputs,
    slot_inputs,
    weighted_inputs,
    without_objects,
)
from tests.detector_cases import DETECTORS

__all__ = ['DETECTORS', 'ELSEWHERE', 'LOSSES', 'NETWORKS', 'LossCase', 'NetworkCase']


@dataclass(frozen=True)
class LossCase:
    """A term and its inputs.

    ``inputs(generator)`` returns keyword arguments of its forward, with float tensors in float64.
    The arguments in ``wrt`` require gradients.
    """

    config: dict
    inputs: Callable[[torch.Generator], dict]
    wrt: tuple[str, ...] = ('pred',)
    empty: Callable[[torch.Generator], dict] = field(kw_only=True)
    """Inputs without objects."""


@dataclass(frozen=True)
class NetworkCase:
    """A backbone (one shape) or a neck (one shape per level), shapes as (C, H, W)."""

    config: dict
    shapes: tuple[tuple[int, int, int], ...]


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
    'LoadPublicDetections': 'test_data/test_public_detections.py',
    'PackPairInputs': 'test_data/test_pairs.py',
    'PairAffine': 'test_data/test_pairs.py',
    'PairDataPreprocessor': 'test_data/test_pairs.py',
    'SamplePair': 'test_data/test_pairs.py',
    'WithPrevious': 'test_data/test_pairs.py',
    **{f'{side}Pool': 'test_networks/test_corner_pool.py' for side in SIDES},
    'CPUAutocastOptimWrapper': 'test_engine/test_cpu.py',
    'ChannelsLastHook': 'test_engine/test_cpu.py',
    'CocoKeypointDataset': 'test_data/test_keypoints.py',
    'ClassAPMetric': 'test_metrics/test_class_ap.py',
    'CocoKeypointMetric': 'test_metrics/test_coco_keypoints.py',
    'ColorJitterLighting': 'test_data/test_color.py',
    'CornerCanvas': 'test_data/test_canvas.py',
    'CornerNetSaccade': 'test_detectors/test_corner_saccade.py',
    'HeadTimeHook': 'test_engine/test_head_time.py',
    'CornerNetTTAModel': 'test_detectors/test_corner_tta.py',
    'PackCropInputs': 'test_data/test_reference_crop.py',
    'ReferenceScaleCrop': 'test_data/test_reference_crop.py',
    'CornerNetCrop': 'test_data/test_corner_crop.py',
    'CrowdAnnotations': 'test_data/test_objects.py',
    'CrowdsAsObjects': 'test_data/test_objects.py',
    'DropIgnored': 'test_data/test_objects.py',
    'DarknetJitter': 'test_data/test_darknet_mosaic.py',
    'DarknetMosaic': 'test_data/test_darknet_mosaic.py',
    'DarknetLetterBox': 'test_data/test_darknet_image.py',
    'DarknetResize': 'test_data/test_darknet_image.py',
    'DrawnSizeBatchSampler': 'test_data/test_drawn_size.py',
    'SplitBatchSampler': 'test_data/test_split_batch.py',
    'MixedImageDataset': 'test_data/test_mixed_dataset.py',
    'RedmonColors': 'test_data/test_darknet_redmon.py',
    'RedmonCrop': 'test_data/test_darknet_redmon.py',
    'RedmonPlace': 'test_data/test_darknet_redmon.py',
    'SSDAugmentation': 'test_data/test_ssd.py',
    'ExpandCrop': 'test_data/test_ssd_mmdet.py',
    'PlanarImage': 'test_data/test_pixels.py',
    'ScaledYOLOv4HSV': 'test_data/test_scaled_yolov4.py',
    'ScaledYOLOv4LetterBox': 'test_data/test_scaled_yolov4.py',
    'ScaledYOLOv4Mosaic': 'test_data/test_scaled_yolov4.py',
    'SeenPixels': 'test_metrics/test_seen_pixels.py',
    'EncodedDenseHead': 'test_contracts/test_heads.py',
    'ClassLayersHook': 'test_engine/test_fine_tune.py',
    'EpochSeedHook': 'test_engine/test_hooks.py',
    'KeypointVisualizer': 'test_visualization/test_skeletons.py',
    'LoadKeypointAnnotations': 'test_data/test_keypoints.py',
    'LoadWeightedAnnotations': 'test_data/test_object_weights.py',
    'PackWeightedInputs': 'test_data/test_object_weights.py',
    'WeightedCocoDataset': 'test_data/test_object_weights.py',
    'LoadTrackKeypointAnnotations': 'test_detectors/test_center_track_pose.py',
    'PackKeypointInputs': 'test_data/test_keypoints.py',
    'NumPositivesHook': 'test_engine/test_hooks.py',
    'KernelDecayOptimWrapperConstructor': 'test_engine/test_scaled_yolov4.py',
    'NominalBatchAmpOptimWrapper': 'test_engine/test_scaled_yolov4.py',
    'NominalBatchOptimWrapper': 'test_engine/test_scaled_yolov4.py',
    'ScaledYOLOV4EMA': 'test_engine/test_scaled_yolov4.py',
    'ScaledYOLOV4ScheduleHook': 'test_engine/test_scaled_yolov4.py',
    'UpdateEMAHook': 'test_engine/test_scaled_yolov4.py',
    'DarknetEMAHook': 'test_engine/test_darknet.py',
    'DarknetPredictor': 'test_tools/test_import_darknet.py',
    'UnfreezeHook': 'test_engine/test_darknet.py',
    'CaffeSGD': 'test_engine/test_caffe.py',
    'DarknetLR': 'test_engine/test_darknet.py',
    'PicturesHook': 'test_visualization/test_pictures.py',
    'AveragedBoxesTTAModel': 'test_tools/test_tta.py',
    'PostprocessTTAModel': 'test_tools/test_tta.py',
}
