"""Memory layouts of images, and linear maps of their channels."""

import cv2
import numpy as np
import pytest
from mmdet.datasets.transforms import PackDetInputs

from mmdet_losses.data.pixels import PlanarImage, framed, in_memory_order, per_channel
from tests.test_data.samples import ramp


@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
@pytest.mark.parametrize('mirrored', [False, True])
def test_a_planar_image_is_equal_and_packed_without_a_copy(dtype, mirrored):
    image = ramp(20, 30).astype(dtype)
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
