"""Test a detector: the command line of MMDetection's tool, on GPUs or on the CPU."""

from __future__ import annotations

import argparse
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmdet_losses import engine

# isort: split
from mmdet.engine.hooks.utils import trigger_visualization_hook
from mmdet.evaluation import DumpDetResults
from mmengine.config import Config, ConfigDict

from mmdet_losses.core.tta import OWN_NMS_TYPES, WITHOUT_AUGMENTATION

TTA_SCALES = (0.75, 1.0, 1.25)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    engine.add_common_arguments(parser)
    parser.add_argument('checkpoint', help='checkpoint file or address')
    parser.add_argument('--out', help='write the predictions to this pickle (.pkl) file')
    parser.add_argument('--show', action='store_true', help='show the predictions in a window')
    parser.add_argument('--show-dir', help='draw the predictions into <work dir>/<time>/SHOW_DIR')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds per shown picture')
    parser.add_argument(
        '--tta',
        action='store_true',
        help="test-time augmentation: the config's tta_model and tta_pipeline, or horizontal flip "
        f'and the scales {", ".join(map(str, TTA_SCALES))}',
    )
    args = parser.parse_args(argv)
    if args.out is not None and not args.out.endswith(('.pkl', '.pickle')):
        parser.error(f'--out {args.out}: the predictions are pickled, so name a .pkl file')
    return args


def test(cfg: Config, args: argparse.Namespace) -> None:
    """Test the config's detector with the weights of a checkpoint."""
    if '://' not in args.checkpoint and not Path(args.checkpoint).is_file():
        raise engine.UsageError(f'checkpoint {args.checkpoint} not found (from {Path.cwd()}).')
    cfg.load_from = args.checkpoint
    cfg.resume = False
    if args.show or args.show_dir:
        trigger_visualization_hook(cfg, args)
    if args.tta:
        augment(cfg)
    runner = engine.build_runner(cfg)
    if args.out is not None:
        runner.test_evaluator.metrics.append(DumpDetResults(out_file_path=args.out))
    runner.test()


def augment(cfg: Config) -> None:
    """Wrap the model and replace the test pipeline for test-time augmentation.

    Raises:
        UsageError: a detector that has no test-time augmentation.
    """
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    if 'tta_model' not in cfg:
        name = str(cfg.model.type).rpartition('.')[2]
        if name in WITHOUT_AUGMENTATION:
            why = WITHOUT_AUGMENTATION[name]
            raise engine.UsageError(
                f'{name} has no test-time augmentation, because {why}: leave --tta out.'
            )
        test_cfg = cfg.model.get('test_cfg') or {}
        nms = test_cfg.get('nms') or dict(type='nms', iou_threshold=0.5)
        limit = test_cfg.get('max_per_img', 100)
        kind = 'PostprocessTTAModel' if nms['type'] in OWN_NMS_TYPES else 'DetTTAModel'
        cfg.tta_model = dict(type=kind, tta_cfg=dict(nms=nms, max_per_img=limit))
    if 'tta_pipeline' not in cfg:
        cfg.tta_pipeline = augmented_pipeline(dataset.pipeline)
    dataset.pipeline = cfg.tta_pipeline
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)


def augmented_pipeline(pipeline: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Turn a test pipeline into one that yields every scale, as it is and flipped.

    Scales replace the (first) ``Resize``; a ``Pad`` to a fixed size grows with the largest scale.
    The flip comes before any padding, because ``DetTTAModel`` mirrors boxes about the picture
    itself. Boxes loaded after ``Resize`` stay in the frame of the original picture.
    """
    steps = deepcopy(list(pipeline))
    kinds = [str(step['type']).rpartition('.')[2] for step in steps]
    at = kinds.index('Resize') if 'Resize' in kinds else 0
    flips = [dict(type='RandomFlip', prob=prob) for prob in (0.0, 1.0)]
    branches = [flips]
    if kinds[at] == 'Resize':
        branches.insert(0, [_scaled(steps[at], 'scale', factor) for factor in TTA_SCALES])
    for kind, step in zip(kinds[at + 1 :], steps[at + 1 :], strict=True):
        if kind == 'PackDetInputs':
            keys = step.get('meta_keys', ('img_id', 'img_path', 'ori_shape', 'img_shape'))
            step['meta_keys'] = (*dict.fromkeys((*keys, 'scale_factor', 'flip', 'flip_direction')),)
        if kind == 'Pad' and step.get('size') and kinds[at] == 'Resize':
            step = _scaled(step, 'size', max(TTA_SCALES))
        branches.append([step])
    head = steps[:at] if kinds[at] == 'Resize' else steps[:1]
    return [*head, dict(type='TestTimeAug', transforms=branches)]


def _scaled(step: dict[str, Any], key: str, factor: float) -> dict[str, Any]:
    if step.get(key) is None:
        return {**step, 'scale_factor': step.get('scale_factor', 1.0) * factor}
    return {**step, key: tuple(round(side * factor) for side in step[key])}


if __name__ == '__main__':
    arguments = parse_args()
    engine.run_tool(test, arguments)
