"""Golden checks of CenterNetPose (the official multi_pose task)."""

from __future__ import annotations

import re

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.detectors.center import (
    CenterNetPoseLoss,
    CenterNetPoseOutputs,
    CenterNetPoseTargetEncoder,
    CenterNetPoseTargets,
    DenseKeypoints,
)
from tools.parity.center_common import (
    FOCAL,
    L1,
    SMOOTH_L1,
    compare_all,
    compare_detections,
    compare_gradients,
    compare_terms,
    counts,
    detections,
    feature_size,
    splats_of,
)
from tools.parity.golden import EXACT, Case

SIGMA = re.compile(r'(tgt_)?mse_hm_sigma(\d+)$')
TERMS = (
    ('loss_heatmap', 'hm_loss', 0),
    ('loss_size', 'wh_loss', 1),
    ('loss_offset', 'off_loss', 2),
    ('loss_keypoints', 'hp_loss', 3),
    ('loss_keypoint_heatmap', 'hm_hp_loss', 4),
    ('loss_keypoint_offset', 'hp_offset_loss', 2),  # which has no weight of its own
)
"""Ours, theirs, place in ``weights_hm_wh_off_hp_hmhp``."""


def targets(case: Case) -> None:
    """Every target, dense keypoints and Gaussians of one size too."""
    img_size, size = case.img_size(), feature_size(case)
    slots, num_keypoints = case.number('max_objs'), case.number('num_joints')
    boxes, points = case.tensor('gt_boxes'), case.tensor('gt_keypoints')
    instances = [
        _person(box[:n], row[:n])
        for box, row, n in zip(boxes, points, case.array('n_gt').tolist(), strict=True)
    ]
    common = {'num_keypoints': num_keypoints, 'max_objects': slots}
    encoder = CenterNetPoseTargetEncoder(keypoint_target='dense', **common)
    encoded = encoder.encode(instances, [size], img_size)
    people = {
        'hm': encoded.heatmap.dense(),
        'hm_hp': encoded.keypoint_heatmap.dense(),
        'ind': encoded.index,
        'wh': encoded.size,
        'reg': encoded.offset,
        'reg_mask': encoded.mask,
        'hps': encoded.keypoints,
        'hps_mask': encoded.keypoint_mask.repeat_interleave(2, -1),
        'dense_hps': encoded.dense_keypoints.keypoints,
        'dense_hps_mask': encoded.dense_keypoints.weight,
    }
    compare_all(case, people, slots)
    keypoints = {
        'hp_offset': encoded.keypoint_offset,
        'hp_ind': encoded.keypoint_index,
        'hp_mask': encoded.keypoint_mask.flatten(1),
    }
    compare_all(case, keypoints, slots * num_keypoints)
    for key in [key for key in case.keys if SIGMA.match(key)]:
        encoder = CenterNetPoseTargetEncoder(sigma=int(SIGMA.match(key)[2]), **common)
        encoded = encoder.encode(instances, [size], img_size)
        case.compare(key, encoded.heatmap.dense(), EXACT)
        dense = encoded.keypoint_heatmap.dense()
        case.compare(key.replace('_hm_', '_hm_hp_'), dense, EXACT)


def _person(boxes: Tensor, keypoints: Tensor) -> InstanceData:
    return InstanceData(
        bboxes=boxes,
        labels=torch.zeros(len(boxes), dtype=torch.int64),
        keypoints=keypoints[..., :2],
        keypoints_visible=keypoints[..., 2],
    )


def losses(case: Case) -> None:
    """The official criterion and its variants."""
    weights = case.decimals('weights_hm_wh_off_hp_hmhp')
    names = ('hm_logit', 'wh', 'hps', 'reg', 'hm_hp_logit', 'hp_offset')
    leaves = {name: case.leaf(f'pred_{name}') for name in names}
    outputs = CenterNetPoseOutputs(
        heatmap=leaves['hm_logit'],
        size=leaves['wh'],
        keypoints=leaves['hps'],
        offset=leaves['reg'],
        keypoint_heatmap=leaves['hm_hp_logit'],
        keypoint_offset=leaves['hp_offset'],
    )
    for prefix, options, encoded in _variants(case):
        terms = _criterion(weights, **options)(outputs, encoded)
        pairs = [(ours, prefix + official, weights[place]) for ours, official, place in TERMS]
        compare_terms(case, terms, pairs, f'{prefix}loss')
        named = {**leaves, 'hm_hp_raw': leaves['hm_hp_logit']}
        compare_gradients(case, sum(terms.values()), named, prefix)


