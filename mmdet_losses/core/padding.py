"""Padding: the ground truth of a batch as tensors of one shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmdet.structures.bbox import get_box_tensor
from mmengine.logging import print_log
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.core.types import Size
from mmdet_losses.ops import BoxRule, box_size, constant, made_once, usable_objects

LARGEST_SIDE = 100
"""Side of the largest box that can have a target, in sides of the network input."""


class PaddedInstances(NamedTuple):
    """Padded ground truth of a batch: slot m of image b is its m-th annotation."""

    boxes: Tensor
    """(B, M, 4) float32 xyxy in input pixels, zero where ``real`` is false."""
    labels: Tensor
    """(B, M) int64, zero where ``real`` is false."""
    real: Tensor
    """(B, M) bool; false in the padding."""
    left_out: int
    """Annotations of the batch beyond ``max_objects`` of their image."""
    count: int  # type: ignore[assignment]  # replaces tuple.count
    """Annotations of the batch."""
    weights: Tensor | None = None
    """(B, M) float32 factors of the objects' costs; None without."""

    def valid(self, num_classes: int, img_size: Size) -> Tensor:
        """(B, M) bool: boxes of a possible size that are not empty, with labels in 0 ... C-1."""
        size = box_size(self.boxes)
        return ((size > 0) & is_possible(size, img_size)).all(-1) & self.known(num_classes)

    def usable(self, num_classes: int, rule: BoxRule) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes on the map, labels, and the annotations that can have a target.

        See :func:`~mmdet_losses.ops.kernels.usable.usable_objects`.
        """
        return usable_objects(self.boxes, self.labels, self.real, num_classes, rule)

    def known(self, num_classes: int) -> Tensor:
        """(B, M) bool: annotations with labels in 0 ... C-1."""
        return self.real & (self.labels == self.labels.clamp(0, num_classes - 1))


def pad_instances(
    gt_instances: Sequence[InstanceData], max_objects: int | None = None
) -> PaddedInstances:
    """Padded instances of a batch, at most ``max_objects`` per image.

    Args:
        gt_instances: one ``InstanceData`` per image, with ``bboxes`` (n, 4), ``labels`` (n,) and
            optional ``weights`` (n,).
        max_objects: limit per image. Annotations beyond it are dropped, with one warning. ``None``
            keeps all.

    Returns:
        Instances with M = the largest number of instances per image (at least 1). A label that is
        not a whole number is of no class.

    Raises:
        ValueError: boxes or labels of another shape.
    """
    boxes = [get_box_tensor(instances.bboxes).detach() for instances in gt_instances]
    labels = [instances.labels for instances in gt_instances]
    _check_shapes(boxes, labels)
    counts = [len(each) for each in boxes]
    most = max([0, *counts])
    if max_objects is not None and most > max_objects:
        _warn_once(most, max_objects)
        boxes = [each[:max_objects] for each in boxes]
        labels = [each[:max_objects] for each in labels]
        most = max_objects
    slots = max(most, 1)
    return PaddedInstances(
        boxes=pad_rows(boxes, slots).float(),
        labels=_whole(pad_rows(labels, slots)),
        real=_real_slots([len(each) for each in labels], slots, labels[0].device),
        left_out=sum(counts) - sum(len(each) for each in boxes),
        count=sum(counts),
        weights=_object_weights(gt_instances, slots),
    )


def _check_shapes(boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> None:
    for image, (box, label) in enumerate(zip(boxes, labels, strict=True)):
        if box.shape != (len(label), 4) or label.dim() != 1:
            raise ValueError(
                f'image {image} of the batch has bboxes of shape {tuple(box.shape)} and labels of '
                f'shape {tuple(label.shape)}; give (n, 4) xyxy and (n,) class numbers.'
            )


def _whole(labels: Tensor) -> Tensor:
    """Labels as int64; those that are no whole numbers become a number above every class."""
    if labels.is_floating_point():
        above = torch.iinfo(torch.int32).max
        whole = (labels == labels.round()) & (labels.abs() < above)
        labels = torch.where(whole, labels.double(), above)
    return labels.long()


def _object_weights(gt_instances: Sequence[InstanceData], slots: int) -> Tensor | None:
    """The field ``weights`` as (B, slots), 1 in images without it; None if no image has it.

    A weight of 0 becomes the smallest float32, so that the object still counts in the divisors.
    """
    if not any('weights' in each for each in gt_instances):
        return None
    rows = [
        each.weights.float() if 'weights' in each else torch.ones_like(each.labels).float()
        for each in gt_instances
    ]
    return pad_rows(rows, slots).clamp(min=torch.finfo(torch.float32).tiny)


def pad_rows(rows: Sequence[Tensor], slots: int) -> Tensor:
    """The first ``slots`` rows (n, ...) of each image, padded with zeros to (B, slots, ...).

    One kernel launch for any number of images.
    """
    zeros = constant(0, rows[0]).expand((slots, *rows[0].shape[1:]))
    parts = [part for each in rows for part in (each[:slots], zeros[len(each) :])]
    return torch.cat(parts).unflatten(0, (len(rows), slots))


def _real_slots(counts: Sequence[int], slots: int, device: torch.device) -> Tensor:
    """(B, slots) bool: the first n slots of each image are true."""
    steps = _steps(slots, device)
    return torch.stack([steps[slots - count : 2 * slots - count] for count in counts])


@made_once()
def _steps(slots: int, device: torch.device) -> Tensor:
    """``slots`` true values, then as many false ones."""
    return torch.arange(2 * slots, device=device) < slots


def split_images(**fields: Tensor) -> list[InstanceData]:
    """One ``InstanceData`` per image, from fields (B, n, ...)."""
    rows = zip(*fields.values(), strict=True)
    return [InstanceData(**dict(zip(fields, each, strict=True))) for each in rows]


def usable_boxes(
    padded: PaddedInstances, img_size: Size, num_classes: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The annotations of a batch that can be learned, without clipping.

    Dropped: boxes that are not finite, empty, inverted, larger than any object or wholly outside
    the image, and labels outside 0 ... C-1.

    Returns:
        boxes (B, M, 4) xyxy pixels, far outside the image where dropped; labels (B, M), 0 where
        dropped; mask (B, M), false where dropped.
    """
    side = float(max(img_size))
    rule = BoxRule(
        limit=(float(img_size[1]), float(img_size[0])),
        largest=largest_sides(img_size),
        region='overlap',
        fill=(-3 * side, -2 * side),
    )
    return padded.usable(num_classes, rule)


