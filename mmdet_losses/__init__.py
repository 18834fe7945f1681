"""Losses and target encoders of the classic one-stage detectors, as MMDetection components."""

from mmdet_losses import compat

__version__ = '0.2.0'

compat.ignore_pkg_resources_warnings()  # before the first import of MMEngine
compat.require_stack()
compat.apply_patches()

# Importing the package registers every component.
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
