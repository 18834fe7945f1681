"""Test-time augmentation of a config: model wrapper and test pipeline."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from mmengine.config import Config, ConfigDict

from mmdet_losses.core.tta import OWN_NMS_TYPES, WITHOUT_AUGMENTATION
from mmdet_losses.engine.data_config import leaf_configs
from mmdet_losses.engine.processes import UsageError

TTA_SCALES = (0.75, 1.0, 1.25)
"""Default scales, relative to the scale of the test pipeline."""


def add_tta(cfg: Config) -> None:
    """Wrap the model of a config and replace its test pipeline.

    Uses the config's ``tta_model`` and ``tta_pipeline``. Their defaults merge horizontal flips and
    the scales of :data:`TTA_SCALES` with the NMS of the detector.

    Raises:
        UsageError: The detector has no test-time augmentation.
    """
    datasets = [each for _, each in leaf_configs(cfg.test_dataloader.dataset)]
    if 'tta_model' not in cfg:
        name = str(cfg.model.type).rpartition('.')[2]
        if name in WITHOUT_AUGMENTATION:
            why = WITHOUT_AUGMENTATION[name]
            raise UsageError(f'{name} has no test-time augmentation, because {why}; remove --tta.')
        test_cfg = cfg.model.get('test_cfg') or {}
        nms = test_cfg.get('nms') or dict(type='nms', iou_threshold=0.5)
        limit = test_cfg.get('max_per_img', 100)
        kind = 'PostprocessTTAModel' if nms['type'] in OWN_NMS_TYPES else 'DetTTAModel'
        cfg.tta_model = dict(type=kind, tta_cfg=dict(nms=nms, max_per_img=limit))
    if 'tta_pipeline' not in cfg:
        cfg.tta_pipeline = tta_pipeline(datasets[0].pipeline)
    for dataset in datasets:
        dataset.pipeline = cfg.tta_pipeline
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)


def tta_pipeline(pipeline: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Test pipeline that returns an image at every scale, with and without a flip.

    The scales replace the first ``Resize``. A ``Pad`` to a fixed size grows with the largest scale.
    The flip is before any padding, because ``DetTTAModel`` flips boxes within the unpadded image.
    Boxes that are loaded after ``Resize`` stay in pixels of the original image.
    """
    steps = deepcopy(list(pipeline))
    kinds = [str(step['type']).rpartition('.')[2] for step in steps]
    at = kinds.index('Resize') if 'Resize' in kinds else 0
    flips = [dict(type='RandomFlip', prob=prob) for prob in (0.0, 1.0)]
    branches = [flips]
    if kinds[at] == 'Resize':
        branches.insert(0, [_scaled(steps[at], 'scale', factor) for factor in TTA_SCALES])
    for kind, step in zip(kinds[at + 1 :], steps[at + 1 :], strict=True):
        if kind == 'PackDetInputs':
            keys = step.get('meta_keys', ('img_id', 'img_path', 'ori_shape', 'img_shape'))
            step['meta_keys'] = (*dict.fromkeys((*keys, 'scale_factor', 'flip', 'flip_direction')),)
        if kind == 'Pad' and step.get('size') and kinds[at] == 'Resize':
            step = _scaled(step, 'size', max(TTA_SCALES))
        branches.append([step])
    head = steps[:at] if kinds[at] == 'Resize' else steps[:1]
    return [*head, dict(type='TestTimeAug', transforms=branches)]


def _scaled(step: dict[str, Any], key: str, factor: float) -> dict[str, Any]:
    if step.get(key) is None:
        return {**step, 'scale_factor': step.get('scale_factor', 1.0) * factor}
    return {**step, key: tuple(round(side * factor) for side in step[key])}
