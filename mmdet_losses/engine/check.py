"""A look at the data before training: what MMDetection would pass over in silence is said."""

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
    """Stop before a training or test that cannot mean anything; report boxes that are passed over.

    MMDetection's ``CocoDataset`` drops objects whose class it does not find, so that a wrong class
    list trains on nothing, and numbers labels by the annotation file's order, not the class
    list's. The hook compares classes, annotation file and head, and counts the unusable boxes and
    the pictures without an object. The first process reads the annotation files a second time for
    it (seconds, even for COCO); all processes stop together.

    Raises:
        DataError: classes that the annotation file lacks or lists in another order, more classes
            than the head has, labels beyond the class list, or not one object to learn from.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Look at the training data, and at those of the validation to come."""
        self._examine(runner, runner.train_dataloader.dataset, learns=True)
        if runner.val_loop is not None:
            self._examine(runner, runner.val_dataloader.dataset)

    def before_test(self, runner: Runner) -> None:
        """Look at the test data."""
        self._examine(runner, runner.test_dataloader.dataset)

    @master_only
    def after_train_epoch(self, runner: Runner) -> None:
        """Say in the first epoch how many boxes ``CheckAnnotations`` dropped."""
        if runner.epoch > 0:
            return
        for dataset in leaves(runner.train_dataloader.dataset):
            for step in dataset.pipeline.transforms:
                if isinstance(step, CheckAnnotations) and any(step.counts.values()):
                    found = ', '.join(f'{n} {why}' for why, n in step.counts.items() if n)
                    runner.logger.warning(f'Boxes dropped in the first epoch: {found}.')

    @staticmethod
    def _examine(runner: Runner, dataset: Any, learns: bool = False) -> None:
        verdict: list[str | None] = [None]
        if get_rank() == 0:
            try:
                for sentence in examine(dataset, head_classes(runner.model), learns):
                    runner.logger.warning(sentence)
            except DataError as error:
                verdict[0] = str(error)
        broadcast_object_list(verdict)
        if verdict[0] is not None:
            raise DataError(verdict[0])


def examine(dataset: Any, num_classes: int | None, learns: bool) -> list[str]:
    """Check a data set, wrapped or not, against the number of classes of the head.

    Args:
        dataset: MMDetection's, perhaps in ``ConcatDataset``, ``RepeatDataset``, ...
        num_classes: of the head; ``None`` where it is not known.
        learns: whether a training is to learn from it.

    Returns:
        What the user should know, one sentence each.

    Raises:
        DataError: what makes a training or test meaningless.
    """
    sentences, pictures, empty = [], 0, 0
    for leaf in leaves(dataset):
        classes = tuple(leaf.metainfo.get('classes') or ())
        name = getattr(leaf, 'ann_file', '') or type(leaf).__name__
        if classes and num_classes is not None and len(classes) != num_classes:
            sentences.append(_compare_with_head(name, len(classes), num_classes))
        if getattr(type(leaf), 'load_data_list', None) is CocoDataset.load_data_list:
            truth = json.loads(get_text(leaf.ann_file, backend_args=leaf.backend_args))
            compare_classes(classes, truth['categories'], name)
            sentences += unusable_boxes(truth, name)
        sentences += getattr(leaf, 'remarks', [])
        counts = _count_pictures(leaf, len(classes) or num_classes, name)
        pictures, empty = pictures + counts[0], empty + counts[1]
    if learns and pictures == empty:
        raise DataError(
            f'none of the {pictures} training pictures has an object to learn from: check ann_file '
            'and the class list, and what filter_cfg leaves.'
        )
    if learns and empty:
        sentences.append(f'{empty} of {pictures} training pictures are without objects.')
    return sentences


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
    """``num_classes`` of a detector's dense head or of its encoder, if it can be found."""
    if is_model_wrapper(model):
        model = model.module
    head = getattr(model, 'bbox_head', None)
    for owner in (head, getattr(head, 'encoder', None)):
        if isinstance(getattr(owner, 'num_classes', None), int):
            return owner.num_classes
    return None


