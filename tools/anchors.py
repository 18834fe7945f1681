"""Anchors by k-means from the boxes of a config's training set, or how well given ones fit.

Boxes are scaled as the config's test pipeline resizes a whole picture (or as --size says), so the
result is in pixels of the network input. The distance of a box to an anchor is 1 - IoU of their
shapes, as in Redmon and Farhadi, *YOLO9000*, section 2. Prints the anchors level by level, the mean
IoU of the boxes with their best anchor, the share of boxes whose best IoU reaches 0.5 (SSD,
RetinaNet, darknet's habit) and the share with an anchor within a factor of 4 in both sides
(Scaled-YOLOv4's rule).
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmdet_losses import engine

# isort: split
from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope

from mmdet_losses.ops import shape_iou
from mmdet_losses.registry import DATASETS

RATIO = 4.0
"""Default anchor threshold of Scaled-YOLOv4."""


class AnchorsError(ValueError):
    """What went wrong, as the sentence that a user needs."""


class Resizing(NamedTuple):
    """How a picture becomes the network input: at most ``width`` x ``height`` pixels."""

    width: float
    height: float
    keep_ratio: bool

    def factors(self, width: float, height: float) -> tuple[float, float]:
        """Scale of x and y for a picture of this size."""
        x, y = self.width / width, self.height / height
        return (min(x, y),) * 2 if self.keep_ratio else (x, y)


def kmeans_anchors(sizes: Tensor, count: int, seed: int = 0, rounds: int = 300) -> Tensor:
    """Cluster box sizes (N, 2) by 1 - IoU; returns (count, 2), by ascending area.

    Starts from boxes drawn far apart (k-means++), then moves every anchor to the mean of the boxes
    that it fits best until none changes. The same seed gives the same anchors.

    Raises:
        AnchorsError: sizes that are no box, or fewer different sizes than anchors.
    """
    if count < 1:
        raise AnchorsError(f'{count} anchors make no sense; ask for at least one.')
    if not bool((sizes.isfinite() & (sizes > 0)).all()):
        raise AnchorsError('A box without a positive width and height cannot be clustered.')
    different = len(sizes.unique(dim=0))
    if different < count:
        raise AnchorsError(
            f'{len(sizes)} boxes of {different} different sizes cannot give {count} anchors; ask '
            'for fewer anchors or use more data.'
        )
    generator = torch.Generator().manual_seed(seed)
    sizes = sizes.double()
    anchors = _spread(sizes, count, generator)
    nearest = sizes.new_full((len(sizes),), -1, dtype=torch.int64)
    for _ in range(rounds):
        now = shape_iou(sizes, anchors).argmax(1)
        if bool((now == nearest).all()):
            break
        nearest = now
        members = sizes.new_zeros(count).index_add(0, nearest, sizes.new_ones(len(sizes)))
        sums = torch.zeros_like(anchors).index_add(0, nearest, sizes)
        anchors = torch.where(members[:, None] > 0, sums / members[:, None].clamp(min=1), anchors)
    return anchors[anchors.prod(1).argsort(stable=True)]


def _spread(sizes: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Boxes to start from, each drawn with the squared distance to those before it."""
    index = torch.randint(len(sizes), (1,), generator=generator)
    while len(index) < count:
        far = (1 - shape_iou(sizes, sizes[index]).amax(1)).clamp(min=0).square()
        far[index] = 0
        index = torch.cat((index, torch.multinomial(far, 1, generator=generator)))
    return sizes[index]


class Fit(NamedTuple):
    """How well anchors fit boxes."""

    mean_iou: float
    """Mean over boxes of the IoU with their best anchor."""
    recall: float
    """Share of boxes whose best IoU is at least 0.5."""
    in_ratio: float
    """Share of boxes that have an anchor within a factor of 4 in width and height."""


def fit(sizes: Tensor, anchors: Tensor) -> Fit:
    """Compare box sizes (N, 2) with anchors (A, 2)."""
    sizes, anchors = sizes.double(), anchors.double()
    best = shape_iou(sizes, anchors).amax(1)
    ratio = sizes[:, None] / anchors
    near = torch.maximum(ratio, 1 / ratio).amax(-1).amin(1) < RATIO
    return Fit(*(float(each.double().mean()) for each in (best, best >= 0.5, near)))


