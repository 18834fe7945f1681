"""Training input of YOLOv1 to YOLOv3, by Redmon's rules."""
# ruff: noqa: NPY002 (what the transforms draw from)

import numpy as np
import pytest

from mmdet_losses.data.darknet_redmon import RedmonColors, RedmonCrop, RedmonPlace
from tests.test_data.samples import boxes_of, item, ramp
from tests.test_data.test_darknet_image import slow_sample


def draw(monkeypatch, *arrays):
    """Fix what ``np.random.uniform`` returns."""
    values = iter([np.asarray(each, float) for each in arrays])
    monkeypatch.setattr(np.random, 'uniform', lambda *_: next(values))


def test_the_window_of_yolov1_repeats_the_edge(monkeypatch):
    draw(monkeypatch, [5.7, -3.2], [-4.9, 2.8])  # left, right; top, bottom
    results = RedmonCrop((24, 20), jitter=0.2)(item([[10, 0, 40, 30]]))
    wide, high = 80 - 5 + 3, 60 + 4 - 2
    x = 5 + np.arange(24) * (wide - 1) / 23
    y = -4 + np.arange(20) * (high - 1) / 19
    assert np.allclose(results['img'], slow_sample(ramp(60, 80), x, y, 'edge'), atol=1e-2)
    wanted = [5 * 24 / wide, 4 * 20 / high, 35 * 24 / wide, 34 * 20 / high]
    assert np.allclose(boxes_of(results), [wanted], atol=1e-4)


@pytest.mark.parametrize('jittered', [(0.9, -0.4), (-0.8, 0.9)], ids=['wide', 'high'])
def test_the_whole_image_is_placed_on_grey(jittered, monkeypatch):
    draw(monkeypatch, jittered, (0.3, 0.8))
    results = RedmonPlace((48, 48), jitter=0.3)(item([[0, 0, 80, 60], [20, 30, 40, 45]]))
    aspect = 80 * (1 + 0.3 * jittered[0]) / (60 * (1 + 0.3 * jittered[1]))
    wide, high = (48, 48 / aspect) if aspect >= 1 else (48 * aspect, 48)
    left, top = 0.3 * (48 - wide), 0.8 * (48 - high)
    order = results['gt_bboxes_labels'].argsort()
    wanted = [
        [left, top, left + wide, top + high],
        [left + wide / 4, top + high / 2, left + wide / 2, top + high * 3 / 4],
    ]
    assert np.allclose(boxes_of(results)[order], wanted, atol=1e-3)
    canvas = np.full((48, 48, 3), 127.5)
    x = np.arange(int(wide)) * 80 / int(wide)
    y = np.arange(int(high)) * 60 / int(high)
    part = slow_sample(ramp(60, 80), x, y, 'zero')
    canvas[int(top) : int(top) + int(high), int(left) : int(left) + int(wide)] = part
    assert np.allclose(results['img'], canvas, atol=1e-2)


def test_the_image_is_made_at_the_drawn_size():
    results = RedmonPlace((416, 416))({**item([[0, 0, 40, 30]]), 'input_size': (96, 96)})
    assert results['img'].shape == (96, 96, 3)


def test_objects_are_shuffled_and_limited():
    boxes = [[i, 10, i + 10, 30] for i in range(40)]
    np.random.seed(0)
    seen = [RedmonPlace((64, 64), max_objects=30)(item(boxes)) for _ in range(20)]
    assert all(len(each['gt_bboxes']) == 30 for each in seen)
    assert len({tuple(each['gt_bboxes_labels']) for each in seen}) == 20
    every = RedmonCrop((64, 64))(item(boxes))
    assert sorted(every['gt_bboxes_labels'].tolist()) == list(range(40))


@pytest.mark.parametrize(('transform', 'side'), [(RedmonCrop, 0.005), (RedmonPlace, 0.001)])
def test_small_boxes_are_dropped(transform, side):
    np.random.seed(0)
    for _ in range(20):
        boxes = [[40, 20, 40 + 80 * side / 3, 40], [10, 10, 50, 40]]
        results = transform((448, 448))(item(boxes))
        assert results['gt_bboxes_labels'].tolist() == [1]


def test_images_that_are_longer_than_an_oblong_input_lose_the_rest():
    np.random.seed(0)
    for _ in range(20):
        results = RedmonPlace((96, 32))(item([[0, 0, 80, 60]], (60, 80)))
        assert results['img'].shape == (32, 96, 3)
        assert np.isfinite(results['img']).all()


def test_colours_are_drawn_in_their_ranges():
    np.random.seed(0)
    values = []
    for _ in range(400):
        image = np.full((2, 2, 3), 100, np.uint8)
        values.append(float(RedmonColors()(dict(img=image))['img'][0, 0, 0]) / 100)
    values = np.array(values)
    assert values.min() == pytest.approx(2 / 3, abs=0.02)
    assert values.max() == pytest.approx(1.5, abs=0.02)
    assert (values > 1).mean() == pytest.approx(0.5, abs=0.1)
