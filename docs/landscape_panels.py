"""The plots of each loss: which costs, over which number."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from mmdet.models.losses import L1Loss, SmoothL1Loss
from torch import Tensor

from mmdet_losses.losses import masked_l1_loss, masked_smooth_l1_loss

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'docs')]

from landscape_costs import (
    Cost,
    anchor_class,
    case_entry,
    distance,
    embeddings,
    first_cell,
    grid_cell,
    heatmap_cell,
    lone_push,
    mmdet_cell,
    moved_box,
    plain,
    prior_class,
    squared_cell,
    track_cell,
    weighted,
)

from tests.cases import LOSSES

BLUE, ORANGE, GREEN, PURPLE = '#0072B2', '#D55E00', '#009E73', '#CC79A7'  # Okabe and Ito
OURS, OFFICIAL, THEIRS, FOURTH = (BLUE, '-'), (ORANGE, '--'), (GREEN, ':'), (PURPLE, '-.')


class Panel(NamedTuple):
    """A pair of plots: cost on the left, gradient on the right."""

    title: str
    label: str
    """Label of the x axis."""
    x: Tensor
    lines: dict[str, tuple[tuple[str, str], Cost]]


Panels = dict[str, Callable[[], Sequence[Panel]]]
"""Registered name of a loss -> function that makes its panels."""

LOGITS = torch.linspace(-8, 8, 97)
NEAR = torch.linspace(-3, 3, 97)


def heatmap_panel(title: str, low: float, high: float, target: float) -> Panel:
    """A heatmap cell: ours, ours with the official clamp, MMDetection's."""
    lines = {
        'from logits (default)': (OURS, heatmap_cell(target, None)),
        'clamp=1e-4 (official)': (OFFICIAL, heatmap_cell(target, 1e-4)),
        'MMDetection': (THEIRS, mmdet_cell(target)),
    }
    return Panel(title, 'logit', torch.linspace(low, high, 97), lines)


def box_panels(mode: str, name: str) -> list[Panel]:
    """A box shifted and widened, with one IoU measure."""
    return [
        Panel(
            title,
            label,
            NEAR,
            {
                name: (OURS, moved_box(mode, False, wider)),
                'MMDetection': (THEIRS, moved_box(mode, True, wider)),
            },
        )
        for title, label, wider in (
            ('box, shifted sideways', 'shift in widths', False),
            ('box, wider', 'log2(width / target width)', True),
        )
    ]


def grid_panels(stem: str) -> list[Panel]:
    """Objectness with and without an object, and the raw width."""
    kinds = {'': {}}
    if stem == 'YOLOV4':
        kinds = {
            "gradient='darknet' (default)": {},
            "gradient='autograd'": {'gradient': 'autograd'},
        }
    width = {
        name or 'object': (style, grid_cell(stem, 'width', **options))
        for style, (name, options) in zip((OURS, OFFICIAL), kinds.items())
    }
    objectness = {
        'object': (OURS, grid_cell(stem, 'objectness')),
        'background': (OFFICIAL, grid_cell(stem, 'objectness', at_object=False)),
    }
    if stem == 'YOLOV3':
        width['MMDetection'] = (THEIRS, grid_cell(stem, 'width', theirs=True))
        for name, at_object in (('object', True), ('background', False)):
            theirs = grid_cell(stem, 'objectness', at_object, theirs=True)
            objectness[f'{name}, MMDetection'] = (THEIRS, theirs)
    return [
        # each value is a whole criterion, so there are fewer; these curves are smooth
        Panel('objectness of an anchor', 'logit', LOGITS[::3], objectness),
        Panel("an object's width", 'raw width', NEAR, width),
    ]


