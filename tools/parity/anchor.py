"""Golden numbers of the anchor and grid families against this package.

Tolerances are those that the golden files' own README measured for a float64 re-implementation,
with room for our float32: values 1e-6 relative, gradients 1e-6 absolute, decoded boxes 1e-5.
Where float32 rounding decides a discrete choice, files carry a margin; entries below 1e-5 are
left out.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmdet_losses.core import postprocess
from mmdet_losses.detectors.anchor import SSDLoss, SSDOutputs, SSDTargetEncoder, SSDTargets
from mmdet_losses.losses import mine_hard_negatives
from mmdet_losses.ops import (
    Extents,
    GridAnchors,
    box_similarity,
    boxes_around,
    cell_major_rank,
    darknet_iou,
    darknet_iou_direction,
    pairwise_iou,
    unflatten_levels,
)
from tools.parity import anchor_darknet, anchor_decode, anchor_grid, anchor_scaled, redmon
from tools.parity.golden import Case, GoldenCases, complete
from tools.parity.rows import Row, compare

MARGIN = 1e-5
MODES = ('iou', 'giou', 'diou', 'ciou')
REGULAR = (0, 1, 2, 3)
ZERO_AREA = (7, 8, 9, 10)
NEARLY = (2e-3, 2e-3)
"""Tolerances of gradients beside systems with an epsilon."""


def iou_family(golden: GoldenCases) -> list[Row]:
    """Overlaps: the papers' and darknet's exactly, the other systems' where they agree."""
    rows = []
    for case in golden:
        case.skip('paper_grad_ciou_full')  # alpha carries no gradient here
        boxes = {
            key: boxes_around(*case.tensor(key).double().split(2, -1)) for key in ('pred', 'gt')
        }
        kind = case['kind']
        for mode in MODES:
            pred = case.leaf('pred', torch.float64)
            value = box_similarity(boxes_around(*pred.split(2, -1)), boxes['gt'], mode)
            grad = torch.autograd.grad((1 - value).sum(), pred)[0]
            value = value.detach()
            iou = box_similarity(boxes['pred'], boxes['gt'])
            rows += _overlaps(golden.name, case, mode, value, grad, kind, iou)
    return rows


def _overlaps(
    file: str, case: Case, mode: str, value: Tensor, grad: Tensor, kind: np.ndarray, iou: Tensor
) -> list[Row]:
    rows = []

    def add(key: str, got: Tensor, keep: np.ndarray | slice, atol: float, rtol: float) -> None:
        if key in case:
            want = case[key][keep]
            rows.append(compare(file, case.label(key), got[keep], want, atol, rtol))

    everything = slice(None)
    add(f'paper_{mode}', value, everything, 1e-6, 0)
    add(f'paper_grad_{mode}', grad, everything, 1e-5, 1e-5)
    # ScaledYOLOv4 in float32, NaN for zero areas; it loses digits where hulls are thin.
    whole = ~np.isin(kind, ZERO_AREA)
    add(f'sy_{mode}', value, whole, 2e-6, 0)
    add(f'sy_grad_{mode}', grad, whole, 1e-3, 1e-3)
    if mode == 'iou':
        finite = np.isfinite(case['ssd_iou']) if 'ssd_iou' in case else everything
        pairs = [case.tensor(key).double() for key in ('pred', 'gt')]
        first, second = (boxes_around(*each.split(2, -1)) for each in pairs)
        own = pairwise_iou(first[:, None], second[:, None])[:, 0, 0]
        add('ssd_iou', own, finite, 2e-6, 0)
    # MMDetection and mmyolo add 1e-7, and MMDetection gates CIoU's aspect term at IoU 0.5.
    agree = np.isin(kind, REGULAR)
    add(f'mmyolo_{mode}', value, agree, 2e-4, 0)
    add(f'mmyolo_grad_{mode}', grad, agree, *NEARLY)
    if mode == 'iou':
        agree = agree & (iou > 1e-3).numpy()
    if mode == 'ciou':
        agree = agree & (iou > 0.5 + MARGIN).numpy()
    add(f'mmdet_{mode}', value, agree, 2e-4, 0)
    add(f'mmdet_grad_{mode}', grad, agree, *NEARLY)
    if f'dk_{mode}' in case:
        pred, gt = case.tensor('pred').float(), case.tensor('gt').float()
        add(f'dk_{mode}', darknet_iou(pred, gt, mode), everything, 1e-6, 0)
        direction = darknet_iou_direction(pred, gt, mode)
        add(f'dk_dir_{mode}', direction, everything, 1e-5, 1e-5)
    return rows


