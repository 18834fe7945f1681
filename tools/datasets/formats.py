"""Readers of annotation formats: every format becomes a list of images with boxes.

globox (MIT licence) reads the objects. A trial of globox 2.9 and supervision 0.31 used the odd
files of tests/test_tools/test_import_data.py. Both libraries read LabelMe and COCO; both readers of
YOLO folders stop at a byte order mark. Only supervision reads a VOC file without a size, only
globox reads CVAT. globox needs nothing that MMDetection does not install; supervision requires a
36 MB video library. The readers of globox for one object accept all of these files, so the files
are found here, and globox reads one object at a time: a bad object is counted, the rest is used.
"""

from __future__ import annotations

import csv
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tools.datasets.source import (
    COLUMNS,
    SPLITS,
    Box,
    ImportFault,
    Item,
    Source,
    box_from_numbers,
    globox,
    parse_json,
    parse_xml,
    parse_yaml,
    read_box,
    read_text,
)

# ----------------------------------------------------------------------------------------- YOLO


def yolo_names(source: Source) -> tuple[list[str], int]:
    """Names of the classes in the order of their numbers, and numbers per object after its box."""
    for path in source.files('.yaml', '.yml') if source.path.is_dir() else [source.path]:
        content = parse_yaml(path)
        names = content.get('names') if isinstance(content, dict) else None
        if isinstance(names, str):  # `names: cat, dog`
            names = names.split(',')
        if isinstance(names, dict):
            names = [names[key] for key in sorted(names, key=int)]
        if names:
            shape = content.get('kpt_shape') or [0, 0]
            return [str(name).strip() for name in names], int(shape[0]) * int(shape[1])
    listed = ('classes.txt', 'obj.names', '_darknet.labels', 'predefined_classes.txt')
    for path in sorted(source.root.rglob('*')):
        if path.name in listed or path.suffix == '.names':
            lines = read_text(path).splitlines()
            return [line.strip() for line in lines if line.strip()], 0
    return [], 0


def _label_file(image: Path) -> Path | None:
    """`labels/x.txt` beside `images/x.jpg` at any depth, or `x.txt` beside the image."""
    parts = list(image.parts)
    places = [image.with_suffix('.txt')]
    for i in [i for i, part in enumerate(parts[:-1]) if part == 'images'][::-1]:
        places.insert(0, Path(*parts[:i], 'labels', *parts[i + 1 :]).with_suffix('.txt'))
    return next((path for path in places if path.is_file()), None)


def read_yolo(source: Source) -> Iterator[Item]:
    """`class x y w h` per line, relative to the image; polygons and poses become boxes."""
    names, extra = yolo_names(source)
    names = source.classes or names
    if not names:
        raise ImportFault(
            f'{source.path} has no names of classes (data.yaml, classes.txt or obj.names); give '
            'them with --classes NAME NAME ... in the order of their numbers.'
        )
    source.classes = names
    lists, used = source.listed_splits(), set()
    for image in source.images():
        label = _label_file(image)
        used.add(label)
        size = source.size(image)
        if size is not None:
            if label is None:
                source.fault('images without a label file, imported without objects', image.name)
            lines = read_text(label).splitlines() if label else []
            boxes = [box for line in lines for box in _yolo_line(source, line, label, size, extra)]
            yield Item(image, size, boxes, lists.get(image) or source.split(image))
    for path in source.files('.txt') if source.path.is_dir() else ():
        if 'labels' in path.parts and path not in used:
            source.fault('label files without an image', path.name)


def _yolo_line(
    source: Source, line: str, path: Path | None, size: tuple[int, int], extra: int
) -> list[Box]:
    values, box, where = line.split(), globox().BoundingBox, path or source.path
    if not values:
        return []
    if extra and len(values) == 5 + extra:
        values = values[:5]
    read = box.from_yolo_v5 if len(values) <= 6 else box.from_yolo_seg
    found = read_box(source, where, read, ' '.join(values), image_size=size)
    try:
        return [each._replace(label=_class_name(source, each.label)) for each in found]
    except (ValueError, IndexError):
        source.fault(
            f'objects whose class number is not 0 to {len(source.classes) - 1}',
            f'{values[0]} in {where.name}',
        )
        return []


def _class_name(source: Source, number: str) -> str:
    value = float(number)
    if value != int(value) or value < 0:
        raise ValueError(number)
    return source.classes[int(value)]


# ------------------------------------------------------------------------------- one file per image


def read_voc(source: Source) -> Iterator[Item]:
    """Pascal VOC: one xml file per image. Coordinates are not shifted by a pixel."""
    library, sets = globox(), _image_sets(source)
    for path in source.files('.xml'):
        root = parse_xml(path)
        image = source.find(root.findtext('filename') or path.stem, path)
        image = source.find(path.stem, path) if image is None else image
        size = source.size(image) if image else None
        if image is None or size is None:
            continue
        declared = [root.findtext(f'size/{side}') for side in ('width', 'height')]
        source.compare_size(declared, size, path)
        boxes = []
        for node in root.iter('object'):
            difficult = (node.findtext('difficult') or '0').strip() == '1'
            found = read_box(source, path, library.BoundingBox.from_xml, node)
            boxes += [box._replace(ignored=difficult) for box in found]
        yield Item(image, size, boxes, source.split(path) or sets.get(path.stem))


