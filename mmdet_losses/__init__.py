"""Losses and target encoders of the classic one-stage detectors, as MMDetection components."""

from mmdet_losses import compat

__version__ = '0.1.0'

compat.require_stack()
compat.provide_missing_mmcv_ops()
compat.let_mmengine_find_configs()
compat.trust_engine_checkpoints()
compat.let_mmdet_ssd_predict()
compat.let_one_process_write_metrics()

# Importing the package registers every component (STYLE: one explicit line per folder).
from mmdet_losses import (  # noqa: E402
    core,
    data,
    detectors,
    engine,
    losses,
    metrics,
    networks,
    registry,
    visualization,
)

__all__ = [
    'core',
    'data',
    'detectors',
    'engine',
    'losses',
    'metrics',
    'networks',
    'registry',
    'visualization',
]
