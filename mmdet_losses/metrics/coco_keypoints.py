"""COCO's keypoint AP, computed by pycocotools."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.evaluation import CocoMetric
from mmengine.logging import MMLogger
from pycocotools.cocoeval import COCOeval

from mmdet_losses.data.clean import DataError
from mmdet_losses.registry import METRICS

NAMES = (
    'mAP', 'mAP_50', 'mAP_75', 'mAP_m', 'mAP_l', 'AR', 'AR_50', 'AR_75', 'AR_m', 'AR_l',
)  # fmt: skip


@METRICS.register_module()
class CocoKeypointMetric(CocoMetric):
    r"""AP over object keypoint similarity (OKS), and MMDetection's box AP beside it.

    OKS replaces the IoU. It is the mean over the labelled keypoints of
    :math:`\exp(-d^2 / (2 s^2 (2\sigma)^2))`, where d is the distance in pixels, s the square root
    of the annotation's area and :math:`\sigma` the tolerance of the keypoint. The best 20
    predictions of an image count. Results are ``keypoints_mAP``, ``_mAP_50``, ``_mAP_75``,
    ``_mAP_m``, ``_mAP_l`` (medium and large), and the same for AR; without predictions they are 0.

    Needs ``pred_instances`` with boxes, scores, labels and ``keypoints`` (n, K, 2) in pixels of the
    original image. Optional ``keypoint_scores`` (n, K) are written to the result file as the third
    number of a keypoint, which pycocotools ignores.

    Args:
        ann_file: COCO keypoint file.
        metric: 'keypoints' and any metric of ``CocoMetric``.
        sigmas: K tolerances; default: those of the data set's metainfo.
        **kwargs: of ``CocoMetric``. With ``outfile_prefix`` the keypoints are also written to
            ``<prefix>.keypoints.json``.

    Raises:
        ValueError: no ``ann_file``, or no tolerances.
        DataError: annotations or predictions have another number of keypoints than tolerances.
    """

    def __init__(
        self,
        ann_file: str | None = None,
        metric: str | Sequence[str] = ('keypoints', 'bbox'),
        sigmas: Sequence[float] | None = None,
        **kwargs: Any,
    ) -> None:
        if ann_file is None:
            raise ValueError('CocoKeypointMetric needs ann_file, the COCO keypoint file.')
        metrics = [metric] if isinstance(metric, str) else list(metric)
        super().__init__(ann_file, [name for name in metrics if name != 'keypoints'], **kwargs)
        self.with_keypoints, self.sigmas = 'keypoints' in metrics, sigmas
        self.ann_file = ann_file

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Collect the predictions of a batch."""
        super().process(data_batch, data_samples)
        if not self.with_keypoints:
            return
        latest = self.results[len(self.results) - len(data_samples) :]
        for (_, result), sample in zip(latest, data_samples, strict=True):
            found = sample['pred_instances']
            points = found['keypoints'].cpu().numpy()
            scores = np.ones(points.shape[:2])
            if 'keypoint_scores' in found:
                scores = found['keypoint_scores'].cpu().numpy()
            result['keypoints'] = np.concatenate((points, scores[..., None]), -1)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Box metrics and keypoint metrics."""
        measured = dict(super().compute_metrics(results))
        if not self.with_keypoints:
            return measured
        rows = [row for _, result in results for row in self._rows(result)]
        if self.outfile_prefix is not None:
            path = Path(f'{self.outfile_prefix}.keypoints.json')
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(rows))
        if self.format_only:
            return measured
        stats = self._evaluate(rows)
        named = {f'keypoints_{name}': round(float(s), 4) for name, s in zip(NAMES, stats)}
        return {**measured, **named}

    def _rows(self, result: dict) -> list[dict]:
        """COCO's records of the predictions of one image."""
        return [
            {
                'image_id': result['img_id'],
                'category_id': self.cat_ids[label],
                'keypoints': keypoints.astype(float).ravel().tolist(),
                'score': float(score),
            }
            for label, score, keypoints in zip(
                result['labels'], result['scores'], result['keypoints'], strict=True
            )
        ]

    def _evaluate(self, rows: list[dict]) -> np.ndarray:
        """The ten numbers of ``NAMES``."""
        sigmas = self.dataset_meta.get('sigmas') if self.sigmas is None else self.sigmas
        if sigmas is None:
            raise ValueError(
                'CocoKeypointMetric has no sigmas: set sigmas, or metainfo of the data set.'
            )
        self._check(rows, len(sigmas))
        if not rows:
            return np.zeros(len(NAMES))
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            evaluation = COCOeval(self._coco_api, self._coco_api.loadRes(rows), 'keypoints')
            evaluation.params.kpt_oks_sigmas = np.asarray(sigmas, np.float64)
            evaluation.params.catIds = self.cat_ids
            evaluation.params.imgIds = self.img_ids
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        table = [line for line in printed.getvalue().splitlines() if line.startswith(' Average')]
        MMLogger.get_current_instance().info('Keypoints:\n' + '\n'.join(table))
        return evaluation.stats

    def _check(self, rows: list[dict], num_keypoints: int) -> None:
        for ann in self._coco_api.anns.values():
            given = ann.get('keypoints')
            if given is None or len(given) != 3 * num_keypoints:
                length = 'no' if given is None else len(given)
                raise DataError(
                    f'annotation {ann["id"]} in {self.ann_file} has {length} keypoint numbers '
                    f'instead of {3 * num_keypoints}: use the keypoint annotation file, or set '
                    f'sigmas to one number per keypoint ({num_keypoints} now).'
                )
            ann.setdefault('num_keypoints', sum(each > 0 for each in given[2::3]))
        if rows and len(rows[0]['keypoints']) != 3 * num_keypoints:
            raise DataError(
                f'the model predicts {len(rows[0]["keypoints"]) // 3} keypoints, but there are '
                f'{num_keypoints} sigmas: set num_keypoints of predictor and encoder, or sigmas.'
            )
