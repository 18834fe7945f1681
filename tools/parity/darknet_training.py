"""Training steps of darknet's programs against the same steps through MMEngine's runner.

The cfg of a case becomes a config by :func:`~mmdet_losses.detectors.yolo.import_cfg`: network,
encoder, criterion, optimizer, accumulation and schedule. Only the images, the ground truth and the
number of iterations come from the case. Training is in float64.

Cases of the unmodified CPU programs (``*_cpu``) are not compared: their batch norm, and in
AlexeyAB's program the update too, differ from the GPU programs that the published weights come
from. The golden data's README lists the differences. ``*_cudnn`` cases have them undone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import Tensor, nn

from mmdet_losses.detectors.yolo.contracts import GridOutputsT, GridTargets
from mmdet_losses.detectors.yolo.darknet_cfg import Section, parse_cfg
from mmdet_losses.detectors.yolo.darknet_files import read_darknet_weights
from mmdet_losses.detectors.yolo.darknet_import import import_cfg
from mmdet_losses.detectors.yolo.grids import grid_boxes, object_slots
from mmdet_losses.detectors.yolo.maps import split_level, take_cells
from mmdet_losses.ops import darknet_iou
from mmdet_losses.registry import MODELS
from tools.parity.darknet import darknet_data, head_output
from tools.parity.golden import Case, Check
from tools.parity.rows import Row
from tools.parity.training import Images, Prepared, Recorder, run_training, sample_of
from tools.parity.yolo import printed_values

STEP, ROUNDING, SMALL = 1e-2, 3e-7, 1e-6
"""Tolerances of the golden data's README: of a step, in root mean squares of the layer's step;
rounding of a parameter; the part of a parameter's norm below which steps are not compared."""
NORM = 1e-5
"""Relative tolerance of norms; its README finds 4e-6 between the programs and a float64 run."""
TINY = 1e-12
"""Least tolerance, for parameters that are all zero."""
LOSS, MAP = 1e-4, 1e-3
"""Relative tolerance of cost and loss; absolute one of outputs and deltas, as for real networks."""
CPU = (
    "darknet's CPU training differs from the GPU training of the published weights: other batch "
    "norm, and in AlexeyAB's program no batch norm shifts and old gradients"
)
NAMES = {
    'weights': 'conv.weight',
    'scales': 'bn.weight',
    'rolling_mean': 'bn.running_mean',
    'rolling_variance': 'bn.running_var',
}
"""darknet's name of a parameter -> ours; ``biases`` are ``bn.bias`` or ``conv.bias``."""


class Step(NamedTuple):
    """A mini-batch: what the layers received and what they computed."""

    inputs: list[Tensor]
    deltas: list[Tensor]
    cost: list[float]
    printed: list[Tensor]


def training(case: Case) -> None:
    """Rates, losses and parameters of a ``_cudnn`` case."""
    case.skip('names of the images, which are in the file', 'pict*')
    if not case.name.endswith('_cudnn'):
        case.skip(CPU, *(key for key in case.keys if case.keys[key] != key))
        return
    layers = parse_cfg(str(case['cfg']))[1:]  # the first section is [net]
    convs = [index for index, layer in enumerate(layers) if layer.type == 'convolutional']
    case.compare('conv_layers', np.array(convs))
    with tempfile.TemporaryDirectory() as folder:
        run = train(case, _start(case), Path(folder))
    _compare_steps(case, run)
    _compare_parameters(case, run)


def _start(case: Case) -> Case | Path:
    """The case of the file that has the whole start of ``case``, or the official checkpoint."""
    for other in case.file:
        full = other.names('it0_*_full_*')
        same = full and np.array_equal(other['conv_layers'], case['conv_layers'])
        if same and np.array_equal(other['it0_weights_sample'], case['it0_weights_sample']):
            return other
    name = case.file.name.removeprefix('train_').replace('_', '-')
    return darknet_data(case.file.path) / f'{name}.weights'


# ----------------------------------------------------------------------------------- training


