"""Data sets and transforms that MMDetection lacks."""

from mmdet_losses.data.affine import CenterAffine
from mmdet_losses.data.canvas import CornerCanvas
from mmdet_losses.data.clean import CheckAnnotations, DataError
from mmdet_losses.data.coco_keypoints import CocoKeypointDataset
from mmdet_losses.data.color import ColorJitterLighting
from mmdet_losses.data.crop import RandomCenterCropPadMinObjects
from mmdet_losses.data.keypoints import LoadKeypointAnnotations, PackKeypointInputs
from mmdet_losses.data.pair_preprocessor import PairDataPreprocessor
from mmdet_losses.data.pairs import PackPairInputs, PairAffine, SamplePair, WithPrevious
from mmdet_losses.data.reference_crop import PackCropInputs, ReferenceScaleCrop
from mmdet_losses.data.video import IdentityVideoDataset

__all__ = [
    'CenterAffine',
    'CheckAnnotations',
    'CocoKeypointDataset',
    'ColorJitterLighting',
    'CornerCanvas',
    'DataError',
    'IdentityVideoDataset',
    'LoadKeypointAnnotations',
    'PackCropInputs',
    'PackKeypointInputs',
    'PackPairInputs',
    'PairAffine',
    'PairDataPreprocessor',
    'RandomCenterCropPadMinObjects',
    'ReferenceScaleCrop',
    'SamplePair',
    'WithPrevious',
]