def box_sizes(cfg: Config, resizing: Resizing) -> Tensor:
    """(N, 2) widths and heights in input pixels of the usable boxes of the training set."""
    sizes = []
    for settings in _sources(cfg.train_dataloader.dataset):
        with contextlib.redirect_stdout(sys.stderr):  # pycocotools reports its progress
            dataset = DATASETS.build({**settings, 'pipeline': []})
        for i in range(len(dataset)):
            info = dataset.get_data_info(i)
            for picture in info.get('images', [info]):  # of a video
                x, y = resizing.factors(picture['width'], picture['height'])
                for each in picture['instances']:
                    x1, y1, x2, y2 = each['bbox']
                    if not each.get('ignore_flag') and x2 > x1 and y2 > y1:
                        sizes.append(((x2 - x1) * x, (y2 - y1) * y))
    if not sizes:
        raise AnchorsError('The training set has no box; check ann_file and the class list.')
    return torch.tensor(sizes, dtype=torch.float64)


def _sources(dataset: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The settings of the data sets inside wrappers."""
    inner = dataset.get('datasets') or [dataset.get('dataset')]
    if inner[0] is None:
        yield dict(dataset)
        return
    for each in inner:
        yield from _sources(each)


def resizing_of(cfg: Config, size: Sequence[float] | None) -> Resizing:
    """Of the test pipeline, with ``size`` (width, height) in place of its scale where given.

    Raises:
        AnchorsError: neither a size nor a step that resizes.
    """
    steps = [step for step in cfg.test_dataloader.dataset.pipeline if step['type'] == 'Resize']
    keep_ratio = bool(steps[-1].get('keep_ratio', False)) if steps else True
    scale = size or (steps[-1].get('scale') if steps else None)
    if scale is None:
        raise AnchorsError('The test pipeline has no Resize with a scale; give --size W H.')
    width, height = scale if isinstance(scale, Sequence) else (scale, scale)
    return Resizing(float(width), float(height), keep_ratio)


def given_anchors(cfg: Config) -> list[list[tuple[float, float]]]:
    """The anchors of the config's encoder, level by level.

    Raises:
        AnchorsError: its encoder lists none.
    """
    encoder = (cfg.model.get('bbox_head') or {}).get('encoder') or {}
    if 'anchors' not in encoder:
        raise AnchorsError(
            f'{encoder.get("type", "this model")} lists no anchors in the config; leave --check '
            'out to compute some.'
        )
    for anchor in [anchor for level in encoder.anchors for anchor in level]:
        if len(anchor) != 2 or min(anchor) <= 0:
            raise AnchorsError(
                f'Anchor {tuple(anchor)} is impossible; an anchor is a positive width and a '
                'positive height.'
            )
    return encoder.anchors


def shown(levels: list[list[tuple[float, float]]], digits: int) -> str:
    """The anchors as a config writes them."""
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
    parser.add_argument('--levels', type=int, default=3, help='maps of the network (default 3)')
    parser.add_argument('--per-level', type=int, default=3, help='anchors a cell (default 3)')
    parser.add_argument('--coarse-first', action='store_true', help='the order of YOLOv3')
    parser.add_argument('--size', type=float, nargs=2, metavar=('W', 'H'), help='network input')
    parser.add_argument('--seed', type=int, default=0, help='same seed, same anchors')
    parser.add_argument('--digits', type=int, default=0, help='decimals of a pixel (default 0)')
    parser.add_argument('--check', action='store_true', help="rate the config's own anchors")
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    """Print what was asked for."""
    cfg = Config.fromfile(args.config)
    if args.cfg_options:
        engine.merge_options(cfg, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    if args.check:
        levels = given_anchors(cfg)
    sizes = box_sizes(cfg, resizing_of(cfg, args.size))
    if not args.check:
        anchors = kmeans_anchors(sizes, args.levels * args.per_level, args.seed).round(
            decimals=args.digits
        )
        levels = anchors.view(args.levels, args.per_level, 2).tolist()
        levels = levels[::-1] if args.coarse_first else levels
    found = fit(sizes, torch.tensor([anchor for level in levels for anchor in level]))
    print(shown(levels, args.digits))
    print(
        f'# {len(sizes)} boxes: mean best IoU {found.mean_iou:.3f}, {found.recall:.1%} above 0.5, '
        f'{found.in_ratio:.1%} within a factor of {RATIO:g}'
    )


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code; a mistake ends in one sentence."""
    try:
        run(parse_args(argv))
    except (AnchorsError, engine.UsageError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
