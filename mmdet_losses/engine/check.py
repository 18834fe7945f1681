"""Checks of the data before training or testing, for faults that MMDetection ignores silently."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from mmdet.datasets import CocoDataset
from mmengine.dist import broadcast_object_list, get_rank, master_only
from mmengine.fileio import get_text
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from mmdet_losses.data.clean import CheckAnnotations, DataError
from mmdet_losses.registry import HOOKS


@HOOKS.register_module()
class CheckDataHook(Hook):
    """Raise an error before a meaningless training or test; report boxes that are not used.

    MMDetection's ``CocoDataset`` drops objects of unknown classes, so a wrong class list trains on
    nothing. It numbers labels in the order of the annotation file, not of the class list. The hook
    compares classes, annotation file and head, and counts unusable boxes and images without
    objects. The first process reads the annotation files again for this, which takes seconds for
    COCO. All processes stop together.

    Raises:
        DataError: the annotation file lacks classes or lists them in another order, the head has
            fewer classes, a label is outside the class list, or there are no objects.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Check the training data and the validation data."""
        self._examine(runner, runner.train_dataloader.dataset, training=True)
        if runner.val_loop is not None:
            self._examine(runner, runner.val_dataloader.dataset)

    def before_test(self, runner: Runner) -> None:
        """Check the test data."""
        self._examine(runner, runner.test_dataloader.dataset)

    @master_only
    def after_train_epoch(self, runner: Runner) -> None:
        """Log the number of boxes that ``CheckAnnotations`` dropped in the first epoch."""
        if runner.epoch > 0:
            return
        for dataset in leaves(runner.train_dataloader.dataset):
            for step in dataset.pipeline.transforms:
                if isinstance(step, CheckAnnotations) and any(step.counts.values()):
                    found = ', '.join(f'{n} {reason}' for reason, n in step.counts.items() if n)
                    runner.logger.warning(f'Boxes dropped in the first epoch: {found}.')

    @staticmethod
    def _examine(runner: Runner, dataset: Any, training: bool = False) -> None:
        fault: list[str | None] = [None]
        if get_rank() == 0:
            try:
                for warning in examine(dataset, head_classes(runner.model), training):
                    runner.logger.warning(warning)
            except DataError as error:
                fault[0] = str(error)
        broadcast_object_list(fault)
        if fault[0] is not None:
            raise DataError(fault[0])


def examine(dataset: Any, num_classes: int | None, training: bool) -> list[str]:
    """Warnings about a data set.

    Args:
        dataset: of MMDetection, possibly in ``ConcatDataset``, ``RepeatDataset``, ...
        num_classes: of the head; ``None`` if unknown.
        training: whether the data set is used for training.

    Raises:
        DataError: a training or test would be meaningless.
    """
    warnings: list[str] = []
    images = empty = 0
    for leaf in leaves(dataset):
        classes = tuple(leaf.metainfo.get('classes') or ())
        name = getattr(leaf, 'ann_file', '') or type(leaf).__name__
        if classes and num_classes is not None and len(classes) != num_classes:
            warnings.append(_compare_with_head(name, len(classes), num_classes))
        if getattr(type(leaf), 'load_data_list', None) is CocoDataset.load_data_list:
            content = json.loads(get_text(leaf.ann_file, backend_args=leaf.backend_args))
            compare_classes(classes, content['categories'], name)
            warnings += unusable_boxes(content, name)
        warnings += getattr(leaf, 'remarks', [])
        counts = _count_images(leaf, len(classes) or num_classes, name)
        images, empty = images + counts[0], empty + counts[1]
    if training and images == empty:
        raise DataError(
            f'none of the {images} training images has an object: check ann_file, the class list '
            'and filter_cfg.'
        )
    if training and empty:
        warnings.append(f'{empty} of {images} training images have no objects.')
    return warnings


def leaves(dataset: Any) -> Iterator[Any]:
    """The data sets inside wrappers that hold one (``dataset``) or several (``datasets``)."""
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    if inner[0] is None:
        if hasattr(dataset, 'metainfo') and hasattr(dataset, 'get_data_info'):
            yield dataset
        return
    for each in inner:
        yield from leaves(each)


def head_classes(model: nn.Module) -> int | None:
    """``num_classes`` of a detector's dense head or of its encoder; None if it has none."""
    detector = model.module if is_model_wrapper(model) else model
    head: Any = getattr(detector, 'bbox_head', None)
    owners: list[Any] = [head, getattr(head, 'encoder', None)]
    for owner in owners:
        if isinstance(getattr(owner, 'num_classes', None), int):
            return owner.num_classes
    return None


