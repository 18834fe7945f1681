"""Golden checks of CenterTrack: targets, decoding, tracker, previous heatmap."""

from __future__ import annotations

import numpy as np
import torch
from mmengine.structures import InstanceData

from mmdet_losses.core import postprocess
from mmdet_losses.data import CenterAffine
from mmdet_losses.detectors.center import (
    CenterTrackOutputs,
    CenterTrackTargetEncoder,
    CenterTrackTracker,
)
from mmdet_losses.detectors.center.centertrack_encoder import clipped_centers
from mmdet_losses.ops import apply_affine, center_affine, scale_boxes, suppress_non_peaks
from tools.parity.center_common import (
    BRANCHES,
    compare_detections,
    compare_encoded,
    count_candidates,
    feature_size,
    read_outputs,
)
from tools.parity.golden import EXACT, Case, Check, columns


def _frames(case: Case, prefix: str, count: str) -> list[InstanceData]:
    """Ground truth with our labels: the official class id - 1, which keeps ignored ones apart."""
    names = dict(boxes='bboxes', labels='labels', track_ids='instances_ids', iscrowd='crowds')
    rows = {ours: case.tensor(f'{prefix}_{name}') for name, ours in names.items()}
    rows['labels'] = rows['labels'] - 1
    return [
        InstanceData(**{name: value[image, :number] for name, value in rows.items()})
        for image, number in enumerate(case[count].tolist())
    ]


def targets(case: Case) -> None:
    """Every target, the previous heatmap, and the previous objects that can be linked."""
    img_size = case.img_size()
    encoder = CenterTrackTargetEncoder(case.number('num_classes'), case.number('max_objs'))
    previous = encoder.encode_previous(_frames(case, 'pre', 'n_pre'), img_size)
    instances = encoder.link(_frames(case, 'gt', 'n_gt'), previous)
    encoded = encoder.encode(instances, [feature_size(case)], img_size)
    heatmap = torch.where(encoded.ignore, 1, encoded.heatmap.dense())
    more = {'hm': heatmap, 'mask': encoded.mask}
    for official in ('reg', 'wh', 'tracking', 'ltrb_amodal', 'ltrb'):
        mask = encoded.tracking_mask if official == 'tracking' else encoded.mask
        value = getattr(encoded, BRANCHES[official])
        more[f'{official}_mask'] = mask[..., None].expand_as(value)
    compare_encoded(case, encoded, more)
    # the official list of previous objects is in cells and has no gaps
    centers = np.zeros(case['pre_cts'].shape, np.float32)
    ids = np.full(case['pre_cts_track_ids'].shape, -1)
    for image, mask in enumerate(previous.mask):
        found, stride = int(mask.sum()), case.number('stride')
        centers[image, :found] = previous.centers[image, mask] / stride
        ids[image, :found] = previous.ids[image, mask]
    table = {'pre_hm': previous.heatmap, 'n_pre_cts': previous.mask.sum(1)}
    case.table({**table, 'pre_cts': centers, 'pre_cts_track_ids': ids})


def decode(case: Case) -> None:
    """The decoder with each set of branches, and its results in image pixels."""
    k, (_, outputs) = case.number('K'), read_outputs(case, CenterTrackOutputs)
    logits = outputs.heatmap
    classes, size = logits.shape[1], tuple(logits.shape[-2:])
    case.skip('the sigmoid of hm_logit, which the decoder computes', 'heat')
    case.skip('the cells pre_inds as x, y: no result of the decoder', 'pre_inds', 'out_pre_cts')
    full = outputs._replace(ltrb=None)
    plain = full._replace(ltrb_amodal=None)
    runs = {
        'out_bboxes': full,
        'out_bboxes_amodal': full,
        'out_wh_only_bboxes': plain,
        'out_wh_noreg_bboxes': plain._replace(offset=None, tracking=None),
        'out_ltrb_bboxes': plain._replace(ltrb=outputs.ltrb),
    }
    with_ties = count_candidates(suppress_non_peaks(logits.sigmoid()), k)
    encoder = CenterTrackTargetEncoder(classes, topk=with_ties)
    for key, each in runs.items():
        want = torch.cat((case.tensor(key), case.tensor('out_scores')[..., None]), -1)
        rows = [columns(one, 'bboxes', 'scores') for one in encoder.decode(each, size)]
        compare_detections(case, f'{key}, out_scores', rows, want, 4)
    names = [f'out_{name}' for name in ('scores', 'clses', 'xs', 'ys', 'cts', 'tracking')]
    fields = ('scores', 'labels', 'centers', 'centers', 'tracking')
    _compare_columns(case, names, encoder.decode(full, size), fields)
    _compare_post(case, CenterTrackTargetEncoder(classes, topk=k).decode(full, size), size)


