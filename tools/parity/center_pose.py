"""Golden checks of CenterNetPose (the official multi_pose task)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmdet_losses.detectors.center import (
    CenterNetPoseLoss,
    CenterNetPoseOutputs,
    CenterNetPoseTargetEncoder,
    CenterNetPoseTargets,
    DenseKeypoints,
)
from tools.parity.center_common import (
    DECODED,
    FOCAL,
    L1,
    TARGET,
    compare_detections,
    compare_gradients,
    compare_terms,
    detections,
    feature_size,
    input_size,
    instances_of,
    padded,
    splats_of,
)
from tools.parity.golden_file import GoldenFile
from tools.parity.rows import Row, compare

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


def check_targets(path: Path) -> list[Row]:
    """Every target, dense keypoints and Gaussians of one size too."""
    golden = GoldenFile(path)
    img_size, size = input_size(golden), feature_size(golden)
    slots, num_keypoints = golden.number('max_objs'), golden.number('num_joints')
    instances = instances_of(golden, labels=None)
    for image, keypoints in zip(instances, golden.tensor('gt_keypoints'), strict=True):
        keypoints = keypoints[: len(image)]
        image.keypoints, image.keypoints_visible = keypoints[..., :2], keypoints[..., 2]
    common = {'num_keypoints': num_keypoints, 'max_objects': slots}
    encoder = CenterNetPoseTargetEncoder(keypoint_target='dense', **common)
    targets = encoder.encode(instances, [size], img_size)
    pairs = targets.keypoint_mask.repeat_interleave(2, -1)
    golden.compare('hm', targets.heatmap.dense(), **TARGET)
    golden.compare('hm_hp', targets.keypoint_heatmap.dense(), **TARGET)
    golden.compare('ind', padded(targets.index, slots))
    golden.compare('wh', padded(targets.size, slots), **TARGET)
    golden.compare('reg', padded(targets.offset, slots), **TARGET)
    golden.compare('reg_mask', padded(targets.mask, slots))
    golden.compare('hps', padded(targets.keypoints, slots), **TARGET)
    golden.compare('hps_mask', padded(pairs, slots))
    golden.compare('hp_offset', padded(targets.keypoint_offset, slots * num_keypoints), **TARGET)
    golden.compare('hp_ind', padded(targets.keypoint_index, slots * num_keypoints))
    golden.compare('hp_mask', padded(targets.keypoint_mask.flatten(1), slots * num_keypoints))
    golden.compare('dense_hps', targets.dense_keypoints.keypoints, **TARGET)
    golden.compare('dense_hps_mask', targets.dense_keypoints.weight, **TARGET)
    for key in [key for key in golden.arrays if SIGMA.match(key)]:
        encoder = CenterNetPoseTargetEncoder(sigma=int(SIGMA.match(key)[2]), **common)
        targets = encoder.encode(instances, [size], img_size)
        golden.compare(key, targets.heatmap.dense(), **TARGET)
        dense = targets.keypoint_heatmap.dense()
        golden.compare(key.replace('_hm_', '_hm_hp_'), dense, **TARGET)
    return golden.finish()


def check_losses(path: Path) -> list[Row]:
    """The official criterion and its variants."""
    golden = GoldenFile(path)
    weights = golden.array('weights_hm_wh_off_hp_hmhp').astype(np.float64).tolist()
    names = ('hm_logit', 'wh', 'hps', 'reg', 'hm_hp_logit', 'hp_offset')
    leaves = {name: golden.tensor(f'pred_{name}', grad=True) for name in names}
    outputs = CenterNetPoseOutputs(
        heatmap=leaves['hm_logit'],
        size=leaves['wh'],
        keypoints=leaves['hps'],
        offset=leaves['reg'],
        keypoint_heatmap=leaves['hm_hp_logit'],
        keypoint_offset=leaves['hp_offset'],
    )
    for prefix, options, targets in _variants(golden):
        terms = _criterion(weights, **options)(outputs, targets)
        pairs = [(ours, prefix + official, weights[place]) for ours, official, place in TERMS]
        compare_terms(golden, terms, pairs, f'{prefix}loss')
        named = {**leaves, 'hm_hp_raw': leaves['hm_hp_logit']}
        compare_gradients(golden, sum(terms.values()), named, prefix)
    return golden.finish()


def _variants(golden: GoldenFile) -> list[tuple[str, dict, CenterNetPoseTargets]]:
    """(prefix, options of the criterion, targets) of the runs that the file holds."""
    targets = _targets_of(golden)
    smooth = {'type': 'MaskedSmoothL1Loss', 'beta': 1.0}
    variants = [
        ('', {}, targets),
        (
            'sl1_',
            {
                'loss_size': smooth,
                'loss_offset': smooth,
                'loss_keypoint_offset': smooth,
                'normalizer': 'objects',
            },
            targets,
        ),
    ]
    if 'dense_loss' in golden:
        dense = DenseKeypoints(golden.tensor('tgt_dense_hps'), golden.tensor('tgt_dense_hps_mask'))
        variants.append(('dense_', {}, targets._replace(dense_keypoints=dense)))
    if 'mse_loss' in golden:
        key = next(key for key in golden.arrays if SIGMA.match(key))
        heatmap = splats_of(golden.tensor(key))
        dense = splats_of(golden.tensor(key.replace('_hm_', '_hm_hp_')))
        options = {'loss_keypoint_heatmap': {'type': 'HeatmapMSELoss'}}
        replaced = targets._replace(heatmap=heatmap, keypoint_heatmap=dense)
        variants.append(('mse_', options, replaced))
    return [variant for variant in variants if f'{variant[0]}loss' in golden]


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


def _targets_of(golden: GoldenFile) -> CenterNetPoseTargets:
    mask = golden.tensor('tgt_reg_mask')
    pairs = golden.tensor('tgt_hps_mask')
    golden.compare('tgt_hp_mask', pairs[..., ::2].flatten(1))
    golden.compare('tgt_hps_mask', pairs[..., ::2].repeat_interleave(2, -1))
    return CenterNetPoseTargets(
        heatmap=splats_of(golden.tensor('tgt_hm')),
        index=golden.tensor('tgt_ind'),
        labels=torch.zeros_like(golden.tensor('tgt_ind')),
        size=golden.tensor('tgt_wh'),
        offset=golden.tensor('tgt_reg'),
        mask=mask,
        keypoints=golden.tensor('tgt_hps'),
        keypoint_mask=pairs[..., ::2],
        keypoint_heatmap=splats_of(golden.tensor('tgt_hm_hp')),
        keypoint_index=golden.tensor('tgt_hp_ind'),
        keypoint_offset=golden.tensor('tgt_hp_offset'),
        num_pos=mask.sum().float(),
        num_dropped=torch.zeros(()),
    )


def check_decode(path: Path) -> list[Row]:
    """Persons and keypoints, with and without branches, and which keypoints were snapped."""
    golden = GoldenFile(path)
    logits, keypoint_logits = golden.tensor('hm_logit'), golden.tensor('hm_hp_logit')
    golden.compare('heat', logits.sigmoid(), **DECODED)
    golden.compare('hm_hp', keypoint_logits.sigmoid(), **DECODED)
    outputs = CenterNetPoseOutputs(
        heatmap=logits,
        size=golden.tensor('wh'),
        keypoints=golden.tensor('hps'),
        offset=golden.tensor('reg'),
        keypoint_heatmap=keypoint_logits,
        keypoint_offset=golden.tensor('hp_offset'),
    )
    runs = {
        'dets': outputs,
        'dets_no_hm_hp': outputs._replace(keypoint_heatmap=None),
        'dets_no_hp_offset': outputs._replace(keypoint_offset=None),
        'dets_no_reg': outputs._replace(offset=None),
    }
    num_keypoints = keypoint_logits.shape[1]
    encoder = CenterNetPoseTargetEncoder(num_keypoints, logits.shape[1], topk=golden.number('K'))
    keypoints = {}
    for key, each in runs.items():
        instances = encoder.decode(each, logits.shape[-2:])
        rows = detections(instances, 'bboxes', 'scores', 'keypoints', 'labels')
        compare_detections(golden, key, rows, 4)
        keypoints[key] = torch.stack([image.keypoints for image in instances])
    snapped: Tensor = (keypoints['dets'] != keypoints['dets_no_hm_hp']).any(-1)
    # Behind the last peak the official order is arbitrary.
    found = golden.array('dets')[..., 4, None] > 0
    want = golden.array('snapped') & found
    golden.rows.append(compare(golden.name, 'snapped', snapped.numpy() & found, want))
    return golden.finish()
