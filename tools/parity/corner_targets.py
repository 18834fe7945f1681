"""Golden checks of the corner family's target encoders."""

from __future__ import annotations

import re
from pathlib import Path

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
from tools.parity.golden_file import GoldenFile
from tools.parity.rows import Row

HEAT, OFFSET, PIXELS = {'atol': 1e-6}, {'atol': 1e-5}, {'atol': 1e-4}
MODES = {'cornernet': 'fixed', 'duan': 'legacy'}


def check_cornernet(path: Path) -> list[Row]:
    """CornerNet and CornerNet-Squeeze: bumps, single ones, fixed radii."""
    golden = GoldenFile(path)
    _check_corners(golden, CornerNetTargetEncoder)
    return golden.finish()


def check_triplet(path: Path) -> list[Row]:
    """CenterNet triplets."""
    golden = GoldenFile(path)
    _check_corners(golden, CenterNetTripletTargetEncoder)
    return golden.finish()


def _check_corners(golden: GoldenFile, encoder_type: type[CornerNetTargetEncoder]) -> None:
    fixed, bump = golden.number('gaussian_radius_fixed'), bool(golden.array('gaussian_bump'))
    overlap = {'min_overlap': _overlap(golden)}
    radius = overlap if fixed < 0 else fixed
    encoder = encoder_type(
        golden.number('num_classes'), max_objects=_slots(golden), radius=radius if bump else 0
    )
    sizes = [_size(golden, name) for name in ('output_size', 'input_size')]
    targets = encoder.encode(_instances(golden, ''), sizes[:1], sizes[1])
    _compare_points(golden, targets)


def check_saccade(path: Path) -> list[Row]:
    """The crop's boxes, then corners, validity and attention of CornerNet-Saccade."""
    golden = GoldenFile(path)
    input_size = _size(golden, 'input_size')
    _check_crops(golden, input_size)
    instances = _instances(golden, 'enc_')
    image = golden.tensor('enc_box_image')
    share = golden.tensor('enc_area_ratio')
    for index, each in enumerate(instances):
        each.visibility = share[image == index]
    encoder = CornerNetSaccadeTargetEncoder(
        golden.number('num_classes'),
        attention_strides=golden.array('att_ratios').tolist(),
        attention_ranges=golden.array('att_ranges').tolist(),
        min_side=golden.number('min_scale'),
        max_objects=_slots(golden),
        radius={'min_overlap': _overlap(golden)},
    )
    sizes = [_size(golden, 'output_size'), *map(tuple, golden.array('att_sizes').tolist())]
    targets = encoder.encode(instances, sizes, input_size)
    counts = [len(each) for each in instances]
    valid = torch.cat([row[:count] for row, count in zip(targets.mask, counts, strict=True)])
    golden.compare('enc_valid_derived', valid[_order(image, counts)])
    _compare_points(golden, targets)
    for point, corner in (('tl', targets.tl), ('br', targets.br)):
        golden.compare(f'gt_{point}_valid', corner.valid.float())
    for scale, attention in enumerate(targets.attentions):
        golden.compare(f'gt_att{scale}', attention.dense())
    return golden.finish()


def _order(image: Tensor, counts: list[int]) -> Tensor:
    """Place in the row of images of every box of the flat list."""
    start = torch.tensor([0, *counts]).cumsum(0)[:-1]
    return (
        torch.stack([start[i] + (image[:k] == i).sum() for k, i in enumerate(image.tolist())])
        if len(image)
        else image
    )


def _check_crops(golden: GoldenFile, input_size: tuple[int, int]) -> None:
    """Boxes of the original images -> boxes, classes and visible shares of the crops."""
    found: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    windows = []
    for image, instances in enumerate(_instances(golden, '')):
        scale = float(golden.array('scale_f64')[image])
        resized = tuple(int(side * scale) for side in golden.array('image_sizes')[image].tolist())
        y, x = golden.array('crop_center_yx')[image].tolist()
        window = crop_window((x, y), input_size, resized)
        windows.append(window)
        boxes, share = crop_boxes(instances.bboxes * scale, window)
        kept = is_proper(boxes)
        if bool(golden.array('flipped')[image]):
            boxes = mirror_boxes(boxes, input_size[1] - 1)
        labels, number = instances.labels[kept], torch.full((int(kept.sum()),), image)
        found.append((boxes[kept], labels, number, share[kept]))
    filled = torch.tensor([window.filled for window in windows])
    golden.compare('crop_border', filled[:, [1, 3, 0, 2]])
    golden.compare('crop_offset_yx', torch.tensor([window.offset[::-1] for window in windows]))
    boxes, labels, image, share = (torch.cat(field) for field in zip(*found, strict=True))
    golden.compare('enc_boxes', boxes, **PIXELS)
    golden.compare('enc_labels', labels)
    golden.compare('enc_box_image', image)
    golden.compare('enc_area_ratio', share, atol=1e-5)


def _compare_points(golden: GoldenFile, targets: tuple) -> None:
    slots = _slots(golden)
    golden.compare('gt_tag_mask', _compact(targets.mask, targets.mask, slots))
    for point, ours in NAMES.items():
        if f'gt_{point}_heat' in golden:
            heatmap, index, offset, _ = getattr(targets, ours)
            golden.compare(f'gt_{point}_heat', heatmap.dense(), **HEAT)
            golden.compare(f'gt_{point}_ind', _compact(index, targets.mask, slots))
            golden.compare(f'gt_{point}_off', _compact(offset, targets.mask, slots), **OFFSET)


def _compact(rows: Tensor, mask: Tensor, slots: int) -> Tensor:
    """(B, M, ...) rows of objects without the holes between them, padded to ``slots``."""
    order = (~mask).to(torch.uint8).argsort(dim=1, stable=True)
    rows = torch.stack([row[places] for row, places in zip(rows, order, strict=True)])[:, :slots]
    return torch.cat((rows, rows.new_zeros(len(rows), slots - rows.shape[1], *rows.shape[2:])), 1)


def _instances(golden: GoldenFile, prefix: str) -> list[InstanceData]:
    boxes, labels = golden.tensor(f'{prefix}boxes'), golden.tensor(f'{prefix}labels')
    image = golden.tensor(f'{prefix}box_image')
    return [
        InstanceData(bboxes=boxes[image == index], labels=labels[image == index])
        for index in range(golden.number('num_images'))
    ]


def _slots(golden: GoldenFile) -> int:
    return golden.array('gt_tag_mask').shape[1]


def _size(golden: GoldenFile, key: str) -> tuple[int, int]:
    height, width = golden.array(key).tolist()
    return height, width


def _overlap(golden: GoldenFile) -> float:
    """The IoU as the configuration wrote it: 0.3, which float32 cannot hold."""
    return round(float(golden.array('gaussian_iou')), 6)


def check_gaussian_tables(path: Path) -> list[Row]:
    """Both radius formulas, and bumps of any radius and spread."""
    golden = GoldenFile(path)
    height, width = golden.tensor('height'), golden.tensor('width')
    for key in golden.arrays:
        if found := re.match(r'radius_(\w+)_iou(\d+)_f64', key):
            overlap = float(f'0.{found[2]}')
            radius = gaussian_radius(height, width, overlap, MODES[found[1]])
            golden.compare(key, radius, atol=1e-9)
        elif found := re.match(r'bump_r(\d+)_div(\d+)', key):
            golden.compare(key, _bump(int(found[1]), float(found[2])), **HEAT)
    return golden.finish()


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
