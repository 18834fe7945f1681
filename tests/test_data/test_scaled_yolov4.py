"""Training and test input of Scaled-YOLOv4."""
# ruff: noqa: NPY002 (what the transforms draw from)

import cv2
import numpy as np
import pytest

from mmdet_losses.data.scaled_yolov4 import (
    ScaledYOLOv4HSV,
    ScaledYOLOv4LetterBox,
    ScaledYOLOv4Mosaic,
)
from tests.test_data.samples import boxes_of, item, ramp


def tiles(count=4, box=(4, 6, 30, 28)):
    shapes = [(32, 64), (64, 48), (40, 40), (64, 64)] * 2
    made = [item([box], shape) for shape in shapes[:count]]
    for k, tile in enumerate(made):
        tile['gt_bboxes_labels'] += k
    return {**made[0], 'mix_results': made[1:]}


def resized(shape):
    """An image with its longer side at 64 pixels."""
    ratio = 64 / max(shape)
    return cv2.resize(ramp(*shape), (int(shape[1] * ratio), int(shape[0] * ratio)))


def test_images_meet_in_the_middle_of_a_grey_canvas(monkeypatch):
    """Scale 1 and the middle to (40, 20): the output is a part of the canvas."""
    monkeypatch.setattr(
        np.random, 'uniform',
        lambda low, high, size=None: 1.0 if size is None else np.array([40 / 64, 20 / 64]),
    )  # fmt: skip
    results = ScaledYOLOv4Mosaic(64)(tiles())
    canvas = np.full((128, 128, 3), 114, np.uint8)
    canvas[32:64, 0:64] = resized((32, 64))
    canvas[0:64, 64:112] = resized((64, 48))
    canvas[64:128, 0:64] = resized((40, 40))
    canvas[64:128, 64:128] = resized((64, 64))
    shown = np.full((64, 64, 3), 114, np.uint8)
    shown[:] = canvas[44:108, 24:88]
    assert np.array_equal(results['img'], shown)
    scale = [1, 1, 1.6, 1]
    corner = np.array([[0, 32], [64, 0], [0, 64], [64, 64]]) - [24, 44]
    for box, k in zip(boxes_of(results), results['gt_bboxes_labels'], strict=True):
        wanted = np.array([4, 6, 30, 28]) * scale[k] + np.tile(corner[k], 2)
        assert np.allclose(box, wanted.clip(0, 64), atol=1e-4)
    assert 3 in results['gt_bboxes_labels']


@pytest.mark.parametrize('center', ['middle', 'random'])
def test_the_shown_part_equals_a_map_of_the_whole_canvas(center):
    """Only the shown part is computed; its rounding may differ by one grey level."""
    for seed in range(12):
        np.random.seed(seed)
        results = ScaledYOLOv4Mosaic(64, scale=0.9, center=center)(tiles())
        np.random.seed(seed)
        meet = [64, 64] if center == 'middle' else [int(np.random.uniform(32, 96)) for _ in '12']
        gain = np.random.uniform(0.1, 1.9)
        shift = np.random.uniform(0, 1, 2) * 64 - gain * 64
        canvas = np.full((256, 256, 3), 114, np.uint8)
        for k, shape in enumerate([(32, 64), (64, 48), (40, 40), (64, 64)]):
            image = resized(shape)
            left = 64 + meet[0] - image.shape[1] * (k % 2 == 0)
            top = 64 + meet[1] - image.shape[0] * (k < 2)
            canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
        matrix = np.array([[gain, 0, shift[0]], [0, gain, shift[1]]])
        border = dict(borderValue=(114, 114, 114))
        wanted = cv2.warpAffine(canvas[64:192, 64:192], matrix, (64, 64), **border)
        assert np.abs(results['img'].astype(int) - wanted).max() <= 1
        np.random.seed(seed)
        whole = ScaledYOLOv4HSV()(dict(img=results['img']))['img'].astype(int)
        np.random.seed(seed)
        assert 'drawn' in results
        assert np.abs(ScaledYOLOv4HSV()(results)['img'] - whole).max() <= 1


@pytest.mark.parametrize('gain', [0.5, 1.0, 1.5])
def test_a_bright_object_stays_under_its_box(gain, monkeypatch):
    image = np.zeros((64, 64, 3), np.uint8)
    image[20:44, 10:50] = 255
    monkeypatch.setattr(
        np.random, 'uniform',
        lambda low, high, size=None: gain if size is None else np.array([0.5, 0.5]),
    )  # fmt: skip
    empty = [item([], (64, 64), image=np.zeros((64, 64, 3), np.uint8)) for _ in range(3)]
    results = ScaledYOLOv4Mosaic(64)(
        {**empty[0], 'mix_results': [*empty[1:], item([[10, 20, 50, 44]], image=image)]}
    )
    ys, xs = np.nonzero(results['img'][..., 0] > 180)
    found = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
    assert np.allclose(boxes_of(results), [found], atol=1.5)


