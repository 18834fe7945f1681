"""Train and evaluate a complete detector on handwritten digits in a few minutes."""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mmdet_losses import engine

# isort: split
from mmengine.config import Config, DictAction
from mmengine.hooks import Hook
from mmengine.runner import Runner, load_checkpoint

from mmdet_losses.visualization.plots import (
    plot_heatmap,
    plot_learning_curve,
    plot_results,
    read_image,
)
from tools.datasets.digits import Options, make_digits

CONFIG = ROOT / 'configs' / 'centernet_points' / 'centernet_points_digits.py'
DATA = Path('data/digits')
IMAGES = 8  # drawn with ground truth and predictions
STAGES = 5


class LastMetrics(Hook):
    """Hook that keeps the metrics of the last validation, and its epoch."""

    epoch = 0
    metrics: dict[str, float] = {}

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Keep the metrics."""
        self.epoch, self.metrics = runner.epoch, metrics or {}


def show(text: str) -> None:
    """Print a line at once, also into a pipe."""
    print(text, flush=True)


def stage(number: int, text: str) -> None:
    """Print the title of a stage."""
    show(f'[{number}/{STAGES}] {text}')


def move_earlier_demo(out: Path) -> None:
    """Rename the folder of an earlier demo."""
    if not out.exists():
        return
    aside = out.with_name(out.name + time.strftime('_%Y%m%d_%H%M%S', time.localtime()))
    shutil.move(out, aside)
    show(f'The earlier demo in {out} was moved to {aside}.')


def load_config(args: argparse.Namespace) -> Config:
    """The digits config with the folders of the demo."""
    cfg = Config.fromfile(CONFIG)
    cfg.work_dir = str(args.out)
    cfg.launcher = 'none'
    engine.merge_options(cfg, dict(data_root=f'{args.data}/') | (args.cfg_options or {}))
    engine.start_processes(cfg)
    engine.check_data(cfg, show=False)
    engine.add_default_hooks(cfg)
    return cfg


def train(cfg: Config, last: LastMetrics) -> Runner:
    """Train and validate with MMEngine's runner; its log goes to a file only."""
    runner = engine.build_runner(cfg)
    runner.register_hook(engine.ConsoleProgressHook())
    runner.register_hook(last)
    runner.train()
    return runner


def draw(runner: Runner, out: Path) -> list[Path]:
    """Draw learning curve, predictions and targets; returns the paths of the images."""
    model, dataset = runner.model.eval(), runner.val_dataloader.dataset
    classes = dataset.metainfo['classes']
    paths = [out / name for name in ('learning_curve.png', 'predictions.png', 'targets.png')]
    plot_learning_curve(next(out.glob('*/vis_data/scalars.json')), paths[0])
    step = max(len(dataset) // IMAGES, 1)
    chosen = range(0, len(dataset), step)[:IMAGES]
    batch = runner.val_dataloader.collate_fn([dataset[i] for i in chosen])
    with torch.no_grad():
        samples = model.val_step(batch)
        inputs = model.data_preprocessor(batch, False)['inputs']
        outputs = model.bbox_head.encoder.outputs_type(*model(inputs, mode='tensor'))
    results = [
        (read_image(sample.img_path), sample.gt_instances.cpu(), sample.pred_instances.cpu())
        for sample in samples
    ]
    plot_results(results, classes, paths[1])

    sample = max(samples, key=lambda each: len(each.gt_instances))
    encoder = model.bbox_head.encoder
    gt = sample.gt_instances.cpu()
    targets = encoder.encode([gt], encoder.feat_sizes(outputs), sample.batch_input_shape)
    heatmap = targets.heatmap.dense()[0].numpy()
    plot_heatmap(read_image(sample.img_path), heatmap, gt, classes, paths[2])
    return paths


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--out', type=Path, default=Path('work_dirs/demo'), help='folder of the results'
    )
    parser.add_argument('--data', type=Path, default=DATA, help='folder of the data set')
    parser.add_argument(
        '--train', type=int, default=Options.train, help='number of training images'
    )
    parser.add_argument('--val', type=int, default=Options.val, help='number of validation images')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help='override settings of the config'
    )
    return parser.parse_args()


def main() -> int:
    """Run the five stages; returns the exit code."""
    args = parse_args()
    start = time.time()

    stage(1, f'data: handwritten digits on real textures, in {args.data}')
    try:
        engine.check_folder(args.out.parent, 'the folder of --out')
        make_digits(args.data, train=args.train, val=args.val)
    except (ValueError, FileExistsError, engine.UsageError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1

    move_earlier_demo(args.out)
    cfg = load_config(args)
    stage(2, f'training {CONFIG.relative_to(ROOT)} for {cfg.train_cfg.max_epochs} epochs')
    began = time.time()
    last = LastMetrics()
    runner = train(cfg, last)

    stage(3, 'evaluating the last epoch on the validation split (COCO AP)')
    checkpoint = args.out / f'epoch_{runner.max_epochs}.pth'
    if last.epoch == runner.max_epochs:
        metrics = last.metrics
    else:
        load_checkpoint(runner.model, str(checkpoint), map_location='cpu', strict=True)
        metrics = runner.val_loop.run()
    minutes = (time.time() - began) / 60

    stage(4, 'drawing the learning curve, predictions and encoded targets')
    images = draw(runner, args.out)
    summary = {
        **{name.removeprefix('coco/'): float(value) for name, value in metrics.items()},
        'minutes_of_training_and_evaluation': round(minutes, 2),
        'seed': cfg.randomness.seed,
        'config': str(CONFIG.relative_to(ROOT)),
        'torch': torch.__version__,
        'python': platform.python_version(),
    }
    (args.out / 'metrics.json').write_text(json.dumps(summary, indent=2) + '\n')

    stage(5, f'done in {(time.time() - start) / 60:.1f} minutes')
    show(f'\nbbox mAP {summary["bbox_mAP"]:.3f} (AP at IoU 0.5: {summary["bbox_mAP_50"]:.3f})')
    show('Look at:')
    for path in [*images, args.data / 'sheet.png']:
        show(f'  {path}')
    config = CONFIG.relative_to(ROOT)
    there = '' if args.data == DATA else f' --cfg-options data_root={args.data}/'
    show('Try next (after `. .venv/bin/activate`):')
    show(f'  python tools/test.py {config} {checkpoint} --show-dir shown{there}')
    show(f'  tools/dist_train.sh {config} 2{there}')
    show('  python tools/list_components.py')
    return 0


if __name__ == '__main__':
    with engine.quiet_console():
        status = main()
    sys.exit(status)
