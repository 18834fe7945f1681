"""Training steps of several configs, in turns, so that other load affects all of them."""

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
    """Loop that prepares a training and does not train."""

    def run(self) -> nn.Module:
        """Call the hooks that change the model before the first step."""
        self.runner.call_hook('before_train')
        return self.runner.model.train()


def step_times(configs: list[Path], options: list[str], repeats: int) -> list[list[float]]:
    """Milliseconds of ``repeats`` training steps per config, after one warm-up step.

    A step is forward, targets, losses, backward and update on a loaded batch, with the initial
    weights of the config. Data loading and MMEngine's hooks are not included.

    Args:
        configs: Config files; they take turns.
        options: ``KEY=VALUE``, for all configs.
        repeats: Number of steps per config.
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
    # MMEngine finds the visualizer of an earlier call by its name, and its folder is removed
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
