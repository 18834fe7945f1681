"""The training crop of CornerNet, Squeeze and triplets."""
# ruff: noqa: NPY002 (what the transforms draw from)

import numpy as np
import pytest
from mmdet.structures.bbox import HorizontalBoxes

from mmdet_losses.data.corner_crop import CornerNetCrop


def record(boxes, size=(300, 400)):
    """An image whose green and red channels hold row and column."""
    ys, xs = np.mgrid[: size[0], : size[1]]
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    return dict(
        img=np.stack([np.full(size, 255), ys * 255 // size[0], xs * 255 // size[1]], -1).astype(
            np.uint8
        ),
        img_shape=size,
        gt_bboxes=HorizontalBoxes(boxes),
        gt_bboxes_labels=np.arange(len(boxes)),
        gt_ignore_flags=np.zeros(len(boxes), bool),
    )


def slow_crop(image, boxes, side, center, size):
    """The rule pixel by pixel, before the resize."""
    crop = np.zeros((side, side, 3), np.uint8)
    for y in range(side):
        for x in range(side):
            source_y, source_x = y - side // 2 + center[1], x - side // 2 + center[0]
            shown = y < side // 2 * 2 and x < side // 2 * 2
            if shown and 0 <= source_y < image.shape[0] and 0 <= source_x < image.shape[1]:
                crop[y, x] = image[source_y, source_x]
    moved = (boxes - np.tile(center, 2) + side // 2) * (size / side)
    return crop, moved.clip(0, size - 1)


@pytest.mark.parametrize('flip', [False, True])
@pytest.mark.parametrize('size', [63, 64])
def test_crop_equals_the_rule_pixel_by_pixel(size, flip, monkeypatch):
    boxes = np.array([[10.0, 20, 60, 80], [150, 100, 220, 190]])
    item = record(boxes, (200, 240))
    image = item['img']
    centers = iter((120, 90))
    monkeypatch.setattr('mmdet_losses.data.corner_crop.inside', lambda *_: next(centers))
    results = CornerNetCrop((size, size), scales=(1.0,), flip_prob=float(flip))(item)
    crop, moved = slow_crop(image, boxes, size, (120, 90), size)
    kept = (moved[:, 2:] > moved[:, :2]).all(1)
    if flip:
        crop = crop[:, ::-1]
        moved[:, [0, 2]] = size - 1 - moved[:, [2, 0]]
    assert np.array_equal(results['img'], crop)
    assert np.allclose(results['gt_bboxes'].tensor.numpy(), moved[kept], atol=1e-4)
    assert results['gt_bboxes_labels'].tolist() == np.flatnonzero(kept).tolist()


def test_a_sliver_of_a_box_is_a_full_object():
    """No centre test: the box of the left half survives in crops that show one column of it."""
    np.random.seed(0)
    transform, widths = CornerNetCrop((100, 100), scales=(1.0,), border=8), []
    for _ in range(300):
        results = transform(record([[0, 0, 200, 300]]))
        if len(results['gt_bboxes']):
            box = results['gt_bboxes'].tensor[0]
            widths.append(float(box[2] - box[0]))
    assert min(widths) < 10
    assert len(widths) < 300


def test_a_crop_without_objects_is_used():
    np.random.seed(0)
    transform = CornerNetCrop((100, 100), scales=(1.0,), border=8)
    counts = [len(transform(record([[0, 0, 20, 20]]))['gt_bboxes']) for _ in range(100)]
    assert counts.count(0) > 50
    assert transform(record([]))['img'].shape == (100, 100, 3)


@pytest.mark.parametrize('shape', [(1, 1), (5, 900), (130, 40)])
def test_images_of_any_shape_are_cropped(shape):
    np.random.seed(0)
    for _ in range(20):
        results = CornerNetCrop()(record([[0, 0, shape[1], shape[0]]], shape))
        assert results['img'].shape == (511, 511, 3)
        assert results['img_shape'] == (511, 511)


def test_boxes_end_at_the_last_pixel():
    np.random.seed(0)
    for _ in range(50):
        results = CornerNetCrop((511, 511))(record([[-50, -50, 900, 900], [30, 30, 90, 80]]))
        boxes = results['gt_bboxes'].tensor
        assert boxes.min() >= 0
        assert boxes.max() <= 510
