"""Import annotations of YOLO, Pascal VOC, LabelMe, CVAT, COCO or a table, as COCO with splits.

    python tools/import_data.py SOURCE --out data/mine

SOURCE is a folder or an annotation file, for example the unpacked export of Roboflow, CVAT or
LabelMe. Its splits are kept; a source without splits gets random ones. DIR gets images/,
train.json, val.json, test.json if there is a test split, and sheet.png, which shows images with
their boxes.
Needs `pip install globox`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmdet_losses.engine.closing import tool_command
from tools.datasets.formats import READERS
from tools.datasets.importing import Shares, read, table, write
from tools.datasets.source import ImportFault, Source


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('source', metavar='SOURCE', type=Path, help='folder or annotation file')
    add('--out', type=Path, required=True, metavar='DIR', help='folder of the result')
    add('--format', choices=list(READERS), help='default: found by the content of the files')
    add('--images', type=Path, metavar='DIR', help='folder of the images, if not in SOURCE')
    add('--classes', nargs='+', metavar='NAME', help='names of the classes, in their order')
    shares = Shares()
    add('--val', type=float, default=shares.val, help='share of a random split (%(default)s)')
    add('--test', type=float, default=shares.test, help='share of a random split (%(default)s)')
    add('--seed', type=int, default=shares.seed, help='of the random split (%(default)s)')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Import a data set; returns the exit code."""
    args = parse_args(argv)
    try:
        source = Source(args.source, args.images, args.classes)
        imported = read(source, args.format, Shares(args.val, args.test, args.seed))
        write(imported, source, args.out)
    except (ImportFault, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    print(f'format: {imported.form}')
    print('\n'.join(table(imported)))
    for message in imported.messages:
        print(f'warning: {message}')
    print(f'{args.out}/sheet.png shows images with their boxes; check it before training')
    print(f'next: {tool_command("new_project.py", "--data", args.out)} --detector yolov4_tiny')
    return 0


if __name__ == '__main__':
    sys.exit(main())
