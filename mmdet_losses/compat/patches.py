"""What the package needs from its surroundings, checked with one sentence and one cure each."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

_CURES = {
    'mmengine': 'pip install mmengine (or onedl-mmengine)',
    'mmcv': 'pip install mmcv==2.1.0 after torch (or onedl-mmcv)',
    'mmdet': 'pip install mmdet==3.3.0 (or onedl-mmdetection)',
}


def require_stack() -> None:
    """Check that MMEngine, MMCV and MMDetection import.

    Raises:
        ImportError: one sentence that names the module, what Python said, and the cure.
    """
    for name, cure in _CURES.items():
        try:
            importlib.import_module(name)
        except Exception as error:  # a broken or mismatched install raises many kinds of errors
            said = ' '.join(str(error).split()) or type(error).__name__
            raise ImportError(
                f'mmdet_losses needs `{name}`, which does not import here ({said}); '
                f'install a matching set with `make env`, or: {cure}.'
            ) from error


def trust_engine_checkpoints() -> None:
    """Let ``torch.load`` read MMEngine's training checkpoints with ``weights_only=True``.

    They hold the log as ``HistoryBuffer`` objects over NumPy arrays. torch 2.6 and newer refuse
    both by default, and MMEngine up to 0.10.7 then cannot resume or load them. Naming the few
    harmless types, under their names of NumPy 1 and 2, keeps torch's protection for all others.
    """
    if not hasattr(torch.serialization, 'add_safe_globals'):
        return
    history = importlib.import_module('mmengine.logging.history_buffer').HistoryBuffer

    def statistic(owner: type, name: str) -> Callable:
        if owner is not history or name not in ('min', 'max', 'mean', 'current'):
            raise ValueError(f'a checkpoint may not read `{name}` of {owner}.')
        return getattr(history, name)

    dtypes = {type(np.dtype(kind)) for kind in ('f4', 'f8', 'i4', 'i8', 'u1', 'bool')}
    makers = [np.zeros(1).__reduce__()[0], np.float64(0).__reduce__()[0]]
    named = [_under_name(statistic, 'builtins', 'getattr')]
    for core in ('numpy.core.multiarray', 'numpy._core.multiarray'):
        named += [_under_name(maker, core, maker.__name__) for maker in makers]
    torch.serialization.add_safe_globals([history, np.ndarray, np.dtype, *dtypes, *named])


def _under_name(function: Callable, module: str, name: str) -> Callable:
    """``function`` as the one that pickles know as ``module.name``."""

    def stand_in(*args: Any) -> Any:
        return function(*args)

    stand_in.__module__, stand_in.__name__, stand_in.__qualname__ = module, name, name
    return stand_in


def let_mmengine_find_configs() -> None:
    """Make ``mmdet_losses::<folder>/<config>.py`` a config that MMEngine can inherit from.

    MMEngine looks in a table of known packages and takes ``.mim/configs`` below the package's
    folder. The table's entry names a module of ours, not the distribution, because then MMEngine
    asks the import system for the folder, which also knows editable installs.
    """
    table = importlib.import_module('mmengine.config.utils').MODULE2PACKAGE
    table['mmdet_losses'] = 'mmdet_losses.registry'


def let_mmdet_ssd_predict() -> None:
    """Give MMDetection's ``SSDHead`` the attribute that its own prediction reads.

    From 3.3.0 on the base class asks every head for ``loss_cls``, which this one never makes: it
    trains, then fails at the first validation (open-mmlab/mmdetection, issue 11780).
    """
    head = importlib.import_module('mmdet.models.dense_heads.ssd_head').SSDHead
    init = head.__init__
    if getattr(init, '_leaves_loss_cls', False):
        return

    @functools.wraps(init)
    def complete(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if not hasattr(self, 'loss_cls'):
            self.loss_cls = None

    complete._leaves_loss_cls = True
    head.__init__ = complete


def let_one_process_write_metrics() -> None:
    """Leave the metrics file of a test to the first of several processes.

    MMEngine's ``LoggerHook`` lets every process write the same file at once, each its own seconds;
    what the shorter text leaves of the longer one makes it no JSON.
    """
    hook = importlib.import_module('mmengine.hooks').LoggerHook
    master_only = importlib.import_module('mmengine.dist').master_only
    hook.after_test_epoch = master_only(hook.after_test_epoch)
