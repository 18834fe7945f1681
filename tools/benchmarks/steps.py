"""Training steps of several configs, taken in turn: other work on the machine slows all alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn

from mmdet_losses import engine
from tools.benchmarks.timing import timed
from tools.train import parse_args

NEEDLESS = tuple(f'{split}_{part}' for split in ('val', 'test') for part in ('cfg', 'dataloader'))


@LOOPS.register_module()
class SetUpLoop(EpochBasedTrainLoop):
    """The preparations of a training, without the training."""

    def run(self) -> nn.Module:
        """Call the hooks that change the model before its first step."""
        self.runner.call_hook('before_train')
        return self.runner.model.train()


def step_times(configs: list[Path], options: list[str], repeats: int) -> list[list[float]]:
    """Milliseconds of training steps after one warm-up, for every config ``repeats`` of them.

    A step is forward, targets, losses, backward and update on a batch that lies ready; the weights
    are those that the config starts from. Loading data and MMEngine's hooks are no part of it.

    Args:
        configs: Config files; they take turns.
        options: ``KEY=VALUE``, for all configs alike.
        repeats: Steps of each.
    """
    with TemporaryDirectory() as folder:
        steps = [_step(config, options, Path(folder), repeats + 1) for config in configs]
        return timed(*steps, repeats=repeats)


def _step(config: Path, options: list[str], folder: Path, batches: int) -> Callable[[], None]:
    arguments = [str(config), '--work-dir', str(folder / config.stem)]
    cfg = engine.load_config(
        parse_args([*arguments, *(['--cfg-options', *options] if options else [])])
    )
    cfg.update(train_cfg=dict(type='SetUpLoop', max_epochs=1), log_level='ERROR')
    cfg.update(val_evaluator=None, test_evaluator=None, **dict.fromkeys(NEEDLESS))
    # MMEngine would find an earlier call's by its name, and that one's folder is gone
    cfg.visualizer = None
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False, prefetch_factor=None)
    runner = engine.build_runner(cfg)
    model = runner.train()
    ready = iter(list(islice(_endless(runner), batches)))

    def step() -> None:
        model.train_step(next(ready), optim_wrapper=runner.optim_wrapper)
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return step


def _endless(runner: Runner) -> Iterator[dict]:
    while True:
        yield from runner.train_dataloader
