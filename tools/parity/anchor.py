"""Golden checks of the IoU family and of SSD."""

from __future__ import annotations

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
from tools.parity.golden import EXACT, Case, Check, columns

MARGIN = 1e-5
"""Golden margins below this are decided by float32 rounding."""
REGULAR = (0, 1, 2, 3)
ZERO_AREA = (7, 8, 9, 10)


def iou_family(case: Case) -> None:
    """Values and gradients: the papers', darknet's, and other systems where they agree.

    ScaledYOLOv4 computes in float32, and is NaN for boxes without an area. MMDetection and mmyolo
    add 1e-7, which shows in fractions; MMDetection has no aspect term below an IoU of 0.5.
    """
    case.skip('alpha carries no gradient here', 'paper_grad_ciou_full')
    kind = case['kind']
    gt = boxes_around(*case.tensor('gt').double().split(2, -1))
    iou = box_similarity(boxes_around(*case.tensor('pred').double().split(2, -1)), gt).numpy()
    regular, sized = np.isin(kind, REGULAR), ~np.isin(kind, ZERO_AREA)
    # their 1e-7 is larger than the rounding in fractions, but not in pixels
    small, steep = (5e-5, 1e-4) if case.name == 'unit' else (4e-6, 3e-6)
    mmdet = {'iou': regular & (iou > 1e-3), 'ciou': regular & (iou > 0.5 + MARGIN)}
    for mode in ('iou', 'giou', 'diou', 'ciou'):
        pred = case.leaf('pred', torch.float64)
        value = box_similarity(boxes_around(*pred.split(2, -1)), gt, mode)
        grad = torch.autograd.grad((1 - value).sum(), pred)[0]
        where = mmdet.get(mode, regular)
        for key, mask, value_tol, grad_tol in (
            ('paper', np.full(kind.shape, True), EXACT, EXACT),
            ('sy', sized, 2e-6, 5e-5),
            ('mmyolo', regular, small, steep),
            ('mmdet', where, small, steep),
        ):
            own = value.detach()
            table = {f'{key}_{mode}': (own, value_tol), f'{key}_grad_{mode}': (grad, grad_tol)}
            case.table(table, where=mask)
        boxes = case.tensor('pred').float(), case.tensor('gt').float()
        directions = darknet_iou_direction(*boxes, mode)
        case.table({f'dk_{mode}': darknet_iou(*boxes, mode), f'dk_dir_{mode}': directions})
    first, second = (case.tensor(key).double().split(2, -1) for key in ('pred', 'gt'))
    own = pairwise_iou(boxes_around(*first)[:, None], boxes_around(*second)[:, None])[:, 0, 0]
    # ssd.pytorch divides 0 by 0 if both boxes have no area
    case.compare('ssd_iou', own, EXACT, where=sized | np.isfinite(case['ssd_iou']))


def ssd_encoder(case: Case) -> SSDTargetEncoder:
    """The encoder that a file describes; SSD300 for VOC by default."""
    given = case['conf'].shape[-1] if 'conf' in case else 21
    classes = case.number('num_classes', given) - 1  # without the background
    if 'min_sizes' not in case:
        return SSDTargetEncoder(classes)
    return SSDTargetEncoder(
        classes,
        min_sizes=case.decimals('min_sizes'),
        max_sizes=case.decimals('max_sizes'),
        strides=case.decimals('steps'),
        aspect_ratios=[[r for r in row if r] for row in case['aspect_ratios'].tolist()],
        clip=case.flag('clip'),
    )


def _sizes(case: Case) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """(H, W) of the maps and of the image; SSD300's by default."""
    if 'feature_maps' not in case:
        return [(side, side) for side in (38, 19, 10, 5, 3, 1)], (300, 300)
    return [(side, side) for side in case.size('feature_maps')], case.img_size()


def official_priors(
    encoder: SSDTargetEncoder, feats: list, img_size: tuple[int, int], form: str = 'cxcywh'
) -> Tensor:
    """Priors of all maps in the order row, column, anchor."""
    levels = encoder.priors(feats, img_size)
    rows = [getattr(level, form)().unflatten(0, (level.shape[0], -1)) for level in levels]
    return torch.cat([each.transpose(0, 1).flatten(0, 1) for each in rows])


