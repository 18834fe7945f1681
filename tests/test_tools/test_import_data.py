"""Odd files of every format become the same COCO data set, and every problem is reported."""

import builtins
import json

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('globox')

from tools import import_data
from tools.datasets.formats import find_format
from tools.datasets.source import ImportFault, Source

SIZES = {'a.jpg': (40, 30), 'b.png': (30, 40), 'c.JPG': (50, 20)}
BOXES = {  # pixels, x1 y1 x2 y2 and class
    'a.jpg': [(4, 6, 20, 21, 'cat'), (10, 3, 30, 27, 'dog')],
    'b.png': [(3, 4, 27, 36, 'dog')],
    'c.JPG': [],
}


def add_images(folder, names=SIZES):
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        w, h = SIZES[name]
        pixels = np.full((h, w, 3), 40 + 50 * i, np.uint8)
        kind = 'PNG' if name.endswith('png') else 'JPEG'
        Image.fromarray(pixels).save(folder / name, kind)
    return folder


def yolo_line(box, size, names=('cat', 'dog')):
    x1, y1, x2, y2, label = box
    w, h = size
    numbers = ((x1 + x2) / 2 / w, (y1 + y2) / 2 / h, (x2 - x1) / w, (y2 - y1) / h)
    return f'{names.index(label)} ' + ' '.join(f'{number:.6f}' for number in numbers)


def make_yolo(root):
    """The layout of Roboflow: images/ and labels/ per split; an empty file; a byte order mark."""
    places = {'a.jpg': 'train', 'c.JPG': 'train', 'b.png': 'valid'}
    for name, part in places.items():
        add_images(root / part / 'images', [name])
        (root / part / 'labels').mkdir(exist_ok=True)
        lines = [yolo_line(box, SIZES[name]) for box in BOXES[name]]
        path = root / part / 'labels' / f'{name.partition(".")[0]}.txt'
        path.write_text('\ufeff' + '\r\n'.join(lines) + '\n\n' if lines else '')
    (root / 'data.yaml').write_text('train: ../train/images\nnc: 2\nnames: {1: dog, 0: "cat "}\n')
    return root


def make_darknet(root):
    """Labels in UTF-16 beside the images, paths of Windows, names in a string, lists of images."""
    add_images(root / 'obj data')
    for name, boxes in BOXES.items():
        lines = [yolo_line(box, SIZES[name]) for box in boxes]
        path = root / 'obj data' / f'{name.partition(".")[0]}.txt'
        path.write_text('\n'.join(lines), encoding='utf-16')
    (root / 'my.yaml').write_text('path: "C:\\Users\\data"\nnames: cat, dog\n')
    (root / 'train.txt').write_text('C:\\Users\\obj data\\a.jpg\n\nobj data/c.JPG\n')
    (root / 'valid.txt').write_text('obj data/b.png\n')
    return root


def make_voc(root):
    """A suffix that differs, floats, no size; the splits of ImageSets."""
    add_images(root / 'JPEGImages')
    (root / 'Annotations').mkdir()
    for name, boxes in BOXES.items():
        stem = name.partition('.')[0]
        objects = ''.join(
            f'<object><name>{label}</name><bndbox><xmin>{x1}.0</xmin><ymin>{y1}</ymin>'
            f'<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>'
            for x1, y1, x2, y2, label in boxes
        )
        text = f'<annotation><filename>{stem}.jpeg</filename>{objects}</annotation>'
        (root / 'Annotations' / f'{stem}.xml').write_text(text)
    (root / 'ImageSets' / 'Main').mkdir(parents=True)
    (root / 'ImageSets' / 'Main' / 'train.txt').write_text('a  1\nc -1\n')
    (root / 'ImageSets' / 'Main' / 'val.txt').write_text('b\n')
    return root


