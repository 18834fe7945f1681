"""Patches of MMEngine, MMDetection and PyTorch; docs/compat.md lists them."""

from __future__ import annotations

import functools
import importlib
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import util
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import numpy as np
import torch

_CURES = {
    'mmengine': 'pip install mmengine (or onedl-mmengine)',
    'mmcv': 'pip install mmcv==2.1.0 after torch (or onedl-mmcv)',
    'mmdet': 'pip install mmdet==3.3.0 (or onedl-mmdetection)',
}


def ignore_pkg_resources_warnings() -> None:
    """Ignore the deprecation warnings about ``pkg_resources``.

    Reason: MMEngine and MMDetection import ``pkg_resources``, which prints a warning of three lines
    at each import and reload, four times before the first line of a tool. A user cannot change it.
    Versions: every MMEngine 0.10 with setuptools 67.5 to 80.
    """
    for message in ('pkg_resources is deprecated', 'Deprecated call to `pkg_resources'):
        warnings.filterwarnings('ignore', message=message)


def require_stack() -> None:
    """Check that MMEngine, MMCV and MMDetection import.

    Raises:
        ImportError: a module does not import; the message has Python's reason and the install
            command.
    """
    for name, cure in _CURES.items():
        try:
            importlib.import_module(name)
        except Exception as error:  # a broken or mismatched install raises many kinds of errors
            reason = ' '.join(str(error).split()) or type(error).__name__
            raise ImportError(
                f'mmdet_losses needs `{name}`, which cannot be imported ({reason}); '
                f'install matching versions with `make env`, or run: {cure}.'
            ) from error


def defer_matplotlib() -> None:
    """Import MMDetection without loading matplotlib.

    Reason: ``mmdet.utils`` and ``mmdet.visualization`` import matplotlib and seaborn for functions
    that draw tracking errors. That is a tenth of the time of ``import mmdet_losses``. Both are
    loaded at the first use instead.
    Versions: every MMDetection 3.
    """
    if 'mmdet.utils' in sys.modules or 'matplotlib' in sys.modules:
        return
    finder = _DeferringFinder()
    sys.meta_path.insert(0, finder)
    try:
        importlib.import_module('mmdet.utils')
        importlib.import_module('mmdet.visualization')
    finally:
        sys.meta_path.remove(finder)
        for name in finder.found:
            del sys.modules[name]


class _DeferringFinder(MetaPathFinder, Loader):
    """Import system entry that finds a :class:`_DeferredModule` for each plotting module."""

    def __init__(self) -> None:
        self.packages = [name for name in ('matplotlib', 'seaborn') if util.find_spec(name)]
        self.found: list[str] = []

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.partition('.')[0] not in self.packages:
            return None
        return ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        self.found.append(spec.name)
        return _DeferredModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is executed: the real module is loaded at the first use."""


class _DeferredModule(ModuleType):
    """Stand-in in ``sys.modules`` during an import; later it loads the module of its name."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:  # `from module import name`

            def call(*args: Any, **kwargs: Any) -> Any:
                return getattr(self, name)(*args, **kwargs)

            return call
        return getattr(importlib.import_module(self.__name__), name)


def trust_engine_checkpoints() -> None:
    """Allow ``torch.load(weights_only=True)`` to read MMEngine's training checkpoints.

    Reason: the checkpoints contain ``HistoryBuffer`` objects and NumPy arrays. PyTorch rejects both
    unless they are registered as safe. Only these types are registered, under their NumPy 1 and
    NumPy 2 names, so every other type is still rejected. The maintained fork of MMEngine has a list
    of its own, which it removes from PyTorch's after each load: it gets an empty list.
    Versions: PyTorch 2.6 and newer, where ``weights_only=True`` is the default, with every MMEngine
    0.10.
    """
    if not hasattr(torch.serialization, 'add_safe_globals'):
        return
    history = importlib.import_module('mmengine.logging.history_buffer').HistoryBuffer

    def statistic(owner: type, name: str) -> Callable:
        if owner is not history or name not in ('min', 'max', 'mean', 'current'):
            raise ValueError(f'the checkpoint reads `{name}` of {owner}, which is not allowed.')
        return getattr(history, name)

    dtypes = {type(np.dtype(kind)) for kind in ('f4', 'f8', 'i4', 'i8', 'u1', 'u4', 'bool')}
    makers: list[Any] = [np.zeros(1).__reduce__()[0], np.float64(0).__reduce__()[0]]
    named = [_under_name(statistic, 'builtins', 'getattr')]
    for core in ('numpy.core.multiarray', 'numpy._core.multiarray'):
        named += [_under_name(maker, core, maker.__name__) for maker in makers]
    torch.serialization.add_safe_globals([history, np.ndarray, np.dtype, *dtypes, *named])
    loader: Any = importlib.import_module('mmengine.runner.checkpoint')
    if hasattr(loader, 'get_torch_safe_globals'):
        loader.get_torch_safe_globals = list


def _under_name(function: Callable, module: str, name: str) -> Callable:
    """A copy of ``function`` that pickle finds as ``module.name``."""

    def stand_in(*args: Any) -> Any:
        return function(*args)

    stand_in.__module__, stand_in.__name__, stand_in.__qualname__ = module, name, name
    return stand_in


