"""Golden checks of the corner family's losses and target encoders."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.detectors import corner
from mmdet_losses.losses import masked_smooth_l1_loss, penalty_reduced_focal_loss, pull_push_loss
from mmdet_losses.ops import (
    crop_boxes,
    crop_window,
    gaussian_radius,
    is_proper,
    mirror_boxes,
    splat_gaussians,
)
from tools.parity import corner_decode
from tools.parity.corner_decode import keypoints
from tools.parity.golden import EXACT, Case, Check, counts, splats_of

FOCAL = {'type': 'PenaltyReducedFocalLoss', 'clamp': 1e-4}
TERM, GRADIENT = 2e-6, 2e-6
POINTS = {'tl': 'tl', 'br': 'br', 'ct': 'center'}
MODES = {'cornernet': 'fixed', 'duan': 'legacy'}
PARTS = {
    'focal': ('loss_tl_heatmap', 'loss_br_heatmap', 'loss_center_heatmap'),
    'off': ('loss_tl_offset', 'loss_br_offset', 'loss_center_offset'),
    'pull': ('loss_pull',),
    'push': ('loss_push',),
    'att': ('loss_attention',),
}
"""Parts that the official code adds up -> our terms."""


# ------------------------------------------------------------------------------------- losses


def losses(case: Case) -> None:
    """Terms of each stack, their sums, and the gradients of the total."""
    stem = 'CenterNetTriplet' if 'pred_ct_heat' in case else 'CornerNet'
    stem = 'CornerNetSaccade' if 'pred_att0' in case else stem
    targets = getattr(corner, f'{stem}Targets')(**_targets(case))
    criterion = _criterion(case, stem)
    leaves = {key: case.leaf(key) for key in case.names('pred_*')}
    stacks = [
        getattr(corner, f'{stem}Outputs')(**_outputs({k[5:]: x[i] for k, x in leaves.items()}))
        for i in range(case.number('num_stacks'))
    ]
    per_stack = [_terms(case, criterion, outputs, targets) for outputs in stacks]
    case.table({k: torch.stack([terms[k] for terms in per_stack]) for k in per_stack[0]}, TERM)
    terms = criterion(stacks[-1]._replace(earlier=tuple(stacks[:-1])), targets)
    total = sum(terms.values())
    case.compare('total', total, TERM)
    for part, names in PARTS.items():
        value = sum(terms[name] for name in names if name in terms)
        case.table({f'contrib_{part}': value, f'returned_{part}': value}, TERM)
    total.backward()
    case.table({k.replace('pred_', 'grad_'): x.grad for k, x in leaves.items()}, GRADIENT)


def _outputs(maps: Mapping[str, Tensor]) -> dict:
    """The fields of the outputs, from maps under their official names."""
    attentions = tuple(maps[name] for name in sorted(maps) if name.startswith('att'))
    return {**keypoints(maps), **({'attentions': attentions} if attentions else {})}


def _terms(case: Case, criterion: Any, outputs: Any, targets: Any) -> dict[str, Tensor]:
    """Every term of one stack, which the official code has not weighted."""
    terms, embedding = criterion(outputs._replace(earlier=()), targets), criterion.loss_embedding
    found = {
        'term_pull': terms['loss_pull'] / embedding.pull_weight,
        'term_push': terms['loss_push'] / embedding.push_weight,
    }
    corners = {name: getattr(targets, name)._replace(valid=None) for name in ('tl', 'br')}
    plain = _criterion(case, 'CornerNet')._terms(outputs, targets._replace(**corners))
    for point, ours in POINTS.items():
        if f'pred_{point}_heat' in case:
            found[f'term_focal_{point}'] = terms[f'loss_{ours}_heatmap']
            offset = terms[f'loss_{ours}_offset'] / criterion.loss_offset.loss_weight
            found[f'term_off_{point}'] = offset
    for point in corners:
        found[f'term_focal_{point}_without_mask'] = plain[f'loss_{point}_heatmap']
    for scale, target in enumerate(getattr(targets, 'attentions', ())):
        found[f'term_att{scale}'] = criterion.loss_attention(outputs.attentions[scale], target)
    return found


def _criterion(case: Case, stem: str) -> Any:
    weights = case.options('{}_weight', 'pull', 'push', 'off')
    pull, push = weights['pull'], weights['push']
    return getattr(corner, f'{stem}Loss')(
        loss_heatmap=FOCAL,
        loss_embedding={'type': 'PullPushLoss', 'pull_weight': pull, 'push_weight': push},
        loss_offset={'type': 'MaskedSmoothL1Loss', 'loss_weight': weights['off']},
        **({'loss_attention': FOCAL} if stem == 'CornerNetSaccade' else {}),
    )


def _targets(case: Case) -> dict:
    """The fields of the targets."""
    fields: dict[str, Any] = counts(case.tensor('gt_tag_mask').bool())
    for point, ours in POINTS.items():
        if f'gt_{point}_heat' in case:
            valid = f'gt_{point}_valid'
            fields[ours] = corner.KeypointTarget(
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
    mask = case.tensor('ae_mask').bool()
    case.skip('the number of true entries of ae_mask', 'ae_num')
    embeddings = [case.leaf(f'ae_tag_{name}') for name in ('tl', 'br')]
    pull, push = pull_push_loss(*embeddings, mask, reduction='none')
    case.table({'ae_pull_per_image': pull, 'ae_push_per_image': push})
    for name, value in zip(('pull', 'push'), pull_push_loss(*embeddings, mask), strict=True):
        tl, br = torch.autograd.grad(value, embeddings, retain_graph=True)
        case.table({f'ae_{name}': value, f'ae_grad_{name}_tl': tl, f'ae_grad_{name}_br': br})
    pred, target = case.leaf('off_pred'), case.tensor('off_gt')
    for suffix, mask in (('', case.tensor('off_mask').bool()), ('_empty', torch.tensor(False))):
        mask = mask.expand(target.shape[:2])
        loss = masked_smooth_l1_loss(pred, target, mask, avg_factor=mask.sum() + 1e-4)
        gradient = torch.autograd.grad(loss, pred)[0]
        tol = 0.0 if suffix else EXACT
        case.table({f'off_value{suffix}': loss, f'off_grad{suffix}': gradient}, tol)


def _focal(case: Case) -> None:
    dense, valid = case.tensor('focal_gt'), case.tensor('focal_valid')
    for key in ('focal', 'focal_mask', 'focal_nopos', 'focal_mask_nopos'):
        target = dense.clamp(max=0.9999) if key.endswith('nopos') else dense
        factor = {'avg_factor': (target == 1).sum().clamp(min=1)}
        weight = valid if 'mask' in key else None
        for form in (splats_of(target), target):
            logits = case.leaf('focal_logits')
            loss = penalty_reduced_focal_loss(logits, form, weight, clamp=1e-4, **factor)
            gradient = torch.autograd.grad(loss, logits)[0]
            case.table({f'{key}_value': loss, f'{key}_grad_logits': (gradient, GRADIENT)})
        prob = case.tensor('focal_prob')
        loss = penalty_reduced_focal_loss(prob, target, weight, activated=True, **factor)
        case.compare(f'{key}_value', loss, EXACT)


# ------------------------------------------------------------------------------------- targets


def targets(case: Case) -> None:
    """CornerNet, CornerNet-Squeeze and CenterNet triplets: Gaussians, ones, fixed radii."""
    stem = 'CenterNetTriplet' if 'gt_ct_heat' in case else 'CornerNet'
    fixed, overlap = case.number('gaussian_radius_fixed'), case.number('gaussian_iou')
    radius = {'min_overlap': overlap} if fixed < 0 else fixed
    encoder = getattr(corner, f'{stem}TargetEncoder')(
        case.number('num_classes'),
        max_objects=case['gt_tag_mask'].shape[1],
        radius=radius if case.flag('gaussian_bump') else 0,
    )
    sizes = [case.size(name) for name in ('output_size', 'input_size')]
    _compare_points(case, encoder.encode(_instances(case, ''), sizes[:1], sizes[1]))


def saccade(case: Case) -> None:
    """The crop's boxes, then corners, validity and attention of CornerNet-Saccade."""
    _compare_crops(case, case.size('input_size'))
    instances = _instances(case, 'enc_')
    image, share = case.tensor('enc_box_image'), case.tensor('enc_area_ratio')
    for index, each in enumerate(instances):
        each.visibility = share[image == index]
    encoder = corner.CornerNetSaccadeTargetEncoder(
        case.number('num_classes'),
        attention_strides=case['att_ratios'].tolist(),
        attention_ranges=case['att_ranges'].tolist(),
        min_side=case.number('min_scale'),
        max_objects=case['gt_tag_mask'].shape[1],
        radius={'min_overlap': case.number('gaussian_iou')},
    )
    sizes = [case.size('output_size'), *map(tuple, case['att_sizes'].tolist())]
    encoded = encoder.encode(instances, sizes, case.size('input_size'))
    valid = torch.zeros_like(image, dtype=torch.bool)
    for index, each in enumerate(instances):
        valid[image == index] = encoded.mask[index, : len(each)]
    case.compare('enc_valid_derived', valid)
    _compare_points(case, encoded)
    for point in ('tl', 'br'):
        case.compare(f'gt_{point}_valid', getattr(encoded, point).valid.float())
    for scale, attention in enumerate(encoded.attentions):
        case.compare(f'gt_att{scale}', attention.dense())


