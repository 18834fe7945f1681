"""Inputs of the losses in the contract tests: random values in float64, with or without objects."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from mmdet_losses.ops import Splats


def heatmap_target(positives: bool = True) -> Tensor:
    """(2, 3, 8, 10) heatmap with two peaks, or without peaks."""
    target = torch.zeros(2, 3, 8, 10, dtype=torch.float64)
    if positives:
        target[0, 1, 2:5, 3:6], target[1, 2, 6, 7] = 0.4, 1.0
        target[0, 1, 3, 4] = 1.0
    return target


def heatmap_inputs(generator: torch.Generator, positives: bool = True) -> dict:
    """Random logits, and :func:`heatmap_target`."""
    pred = torch.randn(2, 3, 8, 10, dtype=torch.float64, generator=generator)
    return {'pred': pred, 'target': heatmap_target(positives)}


def slot_inputs(generator: torch.Generator, depth: int = 2, positives: bool = True) -> dict:
    """Random (2, 5, depth) predictions and targets; three of ten slots have objects."""
    pred, target = torch.randn(2, 2, 5, depth, dtype=torch.float64, generator=generator)
    mask = torch.zeros(2, 5, dtype=torch.bool)
    mask[0, :2] = mask[1, 4] = positives
    return {'pred': pred, 'target': target, 'weight': mask}


def weighted_inputs(generator: torch.Generator, positives: bool = True) -> dict:
    """Same as :func:`slot_inputs`, with a weight per value instead of a mask."""
    inputs = slot_inputs(generator, positives=positives)
    mask = inputs['weight'][..., None]
    weight = torch.rand(inputs['pred'].shape, dtype=torch.float64, generator=generator)
    return {**inputs, 'weight': weight * mask}


def gathered_inputs(generator: torch.Generator, positives: bool = True) -> dict:
    """Same as :func:`heatmap_inputs`, with the objects; two of them have the same cell."""
    return {
        **heatmap_inputs(generator, positives),
        'index': torch.tensor([[34, 34, 0], [67, 0, 0]]),
        'labels': torch.tensor([[1, 1, 0], [2, 0, 0]]),
        'mask': torch.tensor([[True, True, False], [True, False, False]]) & positives,
    }


def without_objects(inputs: Callable[..., dict]) -> Callable[[torch.Generator], dict]:
    """Function that returns the same inputs without objects."""
    return lambda generator: inputs(generator, positives=False)


def box_inputs(generator: torch.Generator, positives: bool = True) -> dict:
    """Random (12, 4) xyxy boxes in pixels, or none; a third of the pairs do not overlap."""
    shape = (2, 12 if positives else 0, 2)
    low = 40 * torch.rand(shape, dtype=torch.float64, generator=generator)
    size = 5 + 30 * torch.rand(shape, dtype=torch.float64, generator=generator)
    pred, target = torch.cat((low, low + size), -1)
    return {'pred': pred, 'target': target}


def prior_inputs(generator: torch.Generator, positives: bool = True) -> dict:
    """Random (2, 20, 4) logits of three classes and the background; five priors are positive."""
    labels = torch.full((2, 20), 3)
    if positives:
        labels[0, 2:5], labels[1, 7:9] = torch.tensor([0, 2, 1]), torch.tensor([1, 1])
    pred = torch.randn(2, 20, 4, dtype=torch.float64, generator=generator)
    return {'pred': pred, 'labels': labels}


def anchor_inputs(generator: torch.Generator, positives: bool = True) -> dict:
    """:func:`prior_inputs` without a background logit, every fourth anchor ignored."""
    inputs = prior_inputs(generator, positives)
    counted = torch.arange(20).expand(2, 20) % 4 != 0
    return {'pred': inputs['pred'][..., :3], 'target': inputs['labels'], 'weight': counted}


def splats_of(dense: Tensor) -> Splats:
    """Sparse form of a dense heatmap."""
    index = dense.flatten().nonzero()[:, 0]
    return Splats(index, dense.flatten()[index].float(), tuple(dense.shape))


class NoHostCopies(TorchFunctionMode):
    """Raises when values are copied from the host to another device."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.device.type != 'cpu':
            made = func in (torch.tensor, torch.as_tensor, Tensor.new_tensor)
            moved = (
                func in (Tensor.to, Tensor.cuda, Tensor.type_as) and args[0].device.type == 'cpu'
            )
            assert not (made or moved), (
                f'{func.__name__} copies values from the host, which synchronises'
            )
        return result