def ssd_encoder(case: Case) -> SSDTargetEncoder:
    """The encoder that a file describes; SSD300 for VOC by default."""
    classes = int(case['num_classes']) - 1 if 'num_classes' in case else None
    if classes is None:
        classes = case['conf'].shape[-1] - 1 if 'conf' in case else 20
    if 'min_sizes' not in case:
        return SSDTargetEncoder(classes)
    return SSDTargetEncoder(
        classes,
        min_sizes=case['min_sizes'].tolist(),
        max_sizes=case['max_sizes'].tolist(),
        strides=case['steps'].tolist(),
        aspect_ratios=[[r for r in row if r] for row in case['aspect_ratios'].tolist()],
        clip=bool(case['clip']),
    )


def _feat_sizes(case: Case) -> list[tuple[int, int]]:
    sides = case['feature_maps'].tolist() if 'feature_maps' in case else [38, 19, 10, 5, 3, 1]
    return [(side, side) for side in sides]


def _ssd_size(case: Case) -> tuple[int, int]:
    return case.img_size() if 'image_size' in case else (300, 300)


def ssd_priors(golden: GoldenCases) -> list[Row]:
    """Prior boxes, in the official order."""
    return [_priors_row(golden.name, case) for case in golden]


def _priors_row(file: str, case: Case) -> Row:
    levels = ssd_encoder(case).priors(_feat_sizes(case), _ssd_size(case))
    order = cell_major_rank([level.shape for level in levels], torch.device('cpu')).argsort()
    got = torch.cat([level.cxcywh() for level in levels])[order]
    return compare(file, case.label('priors'), got, case['priors'], 1e-7)


def _encoded(case: Case) -> tuple[SSDTargets, Tensor]:
    """Our targets, and the official position of each of our priors."""
    targets = ssd_encoder(case).encode(
        case.instances('gt_boxes_px'), _feat_sizes(case), _ssd_size(case)
    )
    return targets, cell_major_rank(targets.shapes, torch.device('cpu'))


def _undecided(case: Case) -> np.ndarray:
    """(B, P) bool: priors whose forced match with a ground-truth box depends on rounding."""
    shape = case['conf_t'].shape
    undecided = np.zeros(shape, dtype=bool)
    if 'best_prior_margin' not in case:
        return undecided
    iou = _pair_ious(case).numpy()
    for image, count in enumerate(case['num_gt'].tolist()):
        for index in range(count):
            if case['best_prior_margin'][image, index] < MARGIN:
                best = iou[image, index].max()
                undecided[image] |= iou[image, index] >= best * (1 - 2 * MARGIN)
    if 'best_truth_iou' in case:
        undecided |= np.abs(case['best_truth_iou'] - 0.5) < 1e-6
    return undecided


def _pair_ious(case: Case) -> Tensor:
    """(B, M, P) of every ground-truth box with every prior, in the official order."""
    levels = ssd_encoder(case).priors(_feat_sizes(case), _ssd_size(case))
    order = cell_major_rank([level.shape for level in levels], torch.device('cpu')).argsort()
    corners = torch.cat([level.xyxy() for level in levels])[order]
    return pairwise_iou(case.tensor('gt_boxes'), corners)


def ssd_match(golden: GoldenCases) -> list[Row]:
    """Labels and codes of every prior."""
    rows = []
    for case in golden:
        targets, rank = _encoded(case)
        rows += _match_rows(golden.name, case, targets, rank)
    return rows


def _match_rows(file: str, case: Case, targets: SSDTargets, rank: Tensor) -> list[Row]:
    order, sure = rank.argsort(), ~_undecided(case)
    labels = targets.labels[:, order]
    official = torch.where(targets.mask[:, order], labels + 1, 0)
    rows = [compare(file, case.label('conf_t'), official[sure], case['conf_t'][sure])]
    if 'loc_t' in case:
        got = targets.box[:, order]
        rows.append(compare(file, case.label('loc_t'), got[sure], case['loc_t'][sure], 2e-5, 1e-6))
    if 'best_prior_idx' in case:
        chosen = [
            official[image, case['best_prior_idx'][image, :count]] > 0
            for image, count in enumerate(case['num_gt'].tolist())
        ]
        decided = [
            case['best_prior_margin'][image, :count] >= MARGIN
            for image, count in enumerate(case['num_gt'].tolist())
        ]
        got = torch.cat(chosen)[np.concatenate(decided)]
        rows.append(compare(file, case.label('best priors positive'), got, np.ones(len(got))))
    if 'best_prior_iou' in case:
        best = _pair_ious(case).amax(-1).numpy() * (case['best_prior_iou'] > 0)
        want = case['best_prior_iou']
        rows.append(compare(file, case.label('best_prior_iou'), best, want, 1e-6))
    return rows


