"""Run every encoder, criterion and loss on random, partly invalid batches.

A batch has 0 to 500 objects per image, among them boxes that are empty, inverted, NaN, infinite,
outside, tiny or huge; outputs of any size in float32, float16 or bfloat16; and strides that differ
in x and y. Targets, losses, gradients and decoded boxes must be finite, and every box that cannot
have a target must be counted. Otherwise the exit status is 1. Batch N of a seed is always the same:
``--first N --batches 1`` repeats it.
"""

from __future__ import annotations

import argparse
import copy
import functools
import math
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import mmdet_losses  # noqa: F401

# isort: split
import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from mmdet_losses.core import TargetEncoder
from mmdet_losses.registry import MODELS, TASK_UTILS
from tests.cases import DETECTORS, LOSSES

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
COUNTS = (0, 1, 2, 5, 30, 500)
SCALES = (0.1, 1.0, 12.0, 100.0)
IMAGES = 2
WITH_HEAVY_TARGETS = ('CenterTrack', 'CenterNetPose')
"""Their enriched ground truth is slow with 500 objects."""

LINEAR_SCORES = ('YOLOV1',)
"""The network regresses the scores without a sigmoid."""


class Problem(NamedTuple):
    """A batch that failed."""

    batch: int
    subject: str
    reason: str


class Parts(NamedTuple):
    """A detector, and outputs of the right shapes."""

    encoder: TargetEncoder
    criterion: nn.Module
    outputs: tuple


@functools.cache
def detector(stem: str) -> Parts:
    """Encoder and criterion of a stem, with outputs of a new predictor for two images."""
    case = DETECTORS[stem]
    predictor = MODELS.build(case.predictor)
    with torch.no_grad():
        outputs = predictor(tuple(torch.zeros(IMAGES, *shape) for shape in case.feats))
    return Parts(TASK_UTILS.build(case.encoder), MODELS.build(case.criterion), outputs)


def pick(options: tuple[Any, ...], generator: torch.Generator) -> Any:
    """A random element."""
    return options[int(torch.randint(len(options), (), generator=generator))]


def random_boxes(
    count: int, size: tuple[int, int], generator: torch.Generator
) -> tuple[Tensor, int]:
    """Boxes (count, 4), and the number of boxes that cannot have a target."""
    height, width = size
    whole = torch.tensor([width, height])
    low = torch.rand(count, 2, generator=generator) * whole
    boxes = torch.cat((low, low + 1 + torch.rand(count, 2, generator=generator) * whole / 2), 1)
    faults = torch.tensor(
        [
            [math.nan, 5, 40, 40],
            [5, 5, math.inf, 40],
            [-math.inf, -math.inf, math.inf, math.inf],
            [30, 20, 10, 50],
            [20, 20, 20, 40],
            [-90, -80, -40, -30],
            [5.0 * width, 5.0 * height, 6.0 * width, 6.0 * height],
            [-1e9, -1e9, 1e9, 1e9],
            [-3e38, 5, 3e38, 40],
            [1e30, 1e30, 2e30, 2e30],
        ]
    )
    unusual = torch.tensor([[5, 5, 5.001, 5.001], [-2.0 * width, -height, 3.0 * width, 2 * height]])
    kind = torch.randint(0, 4, (count,), generator=generator)  # 2: a fault, 3: unusual but allowed
    wrong, odd = kind == 2, kind == 3
    chosen = torch.randint(len(faults), (count,), generator=generator)
    boxes[wrong] = faults[chosen][wrong]
    boxes[odd] = unusual[chosen % len(unusual)][odd]
    return boxes, int(wrong.sum())


def leaves_like(tree: tuple, generator: torch.Generator) -> tuple[tuple, list[Tensor]]:
    """Random outputs of the shapes of ``tree``, as leaves of a graph."""
    dtype, scale = pick(DTYPES, generator), pick(SCALES, generator)
    leaves = []

    def new(tensor: Tensor) -> Tensor:
        values = scale * torch.randn(tensor.shape, generator=generator)
        leaves.append(values.to(dtype).requires_grad_())
        return leaves[-1]

    return tree_map_only(Tensor, new, tree), leaves


