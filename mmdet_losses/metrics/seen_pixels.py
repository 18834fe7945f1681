"""Share of the image pixels that a detector processed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.evaluator import BaseMetric

from mmdet_losses.registry import METRICS


@METRICS.register_module()
class SeenPixels(BaseMetric):
    """Network input pixels divided by image pixels, from meta data that ``CornerNetSaccade`` adds.

    Returns ``pixels/seen`` and ``pixels/image``, means per image, and their ratio
    ``pixels/seen_share``. Below 1 the detector processed less than the full resolution.

    Raises:
        KeyError: a sample has no ``seen_pixels``, because another detector made it.
    """

    default_prefix = 'pixels'

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Collect the counts of a batch."""
        for sample in data_samples:
            if 'seen_pixels' not in sample:
                raise KeyError(
                    'seen_pixels is missing from a data sample; SeenPixels needs a detector that '
                    'counts pixels, such as CornerNetSaccade.'
                )
            self.results.append((sample['seen_pixels'], sample['image_pixels']))

    def compute_metrics(self, results: list[tuple[int, int]]) -> dict[str, float]:
        """Means over the data set."""
        seen, whole = (sum(each) / len(results) for each in zip(*results, strict=True))
        return dict(seen=seen, image=whole, seen_share=seen / whole)
