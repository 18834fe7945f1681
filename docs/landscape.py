"""Draw cost and gradient of every loss, ours beside MMDetection's, from the code.

Without arguments it draws the overview, docs/images/landscape.png. With names of losses it draws
one PNG per loss into the folder ``--out``. The site build draws all of them.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))

from landscape_costs import Cost
from landscape_panels import OVERVIEW, Panel, panels


def curves(cost: Cost, x: Tensor) -> tuple[Tensor, Tensor]:
    """Cost of every entry of ``x``, and its derivative."""
    x = x.clone().requires_grad_()
    values = torch.stack([cost(each) for each in x.unbind()])
    (slope,) = torch.autograd.grad(values.sum(), x)
    return values.detach(), slope


def legend(axes: Axes) -> tuple[list[Artist], list[str]]:
    """Handles and labels of the lines; 'object, MMDetection' and its like are one entry."""
    entries = {
        label.rpartition(', ')[2] if label.endswith(', MMDetection') else label: handle
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    return list(entries.values()), list(entries)


def margins(height: float, rows: int) -> dict[str, float]:
    """Margins of a figure of 8 inches; a computed layout takes three times as long."""
    gap, bottom, top, total = 1.1, 0.55, 0.55, height * rows
    return dict(
        left=1.0 / 8,
        right=1 - 0.1 / 8,
        wspace=0.9 / 3.0,
        bottom=bottom / total,
        top=1 - top / total,
        hspace=gap / (height - gap),
    )


def draw(chosen: Sequence[Panel], height: float = 2.85) -> Figure:
    """One row per panel: cost on the left, gradient on the right.

    The legend of a row is above both plots, where it covers no curve.
    """
    figure = Figure(figsize=(8, height * len(chosen)))
    rows = figure.subplots(len(chosen), 2, squeeze=False)
    figure.subplots_adjust(**margins(height, len(chosen)))
    for (left, right), panel in zip(rows, chosen, strict=True):
        for name, ((color, style), cost) in panel.lines.items():
            values, slope = curves(cost, panel.x)
            wide = 3.5 if style == ':' else 1.5  # stays visible on an equal line
            left.plot(panel.x, values, style, color=color, label=name, linewidth=wide)
            right.plot(panel.x, slope, style, color=color, linewidth=wide)
        handles, labels = legend(left)
        left.legend(
            handles,
            labels,
            loc='lower left',
            bbox_to_anchor=(0, 1),
            ncols=len(labels),
            frameon=False,
            borderaxespad=0.2,
            fontsize=10,
        )
        left.set_title(panel.title, fontsize=12, pad=22)
        right.set_title('gradient', fontsize=12, pad=22)
        left.set_ylabel('cost', fontsize=11)
        for each in (left, right):
            each.set_xlabel(panel.label, fontsize=11)
            each.grid(alpha=0.3)
    return figure


def svg(name: str) -> bytes:
    """The plot of one loss, for the site."""
    figure, file = draw(panels()[name]()), io.BytesIO()
    with matplotlib.rc_context({'svg.hashsalt': name}):  # reproducible file
        figure.savefig(file, format='svg', metadata={'Date': None})
    return file.getvalue()


def main(argv: list[str] | None = None) -> None:
    """Draw the overview, or the losses given as arguments."""
    known = panels()
    folder = Path(__file__).parent / 'images'
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('names', nargs='*', metavar='LOSS', help=', '.join(known))
    parser.add_argument('--out', type=Path, default=folder, help='folder of the images')
    args = parser.parse_args(argv)
    unknown = [name for name in args.names if name not in known]
    if unknown:
        parser.error(f'{unknown[0]} has no plot; choose from {", ".join(known)}.')
    images = {name: known[name]() for name in args.names} or {'landscape': OVERVIEW}
    for name, chosen in images.items():
        path = args.out / f'{name}.png'
        draw(chosen).savefig(path, dpi=90)
        print(path)


if __name__ == '__main__':
    main()
