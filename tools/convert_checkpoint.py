"""Convert a checkpoint of a detector's official code into one for a config of this package.

    python tools/convert_checkpoint.py CONFIG SRC DST
    python tools/convert_checkpoint.py --list [CONFIG]

The network is built from CONFIG, and the layout of SRC is found in the file. Every key of SRC is
claimed by a rule, every key of the network is filled, and every shape is equal. Otherwise nothing
is written, the keys that do not fit are listed, and the exit code is 1. The result holds
``state_dict`` and ``meta`` as plain tensors, strings and numbers, in the names of the detector.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import mmdet_losses

# isort: split
from mmengine.config import ConfigDict, DictAction

from mmdet_losses.core.checkpoint import Conversion, choose_layout, convert, network_of
from mmdet_losses.core.plain_tensors import is_torchscript
from mmdet_losses.detectors.checkpoints import LAYOUTS
from mmdet_losses.engine.cli import read_config
from mmdet_losses.engine.outputs import check_new
from mmdet_losses.engine.processes import UsageError

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', metavar='CONFIG', nargs='?', help='config of the detector')
    parser.add_argument('src', metavar='SRC', nargs='?', type=Path, help='the official file')
    parser.add_argument('dst', metavar='DST', nargs='?', type=Path, help='the file to write')
    parser.add_argument(
        '--list',
        action='store_true',
        help='show the files that CONFIG accepts (without CONFIG: every config of this package)',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help='changes to CONFIG, such as model.bbox_head.predictor.num_classes=20',
    )
    parser.add_argument(
        '--allow-class-layers',
        action='store_true',
        help='leave out the layers whose shape differs with the number of classes',
    )
    parser.add_argument(
        '--partial',
        action='store_true',
        help="SRC is darknet's file of the first layers (yolov4.conv.137, darknet53.conv.74, ...); "
        'the layers after its end are left out',
    )
    parser.add_argument(
        '--trust-pickle',
        action='store_true',
        help='unpickle SRC if it is not plain tensors; code in the file can then do everything '
        'that you can do, so use it only for files whose authors you trust',
    )
    parser.add_argument('--force', action='store_true', help='replace DST if it exists')
    args = parser.parse_args(argv)
    if not args.list and args.dst is None:
        parser.error('give CONFIG, SRC and DST, or --list')
    return args


def read_model(path: str | Path, changes: dict | None = None) -> ConfigDict:
    """The detector of a config.

    Raises:
        UsageError: the config does not load.
        ValueError: the config has no ``model``.
    """
    cfg = read_config(path)
    cfg.merge_from_dict(changes or {})
    if 'model' not in cfg:
        raise ValueError(f'{path} has no `model`; give the config of a detector.')
    return cfg.model


def accepted(model: ConfigDict) -> list[str]:
    """Names of the layouts whose files fill the network of a config."""
    return [name for name, layout in LAYOUTS.items() if layout.fits(model)]


def show_list(paths: Sequence[Path | str]) -> None:
    """Print what each config accepts; sizes and numbers of classes must be equal too."""
    for path in paths:
        names = accepted(read_model(path))
        if names:
            print(path)
        for name in names:
            print(f'  {name}: {LAYOUTS[name].source}', flush=True)
        if not names and len(paths) == 1:
            print(f'{path}: no official file has this network')


def check_paths(src: Path, dst: Path, force: bool) -> None:
    """Check that no file is lost.

    Raises:
        ValueError: DST is SRC.
        UsageError: DST exists and ``force`` is off, or cannot be written.
    """
    if dst.exists() and src.exists() and dst.samefile(src):
        raise ValueError(f'{dst} is the file to convert; write to another one.')
    check_new(dst, 'DST', ('.pth', '.pt'), force)


def write(conversion: Conversion, dst: Path, meta: dict) -> None:
    """Write under a temporary name first, so that DST is never incomplete."""
    partial = dst.with_name(f'{dst.name}.partial')
    state = {key: tensor.detach().clone() for key, tensor in conversion.state_dict.items()}
    torch.save({'meta': meta, 'state_dict': state}, partial)
    os.replace(partial, dst)


def plain_copy(src: Path, folder: str) -> Path:
    """Copy of a pickled file with its state dict only; code in the file runs.

    Raises:
        ValueError: the file is a TorchScript archive, or has no state dict.
    """
    if is_torchscript(src):
        raise ValueError(f'{src} is a TorchScript archive; save the state_dict of the network.')
    print(f'warning: --trust-pickle runs the code in {src}.', file=sys.stderr)
    content = torch.load(src, map_location='cpu', weights_only=False)
    if isinstance(content, Mapping):
        content = content.get('state_dict') or content.get('model') or content
    state = content.state_dict() if isinstance(content, nn.Module) else content
    tensors = {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise ValueError(f'{src} has no state dict; give the checkpoint of a network.')
    copy = Path(folder) / src.name
    torch.save(tensors, copy)
    return copy


def run(args: argparse.Namespace) -> tuple[str, Conversion]:
    """Convert SRC and write DST; returns the name of the layout and what was converted."""
    check_paths(args.src, args.dst, args.force)
    model = read_model(args.config, args.cfg_options)
    with tempfile.TemporaryDirectory() as folder:
        src = plain_copy(args.src, folder) if args.trust_pickle else args.src
        name, layout = choose_layout(src, model, LAYOUTS)
        network = network_of(model)
        source = layout.load(src, network, model, args.partial, args.allow_class_layers)
    conversion = convert(
        source,
        layout.target(network),
        layout.key_map(model),
        args.allow_class_layers,
        args.partial,
    )
    meta = {
        'layout': name,
        'config': Path(args.config).name,
        'source': args.src.name,
        'mmdet_losses_version': mmdet_losses.__version__,
    }
    write(conversion, args.dst, meta)
    return name, conversion


def main(argv: list[str] | None = None) -> int:
    """Convert or list; returns the exit code."""
    args = parse_args(argv)
    try:
        if args.list:
            show_list([args.config] if args.config else sorted(CONFIGS.glob('[!_]*/*.py')))
            return 0
        name, conversion = run(args)
    except (OSError, ValueError, TypeError, RuntimeError, UsageError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    print(f'{args.src.name}: {LAYOUTS[name].source}')
    for reason, count in Counter(conversion.ignored.values()).items():
        print(f'left out {count} keys: {reason}')
    for key in conversion.class_layers:
        print(f'left out {key}: its number of classes differs')
    if conversion.missing:
        parts = ', '.join(dict.fromkeys(key.partition('.')[0] for key in conversion.missing))
        print(f'left out {len(conversion.missing)} keys of {parts}: SRC ends before them')
    numbers = sum(tensor.numel() for tensor in conversion.state_dict.values())
    print(f'{args.dst}: {len(conversion.state_dict)} tensors, {numbers:,} numbers')
    return 0


if __name__ == '__main__':
    sys.exit(main())
