"""The report about the image files of a data set."""

import io

import cv2
import mmcv
import numpy as np
import pytest
from PIL import Image

from mmdet_losses.engine.data_report import examine_config
from tests.test_engine.test_data_report import BOX, Data, coco


@pytest.fixture
def data(tmp_path):
    return Data(tmp_path)


def test_a_rotated_image_is_named(data):
    image = Image.new('RGB', (60, 100))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(data.root / '1.png', exif=exif)
    assert data.report() == ([], [])  # MMCV reads it as 100 x 60
    content = coco()
    content['images'][1].update(width=60, height=100)
    data.write('train', content)
    (warning,) = data.report().warnings
    assert '1.png is 100 x 60 but listed as 60 x 100' in warning
    assert '1 of them are rotated by their EXIF orientation' in warning


@pytest.mark.parametrize('content', [b'', b'no image'])
def test_an_unreadable_image_is_named(data, content):
    (data.root / '1.png').write_bytes(content)
    (error, other) = data.report().errors
    assert '/1.png cannot be read' in error and 'train.json' in error and 'val.json' in other


def encoded(kind, size=(100, 60), **options):
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    image = Image.fromarray(pixels)
    if kind == '16 bits':
        return cv2.imencode('.png', np.full((size[1], size[0]), 40000, np.uint16))[1].tobytes()
    modes = {'CMYK': ('CMYK', 'JPEG'), 'palette': ('P', 'PNG'), 'alpha': ('RGBA', 'PNG'),
             'gray with alpha': ('LA', 'PNG'), 'JPEG': ('RGB', 'JPEG'), 'PNG': ('RGB', 'PNG'),
             'GIF': ('P', 'GIF')}  # fmt: skip
    mode, name = modes[kind]
    buffer = io.BytesIO()
    image.convert(mode).save(buffer, name, **options)
    return buffer.getvalue()


@pytest.mark.parametrize('kind', ['16 bits', 'CMYK', 'palette', 'alpha', 'gray with alpha'])
def test_unusual_images_are_read_as_three_channels(data, kind):
    (data.root / '1.png').write_bytes(encoded(kind))
    assert data.report() == ([], [])
    image = mmcv.imread(str(data.root / '1.png'))
    assert image.shape == (60, 100, 3) and image.dtype == np.uint8


def test_a_format_is_accepted_if_opencv_reads_it(data):
    (data.root / '1.png').write_bytes(encoded('GIF'))
    errors = data.report().errors
    read = cv2.imread(str(data.root / '1.png')) is not None
    assert errors == [] if read else 'a JPEG or PNG image' in errors[0]


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'CMYK'])
def test_a_truncated_image_is_an_error(data, kind):
    content = encoded(kind)
    (data.root / '1.png').write_bytes(content[: len(content) // 2])
    errors = data.report().errors
    assert len(errors) == 2 and '/1.png cannot be read (empty, truncated' in errors[0]
    (data.root / '1.png').write_bytes(content + bytes(100))  # complete, with a tail
    assert data.report() == ([], [])


@pytest.mark.parametrize('size', [(1, 1), (1, 5000)])
def test_extreme_sizes_of_images(data, size):
    (data.root / '1.png').write_bytes(encoded('PNG', size))
    content = coco([BOX])  # in image 1
    content['images'][1].update(width=size[0], height=size[1])
    other = dict(content['annotations'][0], id=2, image_id=content['images'][0]['id'])
    content['annotations'].append(other)  # a usable object
    data.write('train', content)
    errors, warnings = examine_config(data.config(), ['train'])
    if size == (1, 1):
        assert errors == [] and '1 outside the image (the first: annotation 1 in 1' in warnings[0]
    else:
        assert '1 image is too elongated (the first: 1.png with 1 x 5000)' in errors[0]


def test_a_folder_in_place_of_a_file_is_named(data):
    (data.root / '1.png').unlink()
    (data.root / '1.png').mkdir()
    assert '1.png is listed in an annotation file but is a folder' in data.report().errors[0]
