"""Write a trained detector as NAME.cfg, NAME.weights and NAME.names for darknet and OpenCV.

    python tools/export_darknet.py CONFIG CHECKPOINT --out NAME

The network of CONFIG is ``DarknetFromCfg``. For another network give its official cfg with --cfg:
the weights are written in the order of that file, and the cfg is copied.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import mmdet_losses  # noqa: F401  (registers the components)

# isort: split
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import nn

from mmdet_losses.core.checkpoint import assemble, read_checkpoint
from mmdet_losses.detectors.yolo.checkpoints import darknet_order
from mmdet_losses.detectors.yolo.darknet_cfg import layer_table, parse_cfg, read_cfg_text
from mmdet_losses.detectors.yolo.darknet_export import export_cfg
from mmdet_losses.detectors.yolo.darknet_files import layers_in_order, write_darknet_weights
from mmdet_losses.engine.cli import read_config
from mmdet_losses.engine.outputs import check_new
from mmdet_losses.engine.processes import UsageError
from mmdet_losses.networks.darknet_from_cfg import DarknetFromCfg
from mmdet_losses.registry import MODELS


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', metavar='CONFIG', help='config of the detector')
    parser.add_argument('checkpoint', metavar='CHECKPOINT', type=Path, help='its checkpoint')
    parser.add_argument('--out', type=Path, required=True, metavar='NAME', help='without ending')
    parser.add_argument('--cfg', type=Path, help='official cfg of a network without a table')
    parser.add_argument('--seen', type=int, default=0, help='training images in the header')
    parser.add_argument('--force', action='store_true', help='replace existing files')
    return parser.parse_args(argv)


def load(config: Config, path: Path) -> nn.Module:
    """Backbone, neck and predictor with the weights of a checkpoint.

    Raises:
        ValueError: the checkpoint does not fill the network.
    """
    model = config.model
    parts = [model.backbone, model.bbox_head.predictor, model.get('neck')]
    for part in parts:
        if part:
            part.pop('init_cfg', None)
    with DefaultScope.overwrite_default_scope('mmdet'):
        network = assemble(*(each and MODELS.build(each) for each in parts))
    wanted, state = network.state_dict(), read_checkpoint(path)
    wrong = [key for key in wanted if key not in state or state[key].shape != wanted[key].shape]
    if wrong:
        raise ValueError(
            f'{path} lacks {len(wrong)} layers of the config or has other shapes ({wrong[0]}, '
            '...); give the config that the checkpoint was trained with.'
        )
    network.load_state_dict({key: state[key] for key in wanted})
    return network


def shapes_of(network: nn.Module, order: tuple[str, ...]) -> list[tuple[int, ...]]:
    """Shapes of all stored arrays, in file order."""
    state = network.state_dict()
    return [tuple(state[key].shape) for layer in layers_in_order(network, order)
            for key in layer.keys]  # fmt: skip


def cfg_text(config: Config, network: nn.Module, given: Path | None) -> str:
    """The exported cfg, or the given one if it describes this network.

    Raises:
        ValueError: the network has no table and no fitting cfg is given.
    """
    if given is None:
        if not isinstance(network.backbone, DarknetFromCfg):
            raise ValueError(
                f'{config.model.backbone.type} has no table of layers; give the official cfg of '
                'this network with --cfg.'
            )
        return export_cfg(config, network.backbone)
    text = read_cfg_text(given)
    with torch.device('meta'):
        described = DarknetFromCfg(layer_table(parse_cfg(text)))
    ours = shapes_of(network, darknet_order(config.model))
    theirs = shapes_of(nn.ModuleDict(dict(backbone=described)), ('backbone',))
    if ours != theirs:
        raise ValueError(
            f'{given} describes another network: {len(theirs)} arrays instead of {len(ours)}, or '
            'other shapes; give the cfg of this network.'
        )
    return text


def run(args: argparse.Namespace) -> list[str]:
    """Write the files; returns their names."""
    paths = [args.out.with_name(args.out.name + end) for end in ('.cfg', '.weights', '.names')]
    for path in paths:
        check_new(path, '--out', (), args.force)
    config = read_config(args.config)
    network = load(config, args.checkpoint)
    with DefaultScope.overwrite_default_scope('mmdet'):
        text = cfg_text(config, network, args.cfg)
    classes = config.test_dataloader.dataset.get('metainfo', {}).get('classes', ())
    paths[0].write_text(text)
    write_darknet_weights(paths[1], network, darknet_order(config.model), args.seen)
    if classes:
        paths[2].write_text('\n'.join(classes) + '\n')
    return [f'{path}: {path.stat().st_size:,} bytes' for path in paths if path.exists()]


def main(argv: list[str] | None = None) -> int:
    """Export a detector; returns the exit code."""
    args = parse_args(argv)
    try:
        print('\n'.join(run(args)))
    except (OSError, ValueError, UsageError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
