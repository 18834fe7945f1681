"""Layouts of official files, of all families."""

from mmdet_losses.detectors.anchor.checkpoints import LAYOUTS as _ANCHOR
from mmdet_losses.detectors.center.checkpoints import LAYOUTS as _CENTER
from mmdet_losses.detectors.corner.checkpoints import LAYOUTS as _CORNER
from mmdet_losses.detectors.yolo.checkpoints import LAYOUTS as _YOLO

LAYOUTS = {**_CORNER, **_CENTER, **_ANCHOR, **_YOLO}
"""Name of a layout -> :class:`~mmdet_losses.core.checkpoint.Layout`."""
