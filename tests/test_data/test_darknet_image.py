"""darknet's resize, letter box and colours."""

import colorsys

import cv2
import numpy as np
import pytest

from mmdet_losses.data import darknet_image
from mmdet_losses.data.darknet_image import (
    DarknetLetterBox,
    DarknetResize,
    darknet_resize,
    sample,
    shift_hsv,
)
from tests.test_data.samples import item, ramp


def slow_sample(image, x, y, border):
    """Pixel by pixel."""
    out = np.zeros((len(y), len(x), 3))
    for i, row in enumerate(y):
        for j, column in enumerate(x):
            top, left = int(np.floor(row)), int(np.floor(column))
            for dy in (0, 1):
                for dx in (0, 1):
                    weight = (1 - abs(row - top - dy)) * (1 - abs(column - left - dx))
                    r, c = top + dy, left + dx
                    inside = 0 <= r < image.shape[0] and 0 <= c < image.shape[1]
                    if border == 'edge' or inside:
                        r, c = np.clip(r, 0, image.shape[0] - 1), np.clip(c, 0, image.shape[1] - 1)
                        out[i, j] += weight * image[r, c]
    return out


@pytest.mark.parametrize('border', ['edge', 'zero'])
@pytest.mark.parametrize('exact', [True, False])
def test_sampling_equals_the_slow_loop(border, exact, monkeypatch):
    """By OpenCV, where it does not round positions, and without it."""
    if exact and not darknet_image._remap_is_exact():
        pytest.skip('this OpenCV rounds positions')
    monkeypatch.setattr(darknet_image, '_remap_is_exact', lambda: exact)
    rng = np.random.default_rng(0)
    image, x, y = ramp(9, 13), rng.uniform(-3, 15, 11), rng.uniform(-3, 11, 8)
    found, wanted = sample(image, x, y, border), slow_sample(image, x, y, border)
    assert np.allclose(found, wanted, atol=1e-2 if exact else 1e-3)  # positions in float32


def test_resize_keeps_the_corner_pixels():
    image = ramp(30, 41)
    for size in ((60, 50), (20, 11), (41, 30), (1, 1)):
        resized = darknet_resize(image, size)
        assert resized.shape == (size[1], size[0], 3)
        assert np.allclose(resized[0, 0], image[0, 0])
    assert np.allclose(darknet_resize(image, (60, 50))[-1, -1], image[-1, -1], atol=1e-3)
    assert np.array_equal(darknet_resize(image, (41, 30)), image)


@pytest.mark.parametrize(
    ('shape', 'size', 'border'),
    [
        ((60, 80), (40, 40), (5, 35, 0, 40)),
        ((80, 60), (40, 40), (0, 40, 5, 35)),
        ((51, 77), (40, 40), (7, 33, 0, 40)),
        ((53, 77), (40, 40), (6.5, 33.5, 0, 40)),
        ((50, 50), (64, 32), (0, 32, 16, 48)),
    ],
)
def test_letter_box_places_the_image_in_the_middle(shape, size, border):
    results = DarknetLetterBox(size)(item([], shape))
    assert results['border'] == border
    top, left = int(border[0]), int(border[2])
    high, wide = round(border[1] - border[0]), round(border[3] - border[2])
    image = results['img']
    assert image.shape == (size[1], size[0], 3)
    placed = image[top : top + high, left : left + wide]
    assert np.allclose(placed, darknet_resize(ramp(*shape), (wide, high)))
    rest = np.ones(image.shape[:2], bool)
    rest[top : top + high, left : left + wide] = False
    assert (image[rest] == 127.5).all()
    assert results['scale_factor'] == (wide / shape[1], high / shape[0])


def test_plain_resize_stretches_the_image():
    results = DarknetResize((32, 64))(item([], (50, 80)))
    assert results['img_shape'] == (64, 32)
    assert results['scale_factor'] == (32 / 80, 64 / 50)
    assert 'border' not in results


def test_hsv_shift_equals_colorsys():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1, 40, 3)).astype(np.float32)
    found = shift_hsv(image.copy(), -0.07, 1.3, 1.2)
    for pixel, changed in zip(image[0], found[0], strict=True):
        h, s, v = colorsys.rgb_to_hsv(*(pixel[::-1] / 255).tolist())
        # colorsys takes saturation above 1 and value above 1 as they are
        wanted = np.clip(colorsys.hsv_to_rgb((h - 0.07) % 1, s * 1.3, v * 1.2), 0, 1)[::-1] * 255
        assert np.allclose(changed, wanted, atol=0.05)


def test_grey_stays_grey():
    image = np.full((2, 2, 3), 127.5, np.float32)
    assert np.allclose(shift_hsv(image, 0.1, 1.5, 0.8), 127.5 * 0.8)
    assert cv2.cvtColor(image, cv2.COLOR_BGR2HSV)[0, 0, 1] == 0