def ssd_priors(case: Case) -> None:
    """Prior boxes, in the official order."""
    case.compare('priors', official_priors(ssd_encoder(case), *_sizes(case)))


def ssd_match(case: Case) -> SSDTargets:
    """Labels and codes of every prior; ties of float32 are resolved as officially."""
    encoder, (feats, img_size) = ssd_encoder(case), _sizes(case)
    width, height = img_size[::-1]
    fractions = case.tensor('gt_boxes_px') / torch.tensor([width, height, width, height])
    case.compare('gt_boxes', fractions)
    case.skip('how close a tie is, which decides nothing here', 'best_prior_margin')
    targets = encoder.encode(case.instances('gt_boxes_px'), feats, img_size)
    corners = official_priors(encoder, feats, img_size, 'xyxy')
    iou = pairwise_iou(case.tensor('gt_boxes'), corners)
    present = torch.arange(iou.shape[1]) < case.tensor('num_gt')[:, None]
    best = iou.max(-1)
    order = cell_major_rank(targets.shapes, torch.device('cpu')).argsort()
    table = {
        'best_prior_idx': torch.where(present, best.indices, 0),
        'best_prior_iou': (torch.where(present, best.values, 0), 0.0),
        'best_truth_iou': (torch.where(present[..., None], iou, 0).amax(1), 0.0),
        'conf_t': torch.where(targets.mask, targets.labels + 1, 0)[:, order],
        'loc_t': targets.box[:, order],
    }
    case.table(table)
    return targets


def ssd_multibox(case: Case) -> None:
    """Targets, losses, gradients and mined negatives."""
    if 'priors' in case:
        ssd_priors(case)
    targets = ssd_match(case)
    rank = cell_major_rank(targets.shapes, torch.device('cpu'))
    loc, conf = case.leaf('loc'), case.leaf('conf')
    losses = SSDLoss()(_outputs(loc, conf, targets.shapes, rank), targets)
    total = sum(losses.values())
    total.backward()
    terms = {'loss_loc': losses['loss_box'], 'loss_conf': losses['loss_cls'], 'loss_total': total}
    case.table({**terms, 'grad_loc': loc.grad, 'grad_conf': conf.grad})
    if 'mined_neg' in case:
        labels = case.tensor('conf_t')
        cost = torch.nn.functional.cross_entropy(
            conf.detach().flatten(0, 1), labels.flatten(), reduction='none'
        ).view(labels.shape)
        sure = case['mining_margin'] >= MARGIN
        case.compare('mined_neg', mine_hard_negatives(cost, labels > 0), where=sure)


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


def ssd_detect(case: Case) -> None:
    """Decoded priors, and the detections of each class after NMS."""
    classes, top_k = case.number('num_classes') - 1, case.number('top_k')
    threshold = case.number('conf_thresh')
    encoder = _GivenPriors(case.tensor('priors'), classes, score_thr=threshold, topk=top_k)
    count = len(case['priors'])
    outputs = _outputs(
        case.tensor('loc'), case.tensor('conf'), ((count, 1, 1),), torch.arange(count)
    )
    boxes = encoder.box_code(encoder.given.cxcywh()).decode(case.tensor('loc'))
    case.compare('decoded', boxes, EXACT)
    nms = dict(type='nms', iou_threshold=case.number('nms_thresh'))
    for image, instances in enumerate(encoder.decode(outputs, (1, 1))):
        kept = postprocess(instances, {}, dict(score_thr=threshold, nms=nms))
        for label in range(-1, classes):  # class 0 of the file is the background
            own = kept[kept.labels == label]
            rows = columns(own, 'scores', 'bboxes')[:top_k]
            want = case['detections'][image, label + 1]
            want = want[want[:, 0] > 0]
            case.compare_rows('detections', rows, want, EXACT, empty='no box of the class')


CHECKS: dict[str, Check] = {
    'iou_family': iou_family,
    'ssd_priors': ssd_priors,
    'ssd_match': ssd_match,
    'ssd_multibox': ssd_multibox,
    'ssd_detect': ssd_detect,
}
