"""The runner of a config, with the hooks that every tool adds."""

from __future__ import annotations

from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

DEFAULT_HOOKS = ('CheckDataHook', 'ClassLayersHook', 'EpochSeedHook', 'NumPositivesHook')


def add_default_hooks(cfg: Config) -> None:
    """Append the hooks of :data:`DEFAULT_HOOKS` that are not in the config."""
    hooks = list(cfg.get('custom_hooks') or [])
    present = {str(hook['type']).rpartition('.')[2] for hook in hooks if isinstance(hook, dict)}
    missing = [dict(type=f'mmdet_losses.{name}') for name in DEFAULT_HOOKS if name not in present]
    cfg.custom_hooks = hooks + missing


def build_runner(cfg: Config) -> Runner:
    """The runner type of the config, or MMEngine's ``Runner``."""
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
