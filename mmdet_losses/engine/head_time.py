"""How much of a training step is spent on encoding targets and computing losses."""

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
    """Log ``train/head_time``, seconds of a step in the head's ``loss_by_feat``, forward only.

    Works for every dense head that has ``loss_by_feat``, ours and MMDetection's. On a GPU the
    device is waited for before and after, which costs time of its own: use it to compare, not to
    train. ``train/time`` is MMEngine's whole step.

    Raises:
        TypeError: the detector has no dense head with ``loss_by_feat``.
    """

    def before_train(self, runner: Runner) -> None:
        """Put a clock around the head's method."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        head = getattr(model, 'bbox_head', None)
        if not callable(getattr(head, 'loss_by_feat', None)):
            raise TypeError(
                f'{type(model).__name__} has no bbox_head with loss_by_feat; HeadTimeHook can '
                'time single-stage detectors only.'
            )
        head.loss_by_feat = _timed(head.loss_by_feat)


def _timed(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        _wait()
        start = time.perf_counter()
        losses = method(*args, **kwargs)
        _wait()
        seconds = time.perf_counter() - start
        MessageHub.get_current_instance().update_scalar('train/head_time', seconds)
        return losses

    return call


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
