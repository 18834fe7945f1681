"""Make a detection data set of handwritten digits on real textures, in COCO format, offline.

The glyphs come from scikit-learn, the textures from scikit-image. Training and validation share
neither a glyph nor a part of a texture, and the same seed gives the same files.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.datasets.command_line import add_arguments, read_arguments, run
from tools.datasets.digits import Options, make_digits


def parse_args(args: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; its defaults are those of :class:`Options`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add_arguments(parser, Options(), 'data/digits', 'digits')
    return read_arguments(parser, args)


if __name__ == '__main__':
    run(make_digits, parse_args())
