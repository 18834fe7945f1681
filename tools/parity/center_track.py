"""Golden checks of CenterTrack: targets, criterion, decoding, tracker, previous heatmap."""

from __future__ import annotations

from pathlib import Path

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
from mmdet_losses.ops import apply_affine, cell_xy, center_affine, scale_boxes, suppress_non_peaks
from tools.parity.center_common import (
    DECODED,
    LOSS,
    TARGET,
    compare_detections,
    compare_gradients,
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

TERMS = ('reg', 'wh', 'tracking', 'ltrb_amodal')
OURS = {'reg': 'offset', 'wh': 'size', 'tracking': 'tracking', 'ltrb_amodal': 'ltrb_amodal'}


def _frames(golden: GoldenFile, prefix: str, count: str) -> list[InstanceData]:
    """Ground truth with our labels: the official class id - 1, which keeps ignored ones apart."""
    frames = instances_of(golden, f'{prefix}_boxes', f'{prefix}_labels', count)
    for i, image in enumerate(frames):
        image.labels = image.labels - 1
        image.instances_ids = golden.tensor(f'{prefix}_track_ids')[i, : len(image)]
        image.crowds = golden.tensor(f'{prefix}_iscrowd')[i, : len(image)]
    return frames


def check_targets(path: Path) -> list[Row]:
    """Every target, the previous heatmap and what can be linked."""
    golden = GoldenFile(path)
    img_size, size = input_size(golden), feature_size(golden)
    slots = golden.number('max_objs')
    encoder = CenterTrackTargetEncoder(golden.number('num_classes'), slots)
    previous = encoder.encode_previous(_frames(golden, 'pre', 'n_pre'), img_size)
    golden.compare('pre_hm', previous.heatmap, **TARGET)
    _compare_previous(golden, previous)
    instances = encoder.link(_frames(golden, 'gt', 'n_gt'), previous)
    targets = encoder.encode(instances, [size], img_size)
    golden.compare('hm', torch.where(targets.ignore, 1, targets.heatmap.dense()), **TARGET)
    golden.compare('ind', padded(targets.index, slots))
    golden.compare('cat', padded(targets.labels, slots))
    golden.compare('mask', padded(targets.mask, slots))
    for official, ours in {**OURS, 'ltrb': 'ltrb'}.items():
        target = padded(getattr(targets, ours), slots)
        golden.compare(official, target, **TARGET)
        mask = targets.tracking_mask if ours == 'tracking' else targets.mask
        golden.compare(f'{official}_mask', padded(mask, slots)[..., None].expand_as(target))
    return golden.finish()


def _compare_previous(golden: GoldenFile, previous: PreviousFrame) -> None:
    """The list of previous objects that can be matched, in cells; ours has gaps."""
    centers = np.zeros_like(golden.array('pre_cts'))
    ids = np.full_like(golden.array('pre_cts_track_ids'), -1)
    golden.compare('n_pre_cts', previous.mask.sum(1))
    for image, mask in enumerate(previous.mask):
        found = int(mask.sum())
        in_cells = previous.centers[image, mask] / golden.number('stride')
        centers[image, :found], ids[image, :found] = in_cells, previous.ids[image, mask]
    golden.compare('pre_cts', centers, **TARGET)
    golden.compare('pre_cts_track_ids', ids)


def check_losses(path: Path) -> list[Row]:
    """The official criterion, and the pixel-wise focal loss on the same tensors."""
    golden = GoldenFile(path)
    weights = golden.array('weights_hm_reg_wh_tracking_ltrbamodal').astype(np.float64).tolist()
    weights = dict(zip(('hm', *TERMS), weights, strict=True))
    leaves = {
        name: golden.tensor(f'pred_{name}', grad=True)
        for name in ('hm_logit', *TERMS)
        if f'pred_{name}' in golden
    }
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
    terms = CenterTrackLoss(focal, **configs)(outputs, _targets_of(golden))
    names = [(f'loss_{OURS[name]}', f'loss_{name}', weights[name]) for name in TERMS]
    names.append(('loss_heatmap', 'loss_hm', weights['hm']))
    compare_terms(golden, terms, names, 'loss_tot')
    compare_gradients(golden, sum(terms.values()), leaves)
    if 'info_hm_loss_pixelwise_neg_loss' in golden:
        cells = penalty_reduced_focal_loss(
            leaves['hm_logit'].detach(), golden.tensor('tgt_hm'), clamp=1e-4
        )
        golden.compare('info_hm_loss_pixelwise_neg_loss', cells, **LOSS)
    return golden.finish()


def _targets_of(golden: GoldenFile) -> CenterTrackTargets:
    mask = golden.tensor('tgt_mask') > 0
    linked = golden.tensor('tgt_tracking_mask')[..., 0] > 0
    columns = {}
    for name in TERMS:
        columns[OURS[name]] = golden.tensor(f'tgt_{name}')
        rows = linked if name == 'tracking' else mask
        golden.compare(f'tgt_{name}_mask', rows[..., None].expand_as(columns[OURS[name]]))
    return CenterTrackTargets(
        heatmap=splats_of(golden.tensor('tgt_hm')),
        index=golden.tensor('tgt_ind'),
        labels=golden.tensor('tgt_cat'),
        **columns,
        ltrb=columns['ltrb_amodal'],
        mask=mask,
        tracking_mask=linked,
        ignore=None,  # where the golden map is 1 already
        num_pos=mask.sum().float(),
        num_dropped=torch.zeros(()),
    )


def check_decode(path: Path) -> list[Row]:
    """The decoder with each set of branches, and its results in image pixels."""
    golden = GoldenFile(path)
    logits, k = golden.tensor('hm_logit'), golden.number('K')
    size = height, width = tuple(logits.shape[-2:])
    golden.compare('heat', logits.sigmoid(), **DECODED)
    full = CenterTrackOutputs(
        heatmap=logits,
        size=golden.tensor('wh'),
        offset=golden.tensor('reg'),
        tracking=golden.tensor('tracking'),
        ltrb_amodal=golden.tensor('ltrb_amodal'),
    )
    plain = full._replace(ltrb_amodal=None)
    runs = {
        'out_bboxes': full,
        'out_bboxes_amodal': full,
        'out_wh_only_bboxes': plain,
        'out_wh_noreg_bboxes': plain._replace(offset=None, tracking=None),
        'out_ltrb_bboxes': plain._replace(ltrb=golden.tensor('ltrb')),
    }
    encoder = CenterTrackTargetEncoder(logits.shape[1], topk=k)
    with_ties = count_candidates(suppress_non_peaks(logits.sigmoid()), k)
    generous = CenterTrackTargetEncoder(logits.shape[1], topk=with_ties)
    scores = golden.array('out_scores')[..., None]
    for key, outputs in runs.items():
        golden.arrays[key] = np.concatenate((golden.array(key), scores), -1)
        rows = detections(generous.decode(outputs, size), 'bboxes', 'scores')
        compare_detections(golden, key, rows, 4)
    instances = generous.decode(full, size)
    columns = ('scores', 'clses', 'xs', 'ys', 'cts', 'tracking')
    stacked = [golden.array(f'out_{name}').reshape(*scores.shape[:2], -1) for name in columns]
    golden.arrays['out_scores, clses, xs, ys, cts, tracking'] = np.concatenate(stacked, -1)
    rows = detections(instances, 'scores', 'labels', 'centers', 'centers', 'tracking')
    compare_detections(golden, 'out_scores, clses, xs, ys, cts, tracking', rows, 0)
    golden.compare('out_pre_cts', cell_xy(golden.tensor('pre_inds'), width))
    _compare_post(golden, full, encoder, (height, width))
    return golden.finish()


def _compare_post(
    golden: GoldenFile,
    outputs: CenterTrackOutputs,
    encoder: CenterTrackTargetEncoder,
    size: tuple[int, int],
) -> None:
    """Results in image pixels; the map has the geometry of ``CenterAffine`` at any stride."""
    image_width, image_height = golden.array('post_image_wh').tolist()
    affine = CenterAffine(size=size[::-1])
    meta = affine({'img': np.zeros((image_height, image_width, 1), np.uint8)})
    # The official code keeps scores that equal the threshold.
    threshold = float(np.nextafter(golden.array('post_out_thresh'), np.float32(-1)))
    decoded = encoder.decode(outputs, size)
    results = [postprocess(each, meta, {'score_thr': threshold}, rescale=True) for each in decoded]
    golden.compare('post_n', np.array([len(each) for each in results]))
    columns = ('score', 'ct', 'tracking', 'bbox', 'class')
    stacked = [golden.array(f'post_{name}') for name in columns]
    stacked = [each if each.ndim == 3 else each[..., None] for each in stacked]
    golden.arrays['post_score, ct, tracking, bbox, class'] = np.concatenate(stacked, -1)
    for each in results:
        each.labels = each.labels + 1
    rows = detections(results, 'scores', 'centers', 'tracking', 'bboxes', 'labels')
    compare_detections(golden, 'post_score, ct, tracking, bbox, class', rows, 0)


def check_tracker(path: Path) -> list[Row]:
    """Identities, ages and states per frame, in every run of the file."""
    golden = GoldenFile(path)
    for key in [key for key in golden.arrays if key.endswith('max_age')]:
        prefix = key.removesuffix('max_age')
        tracker = CenterTrackTracker(
            new_score=float(golden.array('new_thresh')), max_age=golden.number(key)
        )
        names = ('id', 'age', 'active', 'det_index', 'class', 'bbox', 'ct')
        got = {name: golden.array(prefix + name).copy() for name in names}
        counts = []
        for frame, number in enumerate(golden.array('n_det').tolist()):
            tracks = tracker.track(_detections(golden, frame, number))
            counts.append(len(tracks))
            rows = slice(0, min(len(tracks), golden.array(f'{prefix}n')[frame]))
            columns = (
                tracks.instances_ids,
                tracks.age,
                tracks.active,
                tracks.detection,
                tracks.labels + 1,
                tracks.bboxes,
                tracks.centers,
            )
            for name, column in zip(names, columns, strict=True):
                got[name][frame, rows] = column[rows].numpy()
        golden.compare(f'{prefix}n', np.array(counts))
        for name in names:
            golden.compare(prefix + name, got[name])
    return golden.finish()


def _detections(golden: GoldenFile, frame: int, number: int) -> InstanceData:
    def column(name: str) -> torch.Tensor:
        return golden.tensor(f'det_{name}')[frame, :number]

    return InstanceData(
        bboxes=column('bbox'),
        scores=column('score'),
        labels=column('class') - 1,
        centers=column('ct'),
        tracking=column('tracking'),
    )


def check_previous(path: Path) -> list[Row]:
    """The heatmap of live tracks."""
    golden = GoldenFile(path)
    img_size, size = input_size(golden), feature_size(golden)
    image_width, image_height = golden.array('image_wh').tolist()
    affine = CenterAffine(size=img_size[::-1])
    results = affine({'img': np.zeros((image_height, image_width, 1), np.uint8)})
    golden.compare('trans_input', results['affine'], atol=1e-6)
    center = image_width / 2, image_height / 2
    to_cells = center_affine(center, max(image_width, image_height), size)
    golden.compare('trans_output', to_cells, atol=1e-6)
    boxes = apply_affine(golden.tensor('track_bbox'), golden.array('trans_input'))
    tracks = InstanceData(
        bboxes=boxes,
        labels=torch.zeros(len(boxes), dtype=torch.int64),
        scores=golden.tensor('track_score'),
        active=golden.tensor('track_active'),
    )
    encoder = CenterTrackTargetEncoder(1, min_track_score=float(golden.array('pre_thresh')))
    previous = encoder.encode_previous([tracks], img_size)
    golden.compare('pre_hm', previous.heatmap, **TARGET)
    scale = size[1] / img_size[1], size[0] / img_size[0]
    cells = clipped_centers(scale_boxes(boxes, *scale), size)[0][previous.mask[0]].long()
    golden.compare('pre_inds', (cells[:, 1] * size[1] + cells[:, 0])[None])
    return golden.finish()
