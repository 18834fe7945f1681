"""Golden checks of the corner family's losses."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mmdet_losses.detectors.corner import (
    CenterKeypoint,
    CenterNetTripletLoss,
    CenterNetTripletOutputs,
    CenterNetTripletTargets,
    CornerNetLoss,
    CornerNetOutputs,
    CornerNetSaccadeLoss,
    CornerNetSaccadeOutputs,
    CornerNetSaccadeTargets,
    CornerNetTargets,
    Keypoint,
    KeypointTarget,
)
from mmdet_losses.losses import masked_smooth_l1_loss, penalty_reduced_focal_loss, pull_push_loss
from tools.parity.golden import EXACT, Case, splats_of

FOCAL = {'type': 'PenaltyReducedFocalLoss', 'clamp': 1e-4}
TERM, GRADIENT = 2e-6, 2e-6
NAMES = {'tl': 'tl', 'br': 'br', 'ct': 'center'}
TYPES = {
    'cornernet': (CornerNetLoss, CornerNetOutputs, CornerNetTargets),
    'saccade': (CornerNetSaccadeLoss, CornerNetSaccadeOutputs, CornerNetSaccadeTargets),
    'centernet': (CenterNetTripletLoss, CenterNetTripletOutputs, CenterNetTripletTargets),
}
"""Criterion, outputs and targets of each kind of file."""
PARTS = {
    'focal': ('loss_tl_heatmap', 'loss_br_heatmap', 'loss_center_heatmap'),
    'off': ('loss_tl_offset', 'loss_br_offset', 'loss_center_offset'),
    'pull': ('loss_pull',),
    'push': ('loss_push',),
    'att': ('loss_attention',),
}
"""Parts that the official code adds up -> our terms."""


def keypoints(maps: Mapping[str, Tensor]) -> dict[str, Keypoint | CenterKeypoint]:
    """Official maps (``tl_heat``, ``tl_tag``, ``tl_off``, ...) as keypoints ``tl, br, center``."""
    found: dict[str, Keypoint | CenterKeypoint] = {
        name: Keypoint(maps[f'{name}_heat'], maps[f'{name}_tag'], maps[f'{name}_off'])
        for name in ('tl', 'br')
    }
    if 'ct_heat' in maps:
        found['center'] = CenterKeypoint(maps['ct_heat'], maps['ct_off'])
    return found


def losses(case: Case) -> None:
    """Terms of each stack, their sums, and the gradients of the total."""
    kind = 'centernet' if 'pred_ct_heat' in case else 'cornernet'
    criterion_type, outputs_type, targets_type = TYPES['saccade' if 'pred_att0' in case else kind]
    targets = targets_type(**_targets(case))
    criterion = _criterion(case, criterion_type)
    leaves = {key: case.leaf(key) for key in case.names('pred_*')}
    stacks = _outputs(case, outputs_type, leaves)
    per_stack = [_terms(case, criterion, outputs, targets) for outputs in stacks]
    for key in per_stack[0]:
        case.compare(key, torch.stack([terms[key] for terms in per_stack]), TERM)
    terms = criterion(stacks[-1]._replace(earlier=tuple(stacks[:-1])), targets)
    total = sum(terms.values())
    case.compare('total', total, TERM)
    for part, names in PARTS.items():
        value = sum(terms[name] for name in names if name in terms)
        case.compare(f'contrib_{part}', value, TERM)
        case.compare(f'returned_{part}', value, TERM)
    total.backward()
    for key, leaf in leaves.items():
        case.compare(key.replace('pred_', 'grad_'), leaf.grad, GRADIENT)


def _terms(
    case: Case, criterion: CornerNetLoss, outputs: tuple, targets: tuple
) -> dict[str, Tensor]:
    """Every term of one stack, which the official code has not weighted."""
    terms = criterion(outputs._replace(earlier=()), targets)
    found = {
        'term_pull': terms['loss_pull'] / criterion.loss_embedding.pull_weight,
        'term_push': terms['loss_push'] / criterion.loss_embedding.push_weight,
    }
    unmasked = targets._replace(
        tl=targets.tl._replace(valid=None), br=targets.br._replace(valid=None)
    )
    plain = _criterion(case, CornerNetLoss)._terms(outputs, unmasked)
    for point, ours in NAMES.items():
        if f'pred_{point}_heat' in case:
            found[f'term_focal_{point}'] = terms[f'loss_{ours}_heatmap']
            offset = terms[f'loss_{ours}_offset'] / criterion.loss_offset.loss_weight
            found[f'term_off_{point}'] = offset
    for point in ('tl', 'br'):
        found[f'term_focal_{point}_without_mask'] = plain[f'loss_{point}_heatmap']
    for scale, target in enumerate(getattr(targets, 'attentions', ())):
        found[f'term_att{scale}'] = criterion.loss_attention(outputs.attentions[scale], target)
    return found


def _criterion(case: Case, criterion_type: type) -> CornerNetLoss:
    pull, push, offset = (case.number(f'{name}_weight') for name in ('pull', 'push', 'off'))
    options = {'loss_attention': FOCAL} if criterion_type is CornerNetSaccadeLoss else {}
    return criterion_type(
        loss_heatmap=FOCAL,
        loss_embedding={'type': 'PullPushLoss', 'pull_weight': pull, 'push_weight': push},
        loss_offset={'type': 'MaskedSmoothL1Loss', 'loss_weight': offset},
        **options,
    )


def _outputs(case: Case, outputs_type: type, leaves: dict[str, Tensor]) -> list:
    """The outputs of every stack, first stack first."""
    attentions = [key for key in leaves if key.startswith('pred_att')]
    maps = {key[5:]: leaf for key, leaf in leaves.items() if key not in attentions}
    outputs = []
    for stack in range(int(case.number('num_stacks'))):
        fields = keypoints({name: leaf[stack] for name, leaf in maps.items()})
        if attentions:
            fields['attentions'] = tuple(leaves[key][stack] for key in attentions)
        outputs.append(outputs_type(**fields))
    return outputs


def _targets(case: Case) -> dict:
    """The fields of the targets."""
    mask = case.tensor('gt_tag_mask').bool()
    fields = {'mask': mask, 'num_pos': mask.sum().float(), 'num_dropped': torch.zeros(())}
    for point, ours in NAMES.items():
        if f'gt_{point}_heat' in case:
            valid = f'gt_{point}_valid'
            fields[ours] = KeypointTarget(
                splats_of(case.tensor(f'gt_{point}_heat')),
                case.tensor(f'gt_{point}_ind'),
                case.tensor(f'gt_{point}_off'),
                case.tensor(valid).bool() if valid in case else None,
            )
    if attentions := case.names('gt_att*'):
        fields['attentions'] = tuple(splats_of(case.tensor(key)) for key in attentions)
    return fields


def components(case: Case) -> None:
    """Focal loss in four variants, pull and push of single images, offsets."""
    _focal(case)
    _embedding(case)
    pred = case.leaf('off_pred')
    target, mask = case.tensor('off_gt'), case.tensor('off_mask').bool()
    loss = masked_smooth_l1_loss(pred, target, mask, avg_factor=mask.sum() + 1e-4)
    case.compare('off_value', loss, EXACT)
    case.compare('off_grad', torch.autograd.grad(loss, pred)[0], EXACT)
    empty = torch.zeros_like(mask)
    loss = masked_smooth_l1_loss(pred, target, empty, avg_factor=empty.sum() + 1e-4)
    case.compare('off_value_empty', loss)


def _focal(case: Case) -> None:
    dense, valid = case.tensor('focal_gt'), case.tensor('focal_valid')
    for nopos in ('', '_nopos'):
        target = dense.clamp(max=0.9999) if nopos else dense
        positives = (target == 1).sum().clamp(min=1)
        for mask, weight in (('', None), ('_mask', valid)):
            key = f'focal{mask}{nopos}'
            for form in (splats_of(target), target):
                logits = case.leaf('focal_logits')
                loss = penalty_reduced_focal_loss(
                    logits, form, weight, clamp=1e-4, avg_factor=positives
                )
                case.compare(f'{key}_value', loss, EXACT)
                gradient = torch.autograd.grad(loss, logits)[0]
                case.compare(f'{key}_grad_logits', gradient, GRADIENT)
            loss = penalty_reduced_focal_loss(
                case.tensor('focal_prob'), target, weight, activated=True, avg_factor=positives
            )
            case.compare(f'{key}_value', loss, EXACT)


def _embedding(case: Case) -> None:
    mask = case.tensor('ae_mask').bool()
    case.skip('the number of true entries of ae_mask', 'ae_num')
    embeddings = [case.leaf(f'ae_tag_{corner}') for corner in ('tl', 'br')]
    pull, push = pull_push_loss(*embeddings, mask, reduction='none')
    case.compare('ae_pull_per_image', pull, EXACT)
    case.compare('ae_push_per_image', push, EXACT)
    pull, push = pull_push_loss(*embeddings, mask)
    for name, value in (('pull', pull), ('push', push)):
        case.compare(f'ae_{name}', value, EXACT)
        gradients = torch.autograd.grad(value, embeddings, retain_graph=True)
        for corner, gradient in zip(('tl', 'br'), gradients, strict=True):
            case.compare(f'ae_grad_{name}_{corner}', gradient, EXACT)