def _image_sets(source: Source) -> dict[str, str]:
    """Name of an image -> split, from ``ImageSets/Main``."""
    sets = {}
    for path in sorted(source.root.rglob('ImageSets/Main/*.txt')):
        if path.stem in SPLITS:
            for line in filter(str.strip, read_text(path).splitlines()):
                # the name, which can have spaces, and in the file of a class also a number
                for name in (line.strip(), line.rsplit(maxsplit=1)[0].strip()):
                    sets[name] = SPLITS[path.stem]
    return sets


def read_labelme(source: Source) -> Iterator[Item]:
    """LabelMe: one json file per image; rectangles, and polygons as their bounding boxes."""
    library = globox()
    for path in source.files('.json'):
        content = parse_json(path)
        if not isinstance(content, dict) or 'shapes' not in content:
            continue
        image = source.find(str(content.get('imagePath') or path.stem), path)
        size = source.size(image) if image else None
        if image is None or size is None:
            continue
        source.compare_size([content.get('imageWidth'), content.get('imageHeight')], size, path)
        boxes = []
        for shape in content['shapes']:
            if shape.get('shape_type', 'polygon') not in ('rectangle', 'polygon'):
                source.fault('shapes that are neither rectangle nor polygon, left out', path.name)
                continue
            boxes += read_box(source, path, library.BoundingBox.from_labelme, shape)
        yield Item(image, size, boxes, source.split(path))


# ------------------------------------------------------------------------- one file for all images


def read_cvat(source: Source) -> Iterator[Item]:
    """CVAT for images 1.1: boxes, and polygons as their bounding boxes."""
    library = globox()
    for path in source.files('.xml'):
        root = parse_xml(path)
        if not _is_cvat(root):
            continue
        if root.find('track') is not None:
            raise ImportFault(
                f'{path} is an export of a video; export the task as "CVAT for images 1.1".'
            )
        if not source.classes:
            source.classes = [name.text or '' for name in root.iterfind('.//labels/label/name')]
        for node in root.iter('image'):
            image = source.find(node.get('name') or '', path)
            size = source.size(image) if image else None
            if image is None or size is None:
                continue
            source.compare_size([node.get('width'), node.get('height')], size, image)
            boxes = []
            for kind in ('polyline', 'points', 'ellipse', 'mask', 'cuboid', 'skeleton'):
                for _ in node.iterfind(kind):
                    source.fault('shapes that are neither box nor polygon, left out', image.name)
            for each in node.iterfind('box'):
                if float(each.get('rotation', 0)):
                    source.fault('rotated boxes, read without their rotation', path.name)
                boxes += read_box(source, path, library.BoundingBox.from_cvat, each)
            for each in node.iterfind('polygon'):
                boxes += read_box(source, path, _cvat_polygon, each)
            split = SPLITS.get((node.get('subset') or '').lower())
            yield Item(image, size, boxes, split or source.split(image))


def _is_cvat(root: ET.Element) -> bool:
    return any(root.find(name) is not None for name in ('image', 'track', 'meta'))


def _cvat_polygon(node: ET.Element) -> Any:
    points = [[float(n) for n in point.split(',')] for point in node.get('points', '').split(';')]
    return globox().BoundingBox.from_labelme(dict(label=node.get('label'), points=points))


def read_coco(source: Source) -> Iterator[Item]:
    """COCO: one json file per split, as Roboflow and many tools write it."""
    globox()  # raises before anything is read
    for path in source.files('.json'):
        content = parse_json(path)
        if not isinstance(content, dict) or 'categories' not in content:
            continue
        names = {each['id']: str(each['name']).strip() for each in content['categories']}
        used = {each['category_id'] for each in content['annotations']}
        for number, name in names.items():  # Roboflow adds a category of all others
            if name not in source.classes and number in used:
                source.classes.append(name)
        objects = _coco_objects(source, content, path)
        for entry in content['images']:
            image = source.find(str(entry['file_name']), path)
            size = source.size(image) if image else None
            if image is None or size is None:
                continue
            source.compare_size([entry.get('width'), entry.get('height')], size, image)
            boxes = []
            for each in objects[entry['id']]:
                label = names.get(each['category_id'])
                if label is None:
                    kind = 'objects whose category is not in the file'
                    source.fault(kind, f'{each["category_id"]!r} in {path.name}')
                    continue
                found = read_box(source, path, _coco_box, label, each)
                ignored = str(each.get('iscrowd')).strip().lower() in ('1', '1.0', 'true')
                boxes += [box._replace(ignored=ignored) for box in found]
            yield Item(image, size, boxes, source.split(path, name=True))


