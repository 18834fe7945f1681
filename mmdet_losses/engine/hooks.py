"""Hooks around training: warn when nothing is learned, and make a resumed run equal."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from mmengine.dataset import worker_init_fn
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner, set_random_seed
from torch.utils.data import DataLoader

from mmdet_losses.registry import HOOKS


@HOOKS.register_module()
class NumPositivesHook(Hook):
    """Warn once when there was nothing to learn from, and report dropped boxes once.

    The heads put ``num_pos`` (objects in the batch that have a target) and ``num_dropped`` (boxes
    that no target can stand for) into the loss dict. MMEngine copies every entry of it to the host
    for the log, before this hook runs; the hook reads those copies, so it never waits for the
    device. Models without these entries are left in peace.

    Args:
        patience: Iterations in a row without any positive target before the warning.

    Raises:
        ValueError: ``patience`` is not positive.
    """

    priority = 'LOW'

    def __init__(self, patience: int = 50) -> None:
        if patience < 1:
            raise ValueError(f'NumPositivesHook: patience is {patience}; give at least 1.')
        self.patience = patience
        self._empty = 0
        self._dropped = 0.0
        self._warned = self._reported = False

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | Sequence | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Count iterations without positives, and dropped boxes."""
        logged = runner.message_hub.log_scalars
        if 'train/num_dropped' in logged:
            self._dropped += float(logged['train/num_dropped'].current())
        if self._warned or 'train/num_pos' not in logged:
            return
        some = logged['train/num_pos'].current() > 0
        self._empty = 0 if some else self._empty + 1
        if self._empty >= self.patience:
            self._warned = True
            runner.logger.warning(
                f'No positive target in {self.patience} iterations in a row (num_pos = 0): only '
                'background is learned. The usual causes are a random crop that leaves no object '
                'in the picture, and a class list (metainfo classes, num_classes) that does not '
                'match the annotation file.'
            )

    def after_train_epoch(self, runner: Runner) -> None:
        """Report the boxes dropped in the first epoch that dropped any."""
        if self._dropped and not self._reported:
            self._reported = True
            runner.logger.warning(
                f'{self._dropped:.0f} boxes were dropped in epoch {runner.epoch + 1}: no target '
                'can stand for a box that is empty, inverted, outside the picture or not a '
                'number. This is said once.'
            )


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Draw the random numbers of every epoch from (seed, epoch, rank) alone.

    Without it, augmentation after a resume continues from other random states than those of the
    run that was interrupted: the weights at the next epoch boundary differ. MMEngine also gives
    worker processes the same seed in every epoch, so they augment each epoch alike unless they are
    persistent, and persistent ones cannot be brought back to a state. The hook therefore seeds the
    process at every start of an epoch and lets the workers start anew with that epoch's seed
    (about a tenth of a second with ``fork``).

    It also hands the run's seed to the sampler: where the config names none, MMEngine builds the
    sampler of a resumed run before it has read the seed from the checkpoint. Loops that count
    iterations are left alone; their data continue in order but with other augmentation.
    """

    priority = 'VERY_HIGH'

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed this process, the sampler and the workers for the epoch that starts."""
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            return
        rank = get_rank()
        by_rank = runner.cfg.get('randomness', {}).get('diff_rank_seed', False)
        seed = runner.seed - rank if by_rank else runner.seed
        sampler = getattr(runner.train_dataloader.batch_sampler, 'sampler', None)
        if hasattr(sampler, 'seed'):
            sampler.seed = seed
        words = np.random.SeedSequence([seed, runner.epoch, rank]).generate_state(1)
        epoch_seed = int(words[0] >> 1)
        set_random_seed(epoch_seed)
        _restart_workers(runner.train_dataloader, epoch_seed)


def _restart_workers(loader: DataLoader, seed: int) -> None:
    init: Any = loader.worker_init_fn
    if loader.num_workers and isinstance(init, partial) and init.func is worker_init_fn:
        loader.worker_init_fn = partial(init.func, **{**init.keywords, 'rank': 0, 'seed': seed})
        loader._iterator = None  # the only way to make persistent workers start anew