def _variants(case: Case) -> list[tuple[str, dict, CenterNetPoseTargets]]:
    """(prefix, options of the criterion, targets) of the runs that the file holds."""
    encoded = _targets_of(case)
    smooth = dict.fromkeys(('loss_size', 'loss_offset', 'loss_keypoint_offset'), SMOOTH_L1)
    variants = [('', {}, encoded), ('sl1_', {**smooth, 'normalizer': 'objects'}, encoded)]
    if 'dense_loss' in case:
        dense = DenseKeypoints(case.tensor('tgt_dense_hps'), case.tensor('tgt_dense_hps_mask'))
        variants.append(('dense_', {}, encoded._replace(dense_keypoints=dense)))
    if 'mse_loss' in case:
        key = next(key for key in case.keys if SIGMA.match(key))
        heatmap = splats_of(case.tensor(key))
        dense = splats_of(case.tensor(key.replace('_hm_', '_hm_hp_')))
        options = {'loss_keypoint_heatmap': {'type': 'HeatmapMSELoss'}}
        replaced = encoded._replace(heatmap=heatmap, keypoint_heatmap=dense)
        variants.append(('mse_', options, replaced))
    return [variant for variant in variants if f'{variant[0]}loss' in case]


def _criterion(
    weights: list[float], normalizer: str = 'values', **terms: dict
) -> CenterNetPoseLoss:
    defaults = {name: FOCAL if name.endswith('heatmap') else L1 for name, _, _ in TERMS}
    defaults['loss_keypoints'] = {'type': 'MaskedWeightedL1Loss'}
    places = {name: place for name, _, place in TERMS}
    configs = {
        name: {**term, 'loss_weight': weights[places[name]]}
        for name, term in {**defaults, **terms}.items()
    }
    return CenterNetPoseLoss(**configs, normalizer=normalizer)


def _targets_of(case: Case) -> CenterNetPoseTargets:
    case.skip('the mask of tgt_hps_mask per keypoint', 'tgt_hp_mask')
    return CenterNetPoseTargets(
        heatmap=splats_of(case.tensor('tgt_hm')),
        index=case.tensor('tgt_ind'),
        labels=torch.zeros_like(case.tensor('tgt_ind')),
        size=case.tensor('tgt_wh'),
        offset=case.tensor('tgt_reg'),
        keypoints=case.tensor('tgt_hps'),
        keypoint_mask=case.tensor('tgt_hps_mask')[..., ::2],
        keypoint_heatmap=splats_of(case.tensor('tgt_hm_hp')),
        keypoint_index=case.tensor('tgt_hp_ind'),
        keypoint_offset=case.tensor('tgt_hp_offset'),
        **counts(case.tensor('tgt_reg_mask')),
    )


def decode(case: Case) -> None:
    """Persons and keypoints, with and without branches, and which keypoints were snapped."""
    logits, keypoint_logits = case.tensor('hm_logit'), case.tensor('hm_hp_logit')
    case.skip('the sigmoid of the logits, which the decoder computes', 'heat', 'hm_hp')
    outputs = CenterNetPoseOutputs(
        heatmap=logits,
        size=case.tensor('wh'),
        keypoints=case.tensor('hps'),
        offset=case.tensor('reg'),
        keypoint_heatmap=keypoint_logits,
        keypoint_offset=case.tensor('hp_offset'),
    )
    runs = {
        'dets': outputs,
        'dets_no_hm_hp': outputs._replace(keypoint_heatmap=None),
        'dets_no_hp_offset': outputs._replace(keypoint_offset=None),
        'dets_no_reg': outputs._replace(offset=None),
    }
    num_keypoints = keypoint_logits.shape[1]
    encoder = CenterNetPoseTargetEncoder(num_keypoints, logits.shape[1], topk=case.number('K'))
    rows = {}
    for key, each in runs.items():
        instances = encoder.decode(each, logits.shape[-2:])
        rows[key] = detections(instances, 'bboxes', 'scores', 'keypoints', 'labels')
        compare_detections(case, key, rows[key], case.tensor(key), 4)
    # Which keypoints moved, beside the row of the person that they belong to.
    pairs = zip(rows['dets'], rows['dets_no_hm_hp'], strict=True)
    moved = [torch.cat((a, (a != b)[:, 5:-1].unflatten(1, (-1, 2)).any(-1)), 1) for a, b in pairs]
    want = torch.cat((case.tensor('dets'), case.tensor('snapped')), -1)
    compare_detections(case, 'snapped', moved, want, 4)
