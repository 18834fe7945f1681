"""Batches of different sizes per process, as the official codes split them over their GPUs."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

from mmengine.dataset import DefaultSampler
from mmengine.dist import get_dist_info
from torch.utils.data import BatchSampler

from mmdet_losses.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class SplitBatchSampler(BatchSampler):
    """A batch sampler that gives each process its own number of images per iteration.

    Official codes with ``DataParallel`` put fewer images on the first GPU, which also holds the
    outputs: CornerNet 4 of 49, nine others 5 each. Each GPU normalises its own images, the losses
    of the GPUs are averaged equally, and the running statistics are those of the first GPU. With
    this sampler, as many processes as GPUs compute the same: MMEngine averages the gradients of the
    processes equally, and saves the statistics of the first process.

    An iteration takes ``sum(sizes)`` consecutive images of the shuffled order; the images left over
    at the end of an epoch are not used (``drop_last=True`` of the official loaders).

    Args:
        sampler: a ``DefaultSampler``; MMEngine passes it.
        batch_size: MMEngine passes it; not used.
        sizes: images per iteration of each process.

    Raises:
        ValueError: the number of processes is not that of ``sizes``, or a size is below 1.
        TypeError: another sampler.
    """

    def __init__(
        self, sampler: DefaultSampler, batch_size: int = 0, sizes: Sequence[int] = ()
    ) -> None:
        rank, processes = get_dist_info()
        if len(sizes) != processes or min(sizes, default=0) < 1:
            raise ValueError(
                f'sizes={tuple(sizes)} of SplitBatchSampler does not fit a training of {processes} '
                f'processes; start {len(sizes)} processes, or give one positive size per process.'
            )
        if not isinstance(sampler, DefaultSampler):
            raise TypeError(
                f'SplitBatchSampler divides the order of a DefaultSampler, not of a '
                f'{type(sampler).__name__}; set train_dataloader.sampler.type=DefaultSampler.'
            )
        self._order: DefaultSampler = sampler
        self.sampler = sampler  # MMEngine sets its epoch
        self.sizes = tuple(int(size) for size in sizes)
        self.batch_size, self.drop_last = self.sizes[rank], True
        self.first = sum(self.sizes[:rank])

    def __iter__(self) -> Iterator[list[int]]:
        """Indices of the images of this process, one list per iteration."""
        whole = copy.copy(self._order)  # of all processes
        whole.rank, whole.world_size = 0, 1
        whole.total_size = whole.num_samples = len(whole.dataset)
        order = list(whole)
        for start in range(0, len(self) * sum(self.sizes), sum(self.sizes)):
            yield order[start + self.first :][: self.batch_size]

    def __len__(self) -> int:
        """Iterations of an epoch."""
        return len(self._order.dataset) // sum(self.sizes)
