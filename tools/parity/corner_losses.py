"""Golden checks of the corner family's losses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

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
from tools.parity.center_common import splats_of
from tools.parity.golden_file import GoldenFile
from tools.parity.rows import Row, compare

FOCAL = {'type': 'PenaltyReducedFocalLoss', 'clamp': 1e-4}
TERM, GRADIENT = {'rtol': 1e-5}, {'atol': 1e-6}
LONELY = 3e-4
"""Absolute tolerance of the push of an image with one object: 1 - 1 / (1 + 1e-4) in float32."""

NAMES = {'tl': 'tl', 'br': 'br', 'ct': 'center'}


def keypoints(maps: Mapping[str, Tensor]) -> dict[str, Keypoint | CenterKeypoint]:
    """Official maps (``tl_heat``, ``tl_tag``, ``tl_off``, ...) as keypoints ``tl, br, center``."""
    found: dict[str, Keypoint | CenterKeypoint] = {
        name: Keypoint(maps[f'{name}_heat'], maps[f'{name}_tag'], maps[f'{name}_off'])
        for name in ('tl', 'br')
    }
    if 'ct_heat' in maps:
        found['center'] = CenterKeypoint(maps['ct_heat'], maps['ct_off'])
    return found


def check_cornernet(path: Path) -> list[Row]:
    """CornerNet and CornerNet-Squeeze."""
    golden = GoldenFile(path)
    _check(golden, CornerNetLoss, CornerNetOutputs, CornerNetTargets(**_targets(golden)))
    return golden.finish()


def check_triplet(path: Path) -> list[Row]:
    """CenterNet triplets, whose official code also returns its parts."""
    golden = GoldenFile(path)
    targets = CenterNetTripletTargets(**_targets(golden))
    _check(golden, CenterNetTripletLoss, CenterNetTripletOutputs, targets)
    return golden.finish()


def check_saccade(path: Path) -> list[Row]:
    """CornerNet-Saccade: validity masks and attention maps."""
    golden = GoldenFile(path)
    attentions = [key for key in golden.arrays if key.startswith('gt_att')]
    targets = CornerNetSaccadeTargets(
        **_targets(golden),
        attentions=tuple(splats_of(golden.tensor(key)) for key in sorted(attentions)),
    )
    _check(golden, CornerNetSaccadeLoss, CornerNetSaccadeOutputs, targets)
    for stack, outputs in enumerate(_outputs(golden, CornerNetSaccadeOutputs, _leaves(golden))):
        plain = _criterion(golden, CornerNetLoss)._terms(outputs, targets)
        for point in ('tl', 'br'):
            key = f'term_focal_{point}_without_mask'
            _compare_entry(golden, key, stack, plain[f'loss_{point}_heatmap'])
    return golden.finish()


def _check(golden: GoldenFile, criterion_type: type, outputs_type: type, targets: tuple) -> None:
    criterion, leaves = _criterion(golden, criterion_type), _leaves(golden)
    stacks = _outputs(golden, outputs_type, leaves)
    lonely = bool((targets.mask.sum(1) == 1).any())
    for stack, outputs in enumerate(stacks):
        _compare_stack(golden, criterion, outputs, targets, stack, lonely)
    terms = criterion(stacks[-1]._replace(earlier=tuple(stacks[:-1])), targets)
    total = sum(terms.values())
    slack = LONELY * golden.array('push_weight').item() if lonely else 0.0
    golden.compare('total', total, rtol=1e-5, atol=slack)
    parts = {
        'focal': [name for name in terms if name.endswith('_heatmap')],
        'off': [name for name in terms if name.endswith('_offset')],
        'pull': ['loss_pull'],
        'push': ['loss_push'],
        'att': ['loss_attention'],
    }
    for part, names in parts.items():
        for kind in ('contrib', 'returned'):
            if f'{kind}_{part}' in golden:
                value = sum(terms[name] for name in names)
                atol = slack if part == 'push' else 0.0
                golden.compare(f'{kind}_{part}', value, rtol=1e-5, atol=atol)
    total.backward()
    for key, leaf in leaves.items():
        golden.compare(key.replace('pred_', 'grad_'), leaf.grad, **GRADIENT)


def _compare_stack(
    golden: GoldenFile,
    criterion: CornerNetLoss,
    outputs: tuple,
    targets: tuple,
    stack: int,
    lonely: bool,
) -> None:
    """Every stored term of one stack, which the official code has not weighted."""
    terms = criterion(outputs._replace(earlier=()), targets)
    embedding = criterion.loss_embedding
    for point, ours in NAMES.items():
        if f'term_focal_{point}' in golden:
            _compare_entry(golden, f'term_focal_{point}', stack, terms[f'loss_{ours}_heatmap'])
            offset = terms[f'loss_{ours}_offset'] / criterion.loss_offset.loss_weight
            _compare_entry(golden, f'term_off_{point}', stack, offset)
    _compare_entry(golden, 'term_pull', stack, terms['loss_pull'] / embedding.pull_weight)
    push = terms['loss_push'] / embedding.push_weight
    _compare_entry(golden, 'term_push', stack, push, LONELY if lonely else 0.0)
    for scale, target in enumerate(getattr(targets, 'attentions', ())):
        value = criterion.loss_attention(outputs.attentions[scale], target)
        _compare_entry(golden, f'term_att{scale}', stack, value)


def _compare_entry(
    golden: GoldenFile, key: str, stack: int, got: Tensor, atol: float = 0.0
) -> None:
    want = golden.array(key)[stack]
    golden.rows.append(compare(golden.name, f'{key}[{stack}]', got, want, atol, 1e-5))


def _criterion(golden: GoldenFile, criterion_type: type) -> CornerNetLoss:
    pull, push, offset = (float(golden.array(f'{name}_weight')) for name in ('pull', 'push', 'off'))
    options = {'loss_attention': FOCAL} if criterion_type is CornerNetSaccadeLoss else {}
    return criterion_type(
        loss_heatmap=FOCAL,
        loss_embedding={'type': 'PullPushLoss', 'pull_weight': pull, 'push_weight': push},
        loss_offset={'type': 'MaskedSmoothL1Loss', 'loss_weight': offset},
        **options,
    )


def _leaves(golden: GoldenFile) -> dict[str, Tensor]:
    return {key: golden.tensor(key, True) for key in golden.arrays if key.startswith('pred_')}


def _outputs(golden: GoldenFile, outputs_type: type, leaves: dict[str, Tensor]) -> list:
    """The outputs of every stack, first stack first."""
    attentions = sorted(key for key in leaves if key.startswith('pred_att'))
    maps = {key[5:]: leaf for key, leaf in leaves.items() if key not in attentions}
    outputs = []
    for stack in range(golden.number('num_stacks')):
        fields = keypoints({name: leaf[stack] for name, leaf in maps.items()})
        if attentions:
            fields['attentions'] = tuple(leaves[key][stack] for key in attentions)
        outputs.append(outputs_type(**fields))
    return outputs


def _targets(golden: GoldenFile) -> dict:
    """Fields that the targets of every detector have."""
    mask = golden.tensor('gt_tag_mask').bool()
    fields = {'mask': mask, 'num_pos': mask.sum().float(), 'num_dropped': torch.zeros(())}
    for point, ours in NAMES.items():
        if f'gt_{point}_heat' in golden:
            valid = f'gt_{point}_valid'
            fields[ours] = KeypointTarget(
                splats_of(golden.tensor(f'gt_{point}_heat')),
                golden.tensor(f'gt_{point}_ind'),
                golden.tensor(f'gt_{point}_off'),
                golden.tensor(valid).bool() if valid in golden else None,
            )
    return fields


def check_components(path: Path) -> list[Row]:
    """Focal loss in four variants, pull and push of single images, offsets."""
    golden = GoldenFile(path)
    _check_focal(golden)
    _check_embedding(golden)
    pred = golden.tensor('off_pred', True)
    target, mask = golden.tensor('off_gt'), golden.tensor('off_mask').bool()
    loss = masked_smooth_l1_loss(pred, target, mask, avg_factor=mask.sum() + 1e-4)
    golden.compare('off_value', loss, **TERM)
    golden.compare('off_grad', torch.autograd.grad(loss, pred)[0], **GRADIENT)
    empty = torch.zeros_like(mask)
    loss = masked_smooth_l1_loss(pred, target, empty, avg_factor=empty.sum() + 1e-4)
    golden.compare('off_value_empty', loss)
    return golden.finish()


def _check_focal(golden: GoldenFile) -> None:
    dense, valid = golden.tensor('focal_gt'), golden.tensor('focal_valid')
    for nopos in ('', '_nopos'):
        target = dense.clamp(max=0.9999) if nopos else dense
        positives = (target == 1).sum().clamp(min=1)
        for mask, weight in (('', None), ('_mask', valid)):
            key = f'focal{mask}{nopos}'
            for form in (splats_of(target), target):
                logits = golden.tensor('focal_logits', True)
                loss = penalty_reduced_focal_loss(
                    logits, form, weight, clamp=1e-4, avg_factor=positives
                )
                golden.compare(f'{key}_value', loss, **TERM)
                gradient = torch.autograd.grad(loss, logits)[0]
                golden.compare(f'{key}_grad_logits', gradient, **GRADIENT)
            scores = golden.tensor('focal_prob')
            loss = penalty_reduced_focal_loss(
                scores, target, weight, activated=True, avg_factor=positives
            )
            want = golden.array(f'{key}_value')
            golden.rows.append(compare(golden.name, f'{key} of scores', loss, want, **TERM))


def _check_embedding(golden: GoldenFile) -> None:
    mask = golden.tensor('ae_mask').bool()
    golden.compare('ae_num', mask.sum(1))
    embeddings = [golden.tensor(f'ae_tag_{corner}', True) for corner in ('tl', 'br')]
    lonely = LONELY if bool((mask.sum(1) == 1).any()) else 0.0
    pull, push = pull_push_loss(*embeddings, mask, reduction='none')
    golden.compare('ae_pull_per_image', pull, rtol=1e-5)
    golden.compare('ae_push_per_image', push, rtol=1e-5, atol=lonely)
    pull, push = pull_push_loss(*embeddings, mask)
    golden.compare('ae_pull', pull, rtol=1e-5)
    golden.compare('ae_push', push, rtol=1e-5, atol=lonely)
    for name, value in (('pull', pull), ('push', push)):
        gradients = torch.autograd.grad(value, embeddings, retain_graph=True)
        for corner, gradient in zip(('tl', 'br'), gradients, strict=True):
            golden.compare(f'ae_grad_{name}_{corner}', gradient, **GRADIENT)
