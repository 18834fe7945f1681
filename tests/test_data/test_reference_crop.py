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


def fixed(transform, scale, center, flip, monkeypatch):
    """Replace what is drawn: the factor on the image, the centre (x, y) of the crop, the flip."""
    monkeypatch.setattr(transform, '_draw', lambda boxes, usable: (scale, None))
    monkeypatch.setattr(transform, 'flip_prob', float(flip))
    drawn = iter(center)
    monkeypatch.setattr(
        'mmdet_losses.data.reference_crop.draw_center', lambda *arguments: int(next(drawn))
    )


@pytest.mark.parametrize('name', ['targets_saccade_random_path', 'targets_saccade_fixed_crop'])
def test_boxes_and_visibility_equal_the_official_crop(name, monkeypatch):
    golden = np.load(GOLDEN / f'{name}.npz')
    height, width = golden['input_size'].tolist()
    for i, size in enumerate(golden['image_sizes'].tolist()):
        transform = ReferenceScaleCrop(size=(width, height))
        center = golden['crop_center_yx'][i][::-1]
        fixed(transform, float(golden['scale_f64'][i]), center, golden['flipped'][i], monkeypatch)
        mine = golden['box_image'] == i
        results = transform(record(golden['boxes'][mine], size))
        wanted = golden['enc_boxes'][golden['enc_box_image'] == i]
        assert np.allclose(results['gt_bboxes'].tensor.numpy(), wanted, atol=1e-3)
        share = golden['enc_area_ratio'][golden['enc_box_image'] == i]
        assert np.allclose(results['gt_visibility'], share, atol=1e-5)
        top, bottom, left, right = golden['crop_border'][i].astype(int)
        filled = np.zeros((height, width), bool)
        filled[top:bottom, left:right] = True
        if golden['flipped'][i]:
            filled = filled[:, ::-1]
        assert np.array_equal(results['img'][..., 0] > 0, filled)


@pytest.mark.parametrize(
    ('side', 'low', 'high'),
    [(300, 96, 254), (97, 96, 254), (96, 32, 96), (32, 16, 32), (9, 16, 32)],
)
def test_the_reference_gets_a_side_of_its_class(side, low, high):
    transform, sides = ReferenceScaleCrop(centered_prob=0.0), set()
    np.random.seed(0)
    for _ in range(60):
        results = transform(record([[100, 90, 100 + side / 2, 90 + side]], (480, 640)))
        [box] = results['gt_bboxes'].tensor
        width, height = (box[2:] - box[:2]).tolist()
        # The official bounds let the crop lose up to two pixels of the reference along each axis.
        lost = (1 - 2.001 / (width + 2)) * (1 - 2.001 / (height + 2))
        assert results['gt_visibility'] >= min(lost, 1)
        if results['gt_visibility'] > 1 - 1e-6:
            assert height == pytest.approx(round(height), abs=1e-3)
            sides.add(round(height))
    assert low <= min(sides) and max(sides) <= high
    assert len(sides) > 10


def test_the_reference_is_not_an_ignored_object():
    boxes = [[50, 50, 350, 350], [400, 60, 420, 90]]
    np.random.seed(0)
    for _ in range(20):
        results = ReferenceScaleCrop()(record(boxes, (480, 640), ignored=[True, False]))
        sides = (results['gt_bboxes'].tensor[:, 3] - results['gt_bboxes'].tensor[:, 1]).numpy()
        assert 16 <= sides[results['gt_bboxes_labels'] == 1] <= 32.001


def test_a_centred_crop_is_near_the_reference_and_may_leave_the_image():
    """The centre is at most 14 pixels off; a reference in the corner gets black borders."""
    np.random.seed(0)
    transform, black = ReferenceScaleCrop(centered_prob=1.0, flip_prob=0.0), 0
    for _ in range(60):
        results = transform(record([[2, 2, 92, 92]], (1600, 1600)))
        if results['gt_visibility'] > 1 - 1e-6:
            box = results['gt_bboxes'].tensor[0]
            assert ((box[:2] + box[2:]) / 2 - 127).abs().max() <= 15
        black += int((results['img'][0] == 0).all())
    assert black > 20


def test_half_of_the_crops_are_centred():
    np.random.seed(0)
    reference = [[300, 200, 380, 280]]
    centers = []
    for _ in range(400):
        results = ReferenceScaleCrop(classes=((0, 80, 80),))(record(reference, (480, 640)))
        box = results['gt_bboxes'].tensor[0]
        centers.append(float((((box[:2] + box[2:]) / 2) - 127).abs().max()))
    assert np.mean(np.array(centers) <= 15) == pytest.approx(0.5, abs=0.1)


def test_flipped_crops_mirror_boxes_at_the_last_pixel():
    np.random.seed(0)
    item = record([[300, 200, 380, 280]], (480, 640))
    straight = ReferenceScaleCrop(classes=((0, 80, 80),), centered_prob=0, flip_prob=0.0)(item)
    np.random.seed(0)
    item = record([[300, 200, 380, 280]], (480, 640))
    mirrored = ReferenceScaleCrop(classes=((0, 80, 80),), centered_prob=0, flip_prob=1.0)(item)
    one, two = (each['gt_bboxes'].tensor[0].tolist() for each in (straight, mirrored))
    assert two == pytest.approx([254 - one[2], one[1], 254 - one[0], one[3]])
    assert np.array_equal(mirrored['img'], straight['img'][:, ::-1])


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
