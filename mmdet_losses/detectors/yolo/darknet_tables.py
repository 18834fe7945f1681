"""Files that options of a darknet cfg name: maps and trees of classes."""

from __future__ import annotations

from pathlib import Path

from mmdet_losses.detectors.yolo.class_tree import ClassTree, parse_tree
from mmdet_losses.detectors.yolo.darknet_cfg import CfgError, Section


def class_map(head: Section, folder: Path) -> list[int] | None:
    """The table of ``map``, a file with one class per line.

    Raises:
        CfgError: the file is missing or holds something else.
    """
    if 'map' not in head.options:
        return None
    text = read_option(head, 'map', folder)
    try:
        return [int(line) for line in text.split()]
    except ValueError:
        raise CfgError(f'{head.where("map")}: the file must hold one number per line.') from None


def read_option(head: Section, option: str, folder: Path) -> str:
    """The text of a file that an option names.

    Raises:
        CfgError: the file is missing.
    """
    name = Path(head.text(option, ''))
    found = [each for each in (name, folder / name, folder.parent / name) if each.is_file()]
    if not found:
        raise CfgError(f'{head.where(option)}: there is no such file; put it beside the cfg.')
    return found[0].read_text()


def class_tree(head: Section, folder: Path) -> list[int] | None:
    """The parents of the classes of ``tree``, a file with a name and a number per line.

    Raises:
        CfgError: the file is missing, is no tree, or has another number of classes.
    """
    if 'tree' not in head.options:
        return None
    text = read_option(head, 'tree', folder)
    try:
        parents = parse_tree(text)
        ClassTree(parents)
    except ValueError as error:
        raise CfgError(f'{head.where("tree")}: {error}') from None
    if len(parents) != head.number('classes', 20):
        raise CfgError(f'{head.where("tree")}: the file has {len(parents)} classes; set classes.')
    return parents
