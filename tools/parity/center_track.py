"""Golden checks of CenterTrack: targets, criterion, decoding, tracker, previous heatmap."""

from __future__ import annotations

import numpy as np
import torch
from mmengine.structures import InstanceData

from mmdet_losses.core import postprocess
from mmdet_losses.data import CenterAffine
from mmdet_losses.detectors.center import (
    CenterTrackLoss,
    CenterTrackOutputs,
    CenterTrackTargetEncoder,
    CenterTrackTargets,
    CenterTrackTracker,
    PreviousFrame,
)
from mmdet_losses.detectors.center.centertrack_encoder import clipped_centers
from mmdet_losses.losses import penalty_reduced_focal_loss
from mmdet_losses.ops import apply_affine, center_affine, scale_boxes, suppress_non_peaks
from tools.parity.center_common import (
    compare_all,
    compare_detections,
    compare_gradients,
    compare_terms,
    count_candidates,
    counts,
    detections,
    feature_size,
    splats_of,
)
from tools.parity.golden import EXACT, Case

TERMS = ('reg', 'wh', 'tracking', 'ltrb_amodal')
OURS = {'reg': 'offset', 'wh': 'size', 'tracking': 'tracking', 'ltrb_amodal': 'ltrb_amodal'}


def _frames(case: Case, prefix: str, count: str) -> list[InstanceData]:
    """Ground truth with our labels: the official class id - 1, which keeps ignored ones apart."""
    names = {
        'boxes': 'bboxes',
        'labels': 'labels',
        'track_ids': 'instances_ids',
        'iscrowd': 'crowds',
    }
    rows = {ours: case.tensor(f'{prefix}_{name}') for name, ours in names.items()}
    rows['labels'] = rows['labels'] - 1
    return [
        InstanceData(**{name: value[image, :number] for name, value in rows.items()})
        for image, number in enumerate(case.array(count).tolist())
    ]


def targets(case: Case) -> None:
    """Every target, the previous heatmap and what can be linked."""
    img_size, size = case.img_size(), feature_size(case)
    slots = case.number('max_objs')
    encoder = CenterTrackTargetEncoder(case.number('num_classes'), slots)
    previous = encoder.encode_previous(_frames(case, 'pre', 'n_pre'), img_size)
    case.compare('pre_hm', previous.heatmap, EXACT)
    _compare_previous(case, previous)
    instances = encoder.link(_frames(case, 'gt', 'n_gt'), previous)
    encoded = encoder.encode(instances, [size], img_size)
    values = {
        'hm': torch.where(encoded.ignore, 1, encoded.heatmap.dense()),
        'ind': encoded.index,
        'cat': encoded.labels,
        'mask': encoded.mask,
    }
    for official, ours in {**OURS, 'ltrb': 'ltrb'}.items():
        values[official] = getattr(encoded, ours)
        mask = encoded.tracking_mask if ours == 'tracking' else encoded.mask
        values[f'{official}_mask'] = mask[..., None].expand_as(values[official])
    compare_all(case, values, slots)


def _compare_previous(case: Case, previous: PreviousFrame) -> None:
    """The list of previous objects that can be matched, in cells; ours has gaps."""
    case.compare('n_pre_cts', previous.mask.sum(1))
    centers = np.zeros(case.array('pre_cts').shape, np.float32)
    ids = np.full(case.array('pre_cts_track_ids').shape, -1)
    for image, mask in enumerate(previous.mask):
        found = int(mask.sum())
        in_cells = previous.centers[image, mask] / case.number('stride')
        centers[image, :found], ids[image, :found] = in_cells, previous.ids[image, mask]
    case.compare('pre_cts', centers, EXACT)
    case.compare('pre_cts_track_ids', ids)


