"""Count the golden arrays of the official codes that each detector equals; print a table.

The counts in the README's table of detectors come from
``python docs/proof.py --golden tests/golden``. ``tools/check_parity.py`` prints the arrays one by
one, with the largest difference and the tolerance.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools.check_parity import KINDS, kind_of, kind_of_folder, run_checks

DETECTORS = {
    'CornerNet': ('cornernet', 'components', 'softnms', 'kernel1', 'gaussian_tables'),
    'CornerNet-Squeeze': ('squeeze', 'cornernet_squeeze'),
    'CornerNet-Saccade': ('saccade', 'cornernet_saccade'),
    'CenterNetTriplet': ('centernet', 'centernet_triplet'),
    'CenterNetPoints': ('ctdet', 'gaussian'),
    'CenterNetPose': ('multi_pose',),
    'CenterTrack': ('track', 'prehm', 'tracker', 'centertrack'),
    'SSD': ('ssd',),
    'YOLOv1': ('yolov1', 'darknet_decode v1', 'darknet_truth grid'),
    'YOLOv2': ('yolov2', 'darknet_decode v2'),
    'YOLOv3': ('yolov3', 'darknet_decode v3', 'darknet_truth list'),
    'YOLOv4': ('yolov4', 'darknet_decode v4', 'darknet_decode csp', 'iou_family'),
    'Scaled-YOLOv4': ('scaled_yolov4',),
}
"""Detector -> parts of ``<golden file> <array>``; the longest part that fits counts."""


def detector_of(name: str) -> str:
    """The detector that an array of a golden file belongs to.

    Raises:
        ValueError: no detector of ``DETECTORS`` fits.
    """
    fits = [
        (len(part), detector)
        for detector, parts in DETECTORS.items()
        for part in parts
        if part in name
    ]
    if not fits:
        raise ValueError(f'{name} belongs to no detector; add a part of its name to DETECTORS.')
    return max(fits)[1]


def count(golden: Path) -> tuple[Counter[tuple[str, str]], int]:
    """Number of equal arrays by (detector, kind), and the number of comparisons that differ."""
    equal: set[tuple[str, str, str]] = set()
    failed = 0
    for name, rows in run_checks(golden, KINDS):
        path = golden / name
        kind = kind_of_folder(path) if path.is_dir() else kind_of(path.stem)
        for row in rows or ():
            failed += not row.ok
            if row.ok and not row.reason:
                equal |= {(kind, row.file, array) for array in row.arrays()}
    return Counter((detector_of(f'{file} {array}'), kind) for kind, file, array in equal), failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--golden', type=Path, default=ROOT / 'tests/golden', metavar='DIR')
    equal, failed = count(parser.parse_args().golden)
    print(f'| detector | {" | ".join(KINDS)} |\n|---{"|---" * len(KINDS)}|')
    for detector in DETECTORS:
        print(f'| {detector} | {" | ".join(str(equal[detector, kind]) for kind in KINDS)} |')
    print(f'\n{sum(equal.values())} arrays are equal, {failed} differ.')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
