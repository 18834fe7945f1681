"""The training input of SSD, by ssd.pytorch's and by Caffe's rules."""
# ruff: noqa: NPY002 (what the transforms draw from)

import cv2
import numpy as np
import pytest

from mmdet_losses.data import ssd, ssd_caffe
from mmdet_losses.data.ssd import SSDAugmentation
from tests.test_data.samples import boxes_of, item, ramp

MEAN = (123, 117, 104)


def test_the_crop_shows_the_image_on_a_canvas_of_the_mean(monkeypatch):
    """Equal to painting the whole canvas first."""
    whole = np.empty((130, 150, 3), np.float32)
    whole[:] = MEAN[::-1]
    whole[30:90, 40:120] = ramp(60, 80)
    for crop in ((0, 0, 150, 130), (10, 20, 60, 70), (60, 40, 110, 80), (100, 60, 150, 130)):
        place = 40 - crop[0], 30 - crop[1]
        sides = crop[2] - crop[0], crop[3] - crop[1]
        shown = ssd.cut(ramp(60, 80), place, sides, lambda i: i.astype(np.float32), MEAN[::-1])
        wanted = whole[crop[1] : crop[3], crop[0] : crop[2]]
        assert np.array_equal(shown, wanted)
        monkeypatch.setattr(ssd, 'distort_floats', lambda i: i.astype(np.float32))
        for size in ((30, 30), (17, 90), (160, 140)):  # most are left out, some, none
            small = SSDAugmentation(MEAN)._resized(ramp(60, 80), place, sides, size)
            assert np.allclose(small, cv2.resize(wanted, size), atol=1e-2)
            border = cv2.resize(np.float32((wanted == MEAN[::-1]).all(-1)), size) == 1
            assert (small[border] == MEAN[::-1]).all()
    nothing = ssd.cut(ramp(60, 80), (40, 30), (30, 20), lambda i: i, MEAN[::-1])
    assert (nothing == MEAN[::-1]).all()
    assert (
        SSDAugmentation(MEAN)._resized(ramp(60, 80), (40, 30), (30, 20), (9, 9)) == nothing[0, 0]
    ).all()


@pytest.mark.parametrize('code', ['pytorch', 'caffe'])
def test_the_border_is_exactly_the_mean_whatever_the_colours(code, monkeypatch):
    np.random.seed(0)
    monkeypatch.setattr(ssd, 'draw_crop', lambda size, boxes: (0, 0, *size))
    monkeypatch.setattr(ssd_caffe, 'draw_crop', lambda size, boxes: (0, 0, *size))
    monkeypatch.setattr(ssd_caffe, 'resize', lambda image, size: image)
    found = 0
    for _ in range(30):
        size = None if code == 'pytorch' else (30, 30)
        results = SSDAugmentation(MEAN, code, size=size)(item([[10, 10, 40, 40]]))
        is_mean = (results['img'] == MEAN[::-1]).all(-1)
        if results['img'].shape[0] > 70:
            found += 1
            assert is_mean[0].all() or is_mean[-1].all()
            assert is_mean.mean() > 1 - 60 * 80 / is_mean.size - 0.01
    assert found > 5


def test_five_of_six_modes_are_the_same_free_crop():
    np.random.seed(0)
    box = np.array([[20.0, 10, 60, 50]])
    crops = np.array([ssd.draw_crop((80, 60), box) for _ in range(3000)])
    whole = (crops == [0, 0, 80, 60]).all(1)
    assert whole.mean() == pytest.approx(1 / 6, abs=0.025)
    sides = (crops[:, 2:] - crops[:, :2])[~whole]
    assert sides.min(0) == pytest.approx([0.3 * 80, 0.3 * 60], abs=3)
    ratio = sides[:, 1] / sides[:, 0]
    assert 0.45 < ratio.min() < 0.55
    assert 1.85 < ratio.max() < 2.1
    assert ((crops[:, :2] < [40, 30]) & (crops[:, 2:] > [40, 30])).all()


