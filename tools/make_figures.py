"""Make a pose data set of stick figures on real textures, in COCO's keypoint format, offline.

The figures have COCO's 17 keypoints and random poses, sizes and colours. The textures come from
scikit-image. Training and validation share no part of a texture, and the same seed gives the same
files.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.datasets.command_line import add_arguments, read_arguments, run
from tools.datasets.figures import Options, make_figures


def parse_args(args: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; its defaults are those of :class:`Options`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add_arguments(parser, Options(), 'data/figures', 'figures')
    parser.add_argument(
        '--hidden-fraction', type=float, default=Options.hidden_fraction,
        help='fraction of figures that a patch of texture hides in part',
    )  # fmt: skip
    return read_arguments(parser, args)


if __name__ == '__main__':
    run(make_figures, parse_args())
