"""Parts of label files that an import leaves out are counted, and odd spellings are read."""

import json
import re

import pytest

pytest.importorskip('globox')

from tests.test_tools.test_import_data import (
    make_coco,
    make_csv,
    make_cvat,
    make_labelme,
    make_voc,
    make_yolo,
)
from tools import import_data
from tools.datasets.source import ImportFault, Source


def box_of(root, **arguments):
    """Imported boxes by image, and the messages."""
    imported = import_data.read(Source(root, **arguments))
    items = [item for part in imported.splits.values() for item in part]
    boxes = {item.path.name: [(*map(round, box.xyxy), box.label) for box in item.boxes]
             for item in items}  # fmt: skip
    return boxes, '\n'.join(imported.messages), items


@pytest.mark.parametrize('change', [
    lambda text: text.replace('<annotation>', '<annotation xmlns="http://a">'),
    lambda text: re.sub('</?[a-z]+', lambda name: name[0].upper(), text),
], ids=['namespace', 'upper case'])  # fmt: skip
def test_other_names_of_xml_elements_are_read(tmp_path, change):
    expected = box_of(make_voc(tmp_path / 'a'))[0]
    root = make_voc(tmp_path / 'b')
    for path in (root / 'Annotations').iterdir():
        path.write_text(change(path.read_text()))
    assert box_of(root)[0] == expected


def edit_coco(root, change):
    path = make_coco(root) / 'train' / '_annotations.coco.json'
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return root


def test_boxes_of_polygons_and_crowds_written_as_text(tmp_path):
    def change(content):
        for note in content['annotations']:
            x, y, w, h = note.pop('bbox')
            note.update(segmentation=[[x, y, x + w, y, x + w, y + h]], iscrowd='0')

    expected = box_of(make_coco(tmp_path / 'a'))[0]
    found, _, items = box_of(edit_coco(tmp_path / 'b', change))
    assert found == expected
    assert not any(box.ignored for item in items for box in item.boxes)


FAULTS = {
    'objects of another file': (
        lambda c: c['annotations'].append(dict(c['annotations'][0], image_id=77)),
        'objects whose image is not in the file: 1 (the first: 77 in',
    ),
    'ids as text': (
        lambda c: c['annotations'][0].update(image_id='0'),
        "objects whose image is not in the file: 1 (the first: '0' in",
    ),
    'categories as text': (
        lambda c: c['annotations'][0].update(category_id='1'),
        "objects whose category is not in the file: 1 (the first: '1' in",
    ),
    'masks': (
        lambda c: (c['annotations'][0].pop('bbox'),
                   c['annotations'][0].update(segmentation=dict(counts='x', size=[9, 9]))),
        'cannot read: an annotation has neither bbox nor polygons: 1 (the first',
    ),
    'a box in a dict': (
        lambda c: c['annotations'][0].update(bbox=dict(x=1, y=2, w=9, h=9)), 'cannot read: ',
    ),
    'another size': (
        lambda c: c['images'][0].update(width=999),
        'images whose size differs from the size in their annotations, boxes may be shifted: 1',
    ),
}  # fmt: skip


@pytest.mark.parametrize('fault', FAULTS)
def test_objects_of_coco_files_that_are_left_out_are_counted(fault, tmp_path):
    change, words = FAULTS[fault]
    assert words in box_of(edit_coco(tmp_path / 'a', change))[1]


def test_images_of_coco_files_with_one_id_are_an_error(tmp_path):
    def change(content):
        content['images'][1]['id'] = content['images'][0]['id']

    with pytest.raises(ImportFault, match='images share their id, so their boxes cannot'):
        box_of(edit_coco(tmp_path / 'a', change))


def test_shapes_rows_and_label_files_that_are_left_out_are_counted(tmp_path):
    path = make_cvat(tmp_path / 'cvat') / 'annotations.xml'
    path.write_text(path.read_text().replace('</image>', '<ellipse label="cat"/></image>', 1))
    assert 'neither box nor polygon, left out: 1' in box_of(tmp_path / 'cvat')[1]
    path = make_csv(tmp_path / 'csv') / 'train' / '_annotations.csv'
    path.write_text(path.read_text() + '\na.jpg;50;40;cat;3')
    assert (
        'rows without all columns, left out: 1 (the first: a.jpg in' in box_of(tmp_path / 'csv')[1]
    )
    root = make_yolo(tmp_path / 'yolo')
    label = next(root.rglob('labels/**/*.txt'))
    label.with_name('absent.txt').write_text('0 .5 .5 .5 .5')
    assert 'label files without an image: 1 (the first: absent.txt)' in box_of(root)[1]
    path = next(make_labelme(tmp_path / 'labelme').rglob('a.json'))
    path.write_text(path.read_text().replace('"imageWidth": ', '"imageWidth": 9'))
    assert 'size differs from the size in their annotations' in box_of(tmp_path / 'labelme')[1]
