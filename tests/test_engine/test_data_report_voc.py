"""The report about data in the layout of Pascal VOC."""

import re

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from mmdet_losses.engine.data_report import examine_config
from tests.test_engine.test_data_report import Data


@pytest.fixture
def voc(tmp_path):
    data = Data(tmp_path)
    (data.root / 'Annotations').mkdir()
    (data.root / 'JPEGImages').mkdir()
    (data.root / 'list.txt').write_text('0\n1\n')
    for i in range(2):
        write_xml(data, i)
        cv2.imwrite(str(data.root / f'JPEGImages/{i}.jpg'), np.zeros((60, 100, 3), np.uint8))
    return data


def corners(*values):
    keys = ('xmin', 'ymin', 'xmax', 'ymax')
    inside = ''.join(f'<{key}>{value}</{key}>' for key, value in zip(keys, values, strict=True))
    return f'<bndbox>{inside}</bndbox>'


def write_xml(data, i, name='cat', width=100, box=corners(5, 6, 30, 40)):  # noqa: B008
    (data.root / f'Annotations/{i}.xml').write_text(
        f'<a><size><width>{width}</width><height>60</height></size>'
        f'<object><name>{name}</name>{box}</object></a>'
    )


def voc_report(voc):
    settings = dict(
        type='VOCDataset', data_root=str(voc.root), ann_file='list.txt', pipeline=[],
        data_prefix=dict(sub_data_root=''), metainfo=dict(classes=('cat', 'dog')),
    )  # fmt: skip
    return examine_config(Config(dict(train_dataloader=dict(dataset=settings))), ['train'])


def test_good_voc_data_have_an_empty_report(voc):
    assert voc_report(voc) == ([], [])


@pytest.mark.parametrize('name', ['Cat', ' cat', 'CAT '])
def test_voc_names_with_other_case_or_spaces_are_an_error(voc, name):
    write_xml(voc, 1, name)
    (error,) = voc_report(voc).errors
    assert f'1 object is named {name!r} (the first in ' in error and "the class 'cat'" in error


def test_voc_names_outside_the_class_list(voc):
    write_xml(voc, 1, 'horse')
    assert '1 object of horse not used' in voc_report(voc).warnings[0]
    write_xml(voc, 0, 'cow')
    assert 'objects of the classes cow, horse, and none of' in voc_report(voc).errors[0]


def test_png_images_under_voc_are_an_error(voc):
    (voc.root / 'JPEGImages/1.jpg').rename(voc.root / 'JPEGImages/1.png')
    (error,) = voc_report(voc).errors
    assert '1.jpg does not exist, but' in error and '1.png does (1 .jpg files are missing)' in error


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (dict(box=''), "xmin of an object named 'cat' is None"),
        (dict(box=corners(1, 2, 'nan', 4)), "xmax of an object named 'cat' is 'nan'"),
        (dict(box=corners(1, 2, 3, 'inf')), "ymax of an object named 'cat' is 'inf'"),
        (dict(box=corners(1, 2, 3, '')), "ymax of an object named 'cat' is ''"),
        (dict(box=corners(1, 2, 3, 4) + '<difficult>no</difficult>'), "'no', not 0 or 1"),
        (dict(name=''), 'an object has no <name>'),
        (dict(width=0), 'its <size> is 0 x 60'),
        (dict(width=''), 'its <size> is 0 x 60'),
    ],
)
def test_an_xml_file_that_mmdetection_cannot_read_is_an_error(voc, change, words):
    write_xml(voc, 1, **change)
    (error,) = voc_report(voc).errors
    assert '1.xml does not match its data set type' in error and words in error


OBJECT = f'<object><name>cat</name>{corners(5, 6, 30, 40)}</object>'


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        (
            f'<annotation xmlns="u:v">{OBJECT}</annotation>',
            'another one is in <ns0:object> of a namespace',
        ),
        (f'<annotation>{OBJECT}</annotation>'.upper(), 'another one is in <OBJECT>'),
        (f'<annotation><Object/>{OBJECT}</annotation>', 'it has 2 objects, but 1 of them in'),
        (f'<annotation><objects>{OBJECT}</objects></annotation>', 'it has 1 objects, but 0 of'),
        ('<annotations><image><box label="cat"/></image></annotations>', 'is <annotations>, not'),
        ('<annotation><object name="cat" xmin="5"/></annotation>', 'an object has no <name>'),
    ],
    ids=['namespace', 'upper case', 'mixed case', 'nested', 'CVAT', 'attributes'],
)
def test_voc_objects_that_mmdetection_ignores_are_an_error(voc, text, words):
    (voc.root / 'Annotations/1.xml').write_text(text)
    (error,) = voc_report(voc).errors
    assert '1.xml does not match its data set type' in error and words in error


def test_voc_data_without_objects_are_an_error(voc):
    (voc.root / 'Annotations/1.xml').write_text('<annotation/>')
    assert voc_report(voc) == ([], [])
    (voc.root / 'Annotations/0.xml').write_text('<annotation/>')
    (error,) = voc_report(voc).errors
    assert 'list.txt of train_dataloader.dataset: none of 2 XML files has an object' in error


def test_unusable_boxes_of_voc_data(voc):
    write_xml(voc, 1, box=corners(30, 6, 5, 40))
    assert '1 box is inverted (the first in ' in voc_report(voc).warnings[0]
    for i in range(2):
        write_xml(voc, i, box=corners(0.1, 0.2, 0.5, 0.6))
    assert '2 of 2 boxes look like fractions of the image' in voc_report(voc).errors[0]


@pytest.mark.parametrize(
    ('content', 'words'),
    [(b'0\n\n1\n', 'line 2 of .*list.txt is empty'), ('caf\xe9'.encode('latin-1'), 'not UTF-8')],
)
def test_a_list_of_images_that_mmdetection_cannot_read_is_an_error(voc, content, words):
    (voc.root / 'list.txt').write_bytes(content)
    assert re.search(words, voc_report(voc).errors[0])


def test_an_image_that_is_listed_twice_is_a_warning(voc):
    (voc.root / 'list.txt').write_text('0\n1\n0\n')
    (warning,) = voc_report(voc).warnings
    assert 'list.txt lists 1 image more than once (the first: 0)' in warning


def test_other_faults_of_voc_data(voc):
    write_xml(voc, 1, width=120)
    assert '1.jpg is 100 x 60 but listed as 120 x 60' in voc_report(voc).warnings[0]
    (voc.root / 'Annotations/1.xml').write_text('<annotation>')
    assert '1.xml does not match its data set type' in voc_report(voc).errors[0]
    (voc.root / 'Annotations/1.xml').unlink()
    assert '1.xml does not exist, but' in voc_report(voc).errors[0]
    (voc.root / 'list.txt').write_text('\n')
    assert 'lists no images' in voc_report(voc).errors[0]
