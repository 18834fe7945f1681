"""Drawing of targets and predictions; matplotlib is loaded at the first drawing."""

from mmdet_losses.visualization.pictures import PicturesHook
from mmdet_losses.visualization.skeletons import KeypointVisualizer
from mmdet_losses.visualization.targets import draw_targets

__all__ = ['KeypointVisualizer', 'PicturesHook', 'draw_targets']
