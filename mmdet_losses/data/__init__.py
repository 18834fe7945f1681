"""Data sets and transforms that MMDetection lacks."""

from mmdet_losses.data.affine import CenterAffine
from mmdet_losses.data.canvas import CornerCanvas
from mmdet_losses.data.clean import CheckAnnotations, DataError
from mmdet_losses.data.coco_keypoints import CocoKeypointDataset
from mmdet_losses.data.color import ColorJitterLighting
from mmdet_losses.data.corner_crop import CornerNetCrop
from mmdet_losses.data.crop import RandomCenterCropPadMinObjects
from mmdet_losses.data.darknet_image import DarknetLetterBox, DarknetResize
from mmdet_losses.data.darknet_mosaic import DarknetJitter, DarknetMosaic
from mmdet_losses.data.darknet_redmon import RedmonColors, RedmonCrop, RedmonPlace
from mmdet_losses.data.drawn_size import DrawnSizeBatchSampler
from mmdet_losses.data.keypoints import (
    LoadKeypointAnnotations,
    LoadTrackKeypointAnnotations,
    PackKeypointInputs,
)
from mmdet_losses.data.mixed_dataset import MixedImageDataset
from mmdet_losses.data.object_weights import (
    LoadWeightedAnnotations,
    PackWeightedInputs,
    WeightedCocoDataset,
)
from mmdet_losses.data.objects import CrowdAnnotations, CrowdsAsObjects, DropIgnored
from mmdet_losses.data.pair_preprocessor import PairDataPreprocessor
from mmdet_losses.data.pairs import PackPairInputs, PairAffine, SamplePair, WithPrevious
from mmdet_losses.data.pixels import PlanarImage
from mmdet_losses.data.public_detections import LoadPublicDetections
from mmdet_losses.data.reference_crop import PackCropInputs, ReferenceScaleCrop
from mmdet_losses.data.scaled_yolov4 import (
    ScaledYOLOv4HSV,
    ScaledYOLOv4LetterBox,
    ScaledYOLOv4Mosaic,
)
from mmdet_losses.data.split_batch import SplitBatchSampler
from mmdet_losses.data.ssd import SSDAugmentation
from mmdet_losses.data.ssd_mmdet import ExpandCrop
from mmdet_losses.data.video import IdentityVideoDataset

__all__ = [
    'CenterAffine',
    'CheckAnnotations',
    'CocoKeypointDataset',
    'ColorJitterLighting',
    'CornerCanvas',
    'CornerNetCrop',
    'CrowdAnnotations',
    'CrowdsAsObjects',
    'DarknetJitter',
    'DarknetLetterBox',
    'DarknetMosaic',
    'DarknetResize',
    'DataError',
    'DrawnSizeBatchSampler',
    'DropIgnored',
    'ExpandCrop',
    'IdentityVideoDataset',
    'LoadKeypointAnnotations',
    'LoadPublicDetections',
    'LoadTrackKeypointAnnotations',
    'LoadWeightedAnnotations',
    'MixedImageDataset',
    'PackCropInputs',
    'PackKeypointInputs',
    'PackPairInputs',
    'PackWeightedInputs',
    'PairAffine',
    'PairDataPreprocessor',
    'PlanarImage',
    'RandomCenterCropPadMinObjects',
    'RedmonColors',
    'RedmonCrop',
    'RedmonPlace',
    'ReferenceScaleCrop',
    'SSDAugmentation',
    'SamplePair',
    'ScaledYOLOv4HSV',
    'ScaledYOLOv4LetterBox',
    'ScaledYOLOv4Mosaic',
    'SplitBatchSampler',
    'WeightedCocoDataset',
    'WithPrevious',
]
