"""MMDetection's registries, the only module that imports them.

Components are registered directly in MMDetection's registries. After
``custom_imports=dict(imports=['mmdet_losses'])`` a config can use their short names. The name
``mmdet_losses.<Name>`` needs no import line: each registry has an empty child registry with the
scope ``mmdet_losses``. MMEngine imports this module for that scope, the child imports the package,
and the name is found in the parent.
"""

from mmdet.registry import (
    DATA_SAMPLERS,
    DATASETS,
    HOOKS,
    LOOPS,
    METRICS,
    MODELS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    TASK_UTILS,
    TRANSFORMS,
    VISUALIZERS,
)
from mmengine.registry import Registry

__all__ = [
    'DATASETS',
    'DATA_SAMPLERS',
    'HOOKS',
    'LOOPS',
    'METRICS',
    'MODELS',
    'OPTIMIZERS',
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
    DATA_SAMPLERS,
    DATASETS,
    HOOKS,
    LOOPS,
    METRICS,
    MODELS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    TASK_UTILS,
    TRANSFORMS,
    VISUALIZERS,
):
    Registry(_parent.name, parent=_parent, scope=SCOPE, locations=[SCOPE])
