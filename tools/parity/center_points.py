"""Golden checks of CenterNetPoints (the official ctdet task) and of its Gaussians."""

from __future__ import annotations

import re

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
from mmdet_losses.detectors.center.centers import spread_by_class
from mmdet_losses.ops import gaussian_radius, splat_gaussians, suppress_non_peaks, top_peaks
from tools.parity.center_common import (
    FOCAL,
    L1,
    SMOOTH_L1,
    compare_all,
    compare_detections,
    compare_gradients,
    compare_terms,
    count_candidates,
    counts,
    detections,
    feature_size,
    padded,
    splats_of,
)
from tools.parity.golden import EXACT, Case

TERMS = (('loss_heatmap', 'hm_loss'), ('loss_size', 'wh_loss'), ('loss_offset', 'off_loss'))
MSRA = re.compile(r'(tgt_)?hm_msra_sigma(\d+)$')


def gaussian(case: Case) -> None:
    """Radii, Gaussians by radius, Gaussians by standard deviation."""
    height, width = case.tensor('det_hw').unbind(-1)
    radius = gaussian_radius(height, width, min_overlap=0.7, mode='legacy')
    case.compare('radius_float', radius, EXACT)
    case.compare('radius_int', radius.long())
    xyrk = case.tensor('umich_xyrk')
    size = case.array('umich_map').shape[1:]
    maps = _one_each(xyrk[:, :2].long(), xyrk[:, 2], (2 * xyrk[:, 2] + 1) / 6, size)
    case.compare('umich_map', maps * xyrk[:, 3, None, None], EXACT)
    xys = case.tensor('msra_xys')
    maps = _one_each((xys[:, :2] + 0.5).long(), (3 * xys[:, 2]).floor(), xys[:, 2], size)
    case.compare('msra_map', maps, EXACT)


def _one_each(xy: Tensor, radius: Tensor, sigma: Tensor, size: tuple[int, int]) -> Tensor:
    """One Gaussian per map."""
    zero = torch.zeros((len(xy), 1), dtype=torch.int64)
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


def targets(case: Case) -> None:
    """A canvas of fixed size, and images that keep their scale."""
    img_size, size = case.img_size(), feature_size(case)
    mode = 'keep' if 'keepres' in case.file.name else 'fix'
    affine = CenterAffine(size=img_size[::-1], mode=mode, whole_pixels=False)
    instances = case.instances(count='n_gt')
    centers, scales = [], []
    for each, (width, height) in zip(instances, case.array('image_wh').tolist(), strict=True):
        image = np.zeros((height, width, 1), np.uint8)
        results = affine({'img': image, 'gt_bboxes': each.bboxes})
        each.bboxes = results['gt_bboxes']
        # The official map is stored as the image point in the middle of the input and the width
        # of the image that fills it.
        matrix = np.asarray(results['affine'], np.float64)
        middle = np.array([img_size[1] / 2, img_size[0] / 2])
        centers.append(np.linalg.solve(matrix[:, :2], middle - matrix[:, 2]))
        scales.append(img_size[1] / matrix[0, 0])
    case.compare('center_c', np.stack(centers), EXACT)
    case.compare('scale_s', np.stack(scales)[:, None], EXACT, where=np.s_[:, :1])
    classes, slots = case.number('num_classes'), case.number('max_objs')
    common = {'num_classes': classes, 'max_objects': slots}
    encoder = CenterNetPointsTargetEncoder(size_target='dense', **common)
    encoded = encoder.encode(instances, [size], img_size)
    values = {
        'hm': encoded.heatmap.dense(),
        'ind': encoded.index,
        'wh': encoded.size,
        'reg': encoded.offset,
        'reg_mask': encoded.mask,
    }
    if 'cat_spec_wh' in case:
        ones = encoded.mask[..., None].expand(-1, -1, 2).float()
        values['cat_spec_wh'] = spread_by_class(encoded.size, encoded.labels, classes)
        values['cat_spec_mask'] = spread_by_class(ones, encoded.labels, classes) > 0
    if 'dense_wh' in case:
        values['dense_wh'] = encoded.dense_size.size
        values['dense_wh_mask'] = encoded.dense_size.weight
    compare_all(case, values, slots)
    radius = torch.where(encoded.mask, encoder.gaussians.radii(encoded.size)[0].long() + 1, 0)
    case.compare('radius', padded(radius, slots) - 1)
    for key in [key for key in case.keys if MSRA.match(key)]:
        encoder = CenterNetPointsTargetEncoder(sigma=int(MSRA.match(key)[2]), **common)
        case.compare(key, encoder.encode(instances, [size], img_size).heatmap.dense(), EXACT)


