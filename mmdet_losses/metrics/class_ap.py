"""AP of every class at chosen IoU thresholds, as ``darknet detector map`` computes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmdet.evaluation import VOCMetric, eval_map
from mmengine.logging import MMLogger
from terminaltables import AsciiTable

from mmdet_losses.registry import METRICS


@METRICS.register_module()
class ClassAPMetric(VOCMetric):
    """Area under the precision-recall curve of every class, and its mean.

    A table with the AP, recall and number of objects of every class is logged. The annotations come
    from the test pipeline, so every format of data set works.

    Convention:
        A prediction is matched to the object with which it overlaps most; a second prediction of an
        object is wrong. Precision is made monotone before the area is taken, as in VOC 2010 and
        in AlexeyAB's ``detector map``. Differences from MMDetection's ``VOCMetric``: box sides are
        ``x2 - x1`` instead of ``x2 - x1 + 1``, the area replaces the 11 points of VOC 2007, and
        values are not rounded. Classes without an object are not part of the mean; darknet counts
        them as 0.

    Args:
        iou_thrs: IoU thresholds.
        collect_device: see MMEngine.
        prefix: see MMEngine.
    """

    default_prefix = 'voc'

    def __init__(
        self,
        iou_thrs: float | Sequence[float] = 0.5,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        iou_thrs = [iou_thrs] if isinstance(iou_thrs, float) else list(iou_thrs)
        super().__init__(iou_thrs, eval_mode='area', collect_device=collect_device, prefix=prefix)

    def compute_metrics(self, results: list) -> dict[str, Any]:
        """``mAP``, and for each threshold ``AP50``, ``AP75``, ..."""
        logger = MMLogger.get_current_instance()
        annotations, predictions = zip(*results, strict=True)
        found: dict[str, Any] = {}
        for threshold in self.iou_thrs:
            found[f'AP{round(100 * threshold):02d}'], classes = eval_map(
                predictions, annotations, iou_thr=threshold, logger='silent', nproc=1
            )
            table = self._table(classes)
            logger.info(f'AP at an IoU of {threshold:g}\n{table}')
        return {'mAP': sum(found.values()) / len(found), **found}

    def _table(self, results: Sequence[dict[str, Any]]) -> str:
        """Number of objects and predictions, recall and AP of every class."""
        rows = [('class', 'gts', 'dets', 'recall', 'ap')]
        for name, result in zip(self.dataset_meta['classes'], results, strict=True):
            recall = float(result['recall'][-1]) if result['recall'].size else 0.0
            counts = str(result['num_gts']), str(result['num_dets'])
            rows.append((name, *counts, f'{recall:.3f}', f'{float(result["ap"]):.3f}'))
        return AsciiTable(rows).table
