"""Patches of the installed stack, each with its reason and the versions that need it."""

from mmdet_losses.compat.mmcv_ops import has_mmcv_ops, provide_missing_mmcv_ops
from mmdet_losses.compat.patches import (
    let_mmdet_ssd_predict,
    let_mmengine_find_configs,
    let_one_process_write_metrics,
    require_stack,
    trust_engine_checkpoints,
)

__all__ = [
    'has_mmcv_ops',
    'let_mmdet_ssd_predict',
    'let_mmengine_find_configs',
    'let_one_process_write_metrics',
    'provide_missing_mmcv_ops',
    'require_stack',
    'trust_engine_checkpoints',
]