def _compare_crops(case: Case, input_size: tuple[int, ...]) -> None:
    """Boxes of the original images -> boxes, classes and visible shares of the crops."""
    found: list[tuple[Tensor, ...]] = []
    windows = []
    for image, instances in enumerate(_instances(case, '')):
        scale = float(case['scale_f64'][image])
        resized = tuple(int(side * scale) for side in case['image_sizes'][image].tolist())
        y, x = case['crop_center_yx'][image].tolist()
        windows.append(crop_window((x, y), input_size, resized))
        boxes, share = crop_boxes(instances.bboxes * scale, windows[-1])
        kept = is_proper(boxes)
        if bool(case['flipped'][image]):
            boxes = mirror_boxes(boxes, input_size[1] - 1)
        number = torch.full((int(kept.sum()),), image)
        found.append((boxes[kept], instances.labels[kept], number, share[kept]))
    filled = torch.tensor([window.filled for window in windows])
    case.compare('crop_border', filled[:, [1, 3, 0, 2]])
    case.compare('crop_offset_yx', torch.tensor([window.offset[::-1] for window in windows]))
    boxes, labels, number, share = (torch.cat(field) for field in zip(*found, strict=True))
    rows = {'enc_boxes': boxes, 'enc_labels': labels, 'enc_box_image': number}
    case.table({**rows, 'enc_area_ratio': (share, 5e-6)})


