"""Fused kernels, each with the eager formula that defines it."""

from mmdet_losses.ops.kernels.class_focal import class_focal_cost, class_focal_sum
from mmdet_losses.ops.kernels.cross_entropy import chosen_cross_entropy, exponential_sums
from mmdet_losses.ops.kernels.focal import focal_cost, focal_cost_and_slope, power
from mmdet_losses.ops.kernels.heatmap_focal import heatmap_focal_cost, heatmap_focal_sums
from mmdet_losses.ops.kernels.launch import gpu_kernels, use_triton
from mmdet_losses.ops.kernels.paired_iou import paired_similarity, similarity_reference
from mmdet_losses.ops.kernels.regions import region_cells
from mmdet_losses.ops.kernels.usable import BoxRule, usable_objects

__all__ = [
    'BoxRule',
    'chosen_cross_entropy',
    'class_focal_cost',
    'class_focal_sum',
    'exponential_sums',
    'focal_cost',
    'focal_cost_and_slope',
    'gpu_kernels',
    'heatmap_focal_cost',
    'heatmap_focal_sums',
    'paired_similarity',
    'power',
    'region_cells',
    'similarity_reference',
    'usable_objects',
    'use_triton',
]
