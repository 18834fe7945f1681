"""Train for a long time, and check that the memory of the process does not grow.

Trains a config with MMEngine's runner on a few small drawn images, without validation, and prints
the resident memory at regular steps. Ends with status 1 if the memory after the first tenth of the
steps grows by more than --limit.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mmdet_losses import engine

# isort: split
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from tools.datasets.digits import make_digits

CONFIG = ROOT / 'configs' / 'centernet_points' / 'centernet_points_digits.py'


class MemoryHook(Hook):
    """Record the resident memory at regular steps."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.samples: list[int] = []
        self.start = time.monotonic()

    def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        """Record and print after every ``every`` steps."""
        step = runner.iter + 1
        if step % self.every == 0:
            self.samples.append(resident_memory())
            print(
                f'step {step} of {runner.max_iters}: {self.samples[-1] / 2**20:.1f} MiB, '
                f'{step / (time.monotonic() - self.start):.1f} steps per second',
                flush=True,
            )


def resident_memory() -> int:
    """Resident memory of this process in bytes (Linux)."""
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE')


def growth(samples: Sequence[int]) -> float:
    """Largest sample after the first tenth, relative to the last one of that tenth, minus 1."""
    first = max(1, len(samples) // 10)
    return max(samples[first:], default=samples[first - 1]) / samples[first - 1] - 1


def soak_config(config: Path, data: Path, work_dir: Path, steps: int) -> Config:
    """The config with small images, one process and no validation."""
    cfg = Config.fromfile(config)
    cfg.work_dir, cfg.launcher = str(work_dir), 'none'
    engine.merge_options(cfg, dict(data_root=f'{data}/'))
    loader = cfg.train_dataloader
    loader.update(batch_size=1, num_workers=0, persistent_workers=False)
    loader.sampler = dict(type='InfiniteSampler', shuffle=True)
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=steps)
    cfg.param_scheduler, cfg.custom_hooks = None, []
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    cfg.test_dataloader = cfg.test_cfg = cfg.test_evaluator = None
    cfg.log_processor = dict(by_epoch=False)
    checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=steps, max_keep_ckpts=1)
    cfg.default_hooks = dict(checkpoint=checkpoint, logger=dict(type='LoggerHook', interval=50))
    return cfg


def soak(config: Path, steps: int, every: int) -> list[int]:
    """Train; returns the samples of the memory."""
    with tempfile.TemporaryDirectory() as folder:
        data = make_digits(
            Path(folder) / 'digits', train=32, val=1, size=(64, 64), objects=(1, 4), scale=(16, 40)
        )
        cfg = soak_config(config, data, Path(folder) / 'work', steps)
        engine.start_processes(cfg)
        engine.check_data(cfg, ['train'])
        engine.add_default_hooks(cfg)
        runner = engine.build_runner(cfg)
        for handler in runner.logger.handlers:
            handler.setLevel(logging.WARNING)
        hook = MemoryHook(every)
        runner.register_hook(hook)
        runner.train()
    return hook.samples


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', nargs='?', type=Path, default=CONFIG, help='a digits config')
    parser.add_argument('--steps', type=int, default=20_000, help='default: %(default)s')
    parser.add_argument('--every', type=int, help='steps between samples; default: 1/20 of them')
    parser.add_argument('--limit', type=float, default=0.02, help='default: %(default)s')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Returns 1 if the memory grew beyond the limit."""
    args = parse_args(argv)
    samples = soak(args.config, args.steps, args.every or max(1, args.steps // 20))
    grown = growth(samples)
    print(
        f'{args.config.stem}: {args.steps} steps, resident memory {samples[-1] / 2**20:.1f} MiB, '
        f'{grown:+.2%} after the first tenth (limit {args.limit:.0%})'
    )
    return 1 if grown > args.limit else 0


if __name__ == '__main__':
    sys.exit(main())