def let_mmengine_find_configs() -> None:
    """Register the package's configs, so that ``mmdet_losses::<folder>/<config>.py`` resolves.

    Reason: MMEngine resolves the part before ``::`` with a fixed table of packages and then reads
    ``.mim/configs`` in the package folder. The entry added here is a module instead of a
    distribution, because only a module is also found in an editable install.
    Versions: every MMEngine 0.10.
    """
    table = importlib.import_module('mmengine.config.utils').MODULE2PACKAGE
    table['mmdet_losses'] = 'mmdet_losses.registry'


def find_configs_fast() -> None:
    """Find the configs of a package by its import, and read the index of its configs once.

    Reason: for every ``_base_ = 'mmdet::...'``, MMEngine reloads ``pkg_resources``, which prints a
    deprecation warning, and parses the 100 metafiles of MMDetection again: half a second per base
    config.
    Versions: every MMEngine 0.10.
    """
    utils: Any = importlib.import_module('mmengine.config.utils')
    if hasattr(utils.load, 'cache_info'):
        return
    utils.load = functools.cache(utils.load)
    config: Any = importlib.import_module('mmengine.config.config')
    is_installed, installed_path = config.is_installed, config.get_installed_path
    config.is_installed = lambda package: bool(_origin(package)) or is_installed(package)
    config.get_installed_path = lambda package: (
        os.path.dirname(_origin(package)) or installed_path(package)
    )


def _origin(package: str) -> str:
    """File of a package's ``__init__``; empty if the package is not importable."""
    spec = util.find_spec(package)
    return (spec.origin or '') if spec else ''


def let_mmdet_ssd_predict() -> None:
    """Add the missing attribute ``loss_cls`` to MMDetection's ``SSDHead``.

    Reason: the base class reads ``loss_cls`` in every prediction, but ``SSDHead`` does not define
    it. SSD trains and then fails at the first validation (open-mmlab/mmdetection, issue 11780).
    Versions: MMDetection 3.3.0 and newer.
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

    complete._leaves_loss_cls = True  # type: ignore[attr-defined]
    head.__init__ = complete


def let_one_process_write_metrics() -> None:
    """Write the metrics file of a test in the main process only.

    Reason: in MMEngine's ``LoggerHook`` all processes write the same file at once. A shorter write
    leaves trailing text of a longer one, so the JSON is invalid.
    Versions: every MMEngine 0.10.
    """
    hook = importlib.import_module('mmengine.hooks').LoggerHook
    if not hasattr(hook.after_test_epoch, '__wrapped__'):
        master_only = importlib.import_module('mmengine.dist').master_only
        hook.after_test_epoch = master_only(hook.after_test_epoch)


def let_losses_check_their_head() -> None:
    """Check every loss of this package when MMDetection builds the head that holds it.

    Reason: a loss cannot see its head. In a slot that passes something else (deltas instead of
    boxes, labels with scores, scores instead of logits) it would fail in the first step, or train
    without an error on a wrong value. ``check_slot`` of the loss raises a message instead.
    Versions: every MMDetection 3.
    """
    models = importlib.import_module('mmdet.registry').MODELS
    build = models.build_func
    if hasattr(build, '__wrapped__'):
        return

    @functools.wraps(build)
    def build_and_check(*args: Any, **kwargs: Any) -> Any:
        built = build(*args, **kwargs)
        if type(built).__module__.startswith('mmdet.') and hasattr(built, 'named_children'):
            for name, child in built.named_children():
                if hasattr(child, 'check_slot'):
                    child.check_slot(built, name)
        return built

    models.build_func = build_and_check


def let_coco_files_be_incomplete() -> None:
    """Complete annotations without ``iscrowd`` or ``area``, and with the id 0.

    Reason: pycocotools raises an error at the first validation if ``iscrowd`` is missing or null,
    and MMDetection if ``area`` is missing. An object with the id 0 counts as missed, because
    pycocotools stores matched ids and reads 0 as no match. It gets the next free id.
    Versions: every pycocotools 2.
    """
    coco = importlib.import_module('pycocotools.coco').COCO
    index = coco.createIndex
    if hasattr(index, '__wrapped__'):
        return

    @functools.wraps(index)
    def complete(self: Any) -> None:
        """``createIndex`` after the annotations are completed."""
        if self.dataset.get('annotations', ()) is None:
            self.dataset['annotations'] = []
        annotations = self.dataset.get('annotations', ())
        for each in annotations:
            if each.get('iscrowd') is None:
                each['iscrowd'] = 0
            if 'area' not in each and 'bbox' in each:
                each['area'] = each['bbox'][2] * each['bbox'][3]
            if each.get('id') == 0:
                each['id'] = 1 + max(each['id'] for each in annotations)
        index(self)

    coco.createIndex = complete


def let_empty_results_have_an_ap() -> None:
    """Report AP 0 for a test without a single prediction.

    Reason: MMDetection's ``CocoMetric`` then returns no metric, so MMEngine logs the AP of the
    validation before it. A training whose weights became NaN seems to keep its AP.
    Versions: every MMDetection 3.
    """
    metric = importlib.import_module('mmdet.evaluation').CocoMetric
    compute = metric.compute_metrics
    if hasattr(compute, '__wrapped__'):
        return

    @functools.wraps(compute)
    def complete(self: Any, results: list) -> dict[str, float]:
        found = compute(self, results)
        if found or self.format_only:
            return found
        items = self.metric_items or ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')
        kinds = [kind for kind in self.metrics if kind in ('bbox', 'segm')]
        return {f'{kind}_{item}': 0.0 for kind in kinds for item in items}

    metric.compute_metrics = complete
