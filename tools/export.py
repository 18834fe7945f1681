"""Export a trained detector, network and decoding, to ONNX or torch.export.

    python tools/export.py CONFIG CHECKPOINT --format onnx --out FILE.onnx

The outputs are boxes (B, K, 4), scores (B, K) and labels (B, K) of a fixed size; the batch is
dynamic. The exported file is compared with PyTorch before the tool ends.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from mmdet_losses import engine

# isort: split
from mmengine.config import Config
from torch import Tensor

from mmdet_losses.engine import export
from mmdet_losses.engine.export_input import describe_input, prepare_image, random_images
from mmdet_losses.engine.media import open_media
from mmdet_losses.engine.predictor import class_names

SUFFIXES = {'onnx': '.onnx', 'torch_export': '.pt2'}
"""Format -> suffix of its files."""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    engine.add_config_arguments(parser)
    add = parser.add_argument
    add('checkpoint', help='checkpoint file')
    add('--format', choices=list(SUFFIXES), default='onnx', help='(default: onnx)')
    add('--out', type=Path, required=True, metavar='FILE', help='.onnx or, of torch.export, .pt2')
    add('--force', action='store_true', help='replace FILE if it exists')
    add('--nms', action='store_true', help='with score threshold, NMS and max_per_img of test_cfg')
    add('--simplify', action='store_true', help='fold constants of an ONNX file (onnxscript)')
    add(
        '--size',
        type=int,
        nargs=2,
        metavar=('HEIGHT', 'WIDTH'),
        help='of the input (default: that of the test pipeline)',
    )
    add(
        '--limit',
        type=int,
        default=1000,
        help='largest number of boxes per image, before NMS (default: %(default)s)',
    )
    add('--images', metavar='SOURCE', help='images of the check (default: random ones)')
    args = parser.parse_args(argv)
    if args.simplify and args.format != 'onnx':
        parser.error('--simplify needs --format onnx')
    if args.limit < 1 or min(args.size or (1,)) < 1:
        parser.error('--limit and --size must be positive')
    return args


def check_images(source: str | None, rule: dict) -> Tensor:
    """Normalised inputs of the check: the first images of a source, or random ones."""
    count = max(export.BATCH_SIZES)
    if source is None:
        return random_images(count, rule)
    images = [prepare_image(frame.image, rule) for frame in islice(open_media(source), count)]
    if not images:
        raise engine.UsageError(f'--images {source} has no readable image.')
    return torch.stack(images)


def work(cfg: Config, args: argparse.Namespace) -> None:
    """Export the detector and check the file."""
    if args.format == 'onnx':
        export.require('onnx', 'onnxruntime', *(['onnxscript'] if args.simplify else []))
    engine.check_new(args.out, '--out', (SUFFIXES[args.format],), args.force)
    model = export.load_detector(cfg, args.checkpoint)
    rule = describe_input(cfg, model, tuple(args.size) if args.size else None)
    detector = export.ExportedDetector(model, tuple(rule['size']), args.limit, args.nms)
    images = check_images(args.images, rule)
    example = detector.example(images[torch.arange(2) % len(images)])
    metadata = export.metadata_of(cfg, detector, rule, class_names(cfg))
    if args.format == 'onnx':
        content = export.export_onnx(detector, example, metadata, args.simplify)
        run = export.onnx_runner(content)
    else:
        content = export.export_program(detector, example, metadata)
        run = export.program_runner(content)
    args.out.write_bytes(content)
    for key, value in metadata.items():
        print(f'{key}: {json.dumps(json.loads(value))}')
    found = export.check(detector, run, images)
    print(
        f'{args.out}: {len(content) / 1e6:.1f} MB; largest difference from PyTorch '
        f'{found.value:.1e} ({found.rows} boxes, batches of '
        f'{" and ".join(map(str, export.BATCH_SIZES))})'
    )
    if not found.rows:
        raise engine.UsageError(
            f'{args.out} was not compared with PyTorch, because no box has a score above the '
            'threshold: give images with objects by --images, or lower score_thr of test_cfg.'
        )
    if found.value > export.TOLERANCE:
        raise engine.UsageError(
            f'{args.out} differs from PyTorch by {found.value:.1e}, more than '
            f'{export.TOLERANCE:g}; do not use it.'
        )


if __name__ == '__main__':
    engine.run_tool(work, parse_args())
