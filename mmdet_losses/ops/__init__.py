"""Tensor functions: boxes, Gaussians, gathering, peaks, grids, matching, reduction."""

from mmdet_losses.ops.affine import apply_affine, center_affine, compose_affine, mirror_affine
from mmdet_losses.ops.box_codes import BoxCode, decode_deltas, encode_deltas
from mmdet_losses.ops.boxes import (
    box_center,
    box_size,
    boxes_around,
    clip_boxes,
    is_proper,
    scale_boxes,
)
from mmdet_losses.ops.candidates import best_logits, best_per_class, reject_below
from mmdet_losses.ops.choices import check_choice
from mmdet_losses.ops.constant import (
    constant,
    counting,
    forget_constants,
    made_once,
    zero_unless,
)
from mmdet_losses.ops.crops import CropWindow, crop_boxes, crop_window, mirror_boxes
from mmdet_losses.ops.darknet_iou import (
    darknet_direction_and_iou,
    darknet_iou,
    darknet_iou_direction,
)
from mmdet_losses.ops.gather import cell_xy, gather_cells, scatter_cells
from mmdet_losses.ops.gaussian import (
    RadiusMode,
    draw_gaussians,
    gaussian_radius,
    largest_radius,
    outside_windows,
    splat_gaussians,
    window_radii,
)
from mmdet_losses.ops.grid import (
    AnchorTable,
    Extents,
    GridAnchors,
    cell_major_rank,
    flatten_levels,
    grid_overlap,
    unflatten_levels,
)
from mmdet_losses.ops.iou import best_match, best_overlap, exact_ratio, pairwise_iou, shape_iou
from mmdet_losses.ops.kernels.usable import BoxRule, usable_objects
from mmdet_losses.ops.matching import (
    AnchorMatch,
    match_bipartite,
    match_detectron,
    match_forced_best,
    match_max_iou,
)
from mmdet_losses.ops.nms import (
    NmsKind,
    adaptive_nms,
    average_overlapping,
    greedy_nms,
    padded_nms,
    voted_boxes,
)
from mmdet_losses.ops.paired_iou import IOU_MODES, IoUMode, box_similarity, check_exponent
from mmdet_losses.ops.peaks import Peaks, find_peaks, suppress_non_peaks, top_peaks
from mmdet_losses.ops.precision import promote
from mmdet_losses.ops.reduce import (
    REDUCTIONS,
    Reduction,
    at_least_one,
    divisor_of,
    masked_sum,
    mean_over_ranks,
    positives_divisor,
    process_count,
    reduce_loss,
)
from mmdet_losses.ops.splats import Splats, check_heatmaps, unwrap_dense

__all__ = [
    'IOU_MODES',
    'REDUCTIONS',
    'AnchorMatch',
    'AnchorTable',
    'BoxCode',
    'BoxRule',
    'CropWindow',
    'Extents',
    'GridAnchors',
    'IoUMode',
    'NmsKind',
    'Peaks',
    'RadiusMode',
    'Reduction',
    'Splats',
    'adaptive_nms',
    'apply_affine',
    'at_least_one',
    'average_overlapping',
    'best_logits',
    'best_match',
    'best_overlap',
    'best_per_class',
    'box_center',
    'box_similarity',
    'box_size',
    'boxes_around',
    'cell_major_rank',
    'cell_xy',
    'center_affine',
    'check_choice',
    'check_exponent',
    'check_heatmaps',
    'clip_boxes',
    'compose_affine',
    'constant',
    'counting',
    'crop_boxes',
    'crop_window',
    'darknet_direction_and_iou',
    'darknet_iou',
    'darknet_iou_direction',
    'decode_deltas',
    'divisor_of',
    'draw_gaussians',
    'encode_deltas',
    'exact_ratio',
    'find_peaks',
    'flatten_levels',
    'forget_constants',
    'gather_cells',
    'gaussian_radius',
    'greedy_nms',
    'grid_overlap',
    'is_proper',
    'largest_radius',
    'made_once',
    'masked_sum',
    'match_bipartite',
    'match_detectron',
    'match_forced_best',
    'match_max_iou',
    'mean_over_ranks',
    'mirror_affine',
    'mirror_boxes',
    'outside_windows',
    'padded_nms',
    'pairwise_iou',
    'positives_divisor',
    'process_count',
    'promote',
    'reduce_loss',
    'reject_below',
    'scale_boxes',
    'scatter_cells',
    'shape_iou',
    'splat_gaussians',
    'suppress_non_peaks',
    'top_peaks',
    'unflatten_levels',
    'unwrap_dense',
    'usable_objects',
    'voted_boxes',
    'window_radii',
    'zero_unless',
]
