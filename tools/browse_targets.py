"""Draw the targets of training images, and mark objects without a target.

Writes one sheet per image: the ground truth (objects without a target are dashed, ignored regions
hatched), every heatmap of the encoder, the positive anchors or cells, and the decoded outputs of a
perfect network.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mmdet_losses import engine

# isort: split
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope

from mmdet_losses.metrics.oracle import Perfect
from mmdet_losses.registry import DATASETS, MODELS
from mmdet_losses.visualization import draw_targets


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    engine.add_common_arguments(parser)
    parser.add_argument(
        '--index', type=int, nargs='+', help='indices of training images; default: the first 8'
    )
    parser.add_argument('--out', type=Path, help='folder of the sheets; default: in the work dir')
    return parser.parse_args(argv)


def work(cfg: Config, args: argparse.Namespace) -> None:
    """Draw the sheets.

    Raises:
        UsageError: An index is outside the training set.
    """
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 (transforms use it)
    out = args.out or Path(cfg.work_dir) / 'targets'
    engine.check_folder(out, '--out')
    engine.check_data(cfg, ['train'])
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    chosen = args.index or range(min(8, len(dataset)))
    outside = [index for index in chosen if not 0 <= index < len(dataset)]
    if outside:
        raise engine.UsageError(
            f'--index {outside[0]} is outside the training set; give 0 to {len(dataset) - 1}.'
        )
    perfect = Perfect(MODELS.build(cfg.model))
    objects = missing = 0
    for index in chosen:
        encoded = perfect(pseudo_collate([dataset[index]]))
        path = out / f'{index:06d}.png'
        sheet, missed = draw_targets(encoded, perfect, dataset.metainfo['classes'])
        sheet.savefig(path, dpi=110)
        objects, missing = objects + len(missed), missing + int(missed.sum())
        print(f'{path}: objects: {len(missed)}, without a target: {int(missed.sum())}')
    print(f'{missing} of {objects} objects have no target that decodes to them')


if __name__ == '__main__':
    engine.run_tool(work, parse_args())