def compare_classes(classes: Sequence[str], categories: Sequence[dict], name: str) -> None:
    """Raise a ``DataError`` unless the file lists all classes, in the same order."""
    listed = [category['name'] for category in categories]
    missing = [each for each in classes if each not in listed]
    if missing:
        raise DataError(
            f'{name} lists the classes {_few(listed)}, but not {_few(missing)}, which the data '
            'set is asked for: set metainfo=dict(classes=(...)) of the data set in the config to '
            'names in the file (and num_classes of the head to their number).'
        )
    order = [each for each in listed if each in classes]
    if order != list(classes):
        raise DataError(
            f'{name} lists its classes in the order {_few(order)}, and MMDetection numbers labels '
            f'by that order, but metainfo has classes={_few(classes)}: results would bear wrong '
            "names; give metainfo the file's order."
        )


def unusable_boxes(truth: dict, name: str) -> list[str]:
    """Sentences about the boxes that ``CocoDataset`` passes over in silence, and the infinite ones.

    It keeps a box whose width or height alone is infinite. None if all is well.

    Args:
        truth: content of an annotation file in COCO format (xywh boxes in pixels).
        name: of the file.
    """
    notes = truth.get('annotations', [])
    if not notes:
        return []
    images = {image['id']: image for image in truth['images']}
    known = {category['id'] for category in truth['categories']}
    x, y, w, h = boxes = np.array([note['bbox'] for note in notes], float).reshape(-1, 4).T
    width, height = np.array(
        [_size(images.get(note['image_id'])) for note in notes], float
    ).T  # infinite for a picture that is not there: it is a fault of its own
    area = np.array([note.get('area', 1) for note in notes], float)
    with np.errstate(invalid='ignore'):  # infinity minus infinity
        right, bottom = x + w, y + h
    endless = np.isposinf(w) | np.isposinf(h)
    endless &= np.isfinite(boxes[:2]).all(0) & ~np.isnan(right + bottom)
    faults = {
        'not finite': ~np.isfinite(boxes).all(0) & ~endless,
        'inverted': (w < 0) | (h < 0),
        'smaller than a pixel': (w < 1) | (h < 1) | (area <= 0),
        'outside the picture': (right <= 0) | (bottom <= 0) | (x >= width) | (y >= height),
        'of a category that is not listed': [note['category_id'] not in known for note in notes],
        'of a picture that is not listed': [note['image_id'] not in images for note in notes],
    }
    which = np.select([np.asarray(fault) for fault in faults.values()], range(len(faults)), -1)

    def counted(chosen: np.ndarray, why: str) -> str:
        first = notes[int(np.argmax(chosen))]
        picture = images.get(first['image_id'], {}).get('file_name', first['image_id'])
        return f'{chosen.sum()} {why} (the first in {picture})'

    found = [counted(which == i, why) for i, why in enumerate(faults) if (which == i).any()]
    sentences, of_all = [], f'of {len(notes)} boxes'
    if found:
        unused = f'{(which >= 0).sum()} {of_all} are not used'
        sentences.append(f'{name}: {unused}: {", ".join(found)}.')
    endless &= which < 0
    if endless.any():
        said = counted(endless, f'{of_all} are endless and yet used')
        sentences.append(
            f'{name}: {said}: correct the file, or put CheckAnnotations behind LoadAnnotations in '
            'the pipeline, which drops them.'
        )
    return sentences


def _size(image: dict | None) -> tuple[float, float]:
    return (image['width'], image['height']) if image else (np.inf, np.inf)


def _compare_with_head(name: str, classes: int, num_classes: int) -> str:
    cure = f'set num_classes={classes} in the head, or the class list of the data set'
    if classes > num_classes:
        raise DataError(
            f'the data set of {name} has {classes} classes, but the head has '
            f'num_classes={num_classes}: {cure}.'
        )
    return (
        f'The head has num_classes={num_classes}, but the data set of {name} only {classes} '
        f'classes; if that is not meant, {cure}.'
    )


def pictures_of(dataset: Any) -> Iterator[dict]:
    """What a data set knows of each of its pictures, those of videos in turn."""
    for i in range(len(dataset)):
        info = dataset.get_data_info(i)
        yield from info.get('images', [info])


def _count_pictures(dataset: Any, num_classes: int | None, name: str) -> tuple[int, int]:
    """Pictures, and those without an object to learn from; raises at a label out of range."""
    pictures = empty = 0
    for info in pictures_of(dataset):
        pictures += 1
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
    return pictures, empty


def _few(names: Sequence[str]) -> str:
    shown = ', '.join(names[:5])
    return f'{shown}, ... ({len(names)} in all)' if len(names) > 5 else shown or 'none at all'
