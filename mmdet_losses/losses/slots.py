"""Which loss fits which slot of a head of MMDetection."""

from __future__ import annotations

import inspect
from typing import Any, Literal

from torch import nn

Kind = Literal[
    'classes',
    'class scores',
    'mined classes',
    'scores',
    'label and score',
    'heatmaps',
    'heatmaps with positives',
    'embeddings',
    'deltas',
    'boxes',
    'box costs',
    'other inputs',
]
DEFAULTS: dict[str, Kind] = {
    **dict.fromkeys(('FocalLoss', 'CrossEntropyLoss'), 'classes'),
    **dict.fromkeys(('L1Loss', 'SmoothL1Loss', 'MSELoss'), 'deltas'),
    **dict.fromkeys(('IoULoss', 'GIoULoss', 'BoundedIoULoss'), 'boxes'),
    'VarifocalLoss': 'scores',
    'GaussianFocalLoss': 'heatmaps',
    'AssociativeEmbeddingLoss': 'embeddings',
}
"""Default loss of a slot -> what the head passes."""
SCORES = (
    'loss_centerness', 'loss_obj', 'loss_conf', 'loss_xy', 'loss_bbox_cls', 'loss_loc',
    'loss_grid',
)  # fmt: skip
"""Slots whose predictions are logits and whose targets are scores of the same shape."""
EXCEPTIONS: dict[tuple[str, str], Kind] = {
    **dict.fromkeys(
        ((head, 'loss_cls') for head in ('GFLHead', 'RTMDetHead', 'TOODHead')), 'label and score'
    ),
    **dict.fromkeys(
        ((head, 'loss_bbox') for head in ('GFLHead', 'YOLOFHead', 'DDODHead')), 'boxes'
    ),
    **dict.fromkeys(
        ((head, 'loss_bbox') for head in ('PAAHead', 'AutoAssignHead', 'CenterNetUpdateHead')),
        'box costs',
    ),
    **dict.fromkeys(
        (('RepPointsHead', f'loss_bbox_{step}') for step in ('init', 'refine')), 'boxes'
    ),
    ('CenterNetUpdateHead', 'loss_cls'): 'heatmaps with positives',
    ('TOODHead', 'initial_loss_cls'): 'class scores',
    ('YOLACTHead', 'loss_cls'): 'other inputs',  # it sorts one cost per anchor
    ('FoveaHead', 'loss_bbox'): 'deltas',
    ('DDODHead', 'loss_iou'): 'scores',
    # the last logit is the background
    **dict.fromkeys(
        ((head, 'loss_cls') for head in ('MaskFormerHead', 'Mask2FormerTrackHead')), 'other inputs'
    ),
}
"""Heads and slots whose default loss does not show what the head passes."""
CHOICES: dict[Kind, str] = {
    'classes': 'SigmoidFocalLoss',
    'class scores': 'SigmoidFocalLoss',
    'scores': 'SigmoidFocalLoss',
    'label and score': "MMDetection's QualityFocalLoss",
    'heatmaps': 'PenaltyReducedFocalLoss or HeatmapMSELoss',
    'heatmaps with positives': 'PenaltyReducedFocalLoss',
    'embeddings': 'PullPushLoss',
    'deltas': 'MaskedL1Loss or MaskedSmoothL1Loss',
    'boxes': 'BoxIoULoss or MaskedL1Loss',
    'box costs': 'BoxIoULoss',
    'other inputs': 'the loss of its recipe in MMDetection',
}


def slot_kind(head: nn.Module, name: str) -> Kind:
    """What a head of MMDetection passes to the loss in its slot ``name``."""
    for owner in type(head).__mro__:
        if (owner.__name__, name) in EXCEPTIONS:
            return EXCEPTIONS[owner.__name__, name]
    if name == 'loss_bbox' and getattr(head, 'reg_decoded_bbox', False):
        return 'boxes'
    default = _default(type(head), name)
    kind = DEFAULTS.get(default, 'other inputs')  # a slot without a default is one of masks
    if kind == 'classes' and name != 'loss_cls':
        return 'scores' if name in SCORES else 'other inputs'
    return kind


def _default(head: type, name: str) -> str:
    """Type of the loss that the signature of a head, or of its nearest base class, has."""
    for owner in head.__mro__:
        if '__init__' in vars(owner):
            parameter = inspect.signature(owner).parameters.get(name)
            if parameter is not None and hasattr(parameter.default, 'get'):
                return parameter.default.get('type', '').removeprefix('mmdet.')
    return ''


def check_slot(term: Any, head: nn.Module, name: str) -> None:
    """Raise ``ValueError`` unless a loss fits the slot ``name`` of a head of MMDetection."""
    kind = slot_kind(head, name)
    slot, found = f'{name} of {type(head).__name__}', type(term).__name__
    if kind not in term.fits:
        decoded = hasattr(head, 'reg_decoded_bbox') and kind == 'deltas' and 'boxes' in term.fits
        cure = ', or set reg_decoded_bbox=True' if decoded else ''
        raise ValueError(
            f'{slot} is {found}, which does not take {kind}; choose {CHOICES[kind]}{cure}.'
        )
    if kind == 'classes' and not getattr(head, 'use_sigmoid_cls', True):
        raise ValueError(
            f'use_sigmoid is missing from the config of {slot}, so the head adds a background '
            'class; write use_sigmoid=True there.'
        )
    expected = kind == 'class scores' or kind.startswith('heatmaps')
    if getattr(term, 'activated', expected) != expected:
        raise ValueError(
            f'activated is {term.activated} in {slot}, but the head passes '
            f'{"scores" if expected else "logits"}; set activated={expected}.'
        )
