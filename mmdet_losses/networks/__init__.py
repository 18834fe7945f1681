"""Backbones and necks that MMDetection lacks."""

from mmdet_losses.networks.corner_pool import (
    BottomPool,
    CascadeCornerPooling,
    CenterPooling,
    CornerPooling,
    LeftPool,
    RightPool,
    TopPool,
)
from mmdet_losses.networks.csp_darknet import CSPStage, DarknetCSP
from mmdet_losses.networks.darknet_from_cfg import DarknetFromCfg
from mmdet_losses.networks.dla import DLANet
from mmdet_losses.networks.dla_up import DLAUpNeck
from mmdet_losses.networks.hourglass import SaccadeHourglassNet, StackedHourglassNet
from mmdet_losses.networks.locally_connected import LocallyConnected2d
from mmdet_losses.networks.plain_darknet import PlainDarknet
from mmdet_losses.networks.previous_frame import PreviousFrameBackbone
from mmdet_losses.networks.scaled_yolov4_neck import ScaledYOLOV4Neck
from mmdet_losses.networks.squeeze_hourglass import SqueezeHourglassNet
from mmdet_losses.networks.top_down_neck import TopDownNeck
from mmdet_losses.networks.yolov2_neck import YOLOV2Neck, darknet_reorg
from mmdet_losses.networks.yolov3_spp_neck import SPPYOLOV3Neck
from mmdet_losses.networks.yolov4_neck import YOLOV4Neck

__all__ = [
    'BottomPool',
    'CSPStage',
    'CascadeCornerPooling',
    'CenterPooling',
    'CornerPooling',
    'DLANet',
    'DLAUpNeck',
    'DarknetCSP',
    'DarknetFromCfg',
    'LeftPool',
    'LocallyConnected2d',
    'PlainDarknet',
    'PreviousFrameBackbone',
    'RightPool',
    'SPPYOLOV3Neck',
    'SaccadeHourglassNet',
    'ScaledYOLOV4Neck',
    'SqueezeHourglassNet',
    'StackedHourglassNet',
    'TopDownNeck',
    'TopPool',
    'YOLOV2Neck',
    'YOLOV4Neck',
    'darknet_reorg',
]
