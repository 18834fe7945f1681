"""Write a config for a data set of your own.

    python tools/new_project.py --data data/mine --detector yolov4_tiny

DATA is a folder made by tools/import_data.py. The config inherits a recipe of configs/own and sets
the classes, the paths, the image size (by the sizes of the objects), anchors (by k-means, if the
detector has a list of anchors), the number of passes over the images, and pretrained weights, which
are downloaded if they are missing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmdet_losses import engine

# isort: split
from mmengine.registry import init_default_scope

from mmdet_losses.engine.closing import tool_command
from tools.datasets.projects import RECIPES, config_text, plan
from tools.datasets.weights import fetch


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--data', type=Path, required=True, metavar='DIR', help='folder of tools/import_data.py')
    add('--detector', choices=list(RECIPES), default='yolov4_tiny', help='default: %(default)s')
    add('--size', type=int, help='side of the network input, a multiple of 32')
    add('--weights', metavar='FILE', help='converted weights; default: downloaded if missing')
    add('--out', type=Path, metavar='FILE', help='default: <detector>_<data>.py')
    add('--force', action='store_true', help='replace OUT if it exists')
    return parser.parse_args(argv)


def write(args: argparse.Namespace) -> list[str]:
    """Write the config; returns the lines to print.

    Raises:
        ValueError: a file is missing, or a value is wrong.
        UsageError: the config exists, or cannot be written.
    """
    init_default_scope('mmdet')
    if args.size is not None and (args.size <= 0 or args.size % 32):
        raise ValueError(f'--size is {args.size}; give a multiple of 32.')
    if args.weights and not Path(args.weights).is_file():
        raise ValueError(f'--weights {args.weights} does not exist; correct the path.')
    project = plan(args.data, args.detector, args.size)
    out = args.out or Path(f'{project.name}.py')
    engine.check_new(out, '--out', ('.py',), args.force)
    weights = args.weights or fetch(RECIPES[args.detector].weights)
    out.write_text(config_text(project, weights, out))
    checkpoint = f'work_dirs/{project.name}/epoch_2.pth'
    predict = tool_command('predict.py', out, checkpoint, args.data / 'images')
    return [
        f'{out}: classes: {len(project.classes)}, training images: {project.images}, '
        f'input: {project.side} x {project.side} pixels',
        f'next: {tool_command("browse_targets.py", out)}   # draws the targets',
        f'      {tool_command("train.py", out)}',
        f'      {predict} --out predicted',
    ]


def main(argv: list[str] | None = None) -> int:
    """Write a config; returns the exit code."""
    try:
        print('\n'.join(write(parse_args(argv))))
    except (ValueError, OSError, engine.UsageError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
