"""Make a tracking data set of moving handwritten digits on real textures, offline.

The layout is that of MOT Challenge, with COCO files of the same content for MMDetection's video
data sets. The digits move fast, cross, stop, leave the image and come back. Training and validation
share neither a glyph nor a part of a texture, and the same seed gives the same files.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.datasets.command_line import run
from tools.datasets.videos import Options, make_videos


def parse_args(args: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; its defaults are those of :class:`Options`."""
    default = Options()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add('--out', type=Path, default=Path('data/videos'), help='folder of the data set')
    add('--train', type=int, default=default.train, help='number of training videos')
    add('--val', type=int, default=default.val, help='number of validation videos')
    add('--frames', type=int, default=default.frames, help='number of frames per video')
    for name, kind, what in (
        ('size', int, 'height and width of a frame'),
        ('objects', int, 'least and greatest number of digits per video'),
        ('scale', int, 'least and greatest height of a digit in pixels'),
        ('speed', float, 'least and greatest displacement per frame in pixels'),
    ):
        add(f'--{name}', type=kind, nargs=2, default=getattr(default, name), help=what)
    add('--leave', type=float, default=default.leave, help='probability of leaving the image')
    add('--stop', type=float, default=default.stop, help='probability of a stop')
    add('--seed', type=int, default=default.seed, help='the same seed gives the same files')
    parsed = parser.parse_args(args)
    for name in ('size', 'objects', 'scale', 'speed'):
        setattr(parsed, name, tuple(getattr(parsed, name)))
    return parsed


if __name__ == '__main__':
    run(make_videos, parse_args())
