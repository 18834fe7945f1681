"""Runner helpers, hooks, optimizer wrappers, and checks before training."""

from mmdet_losses.engine.caffe import CaffeSGD
from mmdet_losses.engine.check import CheckDataHook
from mmdet_losses.engine.cli import (
    DATA_KEYS,
    add_common_arguments,
    add_config_arguments,
    load_config,
    merge_options,
    run_tool,
)
from mmdet_losses.engine.closing import (
    closing_lines,
    from_here,
    last_validation,
    log_line,
    metrics_text,
)
from mmdet_losses.engine.console import ConsoleProgressHook, quiet_console
from mmdet_losses.engine.cpu import ChannelsLastHook, CPUAutocastOptimWrapper
from mmdet_losses.engine.darknet import DarknetEMAHook, DarknetLR, UnfreezeHook
from mmdet_losses.engine.data_report import check_data
from mmdet_losses.engine.fine_tune import ClassLayersHook, skip_replaced_weights
from mmdet_losses.engine.fit import check_checkpoint
from mmdet_losses.engine.head_time import HeadTimeHook
from mmdet_losses.engine.hooks import EpochSeedHook, NumPositivesHook
from mmdet_losses.engine.outputs import check_file, check_folder, check_new
from mmdet_losses.engine.processes import UsageError, end_processes, start_processes
from mmdet_losses.engine.resume import settle_start
from mmdet_losses.engine.runner import add_default_hooks, build_runner
from mmdet_losses.engine.scaled_yolov4 import (
    KernelDecayOptimWrapperConstructor,
    NominalBatchAmpOptimWrapper,
    NominalBatchOptimWrapper,
    ScaledYOLOV4EMA,
    ScaledYOLOV4ScheduleHook,
    UpdateEMAHook,
)

__all__ = [
    'DATA_KEYS',
    'CPUAutocastOptimWrapper',
    'CaffeSGD',
    'ChannelsLastHook',
    'CheckDataHook',
    'ClassLayersHook',
    'ConsoleProgressHook',
    'DarknetEMAHook',
    'DarknetLR',
    'EpochSeedHook',
    'HeadTimeHook',
    'KernelDecayOptimWrapperConstructor',
    'NominalBatchAmpOptimWrapper',
    'NominalBatchOptimWrapper',
    'NumPositivesHook',
    'ScaledYOLOV4EMA',
    'ScaledYOLOV4ScheduleHook',
    'UnfreezeHook',
    'UpdateEMAHook',
    'UsageError',
    'add_common_arguments',
    'add_config_arguments',
    'add_default_hooks',
    'build_runner',
    'check_checkpoint',
    'check_data',
    'check_file',
    'check_folder',
    'check_new',
    'closing_lines',
    'end_processes',
    'from_here',
    'last_validation',
    'load_config',
    'log_line',
    'merge_options',
    'metrics_text',
    'quiet_console',
    'run_tool',
    'settle_start',
    'skip_replaced_weights',
    'start_processes',
]
