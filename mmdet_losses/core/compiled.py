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
MOST_GRAPHS = 256
"""Graphs of all heads: input sizes times buckets. torch.compile raises at its own limit, 8."""


class Annotations:
    """The fields of an image's ``InstanceData``, without its checks, which torch.compile cannot
    trace."""

    def __init__(self, fields: dict[str, Tensor]) -> None:
        for name, value in fields.items():
            setattr(self, name, value)

    def __getitem__(self, key: str | slice) -> Any:
        if isinstance(key, str):
            return getattr(self, key)
        return Annotations({name: value[key] for name, value in vars(self).items()})

    def __contains__(self, name: str) -> bool:
        return name in vars(self)

    def __iter__(self) -> Iterator[str]:
        return iter(vars(self))

    def __len__(self) -> int:
        return self['labels'].shape[0]


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
    present: Sequence[Sequence[str]],
    regions: IgnoredRegions | None,
    sizes: Sequence[Size],
    img_size: Size,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Loss terms and statistics of a batch.

    Args:
        fields: the ground truth, each field (B, M, ...).
        present: names of the fields of each image.
    """
    gt_instances = [
        Annotations({name: fields[name][image] for name in names})
        for image, names in enumerate(present)
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
        fields, present = _padded(gt_instances, slots)
        regions = pad_ignored(ignored, img_size)
        if regions is not None:
            wide = bucket(regions.mask.shape[1])
            regions = IgnoredRegions(*(pad_rows(list(each), wide) for each in regions))
        sizes = encoder.feat_sizes(outputs)
        with torch._dynamo.config.patch(cache_size_limit=MOST_GRAPHS):
            losses, statistics = self.run(
                encoder, criterion, outputs, fields, present, regions, sizes, img_size
            )
        fillers = len(gt_instances) * slots - sum(len(each) for each in gt_instances)
        if 'num_dropped' in statistics:
            statistics = {**statistics, 'num_dropped': statistics['num_dropped'] - fillers}
        return {**losses, **statistics}


def _padded(
    gt_instances: Sequence[InstanceData], slots: int
) -> tuple[dict[str, Tensor], list[list[str]]]:
    """Tensor fields (B, slots, ...), 0 where an image has no object, and the fields' names of each
    image."""
    images = [
        {
            name: get_box_tensor(value) if name == 'bboxes' else value
            for name, value in each.items()
            if name == 'bboxes' or isinstance(value, Tensor)
        }
        for each in gt_instances
    ]
    some = {name: value[:0] for each in images for name, value in each.items()}
    fields = {
        name: pad_rows([each.get(name, empty) for each in images], slots)
        for name, empty in some.items()
    }
    return fields, [list(each) for each in images]
