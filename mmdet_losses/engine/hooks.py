"""Training hooks: warnings about missing positives, and reproducible resuming."""

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
    """Warn once about missing positive targets and once about dropped boxes.

    The loss dict of the heads has ``num_pos`` (objects of the batch with a target) and
    ``num_dropped`` (boxes that cannot have a target). MMEngine copies its entries to the host for
    the log before this hook runs. The hook reads these copies, so it does not synchronise the
    device. Models that do not log these entries are ignored.

    Args:
        patience: number of consecutive iterations without a positive target before the warning.

    Raises:
        ValueError: ``patience`` is not positive.
    """

    priority = 'LOW'

    def __init__(self, patience: int = 50) -> None:
        if patience < 1:
            raise ValueError(f'NumPositivesHook: patience is {patience}; use 1 or more.')
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
                f'No positive target in {self.patience} consecutive iterations (num_pos = 0): the '
                'model learns only background. Usual causes: a random crop without objects, or '
                'a class list (metainfo classes, num_classes) that does not match the annotation '
                'file.'
            )

    def after_train_epoch(self, runner: Runner) -> None:
        """Report the number of dropped boxes in the first epoch that has any."""
        if self._dropped and not self._reported:
            self._reported = True
            runner.logger.warning(
                f'{self._dropped:.0f} boxes were dropped in epoch {runner.epoch + 1}: a box has no '
                'target if it is empty, inverted, outside the image or not finite, or if its image '
                'has more boxes than max_objects of the encoder. This is logged once.'
            )


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Seed every epoch with a number that depends only on (seed, epoch, rank).

    A resumed run then has the same random numbers as a run without interruption, so the weights at
    the next epoch boundary are equal. MMEngine seeds worker processes equally in every epoch, and
    the state of persistent workers cannot be restored. The hook seeds the main process at the start
    of each epoch and restarts the workers with the seed of the epoch (about 0.1 s with ``fork``).

    It also sets the seed of the sampler. Without a seed in the config, MMEngine builds the sampler
    of a resumed run before it reads the seed from the checkpoint. Iteration-based loops are not
    changed: their data continue in order but with other augmentation.
    """

    priority = 'VERY_HIGH'

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed this process, the sampler and the workers for the next epoch."""
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            return
        rank = get_rank()
        by_rank = runner.cfg.get('randomness', {}).get('diff_rank_seed', False)
        seed = runner.seed - rank if by_rank else runner.seed
        sampler = getattr(runner.train_dataloader.batch_sampler, 'sampler', None)
        if sampler is not None and hasattr(sampler, 'seed'):
            sampler.seed = seed
        words = np.random.SeedSequence([seed, runner.epoch, rank]).generate_state(1)
        epoch_seed = int(words[0] >> 1)
        set_random_seed(epoch_seed)
        _restart_workers(runner.train_dataloader, epoch_seed)


def _restart_workers(loader: DataLoader, seed: int) -> None:
    init: Any = loader.worker_init_fn
    if loader.num_workers and isinstance(init, partial) and init.func is worker_init_fn:
        loader.worker_init_fn = partial(init.func, **{**init.keywords, 'rank': 0, 'seed': seed})
        loader._iterator = None  # the only way to restart persistent workers