def losses(case: Case) -> None:
    """The official criterion, and the pixel-wise focal loss on the same tensors."""
    values = case.decimals('weights_hm_reg_wh_tracking_ltrbamodal')
    weights = dict(zip(('hm', *TERMS), values, strict=True))
    present = [name for name in ('hm_logit', *TERMS) if f'pred_{name}' in case]
    leaves = {name: case.leaf(f'pred_{name}') for name in present}
    outputs = CenterTrackOutputs(
        heatmap=leaves['hm_logit'],
        size=leaves['wh'],
        offset=leaves['reg'],
        tracking=leaves['tracking'],
        ltrb_amodal=leaves.get('ltrb_amodal'),
    )
    configs = {
        f'loss_{OURS[name]}': {'type': 'MaskedWeightedL1Loss', 'loss_weight': weights[name]}
        for name in TERMS
    }
    focal = {'type': 'CenterTrackFocalLoss', 'clamp': 1e-4, 'loss_weight': weights['hm']}
    terms = CenterTrackLoss(focal, **configs)(outputs, _targets_of(case))
    names = [(f'loss_{OURS[name]}', f'loss_{name}', weights[name]) for name in TERMS]
    names.append(('loss_heatmap', 'loss_hm', weights['hm']))
    compare_terms(case, terms, names, 'loss_tot')
    compare_gradients(case, sum(terms.values()), leaves)
    if 'info_hm_loss_pixelwise_neg_loss' in case:
        cells = penalty_reduced_focal_loss(
            leaves['hm_logit'].detach(), case.tensor('tgt_hm'), clamp=1e-4
        )
        case.compare('info_hm_loss_pixelwise_neg_loss', cells, EXACT)


def _targets_of(case: Case) -> CenterTrackTargets:
    columns = {OURS[name]: case.tensor(f'tgt_{name}') for name in TERMS if f'tgt_{name}' in case}
    linked = case.tensor('tgt_tracking_mask')[..., 0] > 0
    case.skip('tgt_mask for each value', 'tgt_reg_mask', 'tgt_wh_mask', 'tgt_ltrb_amodal_mask')
    return CenterTrackTargets(
        heatmap=splats_of(case.tensor('tgt_hm')),
        index=case.tensor('tgt_ind'),
        labels=case.tensor('tgt_cat'),
        **columns,
        ltrb=columns.get('ltrb_amodal'),
        tracking_mask=linked,
        ignore=None,  # where the golden map is 1 already
        **counts(case.tensor('tgt_mask') > 0),
    )


def decode(case: Case) -> None:
    """The decoder with each set of branches, and its results in image pixels."""
    logits, k = case.tensor('hm_logit'), int(case.number('K'))
    size = height, width = tuple(logits.shape[-2:])
    case.skip('the sigmoid of hm_logit, which the decoder computes', 'heat')
    case.skip('the cells pre_inds as x, y: no result of the decoder', 'pre_inds', 'out_pre_cts')
    full = CenterTrackOutputs(
        heatmap=logits,
        size=case.tensor('wh'),
        offset=case.tensor('reg'),
        tracking=case.tensor('tracking'),
        ltrb_amodal=case.tensor('ltrb_amodal'),
    )
    plain = full._replace(ltrb_amodal=None)
    runs = {
        'out_bboxes': full,
        'out_bboxes_amodal': full,
        'out_wh_only_bboxes': plain,
        'out_wh_noreg_bboxes': plain._replace(offset=None, tracking=None),
        'out_ltrb_bboxes': plain._replace(ltrb=case.tensor('ltrb')),
    }
    with_ties = count_candidates(suppress_non_peaks(logits.sigmoid()), k)
    encoder = CenterTrackTargetEncoder(logits.shape[1], topk=with_ties)
    for key, outputs in runs.items():
        want = torch.cat((case.tensor(key), case.tensor('out_scores')[..., None]), -1)
        rows = detections(encoder.decode(outputs, size), 'bboxes', 'scores')
        compare_detections(case, f'{key}, out_scores', rows, want, 4)
    names = [f'out_{name}' for name in ('scores', 'clses', 'xs', 'ys', 'cts', 'tracking')]
    want = torch.cat([case.tensor(name).view(len(logits), k, -1) for name in names], -1)
    instances = encoder.decode(full, size)
    rows = detections(instances, 'scores', 'labels', 'centers', 'centers', 'tracking')
    compare_detections(case, ', '.join(names), rows, want, 0)
    _compare_post(case, full, CenterTrackTargetEncoder(logits.shape[1], topk=k), (height, width))


