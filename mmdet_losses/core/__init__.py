"""Shared parts of all detectors: types, base classes of encoder and criterion, the head, NMS."""

from mmdet_losses.core.criterion import (
    DetectorLoss,
    build_term,
    heatmap_term,
    mean_over_stacks,
    sum_terms,
)
from mmdet_losses.core.encoder import IDEAL_LOGIT, TargetEncoder, best_detections, ideal_logits
from mmdet_losses.core.head import EncodedDenseHead
from mmdet_losses.core.ignored import (
    Ignored,
    IgnoredRegions,
    counted_cells,
    encode_batch,
    pad_ignored,
    weigh_cells,
    weigh_slots,
)
from mmdet_losses.core.levels import check_channels, check_levels, check_positive
from mmdet_losses.core.padding import (
    PaddedInstances,
    is_possible,
    keep_first,
    largest_sides,
    pad_instances,
    pad_rows,
    split_images,
    usable_boxes,
)
from mmdet_losses.core.postprocess import postprocess
from mmdet_losses.core.regression import (
    build_regression,
    compare_boxes,
    compare_deltas,
    regress,
    regression_kind,
)
from mmdet_losses.core.tta import AveragedBoxesTTAModel, OutputsTTAModel, PostprocessTTAModel
from mmdet_losses.core.types import Detections, Size, stacks

__all__ = [
    'IDEAL_LOGIT',
    'AveragedBoxesTTAModel',
    'Detections',
    'DetectorLoss',
    'EncodedDenseHead',
    'Ignored',
    'IgnoredRegions',
    'OutputsTTAModel',
    'PaddedInstances',
    'PostprocessTTAModel',
    'Size',
    'TargetEncoder',
    'best_detections',
    'build_regression',
    'build_term',
    'check_channels',
    'check_levels',
    'check_positive',
    'compare_boxes',
    'compare_deltas',
    'counted_cells',
    'encode_batch',
    'heatmap_term',
    'ideal_logits',
    'is_possible',
    'keep_first',
    'largest_sides',
    'mean_over_stacks',
    'pad_ignored',
    'pad_instances',
    'pad_rows',
    'postprocess',
    'regress',
    'regression_kind',
    'split_images',
    'stacks',
    'sum_terms',
    'usable_boxes',
    'weigh_cells',
    'weigh_slots',
]
