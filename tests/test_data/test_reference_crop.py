"""The training crop of CornerNet-Saccade."""
# ruff: noqa: NPY002 (the generator of the transforms)

import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures.bbox import HorizontalBoxes

from mmdet_losses.data.reference_crop import (
    PackCropInputs,
    ReferenceScaleCrop,
    resized_part,
)

GOLDEN = Path(__file__).parents[1] / 'golden' / 'corner'


def record(boxes, size, ignored=None, image=None):
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    return dict(
        img=np.full((*size, 3), 200, np.uint8) if image is None else image,
        img_shape=size,
        gt_bboxes=HorizontalBoxes(torch.from_numpy(boxes.copy())),
        gt_bboxes_labels=np.arange(len(boxes)),
        gt_ignore_flags=np.zeros(len(boxes), bool) if ignored is None else np.asarray(ignored),
    )


def fixed(transform, scale, center, monkeypatch):
    """Replace the random numbers: the factor for the image and the centre (x, y) of the crop."""
    monkeypatch.setattr(transform, '_draw', lambda boxes, ignored: (scale, None))
    drawn = iter(center)
    monkeypatch.setattr(
        'mmdet_losses.data.reference_crop._center', lambda *arguments: int(next(drawn))
    )


@pytest.mark.parametrize('name', ['targets_saccade_random_path', 'targets_saccade_fixed_crop'])
def test_boxes_and_visibility_equal_the_official_crop(name, monkeypatch):
    golden = np.load(GOLDEN / f'{name}.npz')
    height, width = golden['input_size'].tolist()
    for i, size in enumerate(golden['image_sizes'].tolist()):
        transform = ReferenceScaleCrop(size=(width, height))
        center = golden['crop_center_yx'][i][::-1]
        fixed(transform, float(golden['scale_f64'][i]), center, monkeypatch)
        mine = golden['box_image'] == i
        results = transform(record(golden['boxes'][mine], size))
        wanted = golden['enc_boxes'][golden['enc_box_image'] == i]
        if golden['flipped'][i]:  # after the crop, by RandomFlip
            wanted = width - 1 - wanted[:, [2, 1, 0, 3]] + np.array([0, 1 - width, 0, 1 - width])
            wanted[:, [1, 3]] = golden['enc_boxes'][golden['enc_box_image'] == i][:, [1, 3]]
        assert np.allclose(results['gt_bboxes'].tensor.numpy(), wanted, atol=1e-3)
        share = golden['enc_area_ratio'][golden['enc_box_image'] == i]
        assert np.allclose(results['gt_visibility'], share, atol=1e-5)
        top, bottom, left, right = golden['crop_border'][i].astype(int)
        filled = np.zeros((height, width), bool)
        filled[top:bottom, left:right] = True
        assert np.array_equal(results['img'][..., 0] > 0, filled)


@pytest.mark.parametrize(
    ('side', 'low', 'high'),
    [(300, 96, 254), (97, 96, 254), (96, 32, 96), (32, 16, 32), (9, 16, 32)],
)
def test_the_reference_gets_a_side_of_its_class(side, low, high):
    transform, sides = ReferenceScaleCrop(), set()
    np.random.seed(0)
    for _ in range(60):
        results = transform(record([[100, 90, 100 + side / 2, 90 + side]], (480, 640)))
        [box] = results['gt_bboxes'].tensor
        length = float(box[3] - box[1])
        if length < 252.5:  # a crop of 255 contains it completely, with any rounding
            assert results['gt_visibility'] == pytest.approx(1, abs=1e-5)
            assert length == pytest.approx(round(length), abs=1e-3)
        sides.add(round(length))
    assert low <= min(sides) and max(sides) <= high
    assert len(sides) > 10


def test_the_reference_is_not_an_ignored_object():
    boxes = [[50, 50, 350, 350], [400, 60, 420, 90]]
    np.random.seed(0)
    for _ in range(20):
        results = ReferenceScaleCrop()(record(boxes, (480, 640), ignored=[True, False]))
        sides = (results['gt_bboxes'].tensor[:, 3] - results['gt_bboxes'].tensor[:, 1]).numpy()
        assert 16 <= sides[results['gt_bboxes_labels'] == 1] <= 32.001


@pytest.mark.parametrize('boxes', [[], [[30, 30, 30, 60]]], ids=['none', 'one without area'])
def test_images_without_objects_are_cropped(boxes):
    np.random.seed(0)
    results = ReferenceScaleCrop()(record(boxes, (480, 640)))
    assert results['img'].shape == (255, 255, 3)
    assert len(results['gt_bboxes']) == len(results['gt_visibility']) == 0
    assert results['gt_bboxes_labels'].shape == results['gt_ignore_flags'].shape == (0,)


def test_a_bright_rectangle_stays_inside_its_box():
    image = np.zeros((400, 500, 3), np.uint8)
    image[100:220, 150:300] = 255
    np.random.seed(0)
    for _ in range(10):
        results = ReferenceScaleCrop()(record([[150, 100, 300, 220]], (400, 500), image=image))
        ys, xs = np.nonzero(results['img'][..., 0] > 127)
        found = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        assert np.allclose(results['gt_bboxes'].tensor[0].numpy(), found, atol=1.5)


@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
@pytest.mark.parametrize('channels', [(), (3,)])
def test_a_part_equals_that_of_the_whole_resized_image(dtype, channels):
    """Random factors, and factor 0.5, for which OpenCV averages."""
    rng = np.random.default_rng(0)
    for trial in range(40):
        shape = rng.integers(1, 90, 2)
        image = rng.integers(0, 256, (*shape, *channels)).astype(dtype)
        factor = 0.5 if trial < 5 else np.exp(rng.uniform(-2, 2))
        size = tuple(max(int(side * factor), 1) for side in shape)
        whole = cv2.resize(image, size[::-1]).astype(float)
        rows, columns = (sorted(rng.integers(0, side + 1, 2).tolist()) for side in size)
        part = resized_part(image, size, rows, columns)
        wanted = whole[slice(*rows), slice(*columns)]
        assert part.shape == wanted.shape
        assert np.abs(part - wanted).max(initial=0) <= (1 if dtype is np.uint8 else 2e-3)


def test_a_tiny_reference_does_not_enlarge_the_whole_image():
    """One pixel becomes 32; the whole image would have 315 million pixels."""
    transform = ReferenceScaleCrop(classes=((0, 32, 32),))
    item = record([[300, 200, 301, 201]], (480, 640))
    tracemalloc.start()
    transform(item)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 30 * 2**20


def test_visibility_is_packed_for_the_target_encoder():
    np.random.seed(0)
    boxes = [[0, 0, 40, 40], [300, 300, 380, 330]]
    results = ReferenceScaleCrop()(record(boxes, (400, 400), ignored=[False, True]))
    packed = PackCropInputs(meta_keys=('img_shape',))(results)['data_samples']
    kept = ~results['gt_ignore_flags']
    assert packed.gt_instances.visibility.tolist() == results['gt_visibility'][kept].tolist()
    assert len(packed.gt_instances) == kept.sum()


def test_classes_must_cover_every_side():
    with pytest.raises(ValueError, match=r'bounds of classes are \[96, 32\]'):
        ReferenceScaleCrop(classes=((96, 96, 254), (32, 32, 96)))
