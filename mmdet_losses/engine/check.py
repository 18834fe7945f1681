"""Checks of the data before training or testing, for faults that MMDetection ignores silently."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmdet.datasets import CocoDataset
from mmengine.dist import broadcast_object_list, get_rank, master_only
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from mmdet_losses.data.clean import CheckAnnotations, DataError
from mmdet_losses.data.coco_file import inspect_coco
from mmdet_losses.engine.data_report import (
    compare_classes,
    compare_with_head,
    examine_config,
    join_errors,
)
from mmdet_losses.registry import HOOKS


@HOOKS.register_module()
class CheckDataHook(Hook):
    """Raise an error before a meaningless training or test; report boxes that are not used.

    MMDetection's ``CocoDataset`` drops objects of unknown classes, so a wrong class list trains on
    nothing. It numbers labels in the order of the annotation file, not of the class list. The hook
    logs the warnings of :func:`~mmdet_losses.engine.data_report.examine_config`, and counts images
    without objects. Our tools also examine the files before they build a data set; the hook is for
    tools that do not. The first process reads each annotation file once, which takes seconds for
    COCO. All processes stop together.

    Raises:
        DataError: an error in the annotation files, class lists or evaluators, a label outside the
            class list, or no objects.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Check the training data and the validation data."""
        validates = runner.val_loop is not None
        self._examine(runner, 'train', *(['val'] if validates else []))

    def before_test(self, runner: Runner) -> None:
        """Check the test data."""
        self._examine(runner, 'test')

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
    def _examine(runner: Runner, *splits: str) -> None:
        fault: list[str | None] = [None]
        if get_rank() == 0:
            try:
                for warning in _findings(runner, splits):
                    runner.logger.warning(warning)
            except DataError as error:
                fault[0] = str(error)
        broadcast_object_list(fault)
        if fault[0] is not None:
            raise DataError(fault[0])


def _findings(runner: Runner, splits: Sequence[str]) -> list[str]:
    """Warnings about the config and about the built data sets, each once."""
    report = examine_config(runner.cfg, splits)
    if report.errors:
        raise DataError(join_errors(report.errors))
    warnings = report.warnings
    for split in splits:
        dataset = getattr(runner, f'{split}_dataloader').dataset
        warnings += examine(dataset, head_classes(runner.model), split == 'train')
    return list(dict.fromkeys(warnings))


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
            raise DataError(compare_with_head(name, len(classes), num_classes))
        is_coco = getattr(type(leaf), 'load_data_list', None) is CocoDataset.load_data_list
        if is_coco and Path(leaf.ann_file).is_file():
            findings = inspect_coco(leaf.ann_file)
            compare_classes(classes, findings.categories, name)
            warnings += findings.warnings
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
