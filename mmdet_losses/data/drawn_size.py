"""Multi-scale training: every batch is loaded at a size drawn for it."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import Literal, cast

import numpy as np
from mmengine.logging import MessageHub
from torch.utils.data import Sampler

from mmdet_losses.ops import check_choice
from mmdet_losses.registry import DATA_SAMPLERS

Code = Literal['redmon', 'alexeyab']


@DATA_SAMPLERS.register_module()
class DrawnSizeBatchSampler(Sampler):
    """Batches of (index, size): images are loaded at the size that the batch has.

    darknet draws an input size every so many iterations and loads the images at that size. (A
    batch that is resized after loading, as by MMDetection's ``BatchSyncRandomResize``, holds
    enlarged pixels.) Sampling rule:

    - 'redmon' (YOLOv2, YOLOv3): a multiple of 32 from 320 to 608, all equally likely; 608 in the
      last 200 iterations.
    - 'alexeyab' (YOLOv4): v = t or 1/t, equally likely, t ~ U(1, ``reach``); the side is
      ``round(v * size / 32 + 1) * 32``, but ``size`` where v < 1 would give more. For 608 and 1.4
      that is 480 to 896. The largest size in the first draw and in the last 100 iterations.

    The size of a batch depends on the seed of the sampler and on the number of the batch alone, so
    it is the same in all loader workers and processes, and after a resumed training. The length of
    the training is the runner's (``max_iters`` in MMEngine's message hub). The data set must be a
    :class:`~mmdet_losses.data.mixed_dataset.MixedImageDataset`.

    Args:
        sampler: of the indices; built by MMEngine.
        batch_size: images per batch; given by MMEngine.
        code: see above.
        size: pixels of the cfg's input, with 'alexeyab'.
        reach: see above; darknet's option ``random``, which stands for 1.4 where it is 1.
        interval: batches between draws. It counts batches of the loader: with accumulation over n
            batches give 10 n.
        drop_last: leave out a last batch that is not full.

    Raises:
        ValueError: unknown ``code``, or ``interval`` is not positive.
    """

    def __init__(
        self,
        sampler: Sampler,
        batch_size: int,
        code: Code = 'redmon',
        size: int = 608,
        reach: float = 1.4,
        interval: int = 10,
        drop_last: bool = False,
    ) -> None:
        check_choice('code', code, ('redmon', 'alexeyab'))
        if interval < 1:
            raise ValueError(f'interval is {interval}; give at least 1 batch.')
        self.sampler, self.batch_size, self.drop_last = sampler, batch_size, drop_last
        self.code, self.size, self.reach, self.interval = code, size, reach, interval

    def __len__(self) -> int:
        count = len(cast(Sized, self.sampler))
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)

    def __iter__(self) -> Iterator[list[tuple[int, tuple[int, int]]]]:
        number = getattr(self.sampler, 'epoch', 0)
        number = number * len(self) if number else 0
        batch: list[int] = []
        for index in self.sampler:
            batch.append(index)
            if len(batch) == self.batch_size:
                yield self._sized(batch, number)
                batch, number = [], number + 1
        if batch and not self.drop_last:
            yield self._sized(batch, number)

    def _sized(self, batch: list[int], number: int) -> list[tuple[int, tuple[int, int]]]:
        side = self.side(number)
        return [(index, (side, side)) for index in batch]

    def side(self, number: int) -> int:
        """Pixels of each side in batch ``number``, counted from the beginning of the training."""
        draw = number // self.interval
        rng = np.random.default_rng([getattr(self.sampler, 'seed', 0) or 0, draw])
        left = training_length() - draw * self.interval
        if self.code == 'redmon':
            return 608 if left < 20 * self.interval else 32 * int(rng.integers(10, 20))
        if draw == 0 or left < 10 * self.interval:
            return self._rounded(self.reach)
        scale = rng.uniform(1, self.reach)
        scale = scale if rng.random() < 0.5 else 1 / scale
        side = self._rounded(scale)
        return self.size if scale < 1 and side > self.size else side

    def _rounded(self, scale: float) -> int:
        return 32 * int(np.floor(scale * self.size / 32 + 1.5))


def training_length() -> float:
    """Batches of the present training; infinite outside of MMEngine's runner."""
    length = MessageHub.get_current_instance().get_info('max_iters')
    return float('inf') if length is None else length
