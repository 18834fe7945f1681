"""Encoding and criterion as one compiled graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from mmdet.structures.bbox import get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.core.ignored import Ignored, IgnoredRegions, encode_batch, pad_ignored
from mmdet_losses.core.padding import pad_rows
from mmdet_losses.core.types import Size

SMALLEST_BUCKET = 16


class Annotations:
    """The fields of an image's ``InstanceData``, without its checks, which torch.compile cannot
    trace."""

    def __init__(self, fields: dict[str, Tensor]) -> None:
        self.fields = fields

    def __getattr__(self, name: str) -> Tensor:
        if name == 'fields' or name not in self.fields:
            raise AttributeError(name)
        return self.fields[name]

    def __getitem__(self, name: str) -> Tensor:
        return self.fields[name]

    def __contains__(self, name: str) -> bool:
        return name in self.fields

    def __iter__(self) -> Iterator[str]:
        return iter(self.fields)

    def __len__(self) -> int:
        return self.fields['labels'].shape[0]


def bucket(count: int) -> int:
    """Number of slots for ``count`` objects: 16, 32, 64, ...

    Example:
        >>> bucket(0), bucket(16), bucket(17)
        (16, 16, 32)
    """
    return max(SMALLEST_BUCKET, 1 << (count - 1).bit_length() if count > 1 else 1)


def encode_and_compare(
    encoder: Any,
    criterion: Any,
    outputs: tuple,
    fields: dict[str, Tensor],
    regions: IgnoredRegions | None,
    sizes: Sequence[Size],
    img_size: Size,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Loss terms and statistics of a batch.

    Args:
        fields: the ground truth, each field (B, M, ...).
    """
    images = len(fields['labels'])
    gt_instances = [
        Annotations({name: value[image] for name, value in fields.items()})
        for image in range(images)
    ]
    targets = encode_batch(encoder, gt_instances, sizes, img_size, regions)
    return criterion(outputs, targets), encoder.statistics(targets)


class CompiledLoss:
    """:func:`encode_and_compare`, compiled once per input size and bucket of object counts.

    The ground truth is padded with empty boxes, which every encoder drops, to the next bucket.
    Shapes, and the addresses of the graph's buffers, then do not depend on the number of objects.

    Args:
        options: of ``torch.compile``.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self.run: Callable[..., Any] = torch.compile(
            encode_and_compare, fullgraph=True, dynamic=False, **options
        )

    def __call__(
        self,
        encoder: Any,
        criterion: Any,
        outputs: tuple,
        gt_instances: Sequence[InstanceData],
        img_size: Size,
        ignored: Ignored,
    ) -> dict[str, Tensor]:
        """Loss terms and statistics of a batch."""
        slots = bucket(max(len(each) for each in gt_instances))
        fields = _padded(gt_instances, slots)
        regions = pad_ignored(ignored, img_size)
        if regions is not None:
            wide = bucket(regions.mask.shape[1])
            regions = IgnoredRegions(*(pad_rows(list(each), wide) for each in regions))
        sizes = encoder.feat_sizes(outputs)
        losses, statistics = self.run(encoder, criterion, outputs, fields, regions, sizes, img_size)
        fillers = len(gt_instances) * slots - sum(len(each) for each in gt_instances)
        if 'num_dropped' in statistics:
            statistics = {**statistics, 'num_dropped': statistics['num_dropped'] - fillers}
        return {**losses, **statistics}


def _padded(gt_instances: Sequence[InstanceData], slots: int) -> dict[str, Tensor]:
    """Fields that all images have, (B, slots, ...), 0 beyond the objects of an image."""
    names = [
        name for name, _ in gt_instances[0].items() if all(name in each for each in gt_instances)
    ]
    fields = {}
    for name in names:
        rows = [each[name] for each in gt_instances]
        if name == 'bboxes':
            rows = [get_box_tensor(each) for each in rows]
        if all(isinstance(each, Tensor) for each in rows):
            fields[name] = pad_rows(rows, slots)
    return fields
