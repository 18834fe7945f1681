"""Memory layouts of images, and linear maps of their channels."""

import cv2
import numpy as np
import pytest
from mmdet.datasets.transforms import PackDetInputs

from mmdet_losses.data.pixels import (
    PlanarImage,
    by_planes,
    framed,
    in_memory_order,
    per_channel,
    resized_part,
    warped,
)
from tests.test_data.samples import ramp


@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
@pytest.mark.parametrize('mirrored', [False, True])
@pytest.mark.parametrize('in_planes', [False, True])
def test_a_planar_image_is_equal_and_packed_without_a_copy(dtype, mirrored, in_planes):
    image = ramp(20, 30).astype(dtype)
    image = by_planes(image) if in_planes else image
    image = image[:, ::-1] if mirrored else image
    planar = PlanarImage()(dict(img=image))['img']
    assert planar.dtype == dtype
    assert np.array_equal(planar, image)
    packed = PackDetInputs(meta_keys=())(dict(img=planar))['inputs'].numpy()
    assert np.shares_memory(packed, planar)
    assert np.array_equal(packed, image.transpose(2, 0, 1))


def test_an_image_without_pixels_stays_empty():
    assert PlanarImage()(dict(img=np.zeros((0, 4, 3), np.uint8)))['img'].shape == (0, 4, 3)
    assert in_memory_order(np.zeros((4, 0, 3), np.uint8)[:, ::-1]).shape == (4, 0, 3)


def test_channels_get_their_factor_and_shift():
    image = ramp(4, 5).astype(np.float32)
    wanted = image * np.float32([1, 0.5, 2]) + np.float32([7, 0, -3])
    assert np.allclose(per_channel(image, (1, 0.5, 2), (7, 0, -3)), wanted)


def test_a_frame_has_its_colour():
    wanted = np.full((30, 40, 3), (1, 2, 3), np.uint8)
    assert np.array_equal(framed(ramp(0, 5), (40, 30), (0, 0), (1, 2, 3)), wanted)
    wanted[4:24, 6:36] = ramp(20, 30)
    assert np.array_equal(framed(ramp(20, 30), (40, 30), (6, 4), (1, 2, 3)), wanted)
    assert np.array_equal(cv2.flip(wanted, 1), in_memory_order(wanted[:, ::-1]))


SIZES = [(192, 144), (40, 30), (61, 46), (90, 40), (80, 60), (3, 2), (160, 31)]


@pytest.mark.parametrize('size', SIZES)
def test_a_part_of_a_resized_image_equals_the_whole_one(size):
    """(40, 30) halves the image, for which OpenCV averages."""
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    whole = cv2.resize(image, size)
    rng = np.random.default_rng(0)
    for _ in range(20):
        x1, y1 = rng.integers(0, size)
        x2, y2 = rng.integers((x1 + 1, y1 + 1), np.add(size, 1))
        part = resized_part(image, size, (x1, y1, x2, y2))
        assert np.abs(part.astype(int) - whole[y1:y2, x1:x2]).max() <= 1
    assert np.array_equal(resized_part(image, size, (0, 0, *size)), whole)
    assert resized_part(image, size, (1, 1, 1, 2)).shape == (1, 0, 3)


@pytest.mark.parametrize('channels', [(), (3,), (4,)])
def test_a_warped_image_equals_that_of_opencv(channels):
    image = np.random.default_rng(0).integers(0, 256, (60, 80, *channels)).astype(np.uint8)
    matrix, color = np.array([[1.3, 0.2, -7.4], [-0.1, 0.8, 3.3]]), (1, 2, 3)
    wanted = cv2.warpAffine(image, matrix, (50, 70), borderValue=color)
    assert np.array_equal(warped(image, matrix, (50, 70), color), wanted)
