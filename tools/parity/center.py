"""Golden checks of CenterNetPoints (ctdet), CenterNetPose (multi_pose) and CenterTrack (track)."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.data import CenterAffine
from mmdet_losses.detectors import center
from mmdet_losses.detectors.center.centers import spread_by_class
from mmdet_losses.losses import penalty_reduced_focal_loss
from mmdet_losses.ops import gaussian_radius, splat_gaussians, suppress_non_peaks, top_peaks
from tools.parity import center_track
from tools.parity.center_common import (
    BRANCHES,
    FIELDS,
    compare_detections,
    compare_encoded,
    count_candidates,
    feature_size,
    pad_like,
    read_outputs,
)
from tools.parity.golden import EXACT, Case, Check, columns, counts, splats_of

# The largest terms and gradients belong to saturated heatmaps, which nothing divides.
LOSS, GRADIENT = 5e-6, 2e-6
FOCAL = {'type': 'PenaltyReducedFocalLoss', 'clamp': 1e-4}
TRACK_FOCAL = {'type': 'CenterTrackFocalLoss', 'clamp': 1e-4}
MSE = {'type': 'HeatmapMSELoss'}
L1 = {'type': 'MaskedL1Loss'}
WEIGHTED = {'type': 'MaskedWeightedL1Loss'}
SMOOTH = {'type': 'MaskedSmoothL1Loss', 'beta': 1.0}
SIGMA = re.compile(r'(?:tgt_)?(?:mse_)?hm_(hp_|msra_|)sigma(\d+)$')
"""Maps of Gaussians with one standard deviation; ``hp_`` for those of keypoints."""


class Task(NamedTuple):
    """The criterion of an official task."""

    stem: str
    total: str
    weights: str
    terms: dict[str, tuple[str, int, dict]]
    """Branch -> official name of its term, place of its weight in ``weights``, our term."""
    variants: dict[str, dict[str, dict]]
    """Prefix of a run of the criterion -> terms that differ."""

    def type(self, role: str) -> Any:
        """Our class of the task."""
        return getattr(center, self.stem + role)


TASKS = {
    'ctdet': Task(
        'CenterNetPoints',
        'loss',
        'weights_hm_wh_off',
        {'hm': ('hm_loss', 0, FOCAL), 'wh': ('wh_loss', 1, L1), 'reg': ('off_loss', 2, L1)},
        {
            '': {},
            'normwh_': {},
            'catspec_': {},
            'sl1_': {'wh': SMOOTH, 'reg': SMOOTH},
            'dense_': {'wh': WEIGHTED},
            'mse_': {'hm': MSE},
        },
    ),
    'multi_pose': Task(
        'CenterNetPose',
        'loss',
        'weights_hm_wh_off_hp_hmhp',
        {
            'hm': ('hm_loss', 0, FOCAL),
            'wh': ('wh_loss', 1, L1),
            'reg': ('off_loss', 2, L1),
            'hps': ('hp_loss', 3, WEIGHTED),
            'hm_hp': ('hm_hp_loss', 4, FOCAL),
            'hp_offset': ('hp_offset_loss', 2, L1),  # which has no weight of its own
        },
        {
            '': {},
            'sl1_': {'wh': SMOOTH, 'reg': SMOOTH, 'hp_offset': SMOOTH},
            'dense_': {},
            'mse_': {'hm_hp': MSE},
        },
    ),
    'track': Task(
        'CenterTrack',
        'loss_tot',
        'weights_hm_reg_wh_tracking_ltrbamodal',
        {
            name: (f'loss_{name}', place, WEIGHTED if place else TRACK_FOCAL)
            for place, name in enumerate(('hm', 'reg', 'wh', 'tracking', 'ltrb_amodal'))
        },
        {'': {}},
    ),
}


def task_of(case: Case) -> Task:
    """The task that the file's name has."""
    return next(task for name, task in TASKS.items() if name in case.file.name)


# ------------------------------------------------------------------------------------- losses


