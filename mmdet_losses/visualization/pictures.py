"""Look at targets and predictions of the same pictures while a detector learns."""

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
from mmdet_losses.metrics.oracle import Perfect, lost
from mmdet_losses.registry import HOOKS
from mmdet_losses.visualization.sheets import (
    as_array,
    as_picture,
    corner_pairs,
    heat_maps,
    target_sheet,
)


@HOOKS.register_module()
class PicturesHook(Hook):
    """Draw targets and predictions of fixed training pictures at intervals.

    One sheet a picture: the truth (objects without a target dashed), the heatmaps or positive
    anchors that the encoder writes, and what the network says by now. The sheets go to the
    runner's visualizer, hence to every backend that the config lists::

        custom_hooks = [dict(type='mmdet_losses.PicturesHook', indices=[0, 7], interval=1)]
        vis_backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
        visualizer = dict(type='DetLocalVisualizer', vis_backends=vis_backends)

    (A list in a config replaces its base's: name the base's ``custom_hooks`` again.) Pictures are
    loaded and augmented once, before training. Training does not notice the hook: its mode and its
    random numbers are put back. Only the main process draws; the others wait for it where the next
    step gathers gradients.

    Args:
        indices: of the training set.
        interval: epochs between sheets, or iterations with ``by_epoch=False``.
        score_thr: predictions with a lower score are not drawn.

    Raises:
        ValueError: an interval below 1, no index, or one outside the training set.
        TypeError: the detector's head is no ``EncodedDenseHead``.
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
            raise ValueError(f'PicturesHook: interval is {interval}; give at least 1.')
        if not indices:
            raise ValueError('PicturesHook: indices is empty; name at least one picture.')
        self.indices, self.interval = tuple(indices), interval
        self.by_epoch, self.score_thr = by_epoch, score_thr
        self._batches: list[dict[str, Any]] = []

    def before_train(self, runner: Runner) -> None:
        """Load the pictures."""
        if not is_main_process():
            return
        dataset = runner.train_dataloader.dataset
        outside = [index for index in self.indices if not 0 <= index < len(dataset)]
        if outside:
            raise ValueError(
                f'PicturesHook: index {outside[0]} is outside the training set; give 0 to '
                f'{len(dataset) - 1}.'
            )
        with unnoticed(_unwrapped(runner.model)):
            Perfect(_unwrapped(runner.model))  # its head has an encoder
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
        with unnoticed(model):
            perfect = Perfect(model)
            for index, batch in zip(self.indices, self._batches, strict=True):
                image = self._sheet(perfect, batch, classes)
                runner.visualizer.add_image(f'picture_{index}', image, step)

    def _sheet(self, perfect: Perfect, batch: dict[str, Any], classes: Sequence[str]) -> np.ndarray:
        model, encoder = perfect.model, perfect.encoder
        encoded = perfect(deepcopy(batch))
        data = model.data_preprocessor(deepcopy(batch), False)
        outputs = encoder.outputs_type(*model(**data, mode='tensor'))
        picture = as_picture(encoded.inputs[0], model.data_preprocessor)
        size = picture.shape[:2]
        # no border and no scale: the boxes stay in the pixels of the input that is drawn
        meta = {'img_shape': size}
        said = postprocess(encoder.decode(outputs, size)[0], meta, perfect.test_cfg)
        truth = encoded.samples[0].gt_instances
        figure = target_sheet(
            picture,
            truth.cpu(),
            lost(truth, encoded.said[0]).cpu().numpy(),
            dict(heat_maps(encoded.targets)),
            encoder.positive_boxes(encoded.targets, encoded.feat_sizes, size).cpu().numpy(),
            said[said.scores > self.score_thr].cpu(),
            classes,
            last_title='predicted',
            pairs=corner_pairs(encoded.targets, size),
        )
        return as_array(figure)


def _unwrapped(model: nn.Module) -> nn.Module:
    return model.module if is_model_wrapper(model) else model


@contextmanager
def unnoticed(model: nn.Module, seed: int = 0) -> Iterator[None]:
    """Evaluation mode and a fixed seed inside; the modes and random states of before after it."""
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