def make_labelme(root):
    """Corners in any order, a polygon, a path of Windows."""
    for name, part in (('a.jpg', 'train'), ('c.JPG', 'train'), ('b.png', 'val')):
        add_images(root / part, [name])
        shapes = [
            dict(label=label, shape_type='rectangle', points=[[x2, y1], [x1, y2]])
            for x1, y1, x2, y2, label in BOXES[name]
        ]
        if name == 'b.png':
            x1, y1, x2, y2, label = BOXES[name][0]
            points = [[x1, 9], [9, y2], [x2, 9], [9, y1]]
            shapes = [dict(label=label, shape_type='polygon', points=points)]
        w, h = SIZES[name]
        content = dict(imagePath=f'..\\{part}\\{name}', imageWidth=w, imageHeight=h, shapes=shapes)
        stem = name.partition('.')[0]
        (root / part / f'{stem}.json').write_text(json.dumps(content | dict(imageData=None)))
    return root


def make_cvat(root):
    add_images(root / 'images')
    nodes = ''
    for name, boxes in BOXES.items():
        inner = ''.join(
            f'<box label="{label}" occluded="0" xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}"/>'
            for x1, y1, x2, y2, label in boxes
        )
        subset = 'Validation' if name == 'b.png' else 'Train'
        w, h = SIZES[name]
        size = f'width="{w}" height="{h}"'
        nodes += f'<image id="0" name="{name}" subset="{subset}" {size}>{inner}</image>'
    labels = ''.join(f'<label><name>{name}</name></label>' for name in ('cat', 'dog'))
    meta = f'<meta><task><labels>{labels}</labels></task></meta>'
    (root / 'annotations.xml').write_text(f'<annotations>{meta}{nodes}</annotations>')
    return root


def make_coco(root):
    """The layout of Roboflow: one file per split, a category without objects."""
    for part, names in (('train', ['a.jpg', 'c.JPG']), ('valid', ['b.png'])):
        add_images(root / part, names)
        images = [
            dict(id=i, file_name=name, width=SIZES[name][0], height=SIZES[name][1])
            for i, name in enumerate(names)
        ]
        notes = [
            dict(
                id=0, image_id=i, bbox=[x1, y1, x2 - x1, y2 - y1], category_id='xcd'.index(label[0])
            )
            for i, name in enumerate(names)
            for x1, y1, x2, y2, label in BOXES[name]
        ]
        categories = [dict(id=i, name=name) for i, name in enumerate(('pets', 'cat', 'dog'))]
        content = dict(images=images, annotations=notes, categories=categories)
        (root / part / '_annotations.coco.json').write_text(json.dumps(content))
    return root


def make_csv(root):
    """The columns of TensorFlow's tables; semicolons; a row without a box."""
    for part, names in (('train', ['a.jpg', 'c.JPG']), ('test', ['b.png'])):
        add_images(root / part, names)
        rows = ['filename;width;height;class;xmin;ymin;xmax;ymax']
        for name in names:
            for x1, y1, x2, y2, label in BOXES[name]:
                rows.append(f'{name};0;0;{label};{x1};{y1};{x2};{y2}')
            if not BOXES[name]:
                rows.append(f'{name};0;0;;;;;')
        (root / part / '_annotations.csv').write_text('\n'.join(rows))
    return root


MAKERS = (make_yolo, make_darknet, make_voc, make_labelme, make_cvat, make_coco, make_csv)


