"""Measure the AP limit of an encoding: ground truth through encoder, decoder and evaluator.

Needs no training. The result shows the cost of a stride, a limit on the number of objects, a cell
that two objects share, or an anchor. With ``--branches CHECKPOINT`` it measures a trained centre
detector once as it is, and once with the ground truth in place of each of its branches: the branch
that raises the AP most is the weakest one.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mmdet_losses import engine

# isort: split
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope
from mmengine.runner import Runner, load_checkpoint

from mmdet_losses.engine.data_config import leaf_configs
from mmdet_losses.engine.progress import show_progress
from mmdet_losses.metrics.oracle import OneIdealBranch, Perfect, lost
from mmdet_losses.registry import MODELS

WITHOUT_BOXES = ('MOTMetric', 'SeenPixels')
"""Metrics of tracks and of processed pixels, which an encoder does not have."""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    engine.add_common_arguments(parser)
    parser.add_argument(
        '--branches',
        metavar='CHECKPOINT',
        help='replace each branch of a trained centre detector by the ground truth in turn',
    )
    parser.add_argument('--json', type=Path, help='also write the metrics to this file')
    return parser.parse_args(argv)


def measure(cfg: Config, perfect: Perfect | None = None) -> dict[str, float]:
    """Metrics of a perfect network, or of ``perfect``, on the validation data (or the test data).

    Adds ``objects``, ``lost`` (objects that no decoded box of their class matches with an IoU of
    0.5) and ``dropped`` (objects that the encoder does not encode).
    """
    split = 'val' if cfg.get('val_dataloader') else 'test'
    loader = Runner.build_dataloader(annotations_first(cfg[f'{split}_dataloader']))
    evaluator = Evaluator(box_metrics(cfg[f'{split}_evaluator']))
    evaluator.dataset_meta = loader.dataset.metainfo
    perfect = perfect or Perfect(MODELS.build(cfg.model))
    counts = dict(objects=0, lost=0, dropped=0)
    for batch in show_progress(loader, len(loader), 'batches'):
        encoded = perfect(batch)
        counts['dropped'] += int(perfect.encoder.statistics(encoded.targets).get('num_dropped', 0))
        for sample, decoded in zip(encoded.samples, encoded.decoded, strict=True):
            counts['objects'] += len(sample.gt_instances)
            counts['lost'] += int(lost(sample.gt_instances, decoded).sum())
        evaluator.process(perfect.results(encoded), batch)
    return {**evaluator.evaluate(len(loader.dataset)), **counts}


def measure_branches(cfg: Config, checkpoint: str) -> dict[str, float]:
    """Metrics of a trained network as it is, and with the ground truth in place of each branch.

    The names are ``network/<metric>`` and ``<branch>/<metric>``; without the counts of objects.
    """
    model = MODELS.build(cfg.model)
    load_checkpoint(model, checkpoint, map_location='cpu', strict=True)
    network = OneIdealBranch(model)
    metrics = {}
    for branch in (None, *network.branches()):
        network.branch = branch
        found = measure(copy.deepcopy(cfg), network)
        names = [name for name in found if name not in ('objects', 'lost', 'dropped')]
        metrics |= {f'{branch or "network"}/{name}': found[name] for name in names}
    return metrics


def annotations_first(loader: dict) -> dict:
    """The loader's config with annotations loaded first, so that they are in input pixels.

    Raises:
        UsageError: The pipeline loads no annotations.
    """
    for _, dataset in leaf_configs(loader.dataset):
        if not _move_annotations(dataset.pipeline):
            raise engine.UsageError(
                'the validation pipeline loads no annotations, so there is no ground truth to '
                "encode; add dict(type='LoadAnnotations', with_bbox=True) after the image is "
                'loaded.'
            )
    return loader


def _move_annotations(steps: list[dict]) -> bool:
    """Move the step that loads annotations directly after the one that loads the image."""
    names = [str(step.get('type')).rpartition('.')[2] for step in steps]
    images = [i for i, name in enumerate(names) if name.startswith('LoadImage')]
    annotations = [i for i, name in enumerate(names) if name.endswith('Annotations')]
    if images and annotations:
        steps.insert(images[0] + 1, steps.pop(annotations[0]))
        return True
    return any(_move_annotations(step['transforms']) for step in steps if step.get('transforms'))


def box_metrics(evaluator: dict | list[dict]) -> list[dict]:
    """The metrics of boxes; the names of the other metrics are printed."""
    metrics = []
    for metric in evaluator if isinstance(evaluator, (list, tuple)) else [evaluator]:
        if str(metric.get('type')).rpartition('.')[2] in WITHOUT_BOXES:
            print(f'  {metric["type"]} is skipped: it needs a detector')
        else:
            metrics.append(metric)
    return metrics


def work(cfg: Config, args: argparse.Namespace) -> None:
    """Measure, print, and write."""
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    torch.manual_seed(0)
    if args.json:
        engine.check_file(args.json, '--json')
    engine.check_data(cfg, ['val' if cfg.get('val_dataloader') else 'test'])
    metrics = measure_branches(cfg, args.branches) if args.branches else measure(cfg)
    for key, value in metrics.items():
        print(f'{key}: {value:.3f}' if isinstance(value, float) else f'{key}: {value}')
    if args.json:
        args.json.write_text(json.dumps(metrics, indent=2) + '\n')


if __name__ == '__main__':
    engine.run_tool(work, parse_args())
