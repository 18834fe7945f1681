"""darknet's JPEG decoder: the layers of a file, written out slowly; OpenCV within rounding."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from mmdet_losses.data.darknet_jpeg import (
    COSINES,
    UnsupportedJpeg,
    _enlarge,
    decode_jpeg,
    read_darknet_image,
)

SAMPLING = cv2.IMWRITE_JPEG_SAMPLING_FACTOR


def smooth(height=45, width=67):
    noise = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX)


def encoded(image, *options):
    return cv2.imencode('.jpg', image, options)[1].tobytes()


@pytest.mark.parametrize(
    'options',
    [
        (SAMPLING, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420),
        (SAMPLING, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422),
        (SAMPLING, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440),
        (SAMPLING, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
        (SAMPLING, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411),
        (cv2.IMWRITE_JPEG_RST_INTERVAL, 3),
        (cv2.IMWRITE_JPEG_OPTIMIZE, 1),
    ],
)
def test_pixels_are_those_of_opencv_up_to_rounding(options):
    data = encoded(smooth(), *options)
    found = decode_jpeg(data).astype(int)
    gap = np.abs(found - cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))
    assert found.shape == (45, 67, 3)
    assert gap[:, :-2].max() <= 3  # the colour of the last columns is darknet's own
    assert gap.mean() < 0.25


def test_a_grey_file_has_three_equal_channels():
    data = encoded(smooth()[..., 0])
    found = decode_jpeg(data)
    assert (found == found[..., :1]).all()
    grey = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert np.abs(found[..., 0].astype(int) - grey).max() <= 1


def test_the_integer_transform_is_the_inverse_cosine_transform():
    k, x = np.arange(8), np.arange(8)[:, None]
    exact = np.cos((2 * x + 1) * k * np.pi / 16) * np.where(k == 0, 1, np.sqrt(2))
    assert np.abs(COSINES / 4096 - exact).max() < 1e-3


def slow_enlarge(plane):
    """Pixel by pixel: 9/16, 3/16, 3/16 and 1/16 of the four nearest."""
    height, width = plane.shape
    found = np.zeros((2 * height, 2 * width), int)
    for y in range(2 * height):
        for x in range(2 * width):
            near, side = (y // 2, x // 2), (y // 2 + 2 * (y % 2) - 1, x // 2 + 2 * (x % 2) - 1)
            rows = near[0], min(max(side[0], 0), height - 1)
            columns = near[1], min(max(side[1], 0), width - 1)
            column = [3 * plane[rows[0], c] + plane[rows[1], c] for c in columns]
            edge = columns[0] == columns[1]
            found[y, x] = (column[0] + 2) // 4 if edge else (3 * column[0] + column[1] + 8) // 16
    return found


def test_small_colour_planes_are_enlarged_as_the_slow_loop_does():
    plane = np.random.default_rng(0).integers(0, 256, (5, 7))
    assert np.array_equal(_enlarge(plane, 2, 2), slow_enlarge(plane))
    assert np.array_equal(_enlarge(plane, 1, 1), plane)
    assert np.array_equal(_enlarge(plane, 4, 1), plane.repeat(4, 1))


def test_other_files_are_read_by_opencv(tmp_path):
    image = smooth()
    progressive = encoded(image, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    with pytest.raises(UnsupportedJpeg, match='not a baseline JPEG'):
        decode_jpeg(progressive)
    files = {'a.jpg': progressive, 'b.png': cv2.imencode('.png', image)[1].tobytes()}
    files['c.jpg'] = encoded(image)[:-300]  # cut off
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        assert np.array_equal(read_darknet_image(tmp_path / name), cv2.imread(tmp_path / name))
    (tmp_path / 'd.jpg').write_bytes(b'\xff\xd8 no image')
    assert read_darknet_image(tmp_path / 'd.jpg') is None
    (tmp_path / 'e.jpg').write_bytes(encoded(image))
    assert np.array_equal(read_darknet_image(tmp_path / 'e.jpg'), decode_jpeg(encoded(image)))
