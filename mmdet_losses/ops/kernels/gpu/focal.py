"""Focal losses on a GPU: value and gradient of a whole map in a few launches.

A float32 map is read once and its gradient written once, in the forward pass; the backward pass
multiplies the gradient only if its factor is not the expected one. A map in half precision is read
again in the backward pass, so the gradient is rounded once, after multiplication by the scale of
the loss.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmdet_losses.ops.kernels.gpu.focal_kernels import (
    finish_kernel,
    map_kernel,
    rescale_kernel,
    splat_kernel,
)
from mmdet_losses.ops.kernels.gpu.object_kernel import object_kernel
from mmdet_losses.ops.kernels.heatmap_focal import Bounds, graph_is_retained
from mmdet_losses.ops.kernels.launch import ExpectedGradient, bytes_of, launch
from mmdet_losses.ops.reduce import EPS
from mmdet_losses.ops.splats import Splats

BLOCK = 2048
SPLATS = 1024
OBJECTS = 64


class _Problem(NamedTuple):
    """All inputs of a loss except the logits."""

    kind: str
    target: Tensor | None
    splats: Splats | None
    weight: Tensor | None
    steps: tuple[int, ...]
    """Number of cells that share the outer index, and the strides of the weights."""
    divisor: Tensor | float | None
    per_image: bool
    focus: float
    balance: float
    bounds: Bounds
    images: int
    objects: tuple[Tensor, Tensor | None] | None = None
    """Flat cells (n,) that are positives beside the target, and their factors."""


def heatmap_focal(
    logits: Tensor,
    target: Tensor | Splats,
    weight: Tensor | None,
    alpha: float,
    beta: float,
    bounds: Bounds,
    divisor: Tensor | float | None,
    per_image: bool = False,
    objects: tuple[Tensor, Tensor | None] | None = None,
) -> Tensor:
    """Sum of :func:`~mmdet_losses.ops.kernels.heatmap_focal_cost` times ``weight``, divided.

    Shape:
        logits: (B, C, H, W), or (N, C) as one image.
        target: the same shape, or listed splats of it.
        weight: the same shape, also expanded, or None.
        Returns a scalar.

    Args:
        divisor: None divides by the number of positives of the splats.
        per_image: then each image is divided by its own, and the mean over the images returned.
        objects: more positives: their flat cells (n,), which may repeat, and their factors.
    """
    logits = logits.contiguous()
    images = len(logits) if logits.dim() > 2 else 1
    steps: tuple[int, ...] = (logits.numel(), 0, 0, 1)
    if weight is not None:
        if logits.dim() == 4 and weight.stride()[2:] == (logits.shape[3], 1):
            steps = (logits[0, 0].numel(), *weight.stride()[:2], 1)
        else:
            weight = weight.contiguous()
            steps = (logits.numel(), logits.numel() // images, 0, 1)
    if isinstance(target, Splats):
        splats, kind, dense = target, 'background', None
    else:
        splats, kind, dense = None, 'dense', target.contiguous()
    options = (divisor, per_image, alpha, beta, bounds, images, objects)
    return _Focal.apply(logits, _Problem(kind, dense, splats, weight, steps, *options))


def class_focal(
    x: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    alpha: float,
    gamma: float,
    divisor: Tensor | float,
) -> Tensor:
    """Sum of :func:`~mmdet_losses.ops.kernels.class_focal_cost` times ``weight``, divided.

    Shape:
        x: (..., C). labels: (...) int64. weight: (..., 1) or (..., C), or None. Returns a scalar.
    """
    x, classes = x.contiguous(), x.shape[-1]
    steps = (classes, 0, 0, 0)
    if weight is not None:
        rows = weight.shape[-1] == 1
        weight = weight.contiguous()
        steps = (classes, 0, 1, 0) if rows else (classes, 0, classes, 1)
    options = (divisor, False, gamma, alpha, None, 1)
    problem = _Problem('labels', labels.contiguous(), None, weight, steps, *options)
    return _Focal.apply(x, problem)


class _Focal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, problem: _Problem) -> Tensor:
        folded = logits.dtype == torch.float32 and ctx.needs_input_grad[0]
        slopes = torch.empty_like(logits) if folded else None
        ctx.expected = (ExpectedGradient.current or 1.0) if folded else 1.0
        run = _Run(logits.detach(), problem, ctx.expected)
        total = run.forward(slopes)
        ctx.slopes, ctx.run = slopes, None if folded else run
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """The slopes of the forward pass, times ``grad`` if that is not the expected factor."""
        if ctx.slopes is None:
            return ctx.run.backward(grad), None
        slopes = ctx.slopes
        if graph_is_retained():
            slopes = slopes.clone()
        grid = (triton.cdiv(slopes.numel(), BLOCK),)
        launch(
            rescale_kernel, grid, grad, slopes, slopes.numel(), ctx.expected, BLOCK=BLOCK, moved=4
        )
        return slopes, None


class _Run:
    """The launches of one loss.

    Args:
        x: contiguous logits.
        expected: see :class:`~mmdet_losses.ops.kernels.launch.ExpectedGradient`.
    """

    def __init__(self, x: Tensor, problem: _Problem, expected: float) -> None:
        self.x, self.problem, self.expected = x, problem, expected
        self.cells = x.numel() // problem.images
        low, high = problem.bounds or (0.0, 0.0)
        divisor = problem.divisor
        self.divisor, inverse = None, 1.0
        if isinstance(divisor, Tensor):
            self.divisor, divide = divisor.to(x.device), 'tensor'
        elif divisor is not None:
            divide, inverse = 'number', 1 / max(divisor, EPS)
        else:
            divide = 'positives_per_image' if problem.per_image else 'positives'
        splats = problem.splats
        self.index = None if splats is None else splats.index
        self.value = None if splats is None else splats.value
        entries = 0 if splats is None else splats.index.numel()
        self.entries = entries
        # few rows, because every program of the map adds them up
        self.row = min(max(triton.next_power_of_2(triton.cdiv(entries, 128)), 256), 8192)
        self.rows = triton.cdiv(entries, self.row)
        self.costs = self.counts = None
        if entries:
            self.costs = x.new_empty((self.rows, problem.images), dtype=torch.float32)
            self.counts = torch.empty_like(self.costs, dtype=torch.int32)
        elif divide.startswith('positives'):
            divide = 'number'  # without splats nothing is positive
            inverse = 1 / (problem.images if problem.per_image else 1)
        self.place: Tensor | None = None
        self.factor: Tensor | None = None
        if problem.objects is not None:
            self.place, self.factor = problem.objects
        self.objects = 0 if self.place is None else self.place.numel()
        self.layout = (self.cells, *problem.steps)
        self.scaling = (self.rows, problem.images, inverse)
        self.range = (low, high)
        self.formula: dict[str, Any] = {
            'FOCUS': float(problem.focus),
            'BALANCE': float(problem.balance),
            'BOUNDED': problem.bounds is not None,
            'WEIGHTED': problem.weight is not None,
            'IMAGES': triton.next_power_of_2(problem.images),
        }
        self.divide = divide

    def forward(self, slopes: Tensor | None) -> Tensor:
        """The divided total; writes its slopes unless None."""
        x, problem = self.x, self.problem
        if self.entries:
            launch(
                *(splat_kernel, (self.rows,), x, self.index, self.value, problem.weight),
                *(self.costs, self.counts, self.entries, *self.layout, problem.images),
                *self.range,
                **self.formula,
                BLOCK=self.row,
                moved=self.entries * (12 + x.element_size()),
            )
        blocks = problem.images * triton.cdiv(self.cells, BLOCK)
        sums = x.new_empty(blocks + triton.cdiv(self.objects, OBJECTS), dtype=torch.float32)
        total = x.new_empty((), dtype=torch.float32)
        self._map(None, slopes, sums)
        self._objects(None, None, sums[blocks:])
        self._finish(None, slopes, sums, total)
        self._objects(None, slopes, None)
        return total

    def backward(self, grad: Tensor) -> Tensor:
        """Slopes of the divided total times ``grad``."""
        slopes = torch.empty_like(self.x)
        self._map(grad, slopes, None)
        if self.entries:
            self._finish(grad, slopes, None, None)
        self._objects(grad, slopes, None)
        return slopes

    def _map(self, grad: Tensor | None, slopes: Tensor | None, sums: Tensor | None) -> None:
        problem = self.problem
        launch(
            *(map_kernel, (triton.cdiv(self.cells, BLOCK), problem.images)),
            *(self.x, problem.target, problem.weight, self.divisor, self.counts, grad),
            *(slopes, sums, *self.layout, *self.scaling, *self.range, self.expected),
            KIND=problem.kind,
            DIVIDE=self.divide,
            GRAD=grad is not None,
            SUMS=sums is not None,
            SLOPES=slopes is not None,
            **self.formula,
            BLOCK=BLOCK,
            num_warps=8,
            moved=bytes_of(self.x, problem.target, problem.weight, slopes),
        )

    def _finish(
        self,
        grad: Tensor | None,
        slopes: Tensor | None,
        sums: Tensor | None,
        total: Tensor | None,
    ) -> None:
        problem = self.problem
        programs = 0 if slopes is None else triton.cdiv(self.entries, SPLATS)
        launch(
            *(finish_kernel, (programs + (sums is not None),)),
            *(self.x, self.index, self.value, problem.weight, self.divisor, self.counts, grad),
            *(sums, self.costs, slopes, total, self.entries),
            *(
                0 if sums is None else sums.numel(),
                *self.layout,
                *self.scaling,
                *self.range,
                self.expected,
            ),
            DIVIDE=self.divide,
            GRAD=grad is not None,
            SUMS=sums is not None,
            SLOPES=programs > 0,
            **self.formula,
            BLOCK=SPLATS,
            moved=self.entries * (12 + 2 * self.x.element_size()),
        )

    def _objects(self, grad: Tensor | None, slopes: Tensor | None, sums: Tensor | None) -> None:
        if not self.objects or (slopes is None and sums is None):
            return
        launch(
            *(object_kernel, (triton.cdiv(self.objects, OBJECTS),)),
            *(self.x, self.place, self.factor, self.divisor, grad, slopes, sums),
            *(self.objects, self.scaling[-1], *self.range, self.expected),
            FOCUS=self.formula['FOCUS'],
            BOUNDED=self.formula['BOUNDED'],
            DIVIDE=self.divide,
            GRAD=grad is not None,
            FACTORS=self.factor is not None,
            SUMS=sums is not None,
            SLOPES=slopes is not None,
            BLOCK=OBJECTS,
            moved=self.objects * (12 + 3 * self.x.element_size()),
        )
