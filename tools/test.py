"""Test a detector; the command line is that of MMDetection's tool."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmdet_losses import engine

# isort: split
from mmdet.engine.hooks.utils import trigger_visualization_hook
from mmdet.evaluation import DumpDetResults
from mmengine.config import Config
from mmengine.dist import is_main_process

from mmdet_losses.engine.tta import TTA_SCALES, add_tta


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    engine.add_common_arguments(parser)
    parser.add_argument('checkpoint', help='checkpoint file or URL')
    parser.add_argument('--out', help='write the predictions to this pickle (.pkl) file')
    parser.add_argument('--show', action='store_true', help='show the predictions in a window')
    parser.add_argument('--show-dir', help='draw the predictions into <work dir>/<time>/SHOW_DIR')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds per shown image')
    parser.add_argument(
        '--tta',
        action='store_true',
        help="test-time augmentation: the config's tta_model and tta_pipeline, or horizontal flip "
        f'and the scales {", ".join(map(str, TTA_SCALES))}',
    )
    parser.add_argument(
        '--allow-mismatch',
        action='store_true',
        help='test although layers of the checkpoint are missing, unexpected or of another shape',
    )
    parser.add_argument(
        '--metric',
        choices=['VOC'],
        help="replaces the config's evaluator; VOC: AP of every class as in `darknet detector map`",
    )
    parser.add_argument(
        '--iou', type=float, nargs='+', help='IoU thresholds of --metric VOC (default: 0.5)'
    )
    args = parser.parse_args(argv)
    if args.iou and args.metric is None:
        parser.error('--iou needs --metric VOC')
    if args.out is not None and not args.out.endswith(('.pkl', '.pickle')):
        parser.error(f'--out is {args.out}; the predictions are pickled, so give a .pkl file')
    return args


def test(cfg: Config, args: argparse.Namespace) -> None:
    """Test the detector of a config with the weights of a checkpoint."""
    if '://' not in args.checkpoint and not Path(args.checkpoint).is_file():
        raise engine.UsageError(f'checkpoint {args.checkpoint} not found (from {Path.cwd()}).')
    engine.check_folder(cfg.work_dir, '--work-dir')
    if args.out is not None:
        engine.check_file(args.out, '--out')
    if args.show_dir is not None and Path(args.show_dir).is_absolute():
        engine.check_folder(args.show_dir, '--show-dir')
    engine.check_data(cfg, ['test'])
    cfg.load_from = args.checkpoint
    cfg.resume = False
    if args.show or args.show_dir:
        trigger_visualization_hook(cfg, args)
    if args.tta:
        add_tta(cfg)
    if args.metric:
        cfg.test_evaluator = dict(type='mmdet_losses.ClassAPMetric', iou_thrs=args.iou or [0.5])
    runner = engine.build_runner(cfg)
    if not args.allow_mismatch:
        engine.check_checkpoint(args.checkpoint, runner.model, args.config)
    if args.out is not None:
        runner.test_evaluator.metrics.append(DumpDetResults(out_file_path=args.out))
    if is_main_process() and not args.verbose:
        runner.register_hook(engine.ConsoleProgressHook())
    metrics = runner.test()
    if is_main_process():
        print(engine.metrics_text(metrics))
        if args.show_dir:
            print(f'images: {engine.from_here(Path(runner.log_dir) / args.show_dir)}')
        if args.out:
            print(f'predictions: {args.out}')
        print(engine.log_line(runner))


if __name__ == '__main__':
    engine.run_tool(test, parse_args())