def losses(case: Case) -> None:
    """The official criterion, its variants, and any number of stacks."""
    weights = [1.0, 0.1, 1.0]
    if 'weights_hm_wh_off' in case:
        weights = case.decimals('weights_hm_wh_off')
    encoded = _targets_of(case)
    if 'num_stacks' in case:
        stacks = [_leaves(case, f's{i}_') for i in range(int(case.number('num_stacks')))]
        outputs = [_outputs(leaves) for leaves in stacks]
        terms = _criterion(weights)(outputs[-1]._replace(earlier=tuple(outputs[:-1])), encoded)
        _compare(case, terms, weights, '')
        for i, leaves in enumerate(stacks):
            compare_gradients(case, sum(terms.values()), leaves, f's{i}_')
        return
    leaves = _leaves(case)
    for prefix, options, target in _variants(case, encoded):
        terms = _criterion(weights, **options)(_outputs(leaves, prefix == 'catspec_'), target)
        _compare(case, terms, weights, prefix)
        named = {**leaves, 'hm_raw': leaves['hm_logit']}
        compare_gradients(case, sum(terms.values()), named, prefix)


def _compare(case: Case, terms: dict, weights: list[float], prefix: str) -> None:
    names = [(ours, prefix + name, w) for (ours, name), w in zip(TERMS, weights, strict=True)]
    compare_terms(case, terms, names, f'{prefix}loss')


def _variants(case: Case, encoded: CenterNetPointsTargets) -> list[tuple]:
    """(prefix, options of the criterion, targets) of the runs that the file holds."""
    smooth = {'loss_size': SMOOTH_L1, 'loss_offset': SMOOTH_L1, 'normalizer': 'objects'}
    variants = [
        ('', {}, encoded),
        ('normwh_', {}, encoded),
        ('catspec_', {}, encoded),
        ('sl1_', smooth, encoded),
    ]
    if 'dense_loss' in case:
        dense = DenseSize(case.tensor('tgt_dense_wh'), case.tensor('tgt_dense_wh_mask'))
        term = {'loss_size': {'type': 'MaskedWeightedL1Loss'}}
        variants.append(('dense_', term, encoded._replace(dense_size=dense)))
    if 'mse_loss' in case:
        key = next(key for key in case.keys if MSRA.match(key))
        term = {'loss_heatmap': {'type': 'HeatmapMSELoss'}}
        variants.append(('mse_', term, encoded._replace(heatmap=splats_of(case.tensor(key)))))
    return [variant for variant in variants if f'{variant[0]}loss' in case]


def _criterion(
    weights: list[float],
    loss_heatmap: dict = FOCAL,
    loss_size: dict = L1,
    loss_offset: dict = L1,
    **options: str,
) -> CenterNetPointsLoss:
    heatmap, size, offset = (
        {**term, 'loss_weight': weight}
        for term, weight in zip((loss_heatmap, loss_size, loss_offset), weights, strict=True)
    )
    return CenterNetPointsLoss(heatmap, size, offset, **options)


def _targets_of(case: Case) -> CenterNetPointsTargets:
    labels = torch.zeros_like(case.tensor('tgt_ind'))
    if 'tgt_cat_spec_mask' in case:
        labels = case.tensor('tgt_cat_spec_mask')[..., ::2].int().argmax(-1)
        case.skip('the sizes of tgt_wh in the columns of the class', 'tgt_cat_spec_wh')
    return CenterNetPointsTargets(
        heatmap=splats_of(case.tensor('tgt_hm')),
        index=case.tensor('tgt_ind'),
        labels=labels,
        size=case.tensor('tgt_wh'),
        offset=case.tensor('tgt_reg'),
        **counts(case.tensor('tgt_reg_mask')),
    )


def _leaves(case: Case, stack: str = '') -> dict[str, Tensor]:
    names = ('hm_logit', 'wh', 'reg', 'wh_catspec')
    present = [name for name in names if f'{stack}pred_{name}' in case]
    return {name: case.leaf(f'{stack}pred_{name}') for name in present}


def _outputs(leaves: dict[str, Tensor], class_specific: bool = False) -> CenterNetPointsOutputs:
    size = leaves['wh_catspec' if class_specific else 'wh']
    return CenterNetPointsOutputs(leaves['hm_logit'], size, leaves['reg'])


def decode(case: Case) -> None:
    """Boxes, scores and classes, with and without branches, and the peaks themselves."""
    logits, k = case.tensor('hm_logit'), int(case.number('K'))
    case.skip('the sigmoid of hm_logit, which the decoder computes', 'heat')
    heat = suppress_non_peaks(logits.sigmoid())
    case.compare('heat_nms', heat, EXACT)
    reg = case.tensor('reg')
    runs = {'dets': ('wh', reg), 'dets_noreg': ('wh', None), 'dets_catspec': ('wh_catspec', reg)}
    candidates = count_candidates(heat, k)
    for key, (size, offset) in runs.items():
        if key in case:
            outputs = CenterNetPointsOutputs(logits, case.tensor(size), offset)
            target = 'object' if size == 'wh' else 'class'
            encoder = CenterNetPointsTargetEncoder(
                logits.shape[1], size_target=target, topk=candidates
            )
            instances = encoder.decode(outputs, logits.shape[-2:])
            rows = detections(instances, 'bboxes', 'scores', 'labels')
            compare_detections(case, key, rows, case.tensor(key), 4)
    if 'peak_ind' in case:
        peaks, scores = top_peaks(heat, candidates), case.tensor('dets')[..., 4:5]
        rows = torch.stack((peaks.scores.double(), peaks.index.double()), -1)
        want = torch.cat((scores, case.tensor('peak_ind')[..., None]), -1)
        compare_detections(case, 'peak_ind', list(rows), want, 0)