@pytest.mark.parametrize('make', MAKERS)
def test_every_format_becomes_the_same_data_set(make, tmp_path, capsys):
    source = tmp_path / 'my source'
    source.mkdir()
    make(source)
    form = 'yolo' if make is make_darknet else make.__name__.removeprefix('make_')
    out = tmp_path / 'out'
    assert import_data.main([str(source), '--out', str(out)]) == 0
    printed = capsys.readouterr().out
    assert f'format: {form}' in printed
    assert 'train      2 images        2 boxes: cat 1, dog 1' in printed
    assert 'val        1 images        1 boxes: cat 0, dog 1' in printed
    assert 'next: python tools/new_project.py' in printed
    found = {}
    for part in ('train', 'val'):
        content = json.loads((out / f'{part}.json').read_text())
        names = {each['id']: each['name'] for each in content['categories']}
        assert names == {1: 'cat', 2: 'dog'}
        for image in content['images']:
            name = image['file_name'].rpartition('/')[2]
            assert (image['width'], image['height']) == SIZES[name]
            assert (out / 'images' / image['file_name']).is_file()
            found[name] = sorted(
                (x, y, x + w, y + h, names[note['category_id']])
                for note in content['annotations']
                if note['image_id'] == image['id']
                for x, y, w, h in [note['bbox']]
            )
    assert found.keys() == BOXES.keys()
    for name, boxes in BOXES.items():
        assert [box[4] for box in found[name]] == [box[4] for box in sorted(boxes)]
        got = [box[:4] for box in found[name]]
        assert np.allclose(got, [box[:4] for box in sorted(boxes)], atol=2e-3)
    assert (out / 'sheet.png').stat().st_size > 3_000


def test_every_problem_is_counted_with_its_first_file(tmp_path, capsys):
    root = add_images(tmp_path / 'source')
    w, h = SIZES['a.jpg']
    lines = [
        yolo_line((4, 6, 20, 21, 'cat'), (w, h)) + ' 0.9',  # a score
        '1 0.1 0.2 0.5 0.2 0.5 0.9 0.1 0.9',  # a polygon
        yolo_line((30, 6, 50, 21, 'dog'), (w, h)),  # leaves the image
        yolo_line((30, 6, 50, 21, 'dog'), (w, h)),  # a copy
        '7 0.5 0.5 0.2 0.2',  # no such class
        '0 0.5 x 0.2 0.2',
        '0 nan 0.5 0.2 0.2',
        '0 0.5 0.5 0.001 0.2',
        '0 1.5 0.5 0.2 0.2',
    ]
    (root / 'a.txt').write_text('\n'.join(lines))
    (root / 'b.txt').write_text(yolo_line((3, 4, 27, 36, 'Cat'), SIZES['b.png'], ('cat', 'Cat')))
    (root / 'classes.txt').write_text('cat\nCat\n')
    (root / 'broken.jpg').write_bytes(b'no image')
    (root / 'copy.png').write_bytes((root / 'b.png').read_bytes())
    assert import_data.main([str(root), '--out', str(tmp_path / 'out'), '--val', '0.4']) == 0
    printed = capsys.readouterr().out
    for message in (
        'images that cannot be read: 1 (the first: broken.jpg)',
        'images without a label file, imported without objects: 2 (the first: c.JPG)',
        'images with the content of another image, left out: 1 (the first: copy.png)',
        'objects whose class number is not 0 to 1: 1 (the first: 7 in a.txt)',
        'objects that globox cannot read: Syntax error in txt annotation file',
        'boxes smaller than a pixel, left out: 1 (the first: a.jpg)',
        'boxes without area inside the image, left out: 1 (the first: a.jpg)',
        'boxes that leave the image, clipped: 1 (the first: a.jpg)',
        'boxes that are in the file twice, kept once: 1 (the first: a.jpg)',
        'Cat and cat may be one class' if 'Cat and cat' in printed else 'cat and Cat may be one',
    ):
        assert f'warning: {message}' in printed
    content = [json.loads(path.read_text()) for path in (tmp_path / 'out').glob('*.json')]
    assert sum(len(part['annotations']) for part in content) == 4


def test_difficult_objects_are_ignored_regions_and_sizes_follow_the_orientation(
    tmp_path,
):
    root = make_voc(tmp_path)
    path = root / 'Annotations' / 'a.xml'
    text = path.read_text().replace('</name>', '</name><difficult>1</difficult>', 1)
    path.write_text(text)
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.open(root / 'JPEGImages' / 'c.JPG')
    image.save(root / 'JPEGImages' / 'c.JPG', 'JPEG', exif=exif)
    out = tmp_path / 'out' / 'x'
    source = Source(root)
    assert find_format(source) == 'voc'
    imported = import_data.read(source)
    items = {item.path.name: item for items in imported.splits.values() for item in items}
    assert [box.ignored for box in items['a.jpg'].boxes] == [True, False]
    assert items['c.JPG'].size == (20, 50)
    with pytest.raises(ImportFault, match=r'is inside .*; choose an --out outside'):
        import_data.write(imported, source, out)


