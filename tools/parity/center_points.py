"""Golden checks of CenterNetPoints (the official ctdet task) and of its Gaussians."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmdet_losses.data import CenterAffine
from mmdet_losses.detectors.center import (
    CenterNetPointsLoss,
    CenterNetPointsOutputs,
    CenterNetPointsTargetEncoder,
    CenterNetPointsTargets,
    DenseSize,
)
from mmdet_losses.detectors.center.centers import of_class, spread_by_class
from mmdet_losses.ops import (
    center_affine,
    gaussian_radius,
    splat_gaussians,
    suppress_non_peaks,
    top_peaks,
)
from tools.parity.center_common import (
    DECODED,
    FOCAL,
    L1,
    TARGET,
    compare_detections,
    compare_gradients,
    compare_indices,
    compare_terms,
    count_candidates,
    detections,
    feature_size,
    input_size,
    instances_of,
    padded,
    splats_of,
)
from tools.parity.golden_file import GoldenFile
from tools.parity.rows import Row

TERMS = (('loss_heatmap', 'hm_loss'), ('loss_size', 'wh_loss'), ('loss_offset', 'off_loss'))
MSRA = re.compile(r'(tgt_)?hm_msra_sigma(\d+)$')


def check_gaussian(path: Path) -> list[Row]:
    """Radii, Gaussians by radius, Gaussians by standard deviation."""
    golden = GoldenFile(path)
    height, width = golden.tensor('det_hw').unbind(-1)
    radius = gaussian_radius(height, width, min_overlap=0.7, mode='legacy')
    golden.compare('radius_float', radius.float(), atol=1e-6, rtol=1.2e-7)  # one float32 step
    golden.compare('radius_int', radius.long())
    xyrk = golden.tensor('umich_xyrk')
    size = golden.array('umich_map').shape[1:]
    maps = _one_each(xyrk[:, :2].long(), xyrk[:, 2], (2 * xyrk[:, 2] + 1) / 6, size)
    golden.compare('umich_map', maps * xyrk[:, 3, None, None], **TARGET)
    xys = golden.tensor('msra_xys')
    maps = _one_each((xys[:, :2] + 0.5).long(), (3 * xys[:, 2]).floor(), xys[:, 2], size)
    golden.compare('msra_map', maps, **TARGET)
    return golden.finish()


def _one_each(xy: Tensor, radius: Tensor, sigma: Tensor, size: tuple[int, int]) -> Tensor:
    """One Gaussian per map."""
    count = len(xy)
    zero = torch.zeros((count, 1), dtype=torch.int64)
    splats = splat_gaussians(
        xy[:, None],
        radius[:, None],
        sigma[:, None],
        zero,
        zero == 0,
        (1, *size),
        int(radius.max()),
    )
    return splats.dense()[:, 0]


def check_targets(path: Path) -> list[Row]:
    """A canvas of fixed size."""
    return _check_targets(GoldenFile(path), 'fix')


def check_targets_keep(path: Path) -> list[Row]:
    """An image that keeps its scale."""
    return _check_targets(GoldenFile(path), 'keep')


def _check_targets(golden: GoldenFile, mode: str) -> list[Row]:
    img_size, size = input_size(golden), feature_size(golden)
    affine = CenterAffine(size=img_size[::-1], mode=mode, whole_pixels=False)
    instances, maps, official = instances_of(golden), [], []
    images = zip(golden.array('image_wh').tolist(), golden.array('center_c'), strict=True)
    for i, ((width, height), center) in enumerate(images):
        image = np.zeros((height, width, 1), np.uint8)
        results = affine({'img': image, 'gt_bboxes': instances[i].bboxes})
        instances[i].bboxes = results['gt_bboxes']
        maps.append(results['affine'])
        official.append(center_affine(center, golden.array('scale_s')[i, 0], img_size))
    golden.arrays['affine map'] = np.stack(official)
    golden.compare('affine map', np.stack(maps), **TARGET)

    classes, slots = golden.number('num_classes'), golden.number('max_objs')
    common = {'num_classes': classes, 'max_objects': slots}
    encoder = CenterNetPointsTargetEncoder(size_target='dense', **common)
    targets = encoder.encode(instances, [size], img_size)
    golden.compare('hm', targets.heatmap.dense(), **TARGET)
    golden.compare('ind', padded(targets.index, slots))
    golden.compare('wh', padded(targets.size, slots), **TARGET)
    golden.compare('reg', padded(targets.offset, slots), **TARGET)
    golden.compare('reg_mask', padded(targets.mask, slots))
    radius = torch.where(targets.mask, encoder.gaussians.radii(targets.size)[0].long() + 1, 0)
    golden.compare('radius', padded(radius, slots) - 1)
    if 'cat_spec_wh' in golden:
        own = spread_by_class(targets.size, targets.labels, classes)
        golden.compare('cat_spec_wh', padded(own, slots), **TARGET)
        ones = targets.mask[..., None].expand(-1, -1, 2).float()
        own = spread_by_class(ones, targets.labels, classes) > 0
        golden.compare('cat_spec_mask', padded(own, slots))
    if 'dense_wh' in golden:
        golden.compare('dense_wh', targets.dense_size.size, **TARGET)
        golden.compare('dense_wh_mask', targets.dense_size.weight, **TARGET)
    for key in [key for key in golden.arrays if MSRA.match(key)]:
        encoder = CenterNetPointsTargetEncoder(sigma=int(MSRA.match(key)[2]), **common)
        golden.compare(key, encoder.encode(instances, [size], img_size).heatmap.dense(), **TARGET)
    return golden.finish()


def check_losses(path: Path) -> list[Row]:
    """The official criterion, its variants, and any number of stacks."""
    golden = GoldenFile(path)
    weights = [1.0, 0.1, 1.0]
    if 'weights_hm_wh_off' in golden:
        weights = golden.array('weights_hm_wh_off').astype(np.float64).tolist()
    targets = _targets_of(golden)
    if 'num_stacks' in golden:
        stacks = [_leaves(golden, f's{i}_') for i in range(golden.number('num_stacks'))]
        outputs = [_outputs(leaves) for leaves in stacks]
        terms = _criterion(weights)(outputs[-1]._replace(earlier=tuple(outputs[:-1])), targets)
        _compare(golden, terms, weights, '')
        total = sum(terms.values())
        for i, leaves in enumerate(stacks):
            compare_gradients(golden, total, leaves, f's{i}_')
        return golden.finish()
    leaves = _leaves(golden)
    for prefix, options, target in _variants(golden, targets):
        terms = _criterion(weights, **options)(_outputs(leaves, prefix == 'catspec_'), target)
        _compare(golden, terms, weights, prefix)
        named = {**leaves, 'hm_raw': leaves['hm_logit']}
        compare_gradients(golden, sum(terms.values()), named, prefix)
    return golden.finish()


def _compare(golden: GoldenFile, terms: dict, weights: list[float], prefix: str) -> None:
    names = [(ours, prefix + name, w) for (ours, name), w in zip(TERMS, weights, strict=True)]
    compare_terms(golden, terms, names, f'{prefix}loss')


def _variants(golden: GoldenFile, targets: CenterNetPointsTargets) -> list[tuple]:
    """(prefix, options of the criterion, targets) of the runs that the file holds."""
    smooth = {'type': 'MaskedSmoothL1Loss', 'beta': 1.0}
    variants = [
        ('', {}, targets),
        ('normwh_', {}, targets),
        ('catspec_', {}, targets),
        (
            'sl1_',
            {'loss_size': smooth, 'loss_offset': smooth, 'normalizer': 'objects'},
            targets,
        ),
    ]
    if 'dense_loss' in golden:
        dense = DenseSize(golden.tensor('tgt_dense_wh'), golden.tensor('tgt_dense_wh_mask'))
        variants.append(
            (
                'dense_',
                {'loss_size': {'type': 'MaskedWeightedL1Loss'}},
                targets._replace(dense_size=dense),
            )
        )
    if 'mse_loss' in golden:
        key = next(key for key in golden.arrays if MSRA.match(key))
        heatmap = splats_of(golden.tensor(key))
        variants.append(
            (
                'mse_',
                {'loss_heatmap': {'type': 'HeatmapMSELoss'}},
                targets._replace(heatmap=heatmap),
            )
        )
    return [variant for variant in variants if f'{variant[0]}loss' in golden]


def _criterion(
    weights: list[float],
    loss_heatmap: dict | None = None,
    loss_size: dict | None = None,
    loss_offset: dict | None = None,
    **options: str,
) -> CenterNetPointsLoss:
    terms = (loss_heatmap or FOCAL, loss_size or L1, loss_offset or L1)
    heatmap, size, offset = (
        {**term, 'loss_weight': weight} for term, weight in zip(terms, weights, strict=True)
    )
    return CenterNetPointsLoss(heatmap, size, offset, **options)


def _targets_of(golden: GoldenFile) -> CenterNetPointsTargets:
    mask = golden.tensor('tgt_reg_mask')
    labels = torch.zeros_like(golden.tensor('tgt_ind'))
    if 'tgt_cat_spec_mask' in golden:
        labels = golden.tensor('tgt_cat_spec_mask')[..., ::2].int().argmax(-1)
        golden.compare('tgt_wh', of_class(golden.tensor('tgt_cat_spec_wh'), labels))
    return CenterNetPointsTargets(
        heatmap=splats_of(golden.tensor('tgt_hm')),
        index=golden.tensor('tgt_ind'),
        labels=labels,
        size=golden.tensor('tgt_wh'),
        offset=golden.tensor('tgt_reg'),
        mask=mask,
        num_pos=mask.sum().float(),
        num_dropped=torch.zeros(()),
    )


def _leaves(golden: GoldenFile, stack: str = '') -> dict[str, Tensor]:
    names = ('hm_logit', 'wh', 'reg', 'wh_catspec')
    present = [name for name in names if f'{stack}pred_{name}' in golden]
    return {name: golden.tensor(f'{stack}pred_{name}', grad=True) for name in present}


def _outputs(leaves: dict[str, Tensor], class_specific: bool = False) -> CenterNetPointsOutputs:
    size = leaves['wh_catspec' if class_specific else 'wh']
    return CenterNetPointsOutputs(leaves['hm_logit'], size, leaves['reg'])


def check_decode(path: Path) -> list[Row]:
    """Boxes, scores and classes, with and without branches, and the peaks themselves."""
    golden = GoldenFile(path)
    logits, k = golden.tensor('hm_logit'), golden.number('K')
    golden.compare('heat', logits.sigmoid(), **DECODED)
    heat = suppress_non_peaks(logits.sigmoid())
    golden.compare('heat_nms', heat, **DECODED)
    wh, reg = golden.tensor('wh'), golden.tensor('reg')
    runs = {
        'dets': (CenterNetPointsOutputs(logits, wh, reg), 'object'),
        'dets_noreg': (CenterNetPointsOutputs(logits, wh, None), 'object'),
    }
    if 'dets_catspec' in golden:
        specific = CenterNetPointsOutputs(logits, golden.tensor('wh_catspec'), reg)
        runs['dets_catspec'] = specific, 'class'
    candidates = count_candidates(heat, k)
    for key, (outputs, size_target) in runs.items():
        encoder = CenterNetPointsTargetEncoder(
            logits.shape[1], size_target=size_target, topk=candidates
        )
        instances = encoder.decode(outputs, logits.shape[-2:])
        compare_detections(golden, key, detections(instances, 'bboxes', 'scores', 'labels'), 4)
    if 'peak_ind' in golden:
        compare_indices(
            golden, 'peak_ind', top_peaks(heat, candidates), golden.array('dets')[..., 4]
        )
    return golden.finish()