SQUARE = Panel(
    'heatmap, object, from scores',
    'network output',
    torch.linspace(-1, 2, 97),
    {
        'activated=True (default)': (OURS, squared_cell(True)),
        'MMDetection MSELoss': (THEIRS, squared_cell(True, theirs=True)),
    },
)
FOCAL = Panel(
    'sigmoid focal (RetinaNet)',
    'logit',
    LOGITS,
    {
        'object': (OURS, anchor_class(True, False)),
        'background': ((ORANGE, '-'), anchor_class(False, False)),
        'object, MMDetection': (THEIRS, anchor_class(True, True)),
        'background, MMDetection': (THEIRS, anchor_class(False, True)),
    },
)
EMBEDDINGS = Panel(
    'embeddings of corners',
    'difference',
    NEAR,
    {
        'pull, one object': (OURS, embeddings(0)),
        'push, two objects': ((ORANGE, '-'), embeddings(1)),
        'pull, MMDetection': (THEIRS, embeddings(0, theirs=True)),
        'push, MMDetection': (THEIRS, embeddings(1, theirs=True)),
    },
)
BOXES = Panel(
    'box, shifted sideways',
    'shift in widths',
    NEAR,
    {
        'GIoU': (OURS, moved_box('giou', False)),
        'CIoU': ((ORANGE, '-'), moved_box('ciou', False)),
        'GIoU, MMDetection': (THEIRS, moved_box('giou', True)),
        'CIoU, MMDetection': (THEIRS, moved_box('ciou', True)),
    },
)
OVERVIEW = (
    heatmap_panel('heatmap, object (t = 1)', -14, 6, 1.0),
    heatmap_panel('heatmap, background (t = 0)', -6, 14, 0.0),
    FOCAL,
    BOXES,
    EMBEDDINGS,
)


def track_cells(objects: int) -> dict[str, tuple[tuple[str, str], Cost]]:
    """CenterTrack's cost from logits and with the official clamp."""
    return {
        'from logits (default)': (OURS, track_cell(objects)),
        'clamp=1e-4 (official)': (OFFICIAL, track_cell(objects, 1e-4)),
    }


def heatmap_terms() -> Panels:
    """Terms of heatmaps."""
    return {
        'PenaltyReducedFocalLoss': lambda: [
            *OVERVIEW[:2],
            heatmap_panel('heatmap, near an object (t = 0.5)', -6, 14, 0.5),
        ],
        'CenterTrackFocalLoss': lambda: [
            Panel(
                'heatmap, one object in the cell',
                'logit',
                torch.linspace(-14, 6, 97),
                {**track_cells(1), 'MMDetection GaussianFocalLoss': (THEIRS, mmdet_cell(1.0))},
            ),
            Panel(
                'two objects of one class in a cell',
                'logit',
                LOGITS,
                {
                    'CenterTrackFocalLoss': (OURS, track_cell(2)),
                    'PenaltyReducedFocalLoss': (OFFICIAL, heatmap_cell(1.0, None)),
                },
            ),
            Panel(
                'background',
                'logit',
                torch.linspace(-6, 14, 97),
                {**track_cells(0), 'MMDetection GaussianFocalLoss': (THEIRS, mmdet_cell(0.0))},
            ),
        ],
        'HeatmapMSELoss': lambda: [
            SQUARE,
            Panel(
                'heatmap, object, from logits',
                'logit',
                LOGITS,
                {
                    'activated=False': (OURS, squared_cell(False)),
                    'MMDetection MSELoss': (THEIRS, squared_cell(False, theirs=True)),
                },
            ),
        ],
    }


def values() -> Panels:
    """Terms of regressed values."""
    return {
        'MaskedL1Loss': lambda: [
            Panel(
                'one value',
                'prediction minus target',
                NEAR,
                {
                    'MaskedL1Loss': (OURS, distance(masked_l1_loss)),
                    'MMDetection L1Loss': (THEIRS, plain(L1Loss())),
                },
            )
        ],
        'MaskedSmoothL1Loss': lambda: [
            Panel(
                'one value',
                'prediction minus target',
                NEAR,
                {
                    'beta=1 (default)': (OURS, distance(masked_smooth_l1_loss)),
                    'beta=1/9': (OFFICIAL, distance(masked_smooth_l1_loss, beta=1 / 9)),
                    'MMDetection SmoothL1Loss': (THEIRS, plain(SmoothL1Loss())),
                },
            )
        ],
        'MaskedWeightedL1Loss': lambda: [
            Panel(
                'one value, not divided',
                'prediction minus target',
                NEAR,
                {
                    'weight 1': (OURS, weighted(1.0)),
                    'weight 0.5': (OFFICIAL, weighted(0.5)),
                    'weight 0': (FOURTH, weighted(0.0)),
                    'MMDetection L1Loss': (THEIRS, plain(L1Loss(reduction='sum'))),
                },
            )
        ],
    }