def test_boxes_centred_in_the_crop_stay_and_are_clipped(monkeypatch):
    monkeypatch.setattr(ssd, 'coin', lambda: True)  # no canvas
    monkeypatch.setattr(ssd, 'draw_crop', lambda size, boxes: (20, 10, 60, 50))
    results = SSDAugmentation(MEAN)(item([[0, 0, 50, 50], [0, 0, 30, 30], [30, 20, 40, 30]]))
    assert results['gt_bboxes_labels'].tolist() == [0, 2]
    assert boxes_of(results).tolist() == [[0, 0, 30, 40], [10, 10, 20, 20]]
    assert results['img'].shape == (40, 40, 3)
    assert results['img'].dtype == np.float32
    results = SSDAugmentation(MEAN, size=(20, 80))(item([[0, 0, 50, 50]]))
    assert boxes_of(results).tolist() == [[0, 0, 15, 80]]
    assert results['img'].shape == (80, 20, 3)


def test_colours_follow_the_formula(monkeypatch):
    """Every operation on, in the order brightness, contrast, saturation, hue."""
    image = ramp(20, 30)
    draws = iter((10.0, 1.2, 0.8, -15.0))
    monkeypatch.setattr(ssd, 'coin', iter((True, True, False, True, True, False)).__next__)
    monkeypatch.setattr(np.random, 'uniform', lambda low, high: next(draws))
    found = ssd.distort_floats(image)
    wanted = (image.astype(np.float32) + 10) * np.float32(1.2)
    h, s, v = cv2.split(cv2.cvtColor(wanted, cv2.COLOR_BGR2HSV))
    wanted = cv2.merge((np.where(h < 15, h + 345, h - 15), s * np.float32(0.8), v))
    wanted = cv2.cvtColor(wanted, cv2.COLOR_HSV2BGR)
    assert np.allclose(found, wanted, atol=1e-2)
    assert found.max() > 255  # nothing is clipped


def test_caffe_candidates_reach_their_overlap():
    np.random.seed(0)
    box = np.array([[0.2, 0.2, 0.7, 0.6]])
    for overlap in (0.3, 0.5):
        found = [ssd_caffe._candidate(box, overlap) for _ in range(200)]
        found = [each for each in found if each is not None]
        assert len(found) > 150
        assert ssd_caffe._best_iou(box, np.array(found)).min() >= overlap
    free = np.array([ssd_caffe._candidate(box, 0.0) for _ in range(2000)])
    w, h = (free[:, 2:] - free[:, :2]).T
    scale, aspect = np.sqrt(w * h), w / h
    assert 0.3 < scale.min() < 0.32
    assert aspect.min() < 0.6 < 1.7 < aspect.max()
    assert (np.minimum(aspect, 1 / aspect) >= np.maximum(scale**2, 0.5) - 1e-9).all()


def test_caffe_colours_are_those_of_opencv():
    """Its steps are ``convertTo`` of 8-bit images, which saturates and rounds."""
    levels = np.arange(256, dtype=np.uint8).reshape(1, -1)
    for factor, shift in ((1, -31.4), (1, 20.5), (0.5, 0), (1.37, 0)):
        wanted = cv2.normalize(  # the same saturated cast
            levels, None, alpha=shift, beta=255 * factor + shift, norm_type=cv2.NORM_MINMAX
        )
        assert np.array_equal(ssd_caffe._table(levels, factor, shift), wanted)


@pytest.mark.parametrize('code', ['pytorch', 'caffe'])
@pytest.mark.parametrize('boxes', [[], [[90, 10, 100, 20]]], ids=['none', 'centre outside'])
def test_images_without_an_object_inside_are_used(code, boxes):
    np.random.seed(0)
    for _ in range(20):
        results = SSDAugmentation(MEAN, code, size=(30, 30))(item(boxes))
        assert results['img'].size > 0
        assert results['img_shape'] == results['img'].shape[:2]


def test_wrong_choices_raise():
    with pytest.raises(ValueError, match="code='tf' is unknown; choose 'pytorch' or 'caffe'"):
        SSDAugmentation(code='tf')
    with pytest.raises(ValueError, match="code='caffe' draws the interpolation"):
        SSDAugmentation(code='caffe')