def _compare_columns(
    case: Case, names: list[str], instances: list[InstanceData], fields: tuple[str, ...]
) -> None:
    """Arrays of the detections, the score first, as the columns of rows."""
    arrays = [case.tensor(name).float() for name in names]
    want = torch.cat([each.flatten(2) if each.ndim > 2 else each[..., None] for each in arrays], 2)
    got = [columns(each, *fields) for each in instances]
    compare_detections(case, ', '.join(names), got, want, 0)


def _compare_post(case: Case, decoded: list[InstanceData], size: tuple[int, int]) -> None:
    """Results in image pixels; the map has the geometry of ``CenterAffine`` at any stride."""
    image_width, image_height = case.size('post_image_wh')
    affine = CenterAffine(size=size[::-1])
    meta = affine({'img': np.zeros((image_height, image_width, 1), np.uint8)})
    # The official code keeps scores that equal the threshold.
    threshold = float(np.nextafter(case['post_out_thresh'], np.float32(-1)))
    results = [postprocess(each, meta, {'score_thr': threshold}, rescale=True) for each in decoded]
    case.compare('post_n', np.array([len(each) for each in results]))
    for each in results:
        each.labels = each.labels + 1
    names = [f'post_{name}' for name in ('score', 'ct', 'tracking', 'bbox', 'class')]
    fields = ('scores', 'centers', 'tracking', 'bboxes', 'labels')
    _compare_columns(case, names, results, fields)


def tracker(case: Case) -> None:
    """Identities, ages and states per frame, in every run of the file."""
    names = dict(bbox='bboxes', score='scores', ct='centers', tracking='tracking')
    det = {ours: case.tensor(f'det_{name}') for name, ours in names.items()}
    det['labels'] = case.tensor('det_class') - 1
    for key in case.names('*max_age'):
        prefix = key.removesuffix('max_age')
        tracks = CenterTrackTracker(new_score=case.number('new_thresh'), max_age=case.number(key))
        frames = [
            tracks.track(InstanceData(**{name: rows[frame, :n] for name, rows in det.items()}))
            for frame, n in enumerate(case['n_det'].tolist())
        ]
        case.compare(f'{prefix}n', np.array([len(each) for each in frames]))
        rows = {
            'id': [each.instances_ids for each in frames],
            'age': [each.age for each in frames],
            'active': [each.active for each in frames],
            'det_index': [each.detection for each in frames],
            'class': [each.labels + 1 for each in frames],
            'bbox': [each.bboxes for each in frames],
            'ct': [each.centers for each in frames],
        }
        for name, found in rows.items():
            golden = case[prefix + name]
            got = np.full(golden.shape, -1 if golden.dtype.kind == 'i' else 0, golden.dtype)
            for frame, row in enumerate(found):
                got[frame, : len(row)] = row[: golden.shape[1]].numpy()
            case.compare(prefix + name, got)


def previous_heatmap(case: Case) -> None:
    """The heatmap of live tracks."""
    img_size, size = case.img_size(), feature_size(case)
    image_width, image_height = case.size('image_wh')
    image = {'img': np.zeros((image_height, image_width, 1), np.uint8)}
    case.compare('trans_input', CenterAffine(size=img_size[::-1])(image)['affine'], EXACT)
    center = image_width / 2, image_height / 2
    to_cells = center_affine(center, max(image_width, image_height), size)
    case.compare('trans_output', to_cells, EXACT)
    boxes = apply_affine(case.tensor('track_bbox'), case['trans_input'])
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


CHECKS: dict[str, Check] = {
    'targets_track': targets,
    'decode_track': decode,
    'tracker_greedy': tracker,
    'prehm_test_track': previous_heatmap,
}