def losses(case: Case) -> None:
    """The official criterion, its variants, and any number of stacks."""
    task = task_of(case)
    weights = case.decimals(task.weights) if task.weights in case else [1.0, 0.1, 1.0]
    stacks = [f's{i}_' for i in range(case.number('num_stacks', 0))] or ['']
    read = [read_outputs(case, task.type('Outputs'), f'{each}pred_', grad=True) for each in stacks]
    encoded = _targets_of(case, task)
    for prefix, changes in task.variants.items():
        if f'{prefix}{task.total}' not in case:
            continue
        outputs = [each for _, each in read]
        if prefix == 'catspec_':
            read[0][0]['wh_catspec'] = case.leaf('pred_wh_catspec')
            outputs = [outputs[0]._replace(size=read[0][0]['wh_catspec'])]
        criterion = _criterion(task, weights, changes, prefix)
        targets = _variant_targets(case, prefix, encoded)
        terms = criterion(outputs[-1]._replace(earlier=tuple(outputs[:-1])), targets)
        for branch, (official, place, _) in task.terms.items():
            value = terms[f'loss_{BRANCHES[branch]}'].detach() / weights[place]
            case.compare(prefix + official, value, LOSS)
        total = sum(terms.values())
        case.compare(prefix + task.total, total, LOSS)
        for stack, (leaves, _) in zip(stacks, read, strict=True):
            raw = {k.replace('logit', 'raw'): leaf for k, leaf in leaves.items() if 'logit' in k}
            _compare_gradients(case, total, {**leaves, **raw}, f'{prefix}{stack}grad_')
    if 'info_hm_loss_pixelwise_neg_loss' in case:
        heatmap, dense = read[0][1].heatmap.detach(), case.tensor('tgt_hm')
        cells = penalty_reduced_focal_loss(heatmap, dense, clamp=1e-4)
        case.compare('info_hm_loss_pixelwise_neg_loss', cells, EXACT)


def _compare_gradients(case: Case, total: Tensor, leaves: dict[str, Tensor], prefix: str) -> None:
    stored = {f'{prefix}{name}': x for name, x in leaves.items() if f'{prefix}{name}' in case}
    if stored:
        grads = torch.autograd.grad(total, list(stored.values()), retain_graph=True)
        case.table(dict(zip(stored, grads, strict=True)), GRADIENT)


def _criterion(task: Task, weights: list[float], changes: dict[str, dict], prefix: str) -> Any:
    terms = {
        f'loss_{BRANCHES[branch]}': {**changes.get(branch, term), 'loss_weight': weights[place]}
        for branch, (_, place, term) in task.terms.items()
    }
    options = {'normalizer': 'objects'} if prefix == 'sl1_' else {}
    return task.type('Loss')(**terms, **options)


def _targets_of(case: Case, task: Task) -> Any:
    """The targets of a file, with the fields that the task has."""
    kind = task.type('Targets')
    case.skip('the sizes of tgt_wh in the columns of the class', 'tgt_cat_spec_wh')
    case.skip('the mask of tgt_hps_mask per keypoint', 'tgt_hp_mask')
    fields: dict[str, Any] = {
        ours: case.tensor(f'tgt_{name}')
        for name, ours in FIELDS.items()
        if f'tgt_{name}' in case and ours in kind._fields
    }
    fields |= {name: splats_of(fields[name]) for name in fields if name.endswith('heatmap')}
    fields.setdefault('labels', torch.zeros_like(fields['index']))
    if 'tgt_cat_spec_mask' in case:
        fields['labels'] = case.tensor('tgt_cat_spec_mask')[..., ::2].int().argmax(-1)
    if task.stem == 'CenterNetPose':
        fields['keypoint_mask'] = case.tensor('tgt_hps_mask')[..., ::2]
    if task.stem == 'CenterTrack':
        masks = ('tgt_reg_mask', 'tgt_wh_mask', 'tgt_ltrb_amodal_mask')
        case.skip('tgt_mask for each value', *masks)
        fields['tracking_mask'] = case.tensor('tgt_tracking_mask')[..., 0] > 0
        fields |= {'ltrb': fields.get('ltrb_amodal'), 'ignore': None}  # the map is 1 there
        return kind(**fields, **counts(case.tensor('tgt_mask') > 0))
    return kind(**fields, **counts(case.tensor('tgt_reg_mask')))


def _variant_targets(case: Case, prefix: str, encoded: Any) -> Any:
    """The targets of a run of the criterion."""
    if prefix == 'dense_':
        if 'tgt_dense_wh' in case:
            dense = center.DenseSize(case.tensor('tgt_dense_wh'), case.tensor('tgt_dense_wh_mask'))
            return encoded._replace(dense_size=dense)
        parts = case.tensor('tgt_dense_hps'), case.tensor('tgt_dense_hps_mask')
        return encoded._replace(dense_keypoints=center.DenseKeypoints(*parts))
    if prefix == 'mse_':
        found = {_field(m[1]): key for key in reversed(case.keys) if (m := SIGMA.match(key))}
        return encoded._replace(**{k: splats_of(case.tensor(key)) for k, key in found.items()})
    return encoded