def _compare_points(case: Case, encoded: Any) -> None:
    slots = case['gt_tag_mask'].shape[1]
    case.compare('gt_tag_mask', _compact(encoded.mask, encoded.mask, slots))
    for point, ours in POINTS.items():
        if f'gt_{point}_heat' in case:
            heatmap, index, offset, _ = getattr(encoded, ours)
            table = {'heat': heatmap.dense(), 'ind': _compact(index, encoded.mask, slots)}
            table['off'] = _compact(offset, encoded.mask, slots)
            case.table({f'gt_{point}_{name}': value for name, value in table.items()})


def _compact(rows: Tensor, mask: Tensor, slots: int) -> Tensor:
    """(B, M, ...) rows of objects without the holes between them, padded to ``slots``."""
    order = (~mask).to(torch.uint8).argsort(dim=1, stable=True)
    rows = torch.stack([row[places] for row, places in zip(rows, order, strict=True)])[:, :slots]
    return torch.cat((rows, rows.new_zeros(len(rows), slots - rows.shape[1], *rows.shape[2:])), 1)


def _instances(case: Case, prefix: str) -> list[InstanceData]:
    boxes, labels = case.tensor(f'{prefix}boxes'), case.tensor(f'{prefix}labels')
    image = case.tensor(f'{prefix}box_image')
    return [
        InstanceData(bboxes=boxes[image == index], labels=labels[image == index])
        for index in range(case.number('num_images'))
    ]


def gaussian_tables(case: Case) -> None:
    """Both radius formulas, and Gaussians of any radius and standard deviation."""
    height, width = case.tensor('height'), case.tensor('width')
    for key in case.keys:
        if found := re.match(r'radius_(\w+)_iou(\d+)_f64', key):
            radius = gaussian_radius(height, width, float(f'0.{found[2]}'), MODES[found[1]])
            case.compare(key, radius, 2e-15)
        elif found := re.match(r'bump_r(\d+)_div(\d+)', key):
            case.compare(key, _bump(int(found[1]), float(found[2])), EXACT)


def _bump(radius: int, spread: float) -> Tensor:
    side, one = 2 * radius + 1, torch.ones(1, 1)
    center, zero = torch.full((1, 1, 2), radius), torch.zeros(1, 1, dtype=torch.int64)
    rows = center, one * radius, one * side / spread, zero, one > 0
    return splat_gaussians(*rows, (1, side, side), radius).dense()[0, 0]


CHECKS: dict[str, Check] = {
    **{
        f'{kind}_{name}': check
        for kind, check in (('losses', losses), ('targets', targets))
        for name in ('cornernet', 'squeeze', 'saccade', 'centernet')
    },
    'losses_components': components,
    'targets_saccade': saccade,
    'targets_gaussian_tables': gaussian_tables,
    **corner_decode.CHECKS,
}
