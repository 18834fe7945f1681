"""The report about the data of a config, made before any data set is built."""

import gzip
import json
import re

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from mmdet_losses.data.clean import DataError
from mmdet_losses.engine.data_config import making_command
from mmdet_losses.engine.data_report import check_data, examine_config

BOX = [10, 12, 30, 20]


def coco(boxes=(BOX, BOX, BOX), names=('cat', 'dog'), images=2):
    return dict(
        images=[dict(id=i, file_name=f'{i}.png', width=100, height=60) for i in range(images)],
        annotations=[
            dict(id=i, image_id=i % max(images, 1), category_id=1, bbox=box, area=600, iscrowd=0)
            for i, box in enumerate(map(list, boxes), 1)
        ],
        categories=[dict(id=i, name=name) for i, name in enumerate(names, 1)],
    )


class Data:
    """A folder with two images and two annotation files, and the config that reads them."""

    def __init__(self, root):
        self.root = root
        for i in range(2):
            cv2.imwrite(str(root / f'{i}.png'), np.zeros((60, 100, 3), np.uint8))
        self.write('train', coco())
        self.write('val', coco())

    def write(self, split, content):
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        (self.root / f'{split}.json').write_bytes(text)

    def config(self, num_classes=2, **dataset):
        def loader(split):
            settings = dict(
                type='CocoDataset', data_root=str(self.root), ann_file=f'{split}.json',
                data_prefix=dict(img=''), metainfo=dict(classes=('cat', 'dog')),
                pipeline=[dict(type='Resize', scale=(64, 64), keep_ratio=True)],
            )  # fmt: skip
            return dict(dataset={**settings, **dataset})

        parts = dict(
            predictor=dict(num_classes=num_classes),
            encoder=dict(type='CenterNetPointsTargetEncoder', num_classes=num_classes),
        )
        return Config(
            dict(
                model=dict(bbox_head=parts),
                train_dataloader=loader('train'),
                val_dataloader=loader('val'),
                val_evaluator=dict(type='CocoMetric', ann_file=str(self.root / 'val.json')),
            )
        )

    def report(self, cfg=None):
        return examine_config(cfg or self.config(), ('train', 'val'))


@pytest.fixture
def data(tmp_path):
    return Data(tmp_path)


def test_good_data_have_an_empty_report(data):
    assert data.report() == ([], [])
    assert examine_config(Config(), ('train', 'val', 'test')) == ([], [])


def changed(**parts):
    return {**coco(), **parts}


def entries(part, **values):
    """Content in which the entries of a part have other values; None removes a key."""
    content = coco()
    for entry in content[part]:
        for key, value in values.items():
            if value is None:
                del entry[key]
            else:
                entry[key] = value
    return content


def repeated(part):
    content = coco()
    content[part].append(dict(content[part][0]))
    return content


