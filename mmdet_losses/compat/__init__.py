"""Patches of the installed stack; each docstring states the reason and the versions."""

from mmdet_losses.compat.checkpoints import (
    check_files_before_loading,
    remove_checkpoints_after_saving,
    write_files_atomically,
)
from mmdet_losses.compat.mmcv_ops import has_mmcv_ops, provide_missing_mmcv_ops
from mmdet_losses.compat.patches import (
    defer_matplotlib,
    find_configs_fast,
    ignore_pkg_resources_warnings,
    let_coco_files_be_incomplete,
    let_empty_results_have_an_ap,
    let_losses_check_their_head,
    let_mmdet_ssd_predict,
    let_mmengine_find_configs,
    let_one_process_write_metrics,
    require_stack,
    trust_engine_checkpoints,
)

__all__ = [
    'PATCHES',
    'apply_patches',
    'has_mmcv_ops',
    'ignore_pkg_resources_warnings',
    'require_stack',
]

PATCHES = (
    ignore_pkg_resources_warnings,
    provide_missing_mmcv_ops,
    defer_matplotlib,
    let_mmengine_find_configs,
    find_configs_fast,
    trust_engine_checkpoints,
    let_mmdet_ssd_predict,
    let_one_process_write_metrics,
    let_losses_check_their_head,
    let_coco_files_be_incomplete,
    let_empty_results_have_an_ap,
    write_files_atomically,
    remove_checkpoints_after_saving,
    check_files_before_loading,
)
"""In the order of application; ``docs/compat.md`` describes each."""


def apply_patches() -> None:
    """Apply every patch of :data:`PATCHES`; a second call changes nothing."""
    for patch in PATCHES:
        patch()
