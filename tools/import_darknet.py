"""Write a darknet cfg, and its weights, as a config and a checkpoint of MMDetection.

    python tools/import_darknet.py yolov4-tiny.cfg yolov4-tiny.weights --names coco.names --out DIR

DIR gets yolov4-tiny.py, which depends on no other config, and with weights yolov4-tiny.pth. What
the config cannot express raises one message with the section, the option and the line.

    python tools/import_darknet.py --check FOLDER

imports and builds every cfg of a folder. It writes nothing and prints one line per cfg and totals.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import mmdet_losses

# isort: split
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmdet_losses.core.checkpoint import convert, network_of
from mmdet_losses.detectors.checkpoints import LAYOUTS
from mmdet_losses.detectors.yolo.darknet_cfg import read_cfg_text
from mmdet_losses.detectors.yolo.darknet_config_text import PROGRAMS, DataPaths, config_text
from mmdet_losses.detectors.yolo.darknet_encoder import Code
from mmdet_losses.detectors.yolo.darknet_files import layers_in_order
from mmdet_losses.detectors.yolo.darknet_import import Imported, annotation_names, import_cfg
from mmdet_losses.engine.outputs import check_new
from mmdet_losses.engine.processes import UsageError
from mmdet_losses.registry import MODELS


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('cfg', metavar='FILE.cfg', type=Path, nargs='?', help='the cfg')
    add('weights', metavar='FILE.weights', type=Path, nargs='?', help='its weights')
    add('--names', type=Path, help='names of the classes, one per line')
    add('--out', type=Path, metavar='DIR', help='folder of the results')
    add('--check', type=Path, metavar='FOLDER', help='check every cfg of a folder')
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
    args = parser.parse_args(argv)
    if args.check is None and None in (args.cfg, args.names, args.out):
        parser.error('give FILE.cfg, --names and --out, or --check FOLDER.')
    return args


def run(args: argparse.Namespace) -> list[str]:
    """Write the files; returns the lines to print.

    Raises:
        ValueError: the config cannot express the cfg, or the weights do not fit.
        OSError: a file cannot be read.
        UsageError: a file exists, or cannot be written.
    """
    if args.cfg.suffix == '.weights':
        raise ValueError(f'{args.cfg} is no cfg; the order is FILE.cfg FILE.weights.')
    classes = read_names(args.names)
    data = DataPaths(*(getattr(args, field) for field in DataPaths._fields))
    imported, text = read_cfg(args.cfg, args.code, classes, data)
    config, checkpoint = (args.out / f'{args.cfg.stem}{end}' for end in ('.py', '.pth'))
    for path in (config, *([checkpoint] if args.weights else [])):
        check_new(path, '--out', (), args.force)
    cfg, detector = build(text)
    lines = [f'note: {note}' for note in imported.notes]
    if annotation_names(classes) != classes:
        lines.append("note: the config spells the classes as COCO's annotations do.")
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
        f'{config}: {describe(detector, len(classes))}, rules of {PROGRAMS[imported.code]}'
    )
    return lines


def read_names(path: Path) -> list[str]:
    """Names of the classes, one per line of a text file.

    Raises:
        ValueError: the file is no text.
    """
    try:
        lines = path.read_text('utf-8-sig').splitlines()
    except UnicodeDecodeError:
        raise ValueError(
            f'--names {path} is no text; give a file with one class name per line.'
        ) from None
    return [line.strip() for line in lines if line.strip()]


def read_cfg(
    path: Path, code: Code | None, classes: Sequence[str] | None, data: DataPaths
) -> tuple[Imported, str]:
    """A cfg in the terms of MMDetection, and the text of its config; any classes if None."""
    imported = import_cfg(read_cfg_text(path), code, classes, str(path.parent))
    if classes is None:
        count = imported.parts['model']['bbox_head']['predictor']['num_classes']
        classes = [str(number) for number in range(count)]
    return imported, config_text(imported, path.name, annotation_names(classes), data)


def build(text: str) -> tuple[Config, nn.Module]:
    """A config and its detector, without memory for the numbers."""
    cfg = Config.fromstring(text, '.py')
    with torch.device('meta'), DefaultScope.overwrite_default_scope('mmdet'):
        return cfg, MODELS.build(cfg.model)


def describe(detector: nn.Module, classes: int) -> str:
    """Size of an imported detector."""
    backbone = detector.backbone
    return (
        f'{len(backbone.table)} layers, {len(backbone.heads)} detection layers, {classes} classes'
    )


def check(folder: Path, code: Code | None) -> tuple[list[str], int]:
    """The lines to print about the cfgs of a folder, and the number of those not imported."""
    lines, failures = [], 0
    paths = sorted(folder.rglob('*.cfg'))
    for path in paths:
        try:
            text = read_cfg(path, code, None, DataPaths())[1]
            cfg, detector = build(text)
            state = detector.state_dict()
            stored = [
                key for layer in layers_in_order(detector, ('backbone',)) for key in layer.keys
            ]
            numbers = sum(state[key].numel() for key in stored)
            line = f'{describe(detector, len(cfg.classes))}, {numbers:,} numbers in a weights file'
        except ValueError as error:
            line, failures = str(error), failures + 1
        lines.append(f'{path.relative_to(folder)}: {line}')
    lines.append(f'{len(paths)} cfgs: {len(paths) - failures} imported and built, {failures} not')
    return lines, failures


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
        if args.check is not None:
            lines, failures = check(args.check, args.code)
            print('\n'.join(lines))
            return int(failures > 0)
        print('\n'.join(run(args)))
    except (OSError, ValueError, UsageError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