def train(case: Case, start: Case | Path, folder: Path) -> Layers:
    """Train the network of a case; the states are numbered by updates."""
    torch.manual_seed(0)
    text = str(case['cfg'])
    parts = import_cfg(text, 'redmon' if case['printed'].shape[-1] == 7 else 'alexeyab').parts
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(parts['model'])
    load(model, start)
    model.double().data_preprocessor = Prepared()
    model.bbox_head.encoder.encode = partial(listed_targets, model.bbox_head.encoder.assign)
    batch, subdivisions = case.number('batch'), case.number('subdivisions')
    total = case.number('iterations') * subdivisions
    parts['train_cfg'].update(max_iters=total, val_interval=10**9)
    heads = [section for section in parse_cfg(text) if section.type == 'yolo']
    layers = Layers(model, heads, case['snapshots'].tolist(), subdivisions)
    pixels, rows = case.tensor('image_u8'), case.tensor('truth').double()
    images = Images(partial(_item, pixels, rows), range(len(pixels)))
    run_training(model, parts, images, total * batch, batch, folder / case.name, layers)
    layers.states = {step // subdivisions: state for step, state in layers.states.items()}
    return layers


def load(model: nn.Module, start: Case | Path) -> None:
    """Put the start of a case into a network."""
    if isinstance(start, Path):
        holder = nn.ModuleDict({'backbone': model.backbone})
        holder.load_state_dict(read_darknet_weights(start, holder, ('backbone',)), strict=False)
        return
    state = model.state_dict()
    for key in start.names('it0_*_full_*'):
        kind, _, layer = key.removeprefix('it0_').partition('_full_')
        own = state[parameter_name(state, kind, int(layer))]
        own.copy_(start.tensor(key).view_as(own))


def parameter_name(state: dict[str, Tensor], kind: str, layer: int) -> str:
    """Our name of a parameter of darknet."""
    prefix = f'backbone.layers.{layer}.layer.'
    if kind == 'biases':
        kind = 'bn.bias' if f'{prefix}bn.bias' in state else 'conv.bias'
    return prefix + NAMES.get(kind, kind)


def listed_targets(
    assign: Any, gt_instances: list, feat_sizes: list, img_size: tuple
) -> GridTargets:
    """Targets of the rows that the layer was given.

    The official driver bypassed the loader, which would clip the boxes to the image.
    """
    rows = torch.stack([each.rows for each in gt_instances])
    mask = (rows[..., 0] != 0).int().cumprod(1).bool()
    boxes = torch.where(mask[..., None], rows[..., :4], 0)
    return assign(boxes, rows[..., 4].long() * mask, mask, feat_sizes, img_size)


def _item(pixels: Tensor, rows: Tensor, number: int) -> dict:
    image = (pixels[number].float() / 255).double()
    return dict(inputs=image, data_samples=sample_of(image, rows=rows[number]))


class Layers(Recorder):
    """Keeps the inputs, gradients and numbers of the detection layers, too."""

    def __init__(
        self, model: nn.Module, heads: list[Section], snapshots: list[int], subdivisions: int
    ) -> None:
        super().__init__([number * subdivisions for number in snapshots])
        self.heads, self.subdivisions = heads, subdivisions
        self.steps: list[Step] = []
        self.criterion = model.bbox_head.criterion
        self.criterion.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: tuple, losses: dict) -> None:
        self.outputs, self.targets = inputs
        for level in self.outputs.levels:
            level.retain_grad()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """What the layers computed."""
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        levels = self.outputs.levels
        divisor = len(levels[0]) * self.subdivisions
        deltas = [-divisor * level.grad for level in levels]
        numbers = [self._layer(i, delta.double()) for i, delta in enumerate(deltas)]
        cost, printed = [float(cost) for cost, _ in numbers], [printed for _, printed in numbers]
        self.steps.append(Step([level.detach() for level in levels], deltas, cost, printed))

    def _layer(self, index: int, delta: Tensor) -> tuple[Tensor, Tensor]:
        """Cost of a detection layer, and the numbers that it prints."""
        level, target = self.outputs.levels[index].detach(), self.targets.levels[index]
        slots = object_slots(target, self.targets)
        if self.criterion.code == 'redmon':
            raw = split_level(level, len(target.grid.anchors))
            after = head_output(self.heads[index], level)
            return delta.square().sum(), printed_values(slots, raw, after, (0.5, 0.75))
        return alexeyab_numbers(self.criterion, self.outputs, self.targets, index, delta)


def alexeyab_numbers(
    criterion: nn.Module, outputs: GridOutputsT, targets: GridTargets, index: int, delta: Tensor
) -> tuple[Tensor, Tensor]:
    """Cost and printed numbers of AlexeyAB's [yolo] layer.

    With an IoU loss, the cost is the mean IoU loss of the objects and the squared deltas of
    objectness and classes.
    """
    level, target = outputs.levels[index].detach(), targets.levels[index]
    slots, count = object_slots(target, targets), len(target.grid.anchors)
    raw = split_level(level, count)
    squares = delta.square().unflatten(1, (count, -1))
    total, boxes = squares.sum(), squares[:, :, :4].sum()
    options = criterion.options_of(index, len(outputs.levels))
    rest = (total - boxes) * options.obj_normalizer
    cost = total
    if criterion.box != 'mse':
        cost = _box_cost(criterion, outputs, targets, index) + rest
    decoded = torch.cat(grid_boxes(raw, target.grid), 2)
    iou = darknet_iou(take_cells(decoded, slots.index), slots.boxes)[slots.mask]
    parts = torch.stack((rest, total - rest, total)) / len(level)
    mean = torch.stack((iou.mean(), slots.mask.sum().to(iou)))
    return cost, torch.cat((mean, parts))


