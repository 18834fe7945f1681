"""Golden checks of the corner family's target encoders."""

from __future__ import annotations

import re

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.detectors.corner import (
    CenterNetTripletTargetEncoder,
    CornerNetSaccadeTargetEncoder,
    CornerNetTargetEncoder,
)
from mmdet_losses.ops import (
    crop_boxes,
    crop_window,
    gaussian_radius,
    is_proper,
    mirror_boxes,
    splat_gaussians,
)
from tools.parity.corner_losses import NAMES
from tools.parity.golden import EXACT, Case

MODES = {'cornernet': 'fixed', 'duan': 'legacy'}


def targets(case: Case) -> None:
    """CornerNet, CornerNet-Squeeze and CenterNet triplets: Gaussians, ones, fixed radii."""
    encoder_type = CenterNetTripletTargetEncoder if 'gt_ct_heat' in case else CornerNetTargetEncoder
    fixed, bump = case.number('gaussian_radius_fixed'), bool(case.array('gaussian_bump'))
    overlap = {'min_overlap': case.number('gaussian_iou')}
    radius = overlap if fixed < 0 else fixed
    encoder = encoder_type(
        case.number('num_classes'), max_objects=_slots(case), radius=radius if bump else 0
    )
    sizes = [case.size(name) for name in ('output_size', 'input_size')]
    _compare_points(case, encoder.encode(_instances(case, ''), sizes[:1], sizes[1]))


def saccade(case: Case) -> None:
    """The crop's boxes, then corners, validity and attention of CornerNet-Saccade."""
    input_size = case.size('input_size')
    _compare_crops(case, input_size)
    instances = _instances(case, 'enc_')
    image, share = case.tensor('enc_box_image'), case.tensor('enc_area_ratio')
    for index, each in enumerate(instances):
        each.visibility = share[image == index]
    encoder = CornerNetSaccadeTargetEncoder(
        case.number('num_classes'),
        attention_strides=case.array('att_ratios').tolist(),
        attention_ranges=case.array('att_ranges').tolist(),
        min_side=case.number('min_scale'),
        max_objects=_slots(case),
        radius={'min_overlap': case.number('gaussian_iou')},
    )
    sizes = [case.size('output_size'), *map(tuple, case.array('att_sizes').tolist())]
    encoded = encoder.encode(instances, sizes, input_size)
    valid = torch.zeros_like(image, dtype=torch.bool)
    for index, each in enumerate(instances):
        valid[image == index] = encoded.mask[index, : len(each)]
    case.compare('enc_valid_derived', valid)
    _compare_points(case, encoded)
    for point, corner in (('tl', encoded.tl), ('br', encoded.br)):
        case.compare(f'gt_{point}_valid', corner.valid.float())
    for scale, attention in enumerate(encoded.attentions):
        case.compare(f'gt_att{scale}', attention.dense())


def _compare_crops(case: Case, input_size: tuple[int, ...]) -> None:
    """Boxes of the original images -> boxes, classes and visible shares of the crops."""
    found: list[tuple[Tensor, ...]] = []
    windows = []
    for image, instances in enumerate(_instances(case, '')):
        scale = float(case.array('scale_f64')[image])
        resized = tuple(int(side * scale) for side in case.array('image_sizes')[image].tolist())
        y, x = case.array('crop_center_yx')[image].tolist()
        window = crop_window((x, y), input_size, resized)
        windows.append(window)
        boxes, share = crop_boxes(instances.bboxes * scale, window)
        kept = is_proper(boxes)
        if bool(case.array('flipped')[image]):
            boxes = mirror_boxes(boxes, input_size[1] - 1)
        number = torch.full((int(kept.sum()),), image)
        found.append((boxes[kept], instances.labels[kept], number, share[kept]))
    filled = torch.tensor([window.filled for window in windows])
    case.compare('crop_border', filled[:, [1, 3, 0, 2]])
    case.compare('crop_offset_yx', torch.tensor([window.offset[::-1] for window in windows]))
    columns = [torch.cat(field) for field in zip(*found, strict=True)]
    names = ('enc_boxes', 'enc_labels', 'enc_box_image', 'enc_area_ratio')
    for name, column, tol in zip(names, columns, (EXACT, 0.0, 0.0, 5e-6), strict=True):
        case.compare(name, column, tol)


def _compare_points(case: Case, encoded: tuple) -> None:
    slots = _slots(case)
    case.compare('gt_tag_mask', _compact(encoded.mask, encoded.mask, slots))
    for point, ours in NAMES.items():
        if f'gt_{point}_heat' in case:
            heatmap, index, offset, _ = getattr(encoded, ours)
            case.compare(f'gt_{point}_heat', heatmap.dense(), EXACT)
            case.compare(f'gt_{point}_ind', _compact(index, encoded.mask, slots))
            case.compare(f'gt_{point}_off', _compact(offset, encoded.mask, slots), EXACT)


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
        for index in range(int(case.number('num_images')))
    ]


def _slots(case: Case) -> int:
    return case.array('gt_tag_mask').shape[1]


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
    side = 2 * radius + 1
    one = torch.ones(1, 1)
    splats = splat_gaussians(
        torch.full((1, 1, 2), radius),
        one * radius,
        one * side / spread,
        torch.zeros(1, 1, dtype=torch.int64),
        one > 0,
        (1, side, side),
        radius,
    )
    return splats.dense()[0, 0]
