"""Detectors in the contract tests: encoder, criterion and predictor of every stem."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from mmengine.structures import InstanceData

IMG_SIZE = (96, 160)
"""(h, w) of the network input."""


@dataclass(frozen=True)
class DetectorCase:
    """A complete head, from feature maps to boxes."""

    encoder: dict
    criterion: dict
    predictor: dict
    feats: tuple[tuple[int, int, int], ...]
    """(channels, H, W) of the feature maps; the strides of x and y differ."""
    enrich: Callable[[InstanceData, torch.Generator], None] = lambda instances, generator: None
    """Adds the ground truth of the encoder beside boxes and labels (keypoints, identities, ...)."""
    round_trip: float = 0.999
    """Lowest IoU of a box with itself after encode, ideal_outputs and decode."""
    test_cfg: dict = field(default_factory=lambda: {'score_thr': 0.5, 'max_per_img': 100})
    num_classes: int = 3


def with_keypoints(instances: InstanceData, generator: torch.Generator) -> None:
    """Add five keypoints inside every box; the second is not labelled."""
    inside = torch.tensor([[0.5, 0.1], [0.5, 0.5], [0.125, 0.3], [0.875, 0.3], [0.5, 0.95]])
    low, high = instances.bboxes[:, None, :2], instances.bboxes[:, None, 2:]
    instances.keypoints = low + inside * (high - low)
    instances.keypoints_visible = torch.tensor([2, 0, 1, 2, 2]).repeat(len(instances), 1)


def with_previous(instances: InstanceData, generator: torch.Generator) -> None:
    """Add a centre in the previous frame to every object except the first."""
    boxes = instances.bboxes
    instances.previous_centers = (boxes[:, :2] + boxes[:, 2:]) / 2 + torch.tensor([3.0, -2.5])
    instances.previous_mask = torch.arange(len(instances)) > 0


def with_previous_and_keypoints(instances: InstanceData, generator: torch.Generator) -> None:
    """Add centres in the previous frame, and keypoints."""
    with_previous(instances, generator)
    with_keypoints(instances, generator)


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
        encoder={
            'type': 'CenterTrackTargetEncoder',
            'num_classes': 3,
            'pose': {'num_keypoints': 5},
        },
        criterion={'type': 'CenterTrackLoss'},
        predictor={
            'type': 'CenterTrackPredictor',
            'in_channels': 8,
            'num_classes': 3,
            'channels': 8,
            'with_ltrb_amodal': True,
            'with_ltrb': True,
            'num_keypoints': 5,
        },
        feats=((8, 24, 20),),
        enrich=with_previous_and_keypoints,
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
DETECTORS['GaussianYOLO'] = DetectorCase(  # one map: the layer is that of YOLOV3 otherwise
    encoder={
        'type': 'GaussianYOLOTargetEncoder',
        'num_classes': 3,
        'anchors': [[(30, 61), (62, 45), (59, 119)]],
    },
    criterion={'type': 'GaussianYOLOLoss'},
    predictor={'type': 'GaussianYOLOPredictor', 'num_classes': 3, 'in_channels': (8,)},
    feats=((8, 6, 8),),
)
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
            'score_thr': 0.001,  # the initial score is 0.01
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


def instances(
    case: DetectorCase, count: int, generator: torch.Generator, device: str = 'cpu'
) -> InstanceData:
    """Up to 3 boxes of different classes, inside the image and in different cells."""
    boxes = torch.tensor(
        [[10.0, 9.0, 58.5, 50.25], [70.0, 20.0, 139.0, 86.5], [20.5, 60.0, 44.0, 88.0]]
    )[:count]
    found = InstanceData(bboxes=boxes, labels=torch.tensor([2, 0, 1])[:count])
    case.enrich(found, generator)
    return found.to(device)


def meta(img_size: tuple[int, int] = IMG_SIZE) -> dict:
    """Meta data of an image that is neither scaled nor padded."""
    return {
        'batch_input_shape': img_size,
        'img_shape': img_size,
        'ori_shape': img_size,
        'scale_factor': (1.0, 1.0),
    }
