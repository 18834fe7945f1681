"""A folder of images and annotations, and the parts that all readers of formats use."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from PIL import Image, UnidentifiedImageError

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')
SPLITS = {
    'train': 'train', 'training': 'train', 'val': 'val', 'valid': 'val', 'validation': 'val',
    'dev': 'val', 'test': 'test', 'testing': 'test',
}  # fmt: skip
"""Names of folders and files -> split."""
COLUMNS = {
    'image': (
        'filename',
        'file_name',
        'image',
        'image_path',
        'image_id',
        'imageid',
        'path',
        'file',
    ),
    'label': ('class', 'label', 'labelname', 'class_name', 'category', 'name'),
    'xmin': ('xmin', 'x_min', 'x1', 'left'),
    'ymin': ('ymin', 'y_min', 'y1', 'top'),
    'xmax': ('xmax', 'x_max', 'x2', 'right'),
    'ymax': ('ymax', 'y_max', 'y2', 'bottom'),
}
"""Names of columns in tables, in lower case."""


class ImportFault(ValueError):
    """The source cannot be imported; the message explains the fix."""


class Box(NamedTuple):
    """One object."""

    label: str
    xyxy: tuple[float, float, float, float]
    """Pixels of the image."""
    ignored: bool = False
    """``difficult`` of VOC or ``iscrowd`` of COCO: an ignored region."""


class Item(NamedTuple):
    """One image with its objects."""

    path: Path
    size: tuple[int, int]
    """(w, h) as MMDetection loads the image, after the orientation of its EXIF data."""
    boxes: list[Box]
    split: str | None
    """``train``, ``val`` or ``test`` if the source has splits."""


class Source:
    """A folder, or one annotation file, to import.

    Args:
        path: folder or file.
        images: folder of the images; default: the folder of ``path``.
        classes: names of the classes in the order of their numbers; default: from the source.
    """

    def __init__(
        self, path: Path, images: Path | None = None, classes: Sequence[str] | None = None
    ) -> None:
        if not path.exists():
            raise ImportFault(f'{path} does not exist; give a folder or an annotation file.')
        self.path = path.resolve()
        self.root = self.path if self.path.is_dir() else self.path.parent
        self.image_root = (images or self.root).resolve()
        self.classes = [name.strip() for name in classes or ()]
        self._faults: Counter[str] = Counter()
        self._firsts: dict[str, object] = {}
        self._images: dict[str, list[Path]] = {}
        for each in files(self.image_root, IMAGE_SUFFIXES):
            self._images.setdefault(each.stem, []).append(each)

    def files(self, *suffixes: str) -> list[Path]:
        """Files of the source with these suffixes, sorted."""
        return [self.path] if self.path.is_file() else files(self.path, suffixes)

    def images(self) -> list[Path]:
        """All images, sorted."""
        return sorted(path for paths in self._images.values() for path in paths)

    def fault(self, kind: str, where: object) -> None:
        """Count a problem."""
        self._firsts.setdefault(kind, where)
        self._faults[kind] += 1

    def messages(self) -> list[str]:
        """Each kind of problem with its count and its first file."""
        return [
            f'{kind}: {count} (the first: {self._firsts[kind]})'
            for kind, count in self._faults.items()
        ]

    def find(self, name: str, beside: Path) -> Path | None:
        """The image with this name, or with another suffix; the one nearest to ``beside``."""
        wanted = Path(name.replace('\\', '/').strip())
        found = self._images.get(wanted.stem, [])
        if not found:
            self.fault('annotations without an image', f'{name} in {beside.name}')
            return None
        tail = tuple(part for part in wanted.parts if part not in ('..', '.', '/'))

        def nearness(path: Path) -> tuple[int, int, int]:
            ends = _common(path.parts[::-1], tail[::-1])
            return ends, _common(path.parts, beside.parts), -len(path.parts)

        return max(found, key=nearness)

    def size(self, image: Path) -> tuple[int, int] | None:
        """Width and height of an image; None if it cannot be read."""
        try:
            with Image.open(image) as opened:
                rotated = opened.getexif().get(0x0112, 1) >= 5
                return opened.size[::-1] if rotated else opened.size
        except (OSError, UnidentifiedImageError):
            self.fault('images that cannot be read', image.name)
            return None

    def compare_size(self, declared: Sequence[Any], size: tuple[int, int], where: Path) -> None:
        """Count an image whose file has another size than its annotations; 0 is unknown."""
        try:
            width, height = (round(float(each or 0)) for each in declared)
        except (TypeError, ValueError, OverflowError):
            width, height = -1, -1
        if 0 not in (width, height) and (width, height) != size:
            kind = (
                'images whose size differs from the size in their annotations, boxes may be shifted'
            )
            self.fault(kind, where.name)

    def listed_splits(self) -> dict[Path, str]:
        """Image -> split, from lists of images such as darknet's `train.txt`."""
        found = {}
        for path in files(self.root, ('.txt',)):
            if path.stem.lower() not in SPLITS:
                continue
            for line in read_text(path).splitlines():
                image = Path(line.replace('\\', '/').strip())
                if image.suffix.lower() in IMAGE_SUFFIXES and self._images.get(image.stem):
                    found[self.find(image.as_posix(), path) or image] = SPLITS[path.stem.lower()]
        return found

    def split(self, path: Path, name: bool = False) -> str | None:
        """Split by the folders of a path, and by the words of its file name if ``name``."""
        base = self.root if self.root in path.parents else self.image_root
        parts = list(path.relative_to(base).parts if base in path.parents else path.parts)
        words = re.split(r'[_.\-]+', parts.pop())
        words = [*parts, *(words if name else [])]
        return next((SPLITS[word.lower()] for word in words if word.lower() in SPLITS), None)


