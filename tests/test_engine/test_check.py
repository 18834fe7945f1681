"""Data checks: errors, warnings, and data that pass."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from mmdet.datasets import CocoDataset
from mmengine.config import Config
from mmengine.dataset import BaseDataset, RepeatDataset
from torch import nn

from mmdet_losses.data.clean import CheckAnnotations, DataError
from mmdet_losses.data.coco_boxes import unusable_boxes
from mmdet_losses.engine.check import CheckDataHook, examine, head_classes, leaves
from mmdet_losses.engine.data_report import compare_classes
from mmdet_losses.registry import DATASETS

CATEGORIES = [dict(id=i, name=name) for i, name in ((3, 'cat'), (5, 'dog'), (9, 'cow'))]
NAMES = [each['name'] for each in CATEGORIES]


def coco_content(boxes, **more):
    annotations = [
        dict(id=i, image_id=1, category_id=3, bbox=box, area=9, iscrowd=0) | more
        for i, box in enumerate(boxes, 1)
    ]
    images = [dict(id=i, file_name=f'{i}.png', width=100, height=60) for i in (1, 2)]
    return dict(images=images, annotations=annotations, categories=CATEGORIES)


def coco(path, boxes=((1, 2, 30, 30),), classes=('cat', 'dog', 'cow'), **more):
    path.write_text(json.dumps(coco_content(boxes, **more)))
    return CocoDataset(ann_file=str(path), metainfo=dict(classes=classes), data_prefix=dict(img=''))


@pytest.fixture(name='dataset')
def _dataset(tmp_path):
    return coco(tmp_path / 'boxes.json')


def test_good_data_have_no_warnings_but_the_empty_images(dataset):
    assert examine(dataset, 3, training=False) == []
    assert examine(dataset, None, training=True) == ['1 of 2 training images have no objects.']


def test_wrapped_data_sets_are_examined(dataset):
    one = dict(
        type='mmdet.CocoDataset', ann_file=dataset.ann_file, data_prefix=dict(img=''),
        metainfo=dict(classes=('cat', 'dog', 'cow')),
    )  # fmt: skip
    both = dict(type='mmdet.ConcatDataset', datasets=[one, one])
    wrapped = DATASETS.build(dict(type='RepeatDataset', times=3, dataset=both))
    assert list(leaves(wrapped)) == wrapped.dataset.datasets
    assert examine(wrapped, 3, training=True) == ['2 of 4 training images have no objects.']
    assert list(leaves([1, 2])) == []


def test_mmdetection_trains_on_nothing_when_classes_differ(tmp_path):
    """The reason for the check: MMDetection builds the data set without a single object."""
    dataset = coco(tmp_path / 'boxes.json', classes=('kitten',))
    assert not any(dataset.get_data_info(i)['instances'] for i in range(len(dataset)))
    with pytest.raises(DataError, match=r'boxes.json lists the classes cat, dog, cow, but not kit'):
        examine(dataset, 1, training=True)


def test_mmdetection_numbers_labels_by_the_file(tmp_path):
    dataset = coco(tmp_path / 'boxes.json', classes=('dog', 'cat'))
    assert dataset.get_data_info(0)['instances'][0]['bbox_label'] == 0  # a cat, named 'dog'
    with pytest.raises(DataError, match=r'order cat, dog.* classes=dog, cat: .* the file'):
        examine(dataset, 2, training=True)


def test_a_subset_of_the_classes_passes():
    assert compare_classes(('cat', 'cow'), NAMES, 'boxes.json') is None


def test_long_class_lists_are_shortened():
    with pytest.raises(DataError, match=r'but not a, b, c, d, e, \.\.\. \(7 in all\)'):
        compare_classes(tuple('abcdefg'), NAMES, 'boxes.json')
    with pytest.raises(DataError, match='classes none, but not a of'):
        compare_classes('a', [], 'boxes.json')


def test_the_head_needs_all_classes(dataset):
    with pytest.raises(DataError, match=r'has 3 classes, but .*num_classes=2: set num_classes=3'):
        examine(dataset, 2, training=True)
    with pytest.raises(DataError, match=r'has 3 classes, but the head has num_classes=80'):
        examine(dataset, 80, training=False)


def test_data_without_objects_raise_an_error_in_training_only(tmp_path):
    empty = coco(tmp_path / 'empty.json', boxes=[])
    crowd = coco(tmp_path / 'crowd.json', iscrowd=1)
    for dataset in (empty, crowd):
        with pytest.raises(DataError, match='none of the 2 training images has an object'):
            examine(dataset, 3, training=True)
        examine(dataset, 3, training=False)


def test_labels_out_of_range_in_other_formats(tmp_path):
    records = [
        dict(img_path=f'{i}.png', instances=[dict(bbox=[1, 2, 9, 9], bbox_label=label)])
        for i, label in enumerate((1, 4))
    ]
    path = tmp_path / 'own.json'
    path.write_text(json.dumps(dict(metainfo=dict(classes=list('abc')), data_list=records)))
    dataset = BaseDataset(ann_file=str(path))
    with pytest.raises(DataError, match=r'1.png in .*own.json has an object with label 4'):
        examine(dataset, 3, training=True)


BAD = {
    'not finite': [float('nan'), 1, 5, 5],
    'with a width or height of -1 (a placeholder for no box)': [9, 9, -1, 5],
    'inverted': [9, 9, -3, 5],
    'smaller than a pixel': [9, 9, 0.5, 5],
    'outside the image': [3, 60, 5, 5],
}


@pytest.mark.parametrize('fault', BAD)
def test_each_fault_is_counted(fault):
    (warning,) = unusable_boxes(
        coco_content([[1, 1, 5, 5], BAD[fault], BAD[fault], [95, 55, 9, 9]]), 'a.json'
    )
    assert (
        warning
        == f'a.json: 2 of 4 boxes are not used: 2 {fault} (the first: annotation 2 in 1.png).'
    )


def test_the_count_equals_mmdetections(tmp_path):
    rng = np.random.default_rng(0)
    boxes = np.column_stack([rng.uniform(-40, 130, (300, 2)), rng.uniform(-4, 40, (300, 2))])
    dataset = coco(tmp_path / 'many.json', boxes=boxes.tolist())
    used = sum(len(dataset.get_data_info(i)['instances']) for i in range(2))
    (warning,) = unusable_boxes(coco_content(boxes.tolist()), 'many.json')
    assert 0 < used < 300
    assert warning.startswith(f'many.json: {300 - used} of 300 boxes are not used: ')


INF, NAN = float('inf'), float('nan')


@pytest.mark.parametrize(
    ('box', 'used'),
    [
        ([5, 5, INF, 9], True),
        ([5, 5, 9, INF], True),
        ([-5, 5, INF, INF], True),
        ([5, 5, INF, 0.5], False),
        ([200, 5, INF, 9], False),
        ([-INF, 5, INF, 9], False),
        ([INF, 5, 9, 9], False),
        ([5, 5, INF, NAN], False),
        ([5, 5, -INF, 9], False),
    ],
)
def test_infinite_boxes_are_reported_as_mmdetection_uses_them(tmp_path, box, used):
    dataset = coco(tmp_path / 'infinite.json', boxes=[[1, 1, 5, 5], box])
    assert len(dataset.get_data_info(0)['instances']) == 1 + used
    (warning,) = unusable_boxes(coco_content([[1, 1, 5, 5], box]), 'a.json')
    words = '1 of 2 boxes have infinite size but the data set keeps them (the first: annotation 2 '
    words += 'in 1.png): correct the '
    assert warning.startswith(f'a.json: {words if used else "1 of 2 boxes are not used: 1 "}')


def test_check_annotations_drops_infinite_boxes():
    boxes = np.array([[1, 1, 6, 6], [5, 5, INF, 14]], np.float32)
    kept = CheckAnnotations()(dict(img_shape=(60, 100), gt_bboxes=boxes))['gt_bboxes']
    assert kept.tolist() == [[1, 1, 6, 6]]


def test_unknown_ids_are_counted():
    (warning,) = unusable_boxes(coco_content([[1, 1, 5, 5]], category_id=4), 'a.json')
    assert '1 of an unknown category (the first: annotation 1 in 1.png)' in warning
    (warning,) = unusable_boxes(coco_content([[1, 1, 5, 5]], image_id=8), 'a.json')
    assert '1 of an unknown image (the first: annotation 1 in 8)' in warning


def test_the_number_of_classes_is_read_from_head_or_encoder():
    model, head = nn.Module(), nn.Module()
    assert head_classes(model) is None
    model.bbox_head = head
    assert head_classes(model) is None
    head.encoder = SimpleNamespace(num_classes=7)
    assert head_classes(model) == 7
    head.num_classes = 5
    assert head_classes(model) == 5


class Logger(list):
    def warning(self, text):
        self.append(text)


def runner_of(dataset, **more):
    loader = SimpleNamespace(dataset=dataset)
    return SimpleNamespace(
        train_dataloader=loader, test_dataloader=loader, val_dataloader=loader, val_loop=None,
        model=nn.Module(), logger=Logger(), epoch=0, cfg=Config(), **more,
    )  # fmt: skip


def test_the_hook_warns_and_raises(dataset, tmp_path):
    runner = runner_of(dataset)
    CheckDataHook().before_train(runner)
    assert runner.logger == ['1 of 2 training images have no objects.']
    wrong = coco(tmp_path / 'wrong.json', classes=('kitten',))
    with pytest.raises(DataError, match='not kitten'):
        CheckDataHook().before_test(runner_of(wrong))
    runner = runner_of(dataset)
    runner.val_loop, runner.val_dataloader = object(), SimpleNamespace(dataset=wrong)
    with pytest.raises(DataError, match='not kitten'):
        CheckDataHook().before_train(runner)


def test_the_hook_reports_what_check_annotations_dropped(dataset):
    step = CheckAnnotations()
    step._counts += 1
    dataset.pipeline.transforms.append(step)
    runner = runner_of(RepeatDataset(dataset, 2))
    CheckDataHook().after_train_epoch(runner)
    runner.epoch = 1
    CheckDataHook().after_train_epoch(runner)
    assert len(runner.logger) == 1
    assert runner.logger[0].startswith('Boxes dropped in the first epoch: 1 not finite, 1 inverted')
