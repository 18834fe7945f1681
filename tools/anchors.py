"""Find anchors by k-means on the boxes of a config's training set, or rate the config's anchors.

Boxes are scaled as the test pipeline of the config resizes a whole image (or to --size), so anchors
are in pixels of the network input. The output has the anchors per level, the mean IoU of the boxes
with their best anchor, the fraction of boxes whose best IoU is at least 0.5 (the rule of SSD,
RetinaNet and darknet), and the fraction with an anchor within a factor of 4 in width and height
(the rule of Scaled-YOLOv4).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmdet_losses import engine

# isort: split
from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope

from mmdet_losses.engine.box_sizes import input_resizing, training_box_sizes
from mmdet_losses.engine.cli import read_config
from mmdet_losses.ops.anchor_kmeans import MAX_RATIO, anchor_fit, kmeans_anchors

Levels = list[list[tuple[float, float]]]


def config_anchors(cfg: Config) -> Levels:
    """The anchors of the config's encoder, per level.

    Raises:
        UsageError: The encoder has no list of anchors, or an anchor is not positive.
    """
    encoder = (cfg.model.get('bbox_head') or {}).get('encoder') or {}
    if 'anchors' not in encoder:
        raise engine.UsageError(
            f'{encoder.get("type", "this model")} has no anchors in the config; run without '
            '--check to compute anchors.'
        )
    for anchor in [anchor for level in encoder.anchors for anchor in level]:
        if len(anchor) != 2 or min(anchor) <= 0:
            raise engine.UsageError(
                f'anchor {tuple(anchor)} is not a positive width and a positive height; correct '
                'it in the config.'
            )
    return encoder.anchors


def as_config(levels: Levels, digits: int) -> str:
    """The anchors as lines of a config."""
    rows = [
        '    ['
        + ', '.join(f'({width:.{digits}f}, {height:.{digits}f})' for width, height in level)
        + '],'
        for level in levels
    ]
    return '\n'.join(['anchors=[', *rows, '],'])


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('config', help='config file')
    parser.add_argument('--levels', type=int, default=3, help='number of output maps (default 3)')
    parser.add_argument('--per-level', type=int, default=3, help='anchors per cell (default 3)')
    parser.add_argument(
        '--coarse-first', action='store_true', help='largest anchors first, as in YOLOv3'
    )
    parser.add_argument(
        '--size', type=float, nargs=2, metavar=('W', 'H'), help='size of the network input'
    )
    parser.add_argument('--seed', type=int, default=0, help='the same seed gives the same anchors')
    parser.add_argument('--digits', type=int, default=0, help='decimals (default 0)')
    parser.add_argument('--check', action='store_true', help='rate the anchors of the config')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    """Print the anchors and their ratings."""
    cfg = read_config(args.config)
    if args.cfg_options:
        engine.merge_options(cfg, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    levels: Levels = config_anchors(cfg) if args.check else []
    engine.check_data(cfg, ['train'], images=False)
    sizes = training_box_sizes(cfg, input_resizing(cfg, args.size))
    if not args.check:
        anchors = kmeans_anchors(sizes, args.levels * args.per_level, args.seed)
        anchors = anchors.round(decimals=args.digits)
        levels = anchors.view(args.levels, args.per_level, 2).tolist()
        levels = levels[::-1] if args.coarse_first else levels
    found = anchor_fit(sizes, torch.tensor([anchor for level in levels for anchor in level]))
    print(as_config(levels, args.digits))
    print(
        f'# {len(sizes)} boxes: mean best IoU {found.mean_iou:.3f}, {found.recall:.1%} above 0.5, '
        f'{found.in_ratio:.1%} within a factor of {MAX_RATIO:g}'
    )


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code; a usage error prints one message."""
    try:
        run(parse_args(argv))
    except (ValueError, engine.UsageError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