def files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Visible files below a folder, sorted."""
    return sorted(
        path
        for path in folder.rglob('*')
        if path.suffix.lower() in suffixes and path.is_file() and not path.name.startswith('.')
    )


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    return next(
        (i for i, (a, b) in enumerate(zip(first, second)) if a != b), min(len(first), len(second))
    )


def globox() -> Any:
    """The library; a missing one raises one message."""
    try:
        import globox as library
    except ImportError as error:
        raise ImportFault('globox is not installed; run: pip install globox') from error
    return library


def read_box(
    source: Source, where: Path, read: Callable[..., Any], *args: Any, **kwargs: Any
) -> list[Box]:
    """A list with the box that ``read`` returns, or an empty list and a counted fault."""
    try:
        box = read(*args, **kwargs)
    except (globox().errors.ParsingError, ValueError, AssertionError, KeyError, TypeError) as error:
        source.fault(f'objects that globox cannot read: {error}'.rstrip('. '), where.name)
        return []
    return [Box(box.label.strip(), box.ltrb)]


def box_from_numbers(label: str, numbers: Sequence[Any], kind: str, **options: Any) -> Any:
    """globox's box from numbers of a table or of COCO."""
    library = globox()
    form = library.BoxFormat.from_string(kind)
    coords = tuple(float(number) for number in numbers)
    return library.BoundingBox.create(label=label, coords=coords, box_format=form, **options)


def read_text(path: Path) -> str:
    """Text of a file in UTF-8, UTF-16 with its mark, or else Windows-1252."""
    content = path.read_bytes()
    if content.startswith((b'\xff\xfe', b'\xfe\xff')):
        return content.decode('utf-16')
    try:
        return content.decode('utf-8-sig')
    except UnicodeDecodeError:
        return content.decode('cp1252', errors='replace')


def parse_yaml(path: Path) -> Any:
    text = read_text(path)
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:  # a path of Windows in double quotes has unknown escapes
        text = text.replace('\\', '/').replace('\t', ' ')
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        reason = ' '.join(str(error).split())
        raise ImportFault(f'{path} is not YAML ({reason}); correct it.') from error


def parse_xml(path: Path) -> ET.Element:
    try:
        root = ET.parse(path).getroot()
    except ET.ParseError as error:
        raise ImportFault(f'{path} is not XML ({error}); export it again.') from error
    # some programs write a namespace, or names of elements in upper case
    text = ET.tostring(root, 'unicode')
    return ET.fromstring(
        re.sub(r'<(/?)(?:[\w.-]+:)?([\w.-]+)', lambda name: f'<{name[1]}{name[2].lower()}', text)
    )


def parse_json(path: Path) -> Any:
    try:
        return json.loads(read_text(path))
    except ValueError as error:
        raise ImportFault(f'{path} is not JSON ({error}); export it again.') from error
