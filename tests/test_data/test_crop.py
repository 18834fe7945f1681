"""The crop with a limited number of tries."""
# ruff: noqa: NPY002 (the generator of the transforms)

import copy

import numpy as np
import pytest
from mmdet.datasets.transforms import RandomCenterCropPad
from mmdet.structures.bbox import HorizontalBoxes

from mmdet_losses.data.crop import RandomCenterCropPadMinObjects

SETTINGS = dict(
    crop_size=(48, 40), ratios=(0.9, 1.0, 1.1), border=128, mean=[0, 0, 0], std=[1, 1, 1],
    to_rgb=True, test_pad_mode=None,
)  # fmt: skip


def record(boxes, ignored=None, size=(160, 200)):
    """An image whose pixels store their own (y, x), to find the position of a crop."""
    ys, xs = np.mgrid[: size[0], : size[1]].astype(np.float32)
    n = len(boxes)
    return dict(
        img=np.stack([ys + 1, xs + 1, np.ones_like(xs)], -1),
        img_shape=size,
        gt_bboxes=HorizontalBoxes(np.asarray(boxes, np.float32).reshape(-1, 4)),
        gt_bboxes_labels=np.arange(n),
        gt_ignore_flags=np.zeros(n, bool) if ignored is None else np.asarray(ignored, bool),
    )


def crops(given, count=40, **settings):
    transform = RandomCenterCropPadMinObjects(**{**SETTINGS, **settings})
    np.random.seed(0)
    return [transform(copy.deepcopy(given)) for _ in range(count)]


def test_mmdetection_does_not_end_where_no_crop_contains_a_centre(monkeypatch):
    """The reason for this class: MMDetection draws 300 crops without success and continues."""
    tries = []

    class Enough(Exception):
        pass

    def count(self, patch, boxes):
        tries.append(patch)
        if len(tries) == 300:
            raise Enough
        return original(self, patch, boxes)

    original = RandomCenterCropPad._filter_boxes
    monkeypatch.setattr(RandomCenterCropPad, '_filter_boxes', count)
    given = record([[0, 0, 6, 6]], size=(512, 512))
    with pytest.raises(Enough):
        RandomCenterCropPad(**SETTINGS)(copy.deepcopy(given))
    tries.clear()
    results = RandomCenterCropPadMinObjects(**SETTINGS, max_tries=7)(copy.deepcopy(given))
    assert len(tries) == 7
    np.testing.assert_array_equal(results['img'], given['img'])
    assert results['img_shape'] == (512, 512)
    assert results['gt_bboxes'].tensor.tolist() == [[0, 0, 6, 6]]


def test_equals_mmdetection_where_mmdetection_finds_a_crop():
    given = record([[70, 60, 120, 100], [95, 75, 105, 85]])
    for seed in range(10):
        np.random.seed(seed)
        theirs = RandomCenterCropPad(**SETTINGS, bbox_clip_border=True)(copy.deepcopy(given))
        np.random.seed(seed)
        ours = RandomCenterCropPadMinObjects(**SETTINGS)(copy.deepcopy(given))
        np.testing.assert_array_equal(ours['img'], theirs['img'])
        assert ours['img_shape'] == theirs['img_shape']
        assert ours['gt_bboxes'].tensor.tolist() == theirs['gt_bboxes'].tensor.tolist()
        assert ours['gt_bboxes_labels'].tolist() == theirs['gt_bboxes_labels'].tolist()


def test_boxes_move_with_the_image():
    given = record([[80, 60, 90, 72], [100, 84, 118, 96], [20, 20, 30, 30]])
    moved = 0
    for results in crops(given):
        assert results['img'].shape[:2] == results['img_shape']
        for box, label in zip(results['gt_bboxes'].tensor.numpy(), results['gt_bboxes_labels']):
            before = given['gt_bboxes'].tensor.numpy()[label]
            x, y = int(box[0]), int(box[1])
            if box[0] > 0 and box[1] > 0:  # the upper left corner is not clipped
                assert results['img'][y, x].tolist() == [before[1] + 1, before[0] + 1, 1]
                moved += 1
    assert moved > 20


@pytest.mark.parametrize('needed', [1, 2])
def test_min_objects_counts_objects_that_are_not_ignored(needed):
    """Every crop can contain a crowd box, but these do not count."""
    boxes = [[60, 60, 70, 70], [76, 64, 86, 76], [90, 70, 110, 90], [40, 40, 160, 120]]
    for results in crops(record(boxes, ignored=[0, 0, 1, 1]), min_objects=needed, max_tries=500):
        assert (~results['gt_ignore_flags']).sum() >= needed
        assert results['img_shape'] != (160, 200)


def test_an_image_with_fewer_objects_needs_all_of_them():
    for results in crops(record([[90, 70, 100, 80]]), min_objects=5, max_tries=500):
        assert len(results['gt_bboxes']) == 1
        assert results['img_shape'] != (160, 200)


def test_an_image_without_objects_is_cropped():
    for results in crops(record([]), count=5):
        assert results['img_shape'] != (160, 200)
        assert len(results['gt_bboxes']) == 0


def test_a_box_of_nan_leaves_the_image_unchanged():
    given = record([[float('nan')] * 4])
    assert crops(given, count=1)[0]['img_shape'] == (160, 200)


@pytest.mark.parametrize('wrong', [dict(min_objects=0), dict(max_tries=0)], ids=str)
def test_bad_options_raise(wrong):
    with pytest.raises(ValueError, match=rf'{next(iter(wrong))} is 0; give at least 1'):
        RandomCenterCropPadMinObjects(**SETTINGS, **wrong)


def test_masks_raise():
    with pytest.raises(NotImplementedError, match='boxes but not masks'):
        RandomCenterCropPadMinObjects(**SETTINGS)({**record([]), 'gt_masks': None})