def _field(part: str) -> str:
    return 'keypoint_heatmap' if part == 'hp_' else 'heatmap'


# ------------------------------------------------------------------------------------- targets


def gaussian(case: Case) -> None:
    """Radii, Gaussians by radius, Gaussians by standard deviation."""
    height, width = case.tensor('det_hw').unbind(-1)
    radius = gaussian_radius(height, width, min_overlap=0.7, mode='legacy')
    case.table({'radius_float': radius, 'radius_int': radius.long()})
    xyrk, xys = case.tensor('umich_xyrk'), case.tensor('msra_xys')
    size = case.array('umich_map').shape[1:]
    maps = _one_each(xyrk[:, :2].long(), xyrk[:, 2], (2 * xyrk[:, 2] + 1) / 6, size)
    case.compare('umich_map', maps * xyrk[:, 3, None, None], EXACT)
    maps = _one_each((xys[:, :2] + 0.5).long(), (3 * xys[:, 2]).floor(), xys[:, 2], size)
    case.compare('msra_map', maps, EXACT)


def _one_each(xy: Tensor, radius: Tensor, sigma: Tensor, size: tuple[int, int]) -> Tensor:
    """One Gaussian per map."""
    zero = torch.zeros((len(xy), 1), dtype=torch.int64)
    rows = xy[:, None], radius[:, None], sigma[:, None], zero, zero == 0
    return splat_gaussians(*rows, (1, *size), int(radius.max())).dense()[:, 0]


def _compare_sigmas(case: Case, instances: list, kind: Any, options: dict) -> None:
    for key in case.keys:
        if match := SIGMA.match(key):
            encoder = kind(sigma=int(match[2]), **options)
            encoded = encoder.encode(instances, [feature_size(case)], case.img_size())
            case.compare(key, getattr(encoded, _field(match[1])).dense(), EXACT)


def targets_ctdet(case: Case) -> None:
    """A canvas of fixed size, and images that keep their scale."""
    size, instances = feature_size(case), case.instances(count='n_gt')
    _compare_affine(case, instances)
    classes = case.number('num_classes')
    options = {'num_classes': classes, 'max_objects': case.number('max_objs')}
    encoder = center.CenterNetPointsTargetEncoder(size_target='dense', **options)
    encoded = encoder.encode(instances, [size], case.img_size())
    ones = encoded.mask[..., None].expand(-1, -1, 2).float()
    more = {
        'reg_mask': encoded.mask,
        'cat_spec_wh': spread_by_class(encoded.size, encoded.labels, classes),
        'cat_spec_mask': spread_by_class(ones, encoded.labels, classes) > 0,
        'dense_wh': encoded.dense_size.size,
        'dense_wh_mask': encoded.dense_size.weight,
    }
    compare_encoded(case, encoded, more)
    radius = torch.where(encoded.mask, encoder.gaussians.radii(encoded.size)[0].long() + 1, 0)
    case.compare('radius', pad_like(radius, case.array('radius')) - 1)
    _compare_sigmas(case, instances, center.CenterNetPointsTargetEncoder, options)


def _compare_affine(case: Case, instances: list[InstanceData]) -> None:
    """The map to the input; boxes of ``instances`` are moved by it.

    It is stored as the image point in the middle of the input, and the width of the image that
    fills the input.
    """
    height, width = case.img_size()
    mode = 'keep' if 'keepres' in case.file.name else 'fix'
    affine = CenterAffine(size=(width, height), mode=mode, whole_pixels=False)
    middles, scales = [], []
    for each, (image_width, image_height) in zip(instances, case['image_wh'].tolist(), strict=True):
        image = np.zeros((image_height, image_width, 1), np.uint8)
        results = affine({'img': image, 'gt_bboxes': each.bboxes})
        each.bboxes, matrix = results['gt_bboxes'], np.asarray(results['affine'], np.float64)
        middle = np.array([width / 2, height / 2])
        middles.append(np.linalg.solve(matrix[:, :2], middle - matrix[:, 2]))
        scales.append(width / matrix[0, 0])
    case.compare('center_c', np.stack(middles), EXACT)
    case.compare('scale_s', np.stack(scales)[:, None], EXACT, where=np.s_[:, :1])


