"""Colour augmentation: the effect of each step on an image."""
# ruff: noqa: NPY002 (the generator of the transforms)

import cv2
import numpy as np
import pytest

from mmdet_losses.data.color import EIGENVALUES, EIGENVECTORS, ColorJitterLighting


def random_image():
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_the_axes_are_orthonormal_and_sorted():
    assert np.allclose(EIGENVECTORS.T @ EIGENVECTORS, np.eye(3), atol=1e-6)
    assert (np.diff(EIGENVALUES) < 0).all()


def test_zero_ranges_change_nothing():
    image = random_image()
    result = ColorJitterLighting(variance=0, lighting=0)(dict(img=image))['img']
    assert result.dtype == np.float32
    assert np.array_equal(result, image.astype(np.float32))


def test_lighting_adds_one_colour_along_the_axes():
    image = random_image()
    np.random.seed(3)
    moved = ColorJitterLighting(variance=0)(dict(img=image))['img'] - image
    assert np.abs(moved).max() > 1
    assert np.allclose(moved, moved[0, 0], atol=1e-4)
    weights = EIGENVECTORS.T @ (moved[0, 0] / 255) / EIGENVALUES
    np.random.seed(3)
    ColorJitterLighting(variance=0, lighting=0)(
        dict(img=image)
    )  # consumes the other random numbers
    np.random.seed(3)
    np.random.permutation(3)
    [np.random.uniform() for _ in range(3)]
    assert np.allclose(weights, np.random.normal(scale=0.1, size=3), atol=1e-4)


@pytest.mark.parametrize('seed', range(6))
def test_jitter_equals_three_blends_in_a_drawn_order(seed):
    """Compared with loops over all pixels, in the drawn order."""
    image = random_image()
    np.random.seed(seed)
    result = ColorJitterLighting(lighting=0)(dict(img=image))['img']
    np.random.seed(seed)
    order = np.random.permutation(3)
    expected = image.astype(np.float64)
    gray = cv2.cvtColor(image.astype(np.float32), cv2.COLOR_BGR2GRAY)
    for kind in order:
        alpha = np.random.uniform(0.6, 1.4)
        for y in range(20):
            for x in range(30):
                partner = [0, gray[y, x], gray.mean()][kind]
                expected[y, x] = alpha * expected[y, x] + (1 - alpha) * partner
    assert np.allclose(result, expected, atol=1e-3)
    assert np.array_equal(image, random_image())  # the input is not changed
