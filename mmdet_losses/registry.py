"""The only door to MMDetection's registries.

Components register directly in MMDetection's registries, so after
``custom_imports=dict(imports=['mmdet_losses'])`` any config may use their short names. Below each
of them hangs an empty child node with the scope ``mmdet_losses``: MMEngine imports this module by
itself when it meets ``type='mmdet_losses.<Name>'``, the child imports the package and falls back
to its parent, so that spelling needs no import line at all.
"""

from mmdet.registry import (
    DATASETS,
    HOOKS,
    LOOPS,
    METRICS,
    MODELS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    OPTIM_WRAPPERS,
    PARAM_SCHEDULERS,
    TASK_UTILS,
    TRANSFORMS,
    VISUALIZERS,
)
from mmengine.registry import Registry

__all__ = [
    'DATASETS',
    'HOOKS',
    'LOOPS',
    'METRICS',
    'MODELS',
    'OPTIM_WRAPPERS',
    'OPTIM_WRAPPER_CONSTRUCTORS',
    'PARAM_SCHEDULERS',
    'SCOPE',
    'TASK_UTILS',
    'TRANSFORMS',
    'VISUALIZERS',
]

SCOPE = 'mmdet_losses'

for _parent in (
    DATASETS,
    HOOKS,
    LOOPS,
    METRICS,
    MODELS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    OPTIM_WRAPPERS,
    PARAM_SCHEDULERS,
    TASK_UTILS,
    TRANSFORMS,
    VISUALIZERS,
):
    Registry(_parent.name, parent=_parent, scope=SCOPE, locations=[SCOPE])