ERRORS = {
    'a text': (b'images: 3', 'is not JSON'),
    'an incomplete file': (b'{"images": [{"id"', 'is not JSON'),
    'latin-1': (json.dumps(coco(names=('caf\xe9', 'dog')), ensure_ascii=False).encode('latin-1'),
                r'is not UTF-8 \(byte 0xe9 at position \d+; it may be latin-1\)'),
    'a byte order mark': (b'\xef\xbb\xbf{}', 'starts with a byte order mark'),
    'UTF-16': (json.dumps(coco()).encode('utf-16'), 'starts with a byte order mark'),
    'UTF-16 without a mark': (json.dumps(coco()).encode('utf-16-le'), 'is not JSON'),
    'an empty file': (b'', 'is not JSON'),
    'a gz file': (gzip.compress(json.dumps(coco()).encode()), 'is compressed: unpack it'),
    'a list': ([], r'does not match its data set type \(a JSON list'),
    'no images': ({'categories': [], 'annotations': []}, "has no 'images'"),
    'no categories': ({'images': []}, "has no 'categories'"),
    'images as a dict': (changed(images={'a': 1}), "'images' is not a list of JSON objects"),
    'images of null': (changed(images=None), "'images' is not a list of JSON objects"),
    'nested lists': (changed(images=[[1]]), "'images' is not a list of JSON objects"),
    'a file name of null': (changed(images=[dict(id=0, file_name=None, height=9, width=9)]),
                            'image 0 in .* has the file_name None'),
    'an infinite image': (entries('images', height=float('inf')), '0.png in .* has height inf'),
    'an image of NaN': (entries('images', width=float('nan')), '0.png in .* and width nan'),
    'an image without width': (entries('images', width=None), "2 of 2 images have no 'width'"),
    'an image without size': (entries('images', height=None), "2 of 2 images have no 'height'"),
    'an image of size 0': (entries('images', height=0), '0.png in .* has height 0 and width 100'),
    'an annotation without id': (entries('annotations', id=None), "annotations have no 'id'"),
    'no category': (entries('annotations', category_id=None), "annotations have no 'category_id'"),
    'ids as text': (changed(annotations=[{**each, 'id': f'a{each["id"]}'}
                                         for each in coco()['annotations']]),
                    r"3 of 3 annotations have a id that is not a number \(the first: 'a1'\)"),
    'ids as lists': (entries('annotations', image_id=[0]), r'have a image_id that .*\[0\]'),
    'an id of NaN': (changed(annotations=[{**coco()['annotations'][0], 'id': float('nan')}]),
                     r'have a id that is not a number \(the first: nan\)'),
    'a huge id': (changed(annotations=[{**coco()['annotations'][0], 'id': 10**400}]),
                  r'have a id that is not a number \(the first: 1000'),
    'image ids as text': (entries('annotations', image_id='0'),
                          r"none of the 3 annotations has the image_id .*'0', but images have ids"),
    'category ids as text': (entries('annotations', category_id='1'), 'none of the 3 annotations'),
    'a crowd of text': (entries('annotations', iscrowd='0'), r"annotation 1 in .* iscrowd '0'"),
    'an area of text': (entries('annotations', area='wide'), r"annotation 1 in .* area 'wide'"),
    'an area of NaN': (entries('annotations', area=float('nan')), r'annotation 1 in .* area nan'),
    'a huge integer': (coco([[10**400, 2, 3, 4]]), 'annotation 1 in .* the bbox'),
    'a box of null': (coco([BOX, BOX])
                      | dict(annotations=[{**coco()['annotations'][0], 'bbox': None}]),
                      'annotation 1 in .* the bbox None'),
    'a box of three numbers': (coco([BOX, BOX[:3]]), r'annotation 2 in .* the bbox \[10, 12, 3'),
    'a box of text': (coco([['1', 2, 3, 4]]), r"annotation 1 in .* has the bbox \['1', 2, 3, 4\]"),
    'images with one id': (entries('images', id=1),
                           'images share their id .* id 1, with file_name 0.png and 1.png'),
    'annotations with one id': (repeated('annotations'), '2 annotations share their id'),
    'numeric categories': (coco(names=(1, 2)), r"2 category names are not text .*such as '1'"),
    'a category twice': (coco(names=('cat', 'cat')), '1 categories share the name cat'),
    'fractions': (coco([[0.1, 0.2, 0.5, 0.3]] * 3),
                  r'3 of 3 boxes look like fractions of the image \(the first: annotation 1 has'),
    'corners': (coco([[40, 12, 90, 50], [3, 5, 70, 40], [60, 30, 99, 59]]),
                r'3 of 3 boxes look like x1, y1, x2, y2 .*2 reach beyond'),
    'wrong class names': (coco(names=('kitten', 'puppy')), 'lists the classes kitten, puppy, but'),
    'another order': (coco(names=('dog', 'cat')), 'in the order dog, cat'),
    'no image': (coco([], images=0), 'has no images'),
    'no file for an image': (coco(images=3), r'image .*/2.png is listed .* but does not exist \(1'),
    'an elongated image': (changed(images=[dict(id=0, file_name='0.png', height=9, width=9000)]),
                           r'1 image is too elongated \(the first: 0.png with 9000 x 9\)'),
}  # fmt: skip


@pytest.mark.parametrize('split', ['train', 'val'])
@pytest.mark.parametrize('fault', ERRORS)
def test_each_fault_of_a_file_is_an_error(data, fault, split):
    content, words = ERRORS[fault]
    data.write(split, content)
    errors, _ = data.report()
    assert len(errors) == 1
    assert re.search(words, errors[0]), errors[0]
    assert f'{split}.json' in errors[0]


