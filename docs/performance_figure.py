"""Draw docs/images/performance.png: launches over bytes of a training step, and print the table.

With `--beside` MMDetection's heads are counted and drawn too, which takes a few minutes.
"""

import sys
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import mmdet_losses  # noqa: F401

# isort: split
from mmdet.utils import register_all_modules

from tools.benchmarks.launch_table import launch_rows, table

matplotlib.use('agg')
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

BLUE, ORANGE, GREY = '#0072B2', '#D55E00', '#777777'  # Okabe and Ito
LAUNCH = 5e-6
"""Seconds per launch."""
BANDWIDTH = {'H100': 3.35e12, 'H200': 4.8e12}
"""Bytes per second, from the data sheets of the SXM versions."""
PLACES = [(4, 4), (4, -10), (-4, 4), (-4, -10), (2, -14), (4, 15), (4, -22), (-4, 15), (-4, -22)]
"""Offsets of a label from its point, in the order in which they are tried."""


def label_points(axes: Axes, points: dict[str, tuple[float, float]]) -> None:
    """Write each name at the first place where it covers no other name and no point."""
    taken = []
    for point in points.values():
        x, y = axes.transData.transform(point)
        taken.append(Bbox.from_extents(x - 4, y - 4, x + 4, y + 4))
    for name, point in sorted(points.items(), key=lambda item: -item[1][1]):
        for offset in PLACES:
            side = 'left' if offset[0] > 0 else 'right'
            label = axes.annotate(
                name, point, offset, textcoords='offset points', fontsize=8, color=BLUE, ha=side
            )
            box = label.get_window_extent()
            if not box.count_overlaps(taken):
                break
            label.remove()
        else:
            raise RuntimeError(f'there is no place for the label {name}; add one to PLACES.')
        taken.append(box)


def main(beside: bool = False) -> None:
    warnings.filterwarnings('ignore')
    register_all_modules(init_default_scope=True)
    torch.set_num_threads(1)
    rows = launch_rows(beside=beside)
    print(table(rows))
    figure, axes = plt.subplots(figsize=(9, 6), layout='constrained')
    size = np.geomspace(1e6, 3e10, 200)
    for (name, speed), style in zip(BANDWIDTH.items(), ('-', '--'), strict=True):
        label = f'{name}: memory takes as long as launches'
        axes.plot(size / 1e6, size / speed / LAUNCH, style, color=GREY, label=label)
    for row in rows:
        ours = (row.step.bytes / 1e6, row.step.launches)
        axes.plot(*ours, 'o', color=BLUE)
        if row.theirs is not None:
            theirs = (row.theirs.bytes / 1e6, row.theirs.launches)
            axes.annotate(
                '', ours, theirs, arrowprops=dict(arrowstyle='->', color=ORANGE, alpha=0.5)
            )
            axes.plot(*theirs, 's', color=ORANGE)
    top = 2e4 if beside else 1e3
    axes.plot([], [], 'o', color=BLUE, label='this package')
    if any(row.theirs is not None for row in rows):
        axes.plot([], [], 's', color=ORANGE, label='MMDetection')
    axes.text(2, 0.6 * top, 'limited by launches', color=GREY)
    axes.text(9e3, 30, 'limited by memory', color=GREY, ha='center')
    axes.set(xscale='log', yscale='log', xlim=(1, 3e4), ylim=(20, top))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter('{x:g}')
        axis.set_minor_formatter('')
    axes.set(xlabel='MB read and written', ylabel='launches')
    axes.set_title('encode + loss + gradient of 8 images with 15 objects: counted, not measured')
    axes.legend(loc='lower left', fontsize=8)
    figure.draw_without_rendering()  # places the axes
    label_points(axes, {row.stem: (row.step.bytes / 1e6, row.step.launches) for row in rows})
    path = Path(__file__).parent / 'images' / 'performance.png'
    figure.savefig(path, dpi=110)
    print(path)


if __name__ == '__main__':
    main(beside='--beside' in sys.argv)
