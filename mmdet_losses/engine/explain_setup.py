"""Explanation of settings that a component, a data loader or the runner does not accept.

MMEngine and PyTorch check many settings when the parts of a config are built, but their errors do
not name the place in the config.
"""

from __future__ import annotations

import textwrap
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

RUNNER_SETUP = (
    '__init__', 'from_cfg', 'scale_lr', 'set_randomness', 'setup_env', '_check_scheduler_cfg',
)  # fmt: skip
"""Methods of MMEngine's runner, besides ``build_*`` and ``register_*``, that read the config."""
SETTING_ERRORS = (
    'AssertionError', 'AttributeError', 'KeyError', 'TypeError', 'ValueError', 'ZeroDivisionError',
)  # fmt: skip
"""Errors of a wrong setting in the first batch; not those of a device."""


def explain_setup(error: BaseException, kind: str, message: str, cfg: Any) -> str | None:
    """Message for an error that was raised while a part of the config was built or first used.

    Args:
        error: with its traceback.
        kind: its type name.
        message: its text.
        cfg: the config; without one there is no explanation.
    """
    if not cfg:
        return None
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    where = _built_part(frames, cfg) or _first_batch(frames, kind, message)
    if where is None:
        return None
    reason = textwrap.shorten(f'{kind}: {message}' if message else kind, 240, placeholder=' ...')
    return f'{where} ({reason}): correct the setting, or see the traceback with --debug.'


def _built_part(frames: list[FrameType], cfg: Any) -> str | None:
    """Words about the innermost part of the config that was built when the error was raised."""
    inside = False
    for frame in reversed(frames):
        name, path = frame.f_code.co_name, Path(frame.f_code.co_filename)
        settings: Any = frame.f_locals.get('cfg')
        if path.name == 'build_functions.py' and _is_part(settings):
            return f'{_named(settings, cfg)} cannot be built'
        if path.parts[-3:-1] != ('mmengine', 'runner'):
            continue
        loader = frame.f_locals.get('dataloader')
        if name == 'build_dataloader' and isinstance(loader, dict):
            place = next((key for key in cfg if cfg[key] == loader), 'a data loader')
            return f'{place} cannot be built'
        setup = name.startswith(('build_', 'register_')) or name in RUNNER_SETUP
        inside = inside or (setup and path.name == 'runner.py')
    return 'the config cannot be set up' if inside else None


def _is_part(settings: Any) -> bool:
    """Whether a node is the config of a component, and not of the runner."""
    return isinstance(settings, dict) and 'type' in settings and 'train_dataloader' not in settings


def _first_batch(frames: list[FrameType], kind: str, message: str) -> str | None:
    """Words about a setting that is read in the first step of a training or test."""
    for frame in reversed(frames):
        path = frame.f_code.co_filename
        if frame.f_code.co_name == '_clip_grad':
            return 'optim_wrapper.clip_grad cannot be used'
        if path.endswith('param_scheduler.py') and kind in SETTING_ERRORS:
            name = type(frame.f_locals.get('self')).__name__
            return f'{name} of param_scheduler cannot change the learning rate'
        if path.endswith('data_preprocessor.py') and kind in SETTING_ERRORS:
            return (
                'model.data_preprocessor cannot use the batch; the pipeline of the data set must '
                'end with PackDetInputs'
            )
    if 'conv2d() received an invalid combination' in message and 'got (list' in message:
        return 'model.data_preprocessor makes no batch of the images; use DetDataPreprocessor'
    return None


def _named(settings: dict, cfg: Any) -> str:
    """Type and place of a component."""
    kind = settings['type']
    name = str(getattr(kind, '__name__', kind)).rpartition('.')[2]
    parts = _nodes({key: cfg[key] for key in cfg}, '')
    place = next((path for path, node in parts if 'type' in node and _within(node, settings)), None)
    return f'{name} ({place} in the config)' if place else name


def _within(node: dict, settings: dict) -> bool:
    """Whether the settings of a component are those of a node, or those and further ones."""
    return all(key in settings and settings[key] == node[key] for key in node)


def _nodes(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """(path, node) of every dict in a config."""
    if isinstance(node, dict):
        yield path, node
        for key in node:
            yield from _nodes(node[key], f'{path}.{key}' if path else str(key))
    elif isinstance(node, (list, tuple)):
        for i, value in enumerate(node):
            yield from _nodes(value, f'{path}[{i}]')
