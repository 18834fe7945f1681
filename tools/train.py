"""Train a detector; the command line is that of MMDetection's tool."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmdet_losses import engine

# isort: split
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_main_process


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    engine.add_common_arguments(parser)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='FILE',
        help='continue from FILE, or from the latest checkpoint of the work dir; the weights at '
        'the end of an epoch equal those of an uninterrupted run',
    )
    parser.add_argument(
        '--restart',
        action='store_true',
        help='start again in a work dir with checkpoints; they are moved to a subfolder',
    )
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by (batch size / auto_scale_lr.base_batch_size)',
    )
    return parser.parse_args(argv)


def train(cfg: Config, args: argparse.Namespace) -> None:
    """Train the detector of a config."""
    if args.amp:
        if get_device() == 'cpu':
            raise engine.UsageError('--amp needs a GPU, and this machine has none; remove --amp.')
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.auto_scale_lr:
        if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
            raise engine.UsageError(
                '--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...) in the config, the '
                'total batch size that belongs to its learning rate.'
            )
        cfg.auto_scale_lr.enable = True
    engine.check_folder(cfg.work_dir, '--work-dir')
    engine.settle_start(cfg, args.resume, args.restart)
    engine.skip_replaced_weights(cfg)
    engine.check_data(cfg, show=False)  # `CheckDataHook` logs the warnings
    engine.add_default_hooks(cfg)
    runner = engine.build_runner(cfg)
    if cfg.resume:
        engine.check_checkpoint(cfg.load_from, runner.model, args.config)
    if is_main_process() and not args.verbose:
        runner.register_hook(engine.ConsoleProgressHook())
    runner.train()
    if is_main_process():
        lines = engine.closing_lines(engine.last_validation(runner), runner.work_dir, args.config)
        print('\n'.join([engine.log_line(runner), *lines]))


if __name__ == '__main__':
    engine.run_tool(train, parse_args())
