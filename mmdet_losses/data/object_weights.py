"""Weights of objects, from the annotation file to the data sample."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmdet.datasets import CocoDataset
from mmdet.datasets.transforms import LoadAnnotations, PackDetInputs

from mmdet_losses.data.clean import DataError
from mmdet_losses.registry import DATASETS, TRANSFORMS


@DATASETS.register_module()
class WeightedCocoDataset(CocoDataset):
    """``CocoDataset`` whose instances have a ``weight``, the entry of the annotation or 1.

    Args:
        weight_key: name of the entry.
        *args, **kwargs: of ``CocoDataset``.

    Raises:
        DataError: a weight that is no finite number from 0.
    """

    def __init__(self, *args: Any, weight_key: str = 'weight', **kwargs: Any) -> None:
        self.weight_key = weight_key
        super().__init__(*args, **kwargs)

    def parse_data_info(self, raw_data_info: dict) -> dict:
        """One image, with the annotations that ``CocoDataset`` uses."""
        image, notes = raw_data_info['raw_img_info'], raw_data_info['raw_ann_info']
        record = super().parse_data_info(dict(raw_img_info=image, raw_ann_info=[]))
        for note in notes:
            alone = dict(raw_img_info=image, raw_ann_info=[note])
            for instance in super().parse_data_info(alone)['instances']:
                instance['weight'] = self._weight(note)
                record['instances'].append(instance)
        return record

    def _weight(self, note: dict) -> float:
        value = note.get(self.weight_key, 1)
        if not isinstance(value, (int, float)) or not 0 <= value < float('inf'):
            raise DataError(
                f'annotation {note.get("id")} of image {note.get("image_id")} in {self.ann_file} '
                f'has the {self.weight_key} {value!r}; give a finite number from 0.'
            )
        return float(value)


@TRANSFORMS.register_module()
class LoadWeightedAnnotations(LoadAnnotations):
    """``LoadAnnotations`` that also loads ``gt_weights`` (n,) float32, see the data set."""

    def transform(self, results: dict) -> dict:
        """See the class."""
        results = super().transform(results)
        weights = [each.get('weight', 1.0) for each in results['instances']]
        results['gt_weights'] = np.array(weights, np.float32)
        return results


@TRANSFORMS.register_module()
class PackWeightedInputs(PackDetInputs):
    """``PackDetInputs`` that also packs ``gt_weights``, as the field ``weights`` of instances.

    Every criterion multiplies the costs of an object by its weight.

    Raises:
        DataError: a transform dropped boxes but not their weights. The transforms of this package
            and MMDetection's ``Resize`` and ``RandomFlip`` keep both.
    """

    mapping_table = {**PackDetInputs.mapping_table, 'gt_weights': 'weights'}

    def transform(self, results: dict) -> dict:
        """See the class."""
        weights, boxes = results.get('gt_weights', ()), results.get('gt_bboxes', ())
        if 'gt_weights' in results and len(weights) != len(boxes):
            raise DataError(
                f'{results.get("img_path", "an image")} has {len(boxes)} boxes but {len(weights)} '
                'weights: a transform drops boxes without their gt_weights; use the transforms of '
                'mmdet_losses.'
            )
        return super().transform(results)