WARNINGS = {
    'the id 0': (entries('annotations', id=0), 'have the id 0'),
    'no iscrowd': (entries('annotations', iscrowd=None),
                   r"3 of 3 annotations have no 'iscrowd', .*annotation 1 of image 1"),
    'iscrowd of null': (changed(annotations=[{**each, 'iscrowd': None}
                                             for each in coco()['annotations']]),
                        "3 of 3 annotations have no 'iscrowd'"),
    'no area': (entries('annotations', area=None), "have no 'area'"),
    'placeholders': (coco([BOX, BOX, [5, 5, -1, -1]]),
                     r'1 with a width or height of -1 .*annotation 3 in 1.png'),
    'boxes of 1e9': (coco([BOX, BOX, [5, 5, 1e9, 9]]),
                     r'1 of 3 boxes are more than 10 times larger .*annotation 3 in 1.png'),
    'boxes of 1e300': (coco([BOX, BOX, [5, 5, 9, 1e300]]), '1 of 3 boxes are more than 10 times'),
    'duplicate images': (entries('images', file_name='0.png'),
                         r'1 of 2 images are duplicate .*0.png with the ids 0, 1'),
    'wrong sizes': (entries('images', width=120), 'is 100 x 60 but listed as 120 x 60'),
}  # fmt: skip


@pytest.mark.parametrize('fault', WARNINGS)
def test_each_smaller_fault_is_a_warning_with_its_first_example(data, fault):
    content, words = WARNINGS[fault]
    if fault == 'the id 0':  # several of them are an error as well
        content['annotations'] = content['annotations'][:1]
    data.write('val', content)
    errors, warnings = data.report()
    assert errors == []
    assert len(warnings) == 1
    assert re.search(words, warnings[0]), warnings[0]


def test_boxes_near_the_origin_are_no_corners(data):
    data.write('train', coco([[0, 0, 99, 59], [5, 5, 20, 30], [60, 30, 30, 20]]))
    assert data.report() == ([], [])


def test_a_folder_as_annotation_file_is_named(data):
    (data.root / 'folder').mkdir()
    assert (
        'folder is a folder: set ann_file' in data.report(data.config(ann_file='folder')).errors[0]
    )


def test_a_validation_file_without_annotations_is_an_error(data):
    data.write('val', changed(annotations=[]))
    assert 'val_dataloader.dataset has no annotations' in data.report().errors[0]


def of_category(number):
    return changed(
        annotations=[{**each, 'category_id': number} for each in coco()['annotations']],
        categories=[dict(id=i, name=name) for i, name in enumerate(('cat', 'dog', 'cow'), 1)],
    )


@pytest.mark.parametrize('split', ['train', 'val'])
@pytest.mark.parametrize(
    'content',
    [
        coco([[5, 5, -1, -1]] * 3),
        coco([[0, 0, 0, 0]] * 3),
        coco([[500, 5, 9, 9]] * 3),
        entries('annotations', iscrowd=1),
        of_category(3),
    ],
    ids=['placeholders', 'masks without boxes', 'outside', 'crowds', 'another class'],
)
def test_a_file_without_usable_objects_is_an_error(data, split, content):
    data.write(split, content)
    (error,) = data.report().errors
    words = f'{split}.json of {split}_dataloader.dataset: none of 3 annotations is a usable object'
    assert words in error and 'of the classes cat, dog: check' in error


def test_one_of_several_training_files_may_have_no_objects(data):
    data.write('background', changed(annotations=[]))
    cfg = data.config()
    inner = [{**cfg.train_dataloader.dataset, 'ann_file': f'{each}.json'}
             for each in ('background', 'train')]  # fmt: skip
    cfg.train_dataloader = dict(dataset=dict(type='ConcatDataset', datasets=inner))
    assert data.report(cfg).errors == []
    cfg.train_dataloader.dataset.datasets = inner[:1]
    assert 'background.json of train_dataloader' in data.report(cfg).errors[0]


def test_a_file_without_annotations_is_fine_for_results_that_are_only_written(data):
    data.write('val', changed(annotations=[]))
    cfg = data.config()
    cfg.val_evaluator.format_only = True
    assert data.report(cfg).errors == []