def _compare_post(
    case: Case,
    outputs: CenterTrackOutputs,
    encoder: CenterTrackTargetEncoder,
    size: tuple[int, int],
) -> None:
    """Results in image pixels; the map has the geometry of ``CenterAffine`` at any stride."""
    image_width, image_height = case.size('post_image_wh')
    affine = CenterAffine(size=size[::-1])
    meta = affine({'img': np.zeros((image_height, image_width, 1), np.uint8)})
    # The official code keeps scores that equal the threshold.
    threshold = float(np.nextafter(case.array('post_out_thresh'), np.float32(-1)))
    decoded = encoder.decode(outputs, size)
    results = [postprocess(each, meta, {'score_thr': threshold}, rescale=True) for each in decoded]
    case.compare('post_n', np.array([len(each) for each in results]))
    names = [f'post_{name}' for name in ('score', 'ct', 'tracking', 'bbox', 'class')]
    columns = [case.tensor(name).float() for name in names]
    want = torch.cat([each if each.ndim == 3 else each[..., None] for each in columns], -1)
    for each in results:
        each.labels = each.labels + 1
    rows = detections(results, 'scores', 'centers', 'tracking', 'bboxes', 'labels')
    compare_detections(case, ', '.join(names), rows, want, 0)


def tracker(case: Case) -> None:
    """Identities, ages and states per frame, in every run of the file."""
    for key in case.names('*max_age'):
        prefix = key.removesuffix('max_age')
        tracks = CenterTrackTracker(
            new_score=case.number('new_thresh'), max_age=int(case.number(key))
        )
        frames = [
            tracks.track(_detections(case, frame, number))
            for frame, number in enumerate(case.array('n_det').tolist())
        ]
        case.compare(f'{prefix}n', np.array([len(each) for each in frames]))
        columns = {
            'id': [each.instances_ids for each in frames],
            'age': [each.age for each in frames],
            'active': [each.active for each in frames],
            'det_index': [each.detection for each in frames],
            'class': [each.labels + 1 for each in frames],
            'bbox': [each.bboxes for each in frames],
            'ct': [each.centers for each in frames],
        }
        for name, rows in columns.items():
            golden = case.array(prefix + name)
            got = np.full(golden.shape, -1 if golden.dtype.kind == 'i' else 0, golden.dtype)
            for frame, row in enumerate(rows):
                got[frame, : len(row)] = row[: golden.shape[1]].numpy()
            case.compare(prefix + name, got)


def _detections(case: Case, frame: int, number: int) -> InstanceData:
    names = dict(bbox='bboxes', score='scores', ct='centers', tracking='tracking')
    rows = {ours: case.tensor(f'det_{name}')[frame, :number] for name, ours in names.items()}
    return InstanceData(labels=case.tensor('det_class')[frame, :number] - 1, **rows)


def previous_heatmap(case: Case) -> None:
    """The heatmap of live tracks."""
    img_size, size = case.img_size(), feature_size(case)
    image_width, image_height = case.size('image_wh')
    image = {'img': np.zeros((image_height, image_width, 1), np.uint8)}
    case.compare('trans_input', CenterAffine(size=img_size[::-1])(image)['affine'], EXACT)
    center = image_width / 2, image_height / 2
    to_cells = center_affine(center, max(image_width, image_height), size)
    case.compare('trans_output', to_cells, EXACT)
    boxes = apply_affine(case.tensor('track_bbox'), case.array('trans_input'))
    tracks = InstanceData(
        bboxes=boxes,
        labels=torch.zeros(len(boxes), dtype=torch.int64),
        scores=case.tensor('track_score'),
        active=case.tensor('track_active'),
    )
    encoder = CenterTrackTargetEncoder(1, min_track_score=case.number('pre_thresh'))
    previous = encoder.encode_previous([tracks], img_size)
    case.compare('pre_hm', previous.heatmap, EXACT)
    scale = size[1] / img_size[1], size[0] / img_size[0]
    cells = clipped_centers(scale_boxes(boxes, *scale), size)[0][previous.mask[0]].long()
    case.compare('pre_inds', (cells[:, 1] * size[1] + cells[:, 0])[None])
