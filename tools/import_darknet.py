"""Write a darknet cfg, and its weights, as a config and a checkpoint of MMDetection.

    python tools/import_darknet.py yolov4-tiny.cfg yolov4-tiny.weights --names coco.names --out DIR

DIR gets yolov4-tiny.py, which depends on no other config, and with weights yolov4-tiny.pth. What
the config cannot express raises one message with the section, the option and the line.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import mmdet_losses

# isort: split
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmdet_losses.core.checkpoint import convert, network_of
from mmdet_losses.detectors.checkpoints import LAYOUTS
from mmdet_losses.detectors.yolo.darknet_config_text import PROGRAMS, DataPaths, config_text
from mmdet_losses.detectors.yolo.darknet_import import annotation_names, import_cfg
from mmdet_losses.registry import MODELS


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('cfg', metavar='FILE.cfg', type=Path, help='the cfg')
    add('weights', metavar='FILE.weights', type=Path, nargs='?', help='its weights')
    add('--names', type=Path, required=True, help='names of the classes, one per line')
    add('--out', type=Path, required=True, metavar='DIR', help='folder of the results')
    add(
        '--code',
        choices=list(PROGRAMS),
        help='the program that the cfg is for; default: alexeyab if the cfg has an option of '
        "AlexeyAB's program, otherwise redmon",
    )
    for option, default in DataPaths()._asdict().items():
        flag = 'data-root' if option == 'root' else option.replace('_', '-')
        add(f'--{flag}', dest=option, default=default, help='of the data (default: %(default)s)')
    add('--force', action='store_true', help='replace existing files')
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> list[str]:
    """Write the files; returns the lines to print.

    Raises:
        ValueError: the config cannot express the cfg, or the weights do not fit.
        OSError: a file cannot be read or written.
    """
    classes = [line.strip() for line in args.names.read_text().splitlines() if line.strip()]
    data = DataPaths(*(getattr(args, field) for field in DataPaths._fields))
    imported = import_cfg(args.cfg.read_text(), args.code, classes, str(args.cfg.parent))
    text = config_text(imported, args.cfg.name, annotation_names(classes), data)
    config, checkpoint = (args.out / f'{args.cfg.stem}{end}' for end in ('.py', '.pth'))
    for path in (config, *([checkpoint] if args.weights else [])):
        if path.exists() and not args.force:
            raise ValueError(f'{path} exists; choose another folder, or replace it with --force.')
    cfg = Config.fromstring(text, '.py')
    with torch.device('meta'), DefaultScope.overwrite_default_scope('mmdet'):
        detector = MODELS.build(cfg.model)
    heads = len(detector.backbone.heads)
    lines = [f'note: {note}' for note in imported.notes]
    if annotation_names(classes) != classes:
        lines.append("note: the config spells the classes as COCO's annotations do.")
    args.out.mkdir(parents=True, exist_ok=True)
    if args.weights:
        state = read_weights(args.weights, cfg)
        meta = dict(
            config=config.name,
            source=args.weights.name,
            dataset_meta=dict(classes=tuple(classes)),
            mmdet_losses_version=mmdet_losses.__version__,
        )
        torch.save({'meta': meta, 'state_dict': state}, checkpoint)
        numbers = sum(each.numel() for each in state.values())
        lines.append(f'{checkpoint}: {len(state)} tensors, {numbers:,} numbers')
    config.write_text(text)
    lines.append(
        f'{config}: {len(cfg.layers)} layers, {heads} detection layers, {len(classes)} classes, '
        f'rules of {PROGRAMS[imported.code]}'
    )
    return lines


def read_weights(path: Path, cfg: Config) -> dict[str, torch.Tensor]:
    """The numbers of a `.weights` file in the names of a config's network."""
    layout, network = LAYOUTS['darknet'], network_of(cfg.model)
    source = layout.load(path, network, cfg.model)
    state = convert(source, layout.target(network), layout.key_map(cfg.model)).state_dict
    return {key: value.detach().clone() for key, value in state.items()}


def main(argv: list[str] | None = None) -> int:
    """Import a cfg; returns the exit code."""
    args = parse_args(argv)
    try:
        print('\n'.join(run(args)))
    except (OSError, ValueError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
