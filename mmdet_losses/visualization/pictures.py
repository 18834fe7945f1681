"""Hook that draws targets and predictions of fixed images during training."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from mmdet_losses.core import postprocess
from mmdet_losses.metrics.oracle import Perfect
from mmdet_losses.registry import HOOKS
from mmdet_losses.visualization.targets import draw_targets


@HOOKS.register_module()
class PicturesHook(Hook):
    """Draw targets and predictions of fixed training images at intervals.

    Each image gets a sheet with the ground truth (objects without a target are dashed), the
    heatmaps or positive anchors that the encoder creates, and the current predictions. The sheets
    are sent to the runner's visualizer and so to every backend in the config::

        custom_hooks = [dict(type='mmdet_losses.PicturesHook', indices=[0, 7], interval=1)]
        vis_backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
        visualizer = dict(type='DetLocalVisualizer', vis_backends=vis_backends)

    A list in a config replaces the list of its base, so repeat the ``custom_hooks`` of the base.
    Images are loaded and augmented once, before training. The hook does not affect training: it
    restores the module modes and the random states. Only the main process draws; the other
    processes wait at their next gradient synchronisation.

    Args:
        indices: of the training set.
        interval: epochs between sheets, or iterations with ``by_epoch=False``.
        score_thr: predictions with a lower score are not drawn.

    Raises:
        ValueError: ``interval`` is below 1, ``indices`` is empty, or an index is outside the
            training set.
        TypeError: the detector's head is not an ``EncodedDenseHead``.
    """

    priority = 'LOW'

    def __init__(
        self,
        indices: Sequence[int] = (0, 1, 2, 3),
        interval: int = 1,
        by_epoch: bool = True,
        score_thr: float = 0.3,
    ) -> None:
        if interval < 1:
            raise ValueError(f'PicturesHook: interval is {interval}; use 1 or more.')
        if not indices:
            raise ValueError('PicturesHook: indices is empty; give at least one image index.')
        self.indices, self.interval = tuple(indices), interval
        self.by_epoch, self.score_thr = by_epoch, score_thr
        self._batches: list[dict[str, Any]] = []

    def before_train(self, runner: Runner) -> None:
        """Load the images."""
        if not is_main_process():
            return
        dataset = runner.train_dataloader.dataset
        outside = [index for index in self.indices if not 0 <= index < len(dataset)]
        if outside:
            raise ValueError(
                f'PicturesHook: index {outside[0]} is outside the training set; use 0 to '
                f'{len(dataset) - 1}.'
            )
        with preserved_state(_unwrapped(runner.model)):
            Perfect(_unwrapped(runner.model))  # raises if the head has no encoder
            self._batches = [pseudo_collate([dataset[index]]) for index in self.indices]

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | Sequence | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Draw every ``interval`` iterations."""
        if not self.by_epoch and self.every_n_train_iters(runner, self.interval):
            self._draw(runner, runner.iter + 1)

    def after_train_epoch(self, runner: Runner) -> None:
        """Draw every ``interval`` epochs."""
        if self.by_epoch and self.every_n_epochs(runner, self.interval):
            self._draw(runner, runner.iter)

    @torch.no_grad()
    def _draw(self, runner: Runner, step: int) -> None:
        if not is_main_process():
            return
        model = _unwrapped(runner.model)
        classes = runner.train_dataloader.dataset.metainfo['classes']
        with preserved_state(model):
            perfect = Perfect(model)
            for index, batch in zip(self.indices, self._batches, strict=True):
                sheet = self._sheet(perfect, batch, classes)
                runner.visualizer.add_image(f'image_{index}', sheet, step)

    def _sheet(self, perfect: Perfect, batch: dict[str, Any], classes: Sequence[str]) -> np.ndarray:
        from mmdet_losses.visualization.sheets import as_array  # loads matplotlib

        encoded = perfect(deepcopy(batch))
        data = perfect.model.data_preprocessor(deepcopy(batch), False)
        outputs = perfect.encoder.outputs_type(*perfect.model(**data, mode='tensor'))
        size = tuple(encoded.inputs.shape[-2:])
        # meta data without border and scale keep the boxes in input pixels
        (decoded,) = perfect.encoder.decode(outputs, size)
        predicted = postprocess(decoded, {'img_shape': size}, perfect.test_cfg)
        predicted = predicted[predicted.scores > self.score_thr]
        return as_array(draw_targets(encoded, perfect, classes, predicted)[0])


def _unwrapped(model: Any) -> nn.Module:
    return model.module if is_model_wrapper(model) else model


@contextmanager
def preserved_state(model: nn.Module, seed: int = 0) -> Iterator[None]:
    """Context in evaluation mode with a fixed seed; restores modes and random states at its end."""
    modes = [(module, module.training) for module in model.modules()]
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 (transforms use it)
    try:
        with torch.random.fork_rng():
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            torch.manual_seed(seed)
            model.eval()
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        for module, training in modes:
            module.training = training