def fuzz_detector(stem: str, generator: torch.Generator) -> str | None:
    """Reason why a random batch of a detector fails; None if it does not."""
    case, parts = DETECTORS[stem], detector(stem)
    size = tuple(int(side) for side in torch.randint(32, 400, (2,), generator=generator))
    most = COUNTS[:-1] if stem in WITH_HEAVY_TARGETS else COUNTS
    gt_instances, wrong, total = [], 0, 0
    for _ in range(IMAGES):
        boxes, faults = random_boxes(pick(most, generator), size, generator)
        labels = torch.randint(0, case.num_classes, (len(boxes),), generator=generator)
        instances = InstanceData(bboxes=boxes, labels=labels)
        case.enrich(instances, generator)
        gt_instances.append(instances)
        wrong, total = wrong + faults, total + len(boxes)
    before = copy.deepcopy(gt_instances)
    outputs, leaves = leaves_like(parts.outputs, generator)
    targets = parts.encoder.encode(gt_instances, parts.encoder.feat_sizes(outputs), size)
    losses = parts.criterion(outputs, targets)
    torch.stack([*losses.values()]).sum().backward()
    dropped = float(parts.encoder.statistics(targets)['num_dropped'])
    with torch.no_grad():
        found = parts.encoder.decode(outputs, size)
    checks = {
        'a target is not finite': all_finite(targets),
        f'{dropped:g} boxes are dropped, but {wrong} of {total} cannot have a target': wrong
        <= dropped
        <= total,
        f'a loss is not finite: { {k: float(v) for k, v in losses.items()} }': all_finite(losses),
        'an output has no gradient': all(leaf.grad is not None for leaf in leaves),
        'a gradient is not finite': all_finite([leaf.grad for leaf in leaves]),
        'a decoded box is not finite': all_finite([each.bboxes for each in found]),
        'a score is outside [0, 1]': all(
            (each.scores.isfinite() if stem in LINEAR_SCORES else is_score(each.scores)).all()
            for each in found
        ),
        'the ground truth is modified': all(
            torch.equal(now.bboxes.nan_to_num(), then.bboxes.nan_to_num())
            for now, then in zip(gt_instances, before, strict=True)
        ),
    }
    return next((reason for reason, holds in checks.items() if not holds), None)


def fuzz_loss(name: str, generator: torch.Generator) -> str | None:
    """Reason why a random batch of a loss fails; None if it does not."""
    case = LOSSES[name]
    make = case.inputs if pick((True, True, False), generator) else case.empty
    inputs = tree_map_only(
        Tensor, lambda each: each.float() if each.is_floating_point() else each, make(generator)
    )
    dtype, scale = pick(DTYPES, generator), pick((*SCALES, 1e30), generator)
    if scale == 1e30 and not name.endswith('IoULoss'):
        scale = 30.0
    for key in case.wrt:
        inputs[key] = (inputs[key] * scale).to(dtype).nan_to_num()
        if name.endswith('IoULoss') and pick((True, False), generator):
            inputs[key] = inputs[key][..., [2, 1, 0, 3]]  # inverted
        inputs[key].requires_grad_()
    reduction = pick(('mean', 'sum'), generator)
    loss = MODELS.build({**case.config, 'reduction': reduction})(**inputs)
    loss.sum().backward()
    if not loss.isfinite().all():
        return f'the loss is {loss.tolist()} ({dtype}, scale {scale:g})'
    if not all_finite([inputs[key].grad for key in case.wrt]):
        return f'a gradient is not finite ({dtype}, scale {scale:g})'
    return None


def is_score(values: Tensor) -> Tensor:
    """Which values are in [0, 1]; NaN is not."""
    return (values >= 0) & (values <= 1)


def all_finite(tree: object) -> bool:
    """Whether every floating-point tensor of a structure is finite."""
    return all(
        bool(each.isfinite().all())
        for each in tree_leaves(tree)
        if isinstance(each, Tensor) and each.is_floating_point()
    )


SUBJECTS = (
    *((fuzz_detector, stem) for stem in sorted(DETECTORS)),
    *((fuzz_loss, name) for name in sorted(LOSSES)),
)


def run(first: int, batches: int, seed: int) -> Iterator[tuple[str, Problem | None]]:
    """Subject and problem of each batch; the subjects take turns."""
    for batch in range(first, first + batches):
        function, name = SUBJECTS[batch % len(SUBJECTS)]
        generator = torch.Generator().manual_seed(seed * 1_000_003 + batch)
        torch.manual_seed(batch)
        try:
            reason = function(name, generator)
        except Exception as error:  # any exception is a failure of the batch
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f'{Path(place.filename).name}:{place.lineno}'
            reason = f'{type(error).__name__} at {where}: {error}'
        yield name, None if reason is None else Problem(batch, name, reason)


def main() -> int:
    """Exit status: 1 after a failure, else 0."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--batches', type=int, default=20_000, help='number of batches')
    parser.add_argument('--first', type=int, default=0, help='number of the first batch')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    warnings.filterwarnings('ignore')
    counts, problems, start = Counter(), [], time.perf_counter()
    for done, (name, problem) in enumerate(run(args.first, args.batches, args.seed), 1):
        counts[name] += 1
        if problem is not None:
            problems.append(problem)
            print(f'batch {problem.batch}, {problem.subject}: {problem.reason}', flush=True)
        if done % max(args.batches // 20, 1) == 0:
            seconds = time.perf_counter() - start
            print(f'{done} batches, {len(problems)} failures, {seconds:.0f} s', flush=True)
    failed = Counter(problem.subject for problem in problems)
    for name in sorted(counts):
        print(f'{name:36} {counts[name]:6} batches {failed[name]:4} failures')
    print(f'{sum(counts.values())} batches, {len(problems)} failures, seed {args.seed}')
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