def compare_classes(classes: Sequence[str], categories: Sequence[dict], name: str) -> None:
    """Raise a ``DataError`` unless the file lists all classes, in the same order."""
    listed = [category['name'] for category in categories]
    missing = [each for each in classes if each not in listed]
    if missing:
        raise DataError(
            f'{name} lists the classes {_few(listed)}, but not {_few(missing)} of the config: set '
            'metainfo=dict(classes=(...)) of the data set to names in the file, and num_classes of '
            'the head to their number.'
        )
    order = [each for each in listed if each in classes]
    if order != list(classes):
        raise DataError(
            f'{name} lists its classes in the order {_few(order)}, but metainfo has '
            f'classes={_few(classes)}: MMDetection numbers labels in the order of the file, so '
            "results would have wrong names; write the classes in the file's order."
        )


def unusable_boxes(content: dict, name: str) -> list[str]:
    """Warnings about boxes that ``CocoDataset`` drops silently, and about infinite boxes.

    ``CocoDataset`` keeps a box if only its width or height is infinite.

    Args:
        content: of an annotation file in COCO format (xywh boxes in pixels).
        name: of the file.
    """
    annotations = content.get('annotations', [])
    if not annotations:
        return []
    images = {image['id']: image for image in content['images']}
    known = {category['id'] for category in content['categories']}
    x, y, w, h = boxes = np.array([ann['bbox'] for ann in annotations], float).reshape(-1, 4).T
    width, height = np.array(
        [_size(images.get(ann['image_id'])) for ann in annotations], float
    ).T  # infinite for an unknown image, which is a fault of its own
    area = np.array([ann.get('area', 1) for ann in annotations], float)
    with np.errstate(invalid='ignore'):  # infinity minus infinity
        right, bottom = x + w, y + h
    infinite = np.isposinf(w) | np.isposinf(h)
    infinite &= np.isfinite(boxes[:2]).all(0) & ~np.isnan(right + bottom)
    faults = {
        'not finite': ~np.isfinite(boxes).all(0) & ~infinite,
        'inverted': (w < 0) | (h < 0),
        'smaller than a pixel': (w < 1) | (h < 1) | (area <= 0),
        'outside the image': (right <= 0) | (bottom <= 0) | (x >= width) | (y >= height),
        'of an unknown category': [ann['category_id'] not in known for ann in annotations],
        'of an unknown image': [ann['image_id'] not in images for ann in annotations],
    }
    which = np.select([np.asarray(fault) for fault in faults.values()], range(len(faults)), -1)

    def counted(chosen: np.ndarray, fault: str) -> str:
        first = annotations[int(np.argmax(chosen))]
        image = images.get(first['image_id'], {}).get('file_name', first['image_id'])
        return f'{chosen.sum()} {fault} (the first in {image})'

    found = [counted(which == i, fault) for i, fault in enumerate(faults) if (which == i).any()]
    warnings, of_all = [], f'of {len(annotations)} boxes'
    if found:
        unused = f'{(which >= 0).sum()} {of_all} are not used'
        warnings.append(f'{name}: {unused}: {", ".join(found)}.')
    infinite &= which < 0
    if infinite.any():
        count = counted(infinite, f'{of_all} have infinite size but are still used')
        warnings.append(
            f'{name}: {count}: correct the file, or add CheckAnnotations after LoadAnnotations in '
            'the pipeline, which drops them.'
        )
    return warnings


def _size(image: dict | None) -> tuple[float, float]:
    return (image['width'], image['height']) if image else (np.inf, np.inf)


def _compare_with_head(name: str, classes: int, num_classes: int) -> str:
    fix = f'set num_classes={classes} in the head, or the class list of the data set'
    if classes > num_classes:
        raise DataError(
            f'the data set of {name} has {classes} classes, but the head has '
            f'num_classes={num_classes}: {fix}.'
        )
    return (
        f'The head has num_classes={num_classes}, but the data set of {name} has only {classes} '
        f'classes; if this is not intended, {fix}.'
    )


def image_infos(dataset: Any) -> Iterator[dict]:
    """``get_data_info`` of every image of a data set, including the frames of videos."""
    for i in range(len(dataset)):
        info = dataset.get_data_info(i)
        yield from info.get('images', [info])


def _count_images(dataset: Any, num_classes: int | None, name: str) -> tuple[int, int]:
    """Numbers of images and of images without objects; raises for a label out of range."""
    images = empty = 0
    for info in image_infos(dataset):
        images += 1
        objects = [each for each in info.get('instances', []) if not each.get('ignore_flag')]
        empty += not objects
        labels = [each['bbox_label'] for each in objects if 'bbox_label' in each]
        if num_classes and labels and not 0 <= min(labels) <= max(labels) < num_classes:
            wrong = next(label for label in labels if not 0 <= label < num_classes)
            raise DataError(
                f'{info.get("img_path")} in {name} has an object with label {wrong}, but there '
                f'are {num_classes} classes (labels 0 to {num_classes - 1}): correct the '
                'annotation, or the class list in the config.'
            )
    return images, empty


def _few(names: Sequence[str]) -> str:
    shown = ', '.join(names[:5])
    return f'{shown}, ... ({len(names)} in all)' if len(names) > 5 else shown or 'none'