def test_boxes_need_two_pixels_an_area_and_a_shape():
    transform = ScaledYOLOv4Mosaic(64, min_area=0.2)
    before = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 3, 60], [0, 0, 2, 9], [0, 0, 0, 0.0]])
    after = np.array(
        [[0, 0, 10, 2.1], [0, 0, 10, 1.9], [0, 0, 2.9, 60], [0, 0, 2, 9], [0, 0, 0, 0]]
    )
    assert transform._kept(before, after).tolist() == [True, False, False, False, False]
    assert transform._kept(before[:1], after[:1] * 0.95).tolist() == [False]


def test_mixup_blends_two_mosaics_and_keeps_all_boxes(monkeypatch):
    np.random.seed(0)
    transform = ScaledYOLOv4Mosaic(64, scale=0, translate=0, mixup=1.0)
    assert len(transform.get_indexes(range(9))) == 7
    monkeypatch.setattr(np.random, 'beta', lambda *_: 0.25)
    plain = ScaledYOLOv4Mosaic(64, scale=0, translate=0)
    one, two = plain(tiles()), plain(tiles())
    other = tiles(8)
    for tile in other['mix_results'][3:]:
        tile['img'] = tile['img'] // 2
    mixed = transform(other)
    assert mixed['mixed']
    assert len(mixed['gt_bboxes']) == len(one['gt_bboxes']) + len(two['gt_bboxes'])
    half = tiles()
    for tile in (half, *half['mix_results']):
        tile['img'] = tile['img'] // 2
    dark = plain(half)['img']
    wanted = (one['img'] * 0.25 + dark * 0.75).astype(np.uint8)
    assert np.array_equal(mixed['img'], wanted)


def test_mixup_has_its_probability():
    np.random.seed(0)
    transform = ScaledYOLOv4Mosaic(mixup=0.2)
    counts = [len(transform.get_indexes(range(9))) for _ in range(1000)]
    assert counts.count(7) == pytest.approx(200, abs=50)
    assert not transform(tiles())['mixed']


def test_the_csp_branch_draws_the_point_where_images_meet():
    np.random.seed(0)
    transform = ScaledYOLOv4Mosaic(64, scale=0, translate=0, center='random')
    white = np.full((64, 64, 3), 255, np.uint8)
    shares = []
    for _ in range(300):
        made = [item([], image=white * (k == 0)) for k in range(4)]
        shares.append((transform({**made[0], 'mix_results': made[1:]})['img'] == 255).mean())
    assert min(shares) < 0.05
    assert max(shares) > 0.9
    with pytest.raises(ValueError, match="center='left' is unknown"):
        ScaledYOLOv4Mosaic(center='left')


def test_hsv_gains_are_tables_of_truncated_numbers(monkeypatch):
    monkeypatch.setattr(np.random, 'uniform', lambda *_: np.array([0.9, -0.5, 1.0]))
    image = ramp(40, 50)
    found = ScaledYOLOv4HSV()(dict(img=image.copy()))['img']
    h, s, v = cv2.split(cv2.cvtColor(image, cv2.COLOR_BGR2HSV))
    gains = 1 + np.array([0.9, -0.5, 1.0]) * [0.015, 0.7, 0.4]
    changed = [h * gains[0] % 180, np.minimum(s * gains[1], 255), np.minimum(v * gains[2], 255)]
    hsv = np.stack(changed, -1).astype(np.uint8)
    assert np.array_equal(found, cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR))


@pytest.mark.parametrize(
    ('shape', 'stride', 'side', 'border'),
    [
        ((480, 640), 32, 672, (96, 576, 16, 656)),
        ((640, 481), 64, 704, (32, 672, 111, 592)),
        ((1000, 2000), 32, 672, (176, 496, 16, 656)),
        ((30, 20), 32, 672, (16, 656, 123, 549)),
    ],
)
def test_letter_box_is_a_square_with_half_a_stride(shape, stride, side, border):
    results = ScaledYOLOv4LetterBox(640, stride)(item([], shape))
    assert results['img'].shape == (side, side, 3)
    assert results['border'] == border
    top, bottom, left, right = border
    way = cv2.INTER_AREA if max(shape) > 640 else cv2.INTER_LINEAR
    placed = cv2.resize(ramp(*shape), (right - left, bottom - top), interpolation=way)
    assert np.array_equal(results['img'][top:bottom, left:right], placed)
    rest = np.ones((side, side), bool)
    rest[top:bottom, left:right] = False
    assert (results['img'][rest] == 114).all()
    assert results['scale_factor'] == ((right - left) / shape[1], (bottom - top) / shape[0])
