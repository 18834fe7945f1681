"""Start of a training from the weights of another training (``load_from``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor

from mmdet_losses.core.plain_tensors import load_plain
from mmdet_losses.engine.processes import UsageError
from mmdet_losses.registry import HOOKS


@HOOKS.register_module()
class ClassLayersHook(Hook):
    """Keeps the initial values of class layers if ``load_from`` has other classes.

    A layer of the head whose tensors differ from those of the checkpoint only in the number of
    channels is a class layer. One message lists these layers; MMEngine would print a size mismatch
    per tensor. A resumed training is not changed: there a difference is an error.
    """

    priority = 'VERY_HIGH'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Replace the class layers in the checkpoint.

        Raises:
            UsageError: the checkpoint has no layer of the model, so the training would start from
                the initial values without a message.
        """
        if runner._resume:
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        state = checkpoint.get('state_dict', checkpoint)
        own = model.state_dict()
        if not any(str(key).removeprefix('module.') in own for key in state):
            raise UsageError(
                f'load_from={runner._load_from} has no layer of this model: give the checkpoint of '
                'the same network, convert official weights with tools/convert_checkpoint.py, or '
                'set load_from=None.'
            )
        changed = keep_class_layers(state, own)
        if changed:
            layers = dict.fromkeys(key.rpartition('.')[0] for key in changed)
            runner.logger.info(
                f'load_from has another number of classes: {len(layers)} class layers keep their '
                f'initial values ({", ".join(layers)}); all other layers are loaded.'
            )


def keep_class_layers(state: dict[str, Any], own: dict[str, Tensor]) -> list[str]:
    """Put the values of ``own`` into ``state`` for the class layers; returns their keys."""
    keys = [
        key
        for key, mine in own.items()
        if key.startswith('bbox_head.')
        and isinstance(state.get(key), Tensor)
        and state[key].shape != mine.shape
        and state[key].shape[1:] == mine.shape[1:]
    ]
    state.update({key: own[key].detach().clone() for key in keys})
    return keys


def skip_replaced_weights(cfg: Config) -> None:
    """Remove the pretrained weights of the backbone that ``load_from`` replaces.

    Otherwise MMEngine downloads them and then overwrites them.
    """
    init = ((cfg.get('model') or {}).get('backbone') or {}).get('init_cfg') or {}
    path = cfg.get('load_from')
    if not isinstance(init, dict) or init.get('type') != 'Pretrained' or not path:
        return
    if not Path(path).is_file():
        return
    try:
        content = load_plain(path, mmap=True)
    except Exception:  # of many kinds; MMEngine reports files that do not load
        return
    state = content.get('state_dict', content) if isinstance(content, dict) else ()
    if any(str(key).startswith('backbone.') for key in state):
        cfg.model.backbone.init_cfg = None
        print_log(
            f'{init["checkpoint"]} is not loaded, because {path} has the backbone.', 'current'
        )