def _box_cost(
    criterion: nn.Module, outputs: GridOutputsT, targets: GridTargets, index: int
) -> Tensor:
    """IoU loss of one map: that of all maps where the other ones have no object."""
    levels = tuple(
        level if i == index else level._replace(positive=torch.zeros_like(level.positive))
        for i, level in enumerate(targets.levels)
    )
    losses = criterion.forward(outputs, targets._replace(levels=levels))  # without the hook
    return losses['loss_box'].detach() * len(outputs.levels[0])  # the criterion divides by images


# --------------------------------------------------------------------------------- comparison


def _compare_steps(case: Case, run: Layers) -> None:
    """Rates, counters, losses and printed numbers; inputs and deltas of the first mini-batch."""
    steps, subdivisions, batch = run.steps, run.subdivisions, case.number('batch')
    updates = np.arange(1, len(steps) // subdivisions + 1)
    cost = np.array([step.cost for step in steps]).reshape(len(updates), subdivisions, -1)
    loss = cost.mean(2).sum(1) / (subdivisions * batch)
    average = [loss[0]]
    for value in loss:
        average.append(0.9 * average[-1] + 0.1 * value)
    case.compare('rate', np.array(run.lr[::subdivisions])[:, 0], each=1e-6)
    case.table({'batch_num': updates, 'seen': updates * subdivisions * batch})
    losses = {'cost': cost, 'loss': loss, 'avg_loss': np.array(average[1:])}
    case.table(losses, 0.0, each=LOSS)
    printed = torch.stack([torch.stack(step.printed) for step in steps]).double().numpy()
    case.compare('printed', printed.reshape(case['printed'].shape), each=LOSS, atol=LOSS)
    for i, head in enumerate(case['head_layers']):
        maps = {'head_input': steps[0].inputs[i], 'delta': steps[0].deltas[i]}
        table = {f'{key}_it1_{head}': value.flatten(1)[:, ::11] for key, value in maps.items()}
        case.table(table, 0.0, atol=MAP)


def _compare_parameters(case: Case, run: Layers) -> None:
    """One row per snapshot and kind of parameter; errors in units of their tolerance."""
    for number in case['snapshots'].tolist():
        for kind in (*NAMES, 'biases'):
            errors = list(_errors(case, run, number, kind))
            if not errors:
                continue  # no layer has such parameters
            worst = float(np.max(errors))  # NaN if any of them is
            label = case.label(f'{kind} after {number}')
            text = f'{STEP:g} of a step + {ROUNDING:g}'
            case.add(Row(case.file.name, label, worst, worst, text, worst <= 1, worst))


def _errors(case: Case, run: Layers, number: int, kind: str) -> Iterator[float]:
    """Errors of one kind of parameter of every layer after ``number`` updates."""
    start, now = run.states[0], run.states[number]

    def golden(key: str) -> np.ndarray:
        key = f'it{number}_{kind}_{key}'
        case.file.compared.add(case.keys[key])
        return case[key]

    for row, layer in enumerate(case[f'layers_{kind}'].tolist()):
        name = parameter_name(now, kind, layer)
        value, change = now[name].flatten(), (now[name] - start[name]).flatten()
        norm, step = float(golden('l2')[row]), 0.0
        yield abs(float(value.norm()) - norm) / max(NORM * norm, TINY)
        if number:
            step = float(golden('diff_l2')[row])
            yield abs(float(change.norm()) - step) / max(STEP * step + SMALL * norm, TINY)
        sample = golden('sample')[row]
        limit = STEP * step / len(value) ** 0.5 + ROUNDING * np.abs(sample).max()
        given = [(value[case[f'index_{kind}'][row]], sample)]
        if f'it{number}_{kind}_full_{layer}' in case:
            given.append((value, golden(f'full_{layer}')))
        for got, want in given:
            yield float(np.abs(got.numpy() - want).max() / max(limit, TINY))


CHECKS: dict[str, Check] = {'train_': training}