def test_crowded_images_are_reported_with_the_limit_of_the_encoder(data):
    data.write('train', coco([BOX] * 400))
    (warning,) = data.report().warnings
    assert '2 images have more than 128 objects (the first: 1.png with 200)' in warning


@pytest.mark.parametrize(('head', 'data_classes'), [(80, 2), (1, 2)])
def test_another_number_of_classes_of_the_head_is_an_error(data, head, data_classes):
    errors, _ = data.report(data.config(num_classes=head))
    assert len(errors) == 2  # training and validation
    assert f'has {data_classes} classes, but the head has num_classes={head}' in errors[0]


def test_different_numbers_in_predictor_and_encoder_are_an_error(data):
    cfg = data.config()
    cfg.model.bbox_head.encoder.num_classes = 3
    assert 'num_classes is 2 in the predictor but 3 in the encoder' in data.report(cfg).errors[0]


@pytest.mark.parametrize(
    ('settings', 'words'),
    [
        (dict(metainfo=dict(classes=(1, 2))), "has 1, which is not text: .* such as '1'"),
        (dict(data_prefix='images/'), r"write data_prefix=dict\(img='images/'\)"),
        (dict(ann_file=''), 'is a folder: set ann_file'),
    ],
)
def test_a_setting_of_another_type_is_an_error(data, settings, words):
    assert re.search(words, data.report(data.config(**settings)).errors[0])


def test_a_class_list_that_is_a_text_is_an_error(data):
    (error, _) = data.report(data.config(metainfo=dict(classes='raccoon'))).errors
    assert "write classes=('raccoon',)" in error


@pytest.mark.parametrize('change', ['images', 'names', 'classes', 'absent', 'fewer'])
def test_an_evaluator_of_another_file_is_an_error(data, change):
    cfg = data.config()
    cfg.val_evaluator.ann_file = str(data.root / 'other.json')
    content = coco()
    words = 'val_evaluator evaluates with'
    if change == 'images':
        content['images'][1]['id'] = content['annotations'][0]['image_id'] = 7
    if change == 'fewer':
        content['images'].pop()
    if change == 'names':
        content['images'][1]['file_name'] = 'x.png'
    if change == 'classes':
        content, words = coco(names=('cat', 'cow')), 'but not dog'
    if change == 'absent':
        words = 'other.json does not exist.* ann_file or data_root of val_evaluator'
    else:
        data.write('other', content)
    (error,) = data.report(cfg).errors
    assert re.search(words, error)


def test_a_copy_of_the_file_is_no_other_file(data):
    cfg = data.config()
    cfg.val_evaluator.ann_file = str(data.root / 'train.json')
    assert data.report(cfg) == ([], [])


def test_concatenated_data_sets_are_compared_with_the_evaluator_together(data):
    first, second = coco(images=1), coco()
    second['images'] = second['images'][1:]
    for each in second['annotations']:
        each['image_id'] = 1
    data.write('first', first)
    data.write('second', second)
    cfg = data.config()
    inner = [
        {**cfg.val_dataloader.dataset, 'ann_file': f'{each}.json'} for each in ('first', 'second')
    ]
    cfg.val_dataloader = dict(dataset=dict(type='ConcatDataset', datasets=inner))
    assert data.report(cfg) == ([], [])
    cfg.val_dataloader.dataset.datasets = inner[:1]
    assert (
        '1 image differs (the first: id 1 is 1.png in the evaluator' in data.report(cfg).errors[0]
    )


def test_all_errors_are_one_message(data, capsys):
    data.write('train', entries('annotations', iscrowd=None))
    check_data(data.config())
    assert capsys.readouterr().err.startswith('warning: ')
    data.write('train', b'x')
    data.write('val', [])
    with pytest.raises(DataError, match=r'^2 errors in the data:\n  - annotation .*\n  - annot'):
        check_data(data.config())


def test_the_command_that_makes_a_missing_folder_has_its_options():
    cfg = Config(dict(made_by=dict(train=1000, size=(512, 512))))
    command = 'python tools/make_digits.py --out data/a --train 1000 --size 512 512'
    assert making_command(cfg, 'data/a/') == command
    assert making_command(Config(), 'data/a/') is None
