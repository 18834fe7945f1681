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


def draw(chosen: Sequence[Panel], width: float = 3.8) -> Figure:
    """Cost above, gradient below."""
    figure = Figure(figsize=(width * len(chosen), 6.4), layout='constrained')
    axes = figure.subplots(2, len(chosen), squeeze=False)
    for (above, below), panel in zip(axes.T, chosen, strict=True):
        for name, ((color, style), cost) in panel.lines.items():
            values, slope = curves(cost, panel.x)
            wide = 3.5 if style == ':' else 1.5  # stays visible on an equal line
            above.plot(panel.x, values, style, color=color, label=name, linewidth=wide)
            below.plot(panel.x, slope, style, color=color, linewidth=wide)
        above.set(title=panel.title)
        below.set(xlabel=panel.label)
        above.legend(fontsize=8)
        for each in (above, below):
            each.grid(alpha=0.3)
    axes[0, 0].set(ylabel='cost')
    axes[1, 0].set(ylabel='gradient')
    return figure


def svg(name: str) -> bytes:
    """The plot of one loss, for the site."""
    figure, file = draw(panels()[name](), width=4.2), io.BytesIO()
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
        draw(chosen).savefig(path, dpi=100)
        print(path)


if __name__ == '__main__':
    main()