def targets_pose(case: Case) -> None:
    """Every target, dense keypoints and Gaussians of one size too."""
    boxes, points = case.tensor('gt_boxes'), case.tensor('gt_keypoints')
    instances = [
        InstanceData(
            bboxes=box[:n],
            labels=torch.zeros(n, dtype=torch.int64),
            keypoints=row[:n, :, :2],
            keypoints_visible=row[:n, :, 2],
        )
        for box, row, n in zip(boxes, points, case['n_gt'].tolist(), strict=True)
    ]
    number = case.number('num_joints')
    options = {'num_keypoints': number, 'max_objects': case.number('max_objs')}
    encoder = center.CenterNetPoseTargetEncoder(keypoint_target='dense', **options)
    encoded = encoder.encode(instances, [feature_size(case)], case.img_size())
    more = {
        'reg_mask': encoded.mask,
        'hps_mask': encoded.keypoint_mask.repeat_interleave(2, -1),
        'hp_mask': encoded.keypoint_mask.flatten(1),
        'dense_hps': encoded.dense_keypoints.keypoints,
        'dense_hps_mask': encoded.dense_keypoints.weight,
    }
    compare_encoded(case, encoded, more)
    _compare_sigmas(case, instances, center.CenterNetPoseTargetEncoder, options)


# ------------------------------------------------------------------------------------ decoding

RUNS: dict[str, dict[str, Any]] = {
    'dets': {},
    'dets_noreg': {'offset': None},
    'dets_catspec': {'size': 'wh_catspec'},
    'dets_no_hm_hp': {'keypoint_heatmap': None},
    'dets_no_hp_offset': {'keypoint_offset': None},
    'dets_no_reg': {'offset': None},
}
"""Golden detections -> branches that are missing, or read from another array."""


def decode(case: Case) -> None:
    """Detections with and without branches; the peaks, and which keypoints were snapped."""
    task, k = task_of(case), case.number('K')
    pose = task.stem == 'CenterNetPose'
    _, outputs = read_outputs(case, task.type('Outputs'))
    case.skip('the sigmoid of the logits, which the decoder computes', 'heat', 'hm_hp')
    heat = suppress_non_peaks(outputs.heatmap.sigmoid())
    case.compare('heat_nms', heat, EXACT)
    candidates = k if pose else count_candidates(heat, k)  # K bounds the keypoints too
    fields = ('bboxes', 'scores', *(['keypoints'] if pose else []), 'labels')
    first = (outputs.keypoint_heatmap if pose else heat).shape[1]
    rows = {}
    for key, changes in RUNS.items():
        if key not in case:
            continue
        read = {name: value and case.tensor(value) for name, value in changes.items()}
        options = {'size_target': 'class'} if read.get('size') is not None else {}
        encoder = task.type('TargetEncoder')(first, topk=candidates, **options)
        instances = encoder.decode(outputs._replace(**read), heat.shape[-2:])
        rows[key] = [columns(each, *fields) for each in instances]
        compare_detections(case, key, rows[key], case.tensor(key), 4)
    if 'peak_ind' in case:
        peaks, scores = top_peaks(heat, candidates), case.tensor('dets')[..., 4:5]
        got = torch.stack((peaks.scores.double(), peaks.index.double()), -1)
        want = torch.cat((scores, case.tensor('peak_ind')[..., None]), -1)
        compare_detections(case, 'peak_ind', list(got), want, 0)
    if 'snapped' in case:  # which keypoints moved, beside the row of the person
        pairs = zip(rows['dets'], rows['dets_no_hm_hp'], strict=True)
        moved = [(a, (a != b)[:, 5:-1].unflatten(1, (-1, 2)).any(-1)) for a, b in pairs]
        want = torch.cat((case.tensor('dets'), case.tensor('snapped')), -1)
        compare_detections(case, 'snapped', [torch.cat(each, 1) for each in moved], want, 4)


CHECKS: dict[str, Check] = {
    'gaussian': gaussian,
    'losses_ctdet': losses,
    'losses_multi_pose': losses,
    'losses_track': losses,
    'targets_ctdet': targets_ctdet,
    'targets_multi_pose': targets_pose,
    'decode_ctdet': decode,
    'decode_multi_pose': decode,
    **center_track.CHECKS,
}