def embeddings_of_corners() -> Panels:
    """The term of embeddings."""
    return {
        'PullPushLoss': lambda: [
            Panel(
                'pull, one object',
                'difference of its embeddings',
                NEAR,
                {
                    'eps=1e-4 (official)': (OURS, embeddings(0)),
                    'MMDetection': (THEIRS, embeddings(0, theirs=True)),
                },
            ),
            Panel(
                'push, two objects',
                'difference of their embeddings',
                NEAR,
                {
                    'eps=1e-4 (official)': (OURS, embeddings(1)),
                    'eps=0': (OFFICIAL, embeddings(1, 0.0)),
                    'MMDetection': (THEIRS, embeddings(1, theirs=True)),
                },
            ),
            Panel(
                'push, one object',
                'its embedding',
                NEAR,
                {
                    'eps=1e-4 (official)': (OURS, lone_push(1e-4)),
                    'eps=0': (OFFICIAL, lone_push(0.0)),
                    'MMDetection': (THEIRS, lone_push(0.0, theirs=True)),
                },
            ),
        ],
    }


def anchors() -> Panels:
    """Terms of anchors and cells."""
    return {
        'SigmoidFocalLoss': lambda: [
            Panel(
                title,
                'logit',
                LOGITS,
                {
                    'SigmoidFocalLoss': (OURS, anchor_class(positive, False)),
                    'MMDetection FocalLoss': (THEIRS, anchor_class(positive, True)),
                },
            )
            for title, positive in (('object', True), ('background', False))
        ],
        'HardNegativeCrossEntropyLoss': lambda: [
            Panel(
                'prior with an object',
                'logit of its class minus background',
                LOGITS,
                {
                    'HardNegativeCrossEntropyLoss': (OURS, prior_class(True)),
                    'MMDetection SSDHead': (THEIRS, prior_class(True, 'theirs')),
                },
            ),
            Panel(
                'background prior among five',
                'logit of the class minus background',
                LOGITS,
                {
                    'the three hardest count': (OURS, prior_class(False)),
                    'without mining': (OFFICIAL, prior_class(False, 'plain')),
                    'MMDetection SSDHead': (THEIRS, prior_class(False, 'theirs')),
                },
            ),
        ],
        'YOLOV1Loss': lambda: [
            Panel(
                'confidence of a box',
                'network output',
                torch.linspace(-1, 2, 97),
                {
                    'responsible': (OURS, first_cell('confidence')),
                    'not responsible': (OFFICIAL, first_cell('confidence', responsible=False)),
                },
            ),
            Panel(
                'width of the responsible box',
                'square root of width / image width',
                torch.linspace(0.3, 0.9, 97),
                {'responsible': (OURS, first_cell('width'))},
            ),
        ],
    }


def case_panels(name: str) -> list[Panel]:
    """The panel of a term without one of its own: its case, over one entry of the prediction."""
    entries = {
        'with objects': (OURS, case_entry(name, objects=True)),
        'without objects': (OFFICIAL, case_entry(name, objects=False)),
    }
    lines = {label: (style, cost) for label, (style, cost) in entries.items() if cost is not None}
    return [Panel('one entry of the prediction', 'value of the entry', NEAR, lines)]


def panels() -> Panels:
    """Registered name of a loss -> function that makes its panels."""
    stems = ('YOLOV2', 'YOLOV3', 'YOLOV4', 'ScaledYOLOV4', 'GaussianYOLO')
    grids = {f'{stem}Loss': stem for stem in stems}
    boxes = {
        'BoxIoULoss': ('iou', "mode='iou'"),
        'GeneralizedIoULoss': ('giou', 'GIoU'),
        'DistanceIoULoss': ('diou', 'DIoU'),
        'CompleteIoULoss': ('ciou', 'CIoU'),
    }
    terms = [name for name in LOSSES if ',' not in name]
    return {
        **{name: lambda name=name: case_panels(name) for name in terms},
        **heatmap_terms(),
        **values(),
        **embeddings_of_corners(),
        **anchors(),
        **{name: lambda args=args: box_panels(*args) for name, args in boxes.items()},
        **{name: lambda stem=stem: grid_panels(stem) for name, stem in grids.items()},
    }
