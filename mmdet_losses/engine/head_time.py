"""Time of target encoding and losses in a training step."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmdet_losses.registry import HOOKS


@HOOKS.register_module()
class HeadTimeHook(Hook):
    """Log ``train/head_time``: seconds per step in the head's ``loss_by_feat``, forward only.

    Works for every dense head with ``loss_by_feat``, also of MMDetection. On a GPU the hook
    synchronises the device before and after, which slows training: use it only to compare.
    ``train/time`` is the whole step.

    Raises:
        TypeError: the detector has no dense head with ``loss_by_feat``.
    """

    def before_train(self, runner: Runner) -> None:
        """Wrap the head's method in a timer."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        head: Any = getattr(model, 'bbox_head', None)
        if not callable(getattr(head, 'loss_by_feat', None)):
            raise TypeError(
                f'{type(model).__name__} has no bbox_head with loss_by_feat; use HeadTimeHook with '
                'single-stage detectors only.'
            )
        head.loss_by_feat = _timed(head.loss_by_feat)


def _timed(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        _synchronize()
        start = time.perf_counter()
        losses = method(*args, **kwargs)
        _synchronize()
        seconds = time.perf_counter() - start
        MessageHub.get_current_instance().update_scalar('train/head_time', seconds)
        return losses

    return call


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