def ssd_multibox(golden: GoldenCases) -> list[Row]:
    """Losses, gradients and mined negatives."""
    rows = []
    for case in golden:
        targets, rank = _encoded(case)
        height, width = _ssd_size(case)
        fractions = case.tensor('gt_boxes_px') / torch.tensor([width, height]).repeat(2)
        rows.append(compare(golden.name, case.label('gt_boxes'), fractions, case['gt_boxes'], 1e-6))
        if 'priors' in case:
            rows.append(_priors_row(golden.name, case))
        rows += _match_rows(golden.name, case, targets, rank)
        loc, conf = case.leaf('loc'), case.leaf('conf')
        if _undecided(case).any() and 'loc_t' in case:
            targets = _official_targets(case, targets, rank)
        outputs = _outputs(loc, conf, targets.shapes, rank)
        losses = SSDLoss()(outputs, targets)
        total = sum(losses.values())
        total.backward()
        got = {
            'loss_loc': losses['loss_box'],
            'loss_conf': losses['loss_cls'],
            'loss_total': total,
            'grad_loc': loc.grad,
            'grad_conf': conf.grad,
        }
        for key, value in got.items():
            rows.append(compare(golden.name, case.label(key), value, case[key], 1e-7, 2e-6))
        if 'mined_neg' in case:
            labels = case.tensor('conf_t')
            cost = torch.nn.functional.cross_entropy(
                conf.detach().flatten(0, 1), labels.flatten(), reduction='none'
            ).view(labels.shape)
            mined = mine_hard_negatives(cost, labels > 0)
            sure = case['mining_margin'] >= MARGIN
            want = case['mined_neg'][sure]
            rows.append(compare(golden.name, case.label('mined_neg'), mined[sure], want))
    return rows


def _official_targets(case: Case, targets: SSDTargets, rank: Tensor) -> SSDTargets:
    labels = case.tensor('conf_t')[:, rank]
    positive = labels > 0
    background = case['conf'].shape[-1] - 1
    return targets._replace(
        labels=torch.where(positive, labels - 1, background),
        box=case.tensor('loc_t')[:, rank],
        mask=positive,
    )


def _outputs(loc: Tensor, conf: Tensor, shapes: tuple, rank: Tensor) -> SSDOutputs:
    """Official lists (background first, cell-major) as our maps."""
    cls = torch.cat((conf[..., 1:], conf[..., :1]), -1)
    return SSDOutputs(
        cls=unflatten_levels(cls[:, rank], shapes), box=unflatten_levels(loc[:, rank], shapes)
    )


class _GivenPriors(SSDTargetEncoder):
    """Priors from a file, as one map of one cell."""

    def __init__(self, priors: Tensor, num_classes: int, **kwargs: float) -> None:
        super().__init__(num_classes, **kwargs)
        center, size = priors[:, :2, None], priors[:, 2:, None]
        self.given = GridAnchors(*(Extents.around(center[:, i], size[:, i]) for i in (0, 1)))

    def priors(self, *_: object) -> list[GridAnchors]:
        return [self.given]

    def feat_sizes(self, outputs: SSDOutputs) -> list[tuple[int, int]]:
        return [tuple(each.shape[-2:]) for each in outputs.cls]


def ssd_detect(golden: GoldenCases) -> list[Row]:
    """Decoded priors, and the detections after NMS."""
    rows = []
    for case in golden:
        classes = int(case['num_classes']) - 1
        encoder = _GivenPriors(
            case.tensor('priors'),
            classes,
            score_thr=case.number('conf_thresh'),
            topk=int(case['top_k']),
        )
        count = len(case['priors'])
        outputs = _outputs(
            case.tensor('loc'), case.tensor('conf'), ((count, 1, 1),), torch.arange(count)
        )
        boxes, _ = encoder.decode_all(outputs, (1, 1))
        rows.append(compare(golden.name, case.label('decoded'), boxes, case['decoded'], 1e-6))
        config = dict(
            score_thr=case.number('conf_thresh'),
            nms=dict(type='nms', iou_threshold=case.number('nms_thresh')),
        )
        official = case['detections']
        got = np.zeros_like(official)
        for image, instances in enumerate(encoder.decode(outputs, (1, 1))):
            kept = postprocess(instances, {}, config)
            for label in range(classes):
                own = kept[kept.labels == label]
                block = torch.cat((own.scores[:, None], own.bboxes), 1)[: official.shape[2]]
                got[image, label + 1, : len(block)] = block
        rows.append(compare(golden.name, case.label('detections'), got, official, 1e-6))
    return rows


CHECKS: dict[str, Callable[[Path], list[Row]]] = {
    'iou_family': complete(iou_family),
    'ssd_priors': complete(ssd_priors),
    'ssd_match': complete(ssd_match),
    'ssd_multibox': complete(ssd_multibox),
    'ssd_detect': complete(ssd_detect),
    **anchor_grid.CHECKS,
    **anchor_darknet.CHECKS,
    **anchor_decode.CHECKS,
    **anchor_scaled.CHECKS,
    **redmon.CHECKS,
}
