"""The input geometry of the centre family: the map, the labels, and the way back to the image."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.structures import InstanceData

from mmdet_losses.core import postprocess
from mmdet_losses.data import CenterAffine
from mmdet_losses.ops import apply_affine, center_affine, compose_affine, mirror_affine


def results(height: int, width: int, boxes: list[list[float]]) -> dict:
    """An image that is bright inside its boxes."""
    image = np.zeros((height, width, 3), np.uint8)
    for x1, y1, x2, y2 in np.array(boxes, int).tolist():
        image[y1 : y2 + 1, x1 : x2 + 1] = 255
    return {'img': image, 'gt_bboxes': HorizontalBoxes(np.array(boxes, np.float32))}


def bright_box(image: np.ndarray) -> list[int]:
    rows, columns = np.nonzero(image[..., 0] > 127)
    return [columns.min(), rows.min(), columns.max(), rows.max()]


@pytest.mark.parametrize(
    'image, canvas, factor',
    [((120, 200), (96, 160), 0.8), ((128, 96), (128, 96), 0.75), ((64, 64), (96, 160), 2.5)],
)
def test_the_width_of_a_fixed_canvas_sets_the_scale(image, canvas, factor):
    done = CenterAffine(size=canvas[::-1])(results(*image, [[0, 0, 1, 1]]))
    assert done['img_shape'] == canvas
    assert done['scale_factor'] == pytest.approx((factor, factor))
    middle = apply_affine(np.array([image[1] / 2, image[0] / 2]), done['affine'])
    np.testing.assert_allclose(middle, [canvas[1] / 2, canvas[0] / 2])


@pytest.mark.parametrize('side, padded', [(31, 32), (32, 64), (70, 96), (96, 128), (127, 128)])
def test_mode_keep_pads_to_the_next_multiple_of_32(side, padded):
    done = CenterAffine(mode='keep')(results(side, side + 1, [[0, 0, 1, 1]]))
    assert done['img_shape'][0] == padded
    assert done['scale_factor'] == (1.0, 1.0)


def test_mode_keep_shifts_by_whole_pixels_by_default():
    image = results(70, 109, [[3, 5, 40, 60]])
    whole = CenterAffine(mode='keep')(dict(image))
    assert whole['border'] == (13, 83, 10, 119)
    np.testing.assert_array_equal(whole['img'][13:83, 10:119], image['img'])
    assert whole['img'].sum() == image['img'].sum(dtype=np.uint64)
    assert CenterAffine(mode='keep', whole_pixels=False)(image)['border'] == (13, 83, 9.5, 118.5)


@pytest.mark.parametrize('flip', [0.0, 1.0])
@pytest.mark.parametrize('mode', ['fix', 'keep'])
def test_boxes_follow_the_image(mode, flip):
    boxes = [[30.0, 40.0, 69.0, 99.0]]
    done = CenterAffine(size=(160, 160), mode=mode, flip_prob=flip)(results(160, 120, boxes))
    np.testing.assert_allclose(
        bright_box(done['img']), done['gt_bboxes'].tensor[0].numpy(), atol=1.0
    )
    assert done['flip'] is bool(flip)


def test_mirroring_swaps_left_and_right_keypoints():
    image = results(64, 64, [[10, 10, 20, 30]])
    image['gt_keypoints'] = np.array([[[10, 10], [20, 11], [15, 30]]], np.float32)
    image['gt_keypoints_visible'] = np.array([[1, 0, 2]])
    transform = CenterAffine(size=(64, 64), flip_prob=1.0, flip_pairs=[(0, 1)])
    done = transform(image)
    # Pixel indices are mirrored, so the centre is half a pixel left of the canvas centre.
    assert done['gt_keypoints'].tolist() == [[[44, 11], [54, 10], [49, 30]]]
    assert done['gt_keypoints_visible'].tolist() == [[0, 1, 2]]


@pytest.mark.parametrize('mode', ['fix', 'keep'])
@pytest.mark.parametrize('size', [(110, 200), (333, 100), (64, 64)])
def test_predictions_are_mapped_back_to_image_pixels(mode, size):
    boxes = np.array([[3.25, 4.5, 50.75, 61.0], [-5, -7, 20, 30]], np.float32)
    image = {'img': np.zeros((*size, 3), np.uint8), 'gt_bboxes': boxes}
    done = CenterAffine(size=(160, 96), mode=mode)(image)
    found = InstanceData(
        bboxes=torch.from_numpy(done['gt_bboxes']),
        scores=torch.tensor([0.9, 0.8]),
        labels=torch.zeros(2, dtype=torch.int64),
    )
    back = postprocess(found, done, {}, rescale=True)
    np.testing.assert_allclose(back.bboxes.numpy(), boxes, atol=2e-4)


def test_random_scale_and_centre_stay_in_their_ranges():
    random.seed(3)
    transform = CenterAffine(size=(128, 128), scale_range=(0.6, 1.4, 0.1), center_border=128)
    factors = set()
    for _ in range(200):
        done = transform(results(100, 200, [[90, 40, 110, 60]]))
        factor = done['scale_factor'][0]
        factors.add(round(128 / (200 * factor), 2))
        middle = (64 - done['border'][2]) / factor, (64 - done['border'][0]) / factor
        assert 64 - 1e-6 <= middle[0] <= 136 and 32 - 1e-6 <= middle[1] <= 68
    assert factors == {0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3}


def test_jitter_moves_the_centre_and_the_scale_within_their_bounds():
    """The official --not_rand_crop: normal numbers, cut at two and at one standard deviation."""
    transform = CenterAffine(size=(128, 128), center_jitter=0.1, scale_jitter=0.4)
    random.seed(0)
    drawn = [transform._draw(100, 200) for _ in range(2000)]
    shifts = np.array([((x - 100) / 200, (y - 50) / 200) for (x, y), _, _ in drawn])
    factors = np.array([factor for _, factor, _ in drawn])
    assert np.abs(shifts).max() == pytest.approx(0.2)
    assert (factors.min(), factors.max()) == pytest.approx((0.6, 1.4))
    # 4.6 % of the normal numbers are beyond two standard deviations, 31.7 % beyond one
    assert (np.abs(shifts) > 0.2 - 1e-9).mean() == pytest.approx(0.046, abs=0.01)
    assert ((factors < 0.6 + 1e-9) | (factors > 1.4 - 1e-9)).mean() == pytest.approx(
        0.317, abs=0.03
    )
    inside = shifts[np.abs(shifts) < 0.199]
    assert inside.std() == pytest.approx(0.088, abs=0.004)  # of a normal number cut at two


def test_bad_arguments_raise():
    for jitter in (dict(center_jitter=0.1), dict(scale_jitter=0.4)):
        with pytest.raises(ValueError, match='draws the centre itself'):
            CenterAffine(scale_range=(0.6, 1.4, 0.1), **jitter)
        with pytest.raises(ValueError, match='scale_range and jitters need a canvas'):
            CenterAffine(mode='keep', **jitter)
    with pytest.raises(ValueError, match="mode='crop' is unknown"):
        CenterAffine(mode='crop')
    with pytest.raises(ValueError, match='scale_range and jitters need a canvas of fixed size'):
        CenterAffine(mode='keep', scale_range=(0.6, 1.4, 0.1))
    with pytest.raises(ValueError, match=r'scale=1\.5 needs a canvas that grows'):
        CenterAffine(scale=1.5)


def test_maps_compose_in_order():
    first, second = mirror_affine(50), center_affine((20.0, 10.0), 40.0, (30, 60))
    points = np.random.default_rng(0).random((4, 6))
    np.testing.assert_allclose(
        apply_affine(points, compose_affine(second, first)),
        apply_affine(apply_affine(points, first), second),
    )
    tensor = apply_affine(torch.from_numpy(points).float(), first)
    assert tensor.dtype == torch.float32
    np.testing.assert_allclose(tensor.numpy(), apply_affine(points, first), atol=1e-5)