def largest_sides(img_size: Size, scale: Sequence[float] = (1.0, 1.0)) -> tuple[float, float]:
    """Largest width and height of a box: :data:`LARGEST_SIDE` inputs, times ``scale``."""
    largest = LARGEST_SIDE * max(img_size)
    return largest * scale[0], largest * scale[1]


def is_possible(size: Tensor, img_size: Size, scale: Sequence[float] = (1.0, 1.0)) -> Tensor:
    """Whether widths and heights (..., 2) are at most :data:`LARGEST_SIDE` inputs: (..., 2) bool.

    A larger side is an error of the annotation. The size of a box with a coordinate that is not
    finite is NaN or infinite, or negative.

    Args:
        scale: factors of x and y from input pixels to the unit of the sizes.
    """
    return size <= constant(largest_sides(img_size, scale), size)


def inside_sides(boxes: Tensor, img_size: Size) -> Tensor:
    """(..., 2) bool: whether x and y of boxes (..., 4) overlap those of an image (h, w)."""
    before_end = boxes[..., :2] < constant([float(img_size[1]), float(img_size[0])], boxes)
    return (boxes[..., 2:] > 0) & before_end


def keep_first(mask: Tensor, max_objects: int) -> Tensor:
    """The first ``max_objects`` true slots of each image; warns once if there may be more.

    Shape:
        mask: (B, M) bool; returns the same shape.
    """
    if mask.shape[1] <= max_objects:
        return mask
    _warn_once(mask.shape[1], max_objects)
    return mask & (mask.cumsum(1) <= max_objects)


_warned: set[int] = set()


def _warn_once(found: int, kept: int) -> None:
    if kept not in _warned and not torch.compiler.is_compiling():
        _warned.add(kept)
        print_log(
            f'An image has {found} objects; its encoder keeps the first {kept} in the order of '
            'the annotations. Increase max_objects to use them all. This is logged once.',
            logger='current',
            level=30,
        )