@pytest.mark.parametrize(
    ('make', 'arguments', 'message'),
    [
        (lambda root: None, (), 'has no annotations in a known format'),
        (lambda root: (root / 'a.txt').write_text('0 .5 .5 .5 .5'), (), 'has no names of classes'),
        (
            lambda root: (root / 'x.csv').write_text('a,b\n1,2'),
            (),
            'but none for image, label, xmin',
        ),
        (lambda root: (root / 'x.csv').write_text(''), (), 'x.csv is empty'),
        (lambda root: (root / 'x.json').write_text('{'), (), 'x.json is not JSON'),
        (
            lambda root: (root / 'x.json').write_text(
                '{"images": [{"id": 1}], "annotations": [], "categories": []}'
            ),
            (),
            "is not a complete data set in the format coco (KeyError: 'file_name')",
        ),
        (
            lambda root: [
                (root / name).write_text(text)
                for name, text in (('a.txt', '0 .5 .5 .5 .5'), ('data.yaml', 'names: [cat'))
            ],
            (),
            'data.yaml is not YAML (while parsing a flow sequence',
        ),
        (
            lambda root: (root / 'x.xml').write_text('<annotations><track/></annotations>'),
            (),
            'export the task as "CVAT for images 1.1"',
        ),
        (
            lambda root: (root / 'x.csv').write_text('far.jpg,1,2,3,4,cat'),
            (),
            'annotations without an image: 1',
        ),
        (
            lambda root: (root / 'a.txt').write_text('0 .5 .5 .5 .5'),
            ('--classes', 'cat', '--val', '0.9', '--test', '0.5'),
            'leave none of 3 images for training',
        ),
    ],
)
def test_a_source_that_cannot_be_imported_prints_one_message(
    make, arguments, message, tmp_path, capsys
):
    root = add_images(tmp_path / 'source')
    make(root)
    assert import_data.main([str(root), '--out', str(tmp_path / 'out'), *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith('error: ')
    assert message in error
    assert error.count('\n') == 1


def test_an_import_into_a_folder_with_files_changes_nothing(tmp_path, capsys):
    root = add_images(tmp_path / 'source')
    before = {path: path.read_bytes() for path in root.rglob('*') if path.is_file()}
    for path in before:
        path.with_suffix('.txt').write_text('0 .5 .5 .5 .5')
    arguments = ['--classes', 'cat', '--images', str(root)]
    for out in (root, next(iter(before))):
        assert import_data.main([str(root), '--out', str(out), *arguments]) == 1
        assert 'is not an empty folder; choose another --out' in capsys.readouterr().err
    assert all(path.read_bytes() == content for path, content in before.items())


def test_copies_of_one_image_stay_in_one_split(tmp_path):
    for i in range(8):
        path = tmp_path / f'x{i % 2}_jpg.rf.{i}.png'
        Image.new('RGB', (20, 20), (i, i, i)).save(path)
        path.with_suffix('.txt').write_text('0 .5 .5 .5 .5')
    imported = import_data.read(Source(tmp_path, classes=['cat']))
    assert {part: len(items) for part, items in imported.splits.items()} == {'train': 4, 'val': 4}
    assert all(
        len({item.path.name[:2] for item in items}) == 1 for items in imported.splits.values()
    )


def test_a_missing_library_is_named(tmp_path, capsys, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == 'globox':
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, '__import__', without)
    source = tmp_path / 'source'
    source.mkdir()
    make_cvat(source)
    assert import_data.main([str(source), '--out', str(tmp_path / 'out')]) == 1
    assert capsys.readouterr().err == 'error: globox is not installed; run: pip install globox\n'
