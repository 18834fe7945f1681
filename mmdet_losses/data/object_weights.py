"""Weights of objects, from the annotation file to the data sample."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmdet.datasets import CocoDataset
from mmdet.datasets.transforms import LoadAnnotations, PackDetInputs

from mmdet_losses.data.clean import DataError
from mmdet_losses.data.words import plural
from mmdet_losses.registry import DATASETS, TRANSFORMS

WEIGHT_FIELD = {'gt_weights': 'weights'}
"""Entry of the results -> field of the instances in a data sample."""


@DATASETS.register_module()
class WeightedCocoDataset(CocoDataset):
    """``CocoDataset`` whose instances have the ``weight`` of the annotation, if it has one.

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
                instance |= weight_of(note, self.ann_file, self.weight_key)
                record['instances'].append(instance)
        return record


def weight_of(note: dict, ann_file: str, key: str = 'weight') -> dict[str, float]:
    """``weight`` of an annotation, for its instance; nothing if the annotation has none.

    Raises:
        DataError: a weight that is no finite number from 0.
    """
    if key not in note:
        return {}
    value = note[key]
    if not isinstance(value, (int, float)) or not 0 <= value < float('inf'):
        raise DataError(
            f'annotation {note.get("id")} of image {note.get("image_id")} in {ann_file} has the '
            f'{key} {value!r}; give a finite number from 0.'
        )
    return {'weight': float(value)}


def add_weights(results: dict) -> dict:
    """Add ``gt_weights`` (n,) of all instances, if one of them has a weight; the others have 1."""
    if any('weight' in each for each in results['instances']):
        weights = [each.get('weight', 1.0) for each in results['instances']]
        results['gt_weights'] = np.array(weights, np.float32)
    return results


def check_weights(results: dict) -> None:
    """Raise a ``DataError`` if a transform dropped boxes but not their weights."""
    if 'gt_weights' not in results:
        return
    weights, boxes = len(results['gt_weights']), len(results['gt_bboxes'])
    if weights != boxes:
        raise DataError(
            f'{results.get("img_path", "an image")} has {plural(boxes, "box", "boxes")} but '
            f'{plural(weights, "weight")}: a transform drops boxes without their '
            'gt_weights; use the transforms of mmdet_losses.'
        )


@TRANSFORMS.register_module()
class LoadWeightedAnnotations(LoadAnnotations):
    """``LoadAnnotations`` that also loads ``gt_weights`` (n,) float32, see the data set."""

    def transform(self, results: dict) -> dict:
        """See the class."""
        return add_weights(super().transform(results))


@TRANSFORMS.register_module()
class PackWeightedInputs(PackDetInputs):
    """``PackDetInputs`` that also packs ``gt_weights``, as the field ``weights`` of instances.

    Every criterion multiplies the costs of an object by its weight.

    Raises:
        DataError: a transform dropped boxes but not their weights. The transforms of this package
            and MMDetection's ``Resize`` and ``RandomFlip`` keep both.
    """

    mapping_table = {**PackDetInputs.mapping_table, **WEIGHT_FIELD}

    def transform(self, results: dict) -> dict:
        """See the class."""
        check_weights(results)
        return super().transform(results)