def _coco_objects(source: Source, content: dict, path: Path) -> dict[Any, list[dict]]:
    """Id of each image -> its annotations."""
    objects: dict[Any, list[dict]] = {entry['id']: [] for entry in content['images']}
    if len(objects) < len(content['images']):
        raise ImportFault(
            f'{path}: images share their id, so their boxes cannot be assigned; give each image an '
            'id of its own.'
        )
    for each in content['annotations']:
        if each['image_id'] in objects:
            objects[each['image_id']].append(each)
        else:
            kind = 'objects whose image is not in the file'
            source.fault(kind, f'{each["image_id"]!r} in {path.name}')
    return objects


def _coco_box(label: str, annotation: dict) -> Any:
    """The box of an annotation, or the bounding box of its polygons."""
    if annotation.get('bbox'):
        return box_from_numbers(label, annotation['bbox'], 'ltwh')
    polygons = annotation.get('segmentation')
    if not polygons or not isinstance(polygons, list):
        raise ValueError('an annotation has neither bbox nor polygons')
    numbers = [float(number) for polygon in polygons for number in polygon]
    points = list(zip(numbers[::2], numbers[1::2]))
    return globox().BoundingBox.from_labelme(dict(label=label, points=points))


def read_csv(source: Source) -> Iterator[Item]:
    """A table with one object per row: image, corners in pixels, class.

    The columns are found by their names; OpenImages' corners are relative. A table without a header
    has the columns image, x1, y1, x2, y2, class.
    """
    globox()  # raises before anything is read
    for path in source.files('.csv'):
        rows: dict[str, list[dict[str, str]]] = {}
        relative, table = _table(source, path)
        for row in table:
            rows.setdefault(row['image'], []).append(row)
        for name, objects in rows.items():
            image = source.find(name, path)
            size = source.size(image) if image else None
            if image is None or size is None:
                continue
            boxes = []
            for row in objects:
                corners = [row[key] for key in ('xmin', 'ymin', 'xmax', 'ymax')]
                if not any(corners):  # an image without objects
                    continue
                options = dict(relative=relative, image_size=size)
                boxes += read_box(
                    source, path, box_from_numbers, row['label'], corners, 'ltrb', **options
                )
            yield Item(image, size, boxes, source.split(path, name=True) or source.split(image))


def _table(source: Source, path: Path) -> tuple[bool, list[dict[str, str]]]:
    """Whether corners are relative, and the rows with the keys of :data:`COLUMNS`."""
    text = read_text(path)
    separator = max(',;\t', key=text.partition('\n')[0].count)
    lines = [line for line in csv.reader(text.splitlines(), delimiter=separator) if line]
    head = [name.strip().lower() for name in lines[0]] if lines else []
    places = {
        key: next((head.index(name) for name in names if name in head), None)
        for key, names in COLUMNS.items()
    }
    if all(place is None for place in places.values()) and len(head) == 6:
        keys = ('image', 'xmin', 'ymin', 'xmax', 'ymax', 'label')
        places = {key: i for i, key in enumerate(keys)}
    else:
        lines = lines[1:]
    missing = [key for key, place in places.items() if place is None]
    if not head:
        raise ImportFault(f'{path} is empty; export it again.')
    if missing:
        raise ImportFault(
            f'{path} has the columns {", ".join(head)}, but none for '
            f'{", ".join(missing)}; name them image, xmin, ymin, xmax, ymax and class.'
        )
    found = {key: place for key, place in places.items() if place is not None}
    complete = [line for line in lines if len(line) > max(found.values())]
    for line in lines:
        if len(line) <= max(found.values()):
            source.fault('rows without all columns, left out', f'{line[0]} in {path.name}')
    rows = [{key: line[i].strip() for key, i in found.items()} for line in complete]
    return 'imageid' in head, rows


READERS: dict[str, Callable[[Source], Iterator[Item]]] = {
    'yolo': read_yolo,
    'voc': read_voc,
    'labelme': read_labelme,
    'cvat': read_cvat,
    'coco': read_coco,
    'csv': read_csv,
}
"""Name of a format -> its reader."""


def find_format(source: Source) -> str:
    """Format of a source, by the content of its files.

    Raises:
        ImportFault: no format is found.
    """
    for path in source.files('.json'):
        content = parse_json(path) if path.suffix.lower() == '.json' else None
        if isinstance(content, dict) and {'images', 'annotations', 'categories'} <= content.keys():
            return 'coco'
        if isinstance(content, dict) and 'shapes' in content:
            return 'labelme'
    for path in source.files('.xml'):
        if path.suffix.lower() == '.xml':
            return 'cvat' if _is_cvat(parse_xml(path)) else 'voc'
    if any(path.suffix.lower() == '.csv' for path in source.files('.csv')):
        return 'csv'
    if any(_label_file(image) for image in source.images()):
        return 'yolo'
    raise ImportFault(
        f'{source.path} has no annotations in a known format ({", ".join(READERS)}): there is no '
        'json, xml or csv file, and no image has a label file (labels/NAME.txt beside '
        'images/NAME.jpg, or NAME.txt beside NAME.jpg).'
    )
