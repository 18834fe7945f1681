"""The report about data in the layout of Pascal VOC."""

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


def write_xml(data, i, name='cat', width=100):
    (data.root / f'Annotations/{i}.xml').write_text(
        f'<a><size><width>{width}</width><height>60</height></size>'
        f'<object><name>{name}</name></object></a>'
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
    assert f'1 objects are named {name!r} (the first in ' in error and "the class 'cat'" in error


def test_voc_names_outside_the_class_list(voc):
    write_xml(voc, 1, 'horse')
    assert '1 objects of horse are not used' in voc_report(voc).warnings[0]
    write_xml(voc, 0, 'cow')
    assert 'objects of the classes cow, horse, and none of' in voc_report(voc).errors[0]


def test_png_images_under_voc_are_an_error(voc):
    (voc.root / 'JPEGImages/1.jpg').rename(voc.root / 'JPEGImages/1.png')
    (error,) = voc_report(voc).errors
    assert '1.jpg does not exist, but' in error and '1.png does (1 .jpg files are missing)' in error


def test_other_faults_of_voc_data(voc):
    write_xml(voc, 1, width=120)
    assert '1.jpg is 100 x 60 but listed as 120 x 60' in voc_report(voc).warnings[0]
    (voc.root / 'Annotations/1.xml').write_text('<annotation>')
    assert '1.xml does not match its data set type' in voc_report(voc).errors[0]
    (voc.root / 'Annotations/1.xml').unlink()
    assert '1.xml does not exist, but' in voc_report(voc).errors[0]
    (voc.root / 'list.txt').write_text('\n')
    assert 'lists no images' in voc_report(voc).errors[0]
