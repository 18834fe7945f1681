"""Golden checks of the corner family's decoding: pairs, whole tests, soft-NMS, Saccade's crops."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import torch
from mmengine.structures import InstanceData
from torch import Tensor
from torch.utils._pytree import tree_map

from mmdet_losses.core.soft_nms import official_soft_nms, soft_nms
from mmdet_losses.detectors.corner import (
    CenterKeypoint,
    CenterNetTripletOutputs,
    CenterNetTripletTargetEncoder,
    CornerNetOutputs,
    CornerNetSaccadeTargetEncoder,
    CornerNetTargetEncoder,
    Keypoint,
)
from mmdet_losses.detectors.corner.decode import CornerPairs, pair_corners, top_centers
from mmdet_losses.detectors.corner.saccade import (
    Crops,
    attention_locations,
    boxes_in_image,
    crop_image,
    crops_at,
    detection_locations,
    full_image_locations,
    nms_locations,
)
from mmdet_losses.detectors.corner.views import canvas_view
from mmdet_losses.ops import cell_xy, find_peaks, suppress_non_peaks
from tools.parity.golden import EXACT, Case, Check, columns

NONE = 'an image has no detection, and ours has none'
NO_CROP = 'no place is enlarged, and none of ours'
METHODS = {'nms': 'naive', 'linear': 'linear', 'exp': 'gaussian'}


def keypoints(maps: Mapping[str, Tensor]) -> dict[str, Keypoint | CenterKeypoint]:
    """Official maps (``tl_heat``, ``tl_tag``, ``tl_off``, ...) as keypoints ``tl, br, center``."""
    found: dict[str, Keypoint | CenterKeypoint] = {
        name: Keypoint(*(maps[f'{name}_{part}'] for part in ('heat', 'tag', 'off')))
        for name in ('tl', 'br')
    }
    if 'ct_heat' in maps:
        found['center'] = CenterKeypoint(maps['ct_heat'], maps['ct_off'])
    return found


def decode(case: Case) -> None:
    """Pairs of corners, or the whole test where the file has its scales."""
    if 'test_scales' in case:
        _whole_test(case)
    else:
        _pairs(case)


def _pairs(case: Case) -> None:
    """Pairs of corners in cells, and the peaks that they come from."""
    outputs = read_outputs(case, 'in_', CornerNetOutputs)
    encoder = CornerNetTargetEncoder(
        outputs.tl.heatmap.shape[1],
        peak_kernel=case.number('kernel'),
        no_border=case.flag('no_border'),
        **pairing_options(case),
    )
    _compare_pairs(case, 'det', 'num_valid', pair_corners(outputs.tl, outputs.br, encoder.pairing))
    kernel = encoder.pairing.peak_kernel
    scores = suppress_non_peaks(outputs.tl.heatmap.sigmoid(), kernel)
    case.compare('mid_tl_heat_after_nms', scores, EXACT)
    peaks = find_peaks(outputs.tl.heatmap, encoder.topk, kernel)
    x, y = cell_xy(peaks.index, scores.shape[-1]).unbind(-1)
    fields = dict(scores=peaks.scores, pixel=peaks.index, cls=peaks.labels, x=x, y=y)
    names = [f'mid_tl_topk_{name}' for name in fields]
    wanted = np.stack([case[name] for name in names], -1)
    rows = torch.stack([field.double() for field in fields.values()], -1)
    for got, want in zip(rows, wanted, strict=True):
        case.compare_rows(', '.join(names), got, want, [EXACT, 0, 0, 0, 0])


def _whole_test(case: Case) -> None:
    """All scales and the mirrored images, merged by soft-NMS."""
    triplets = bool(case.names('in_*_ct_heat'))
    outputs_type = CenterNetTripletOutputs if triplets else CornerNetOutputs
    encoder_type = CenterNetTripletTargetEncoder if triplets else CornerNetTargetEncoder
    encoder = encoder_type(case.number('num_classes'), **pairing_options(case))
    height, width = case.size('image_size')
    case.skip('equals the number of images per scale', 'flip')
    outputs, views = [], []
    for place, scale in enumerate(case['test_scales'].tolist()):
        both = read_outputs(case, f'in_scale{place}_', outputs_type)
        for mirrored in range(len(both.tl.heatmap)):
            image = slice(mirrored, mirrored + 1)
            outputs.append(tree_map(lambda maps, image=image: maps[image], both))
            views.append(canvas_view((height, width), round(scale, 6), flipped=bool(mirrored)))
            stride, (h, w) = case.number('stride'), views[-1].input_size
            expected, found = ((h + 1) // stride, (w + 1) // stride), both.tl.heatmap.shape[-2:]
            if expected != tuple(found):
                raise ValueError(f'Maps of {tuple(found)} cells for a canvas of {(h, w)} pixels.')
        if triplets:
            _compare_scale(case, both, encoder, f'mid_scale{place}_')
    [instances] = encoder.decode_views(outputs, views)
    _compare_instances(case, 'prenms', instances)
    exponent = case.number('weight_exp')
    result = official_soft_nms(
        instances,
        iou_threshold=case.number('nms_threshold'),
        merge_exponent=exponent if case.flag('merge_bbox') else None,
        max_num=case.number('max_per_image'),
    )
    _compare_instances(case, 'final', result)


def _compare_scale(
    case: Case, outputs: CenterNetTripletOutputs, encoder: CornerNetTargetEncoder, prefix: str
) -> None:
    """Centres and pairs of one scale."""
    centers = top_centers(outputs.center, encoder.topk)
    rows = torch.cat((centers.xy, centers.labels[..., None], centers.scores[..., None]), 2)
    for got, want in zip(rows, case[f'{prefix}centers'], strict=True):
        case.compare_rows(f'{prefix}centers', got, want, [EXACT, EXACT, 0, EXACT])
    pairs = pair_corners(outputs.tl, outputs.br, encoder.pairing)
    _compare_pairs(case, f'{prefix}det', f'{prefix}num_valid', pairs)


def softnms(case: Case) -> None:
    """Every soft-NMS variant, with the numbers of the rows that are kept."""
    boxes = case['in_boxes']
    pattern = r'(soft|merge)_(nms|linear|exp)_Nt(\d+)_(?:sigma|exp)(\d+)_array'
    for key in case.names('*_array'):
        kind, method, threshold, number = re.match(pattern, key).groups()
        soft = {'sigma': float(f'0.{number}')}
        options = soft if kind == 'soft' else {'merge_exponent': float(number)}
        options |= {'offset': 1.0, 'iou_threshold': float(f'0.{threshold}')}
        result = soft_nms(boxes, method=METHODS[method], frozen_extras=True, **options)
        case.compare(key, result.rows, EXACT)
        case.compare(key.replace('_array', '_kept'), result.kept)


def saccade_pieces(case: Case) -> None:
    """Attention to locations, locations to crops, boxes of crops to the image."""
    maps = [case.tensor(key) for key in case.names('in_att*')]
    for scale, each in enumerate(maps):
        case.compare(f'attnms_out{scale}', suppress_non_peaks(each))
    zoom, offset = (case.tensor(f'decode_atts_{name}').double() for name in ('scales', 'offsets'))
    crops = Crops(zoom, offset)
    for key in case.names('decode_atts_*_out_f64'):
        prefix = key.removesuffix('out_f64')
        locations = attention_locations(
            maps,
            crops,
            case.size('image_size'),
            strides=case['att_ratios'].tolist(),
            zooms=case[f'{prefix}att_scales'].tolist(),
            threshold=float(case[f'{prefix}thresh']),
            enlarge_only=case.flag(f'{prefix}ignore_same'),
        )
        case.compare(key, locations, EXACT)
    detections = case.tensor('in_ref_dets')
    locations = detection_locations(detections[:, :4], detections[:, 4])
    case.compare('ref_locs_out_f64', locations, EXACT)
    for key in case.names('locnms_thresh*_out_f64'):
        distance = float(re.search(r'\d+', key)[0])
        case.compare(key, nms_locations(case.tensor('in_locnms_f64'), distance))
    _compare_crops(case)


def _compare_crops(case: Case) -> None:
    image = case.tensor('in_crop_image_u8').permute(2, 0, 1).double() / 255
    locations = case.tensor('crop_locations')
    height, width = case.size('crop_input_size')
    case.compare('crop_images', crop_image(image, locations, (height, width)), EXACT)
    crops = crops_at(locations, (height, width))
    case.compare('crop_offsets_yx', crops.offset)
    rows = case.tensor('in_remap_dets')
    # The boxes are in cells of a map of a quarter of the input, rounded up (8 for 31 pixels).
    cells = ((height + 1) // 4, (width + 1) // 4)
    boxes = boxes_in_image(rows[..., :4], crops, cells, (height, width))
    case.compare('remap_out', torch.cat((boxes, rows[..., 4:]), -1), EXACT)


def saccade_test(case: Case) -> None:
    """The whole test of CornerNet-Saccade, both passes."""
    image_size, input_size = case.size('image_size'), case.size('input_size')
    feat_size = case.size('output_size')
    encoder = CornerNetSaccadeTargetEncoder(case.number('num_classes'), **pairing_options(case))
    first = full_image_locations(image_size, case['init_sizes'].tolist())
    case.compare('first_locations_f64', first, EXACT)
    crops = crops_at(case.tensor('first_locations_f64'), input_size)
    case.compare('first_offsets_yx', crops.offset)
    found = _saccade_pass(case, 'in_first_', encoder, crops, feat_size, input_size)
    found = found[found.scores > 0.3]
    locations = attention_locations(
        [case.tensor(key).sigmoid() for key in case.names('in_first_att_logits*')],
        crops,
        image_size,
        zooms=case['att_scales'].tolist(),
        threshold=case.number('att_threshold'),
    )
    if case.flag('ref_dets'):
        locations = torch.cat((locations, detection_locations(found.bboxes, found.scores)))
    before = case.tensor('locations_before_nms_f64')
    most = case.number('att_max_crops')
    for key, got in (
        ('locations_before_nms_f64', locations),
        ('locations_after_nms_f64', nms_locations(before)),
        ('second_locations_f64', nms_locations(before, most=most)),
    ):
        case.compare_rows(key, got, tol=EXACT, empty=NO_CROP)
    crops = crops_at(case.tensor('second_locations_f64'), input_size)
    case.compare('second_offsets_yx', crops.offset, empty=NO_CROP)
    if len(crops.zoom):
        closer = _saccade_pass(case, 'in_second_', encoder, crops, feat_size, input_size)
        found = InstanceData.cat([found, closer])
    else:
        case.skip(NO_CROP, 'in_second_*')
    _compare_instances(case, 'prenms', found)
    result = official_soft_nms(found, sigma=case.number('softnms_sigma'), stale_rows=False)
    _compare_instances(case, 'final', result)


def _saccade_pass(
    case: Case,
    prefix: str,
    encoder: CornerNetSaccadeTargetEncoder,
    crops: Crops,
    feat_size: tuple[int, ...],
    input_size: tuple[int, ...],
) -> InstanceData:
    outputs = read_outputs(case, prefix, CornerNetOutputs)
    pairs = pair_corners(outputs.tl, outputs.br, encoder.pairing)
    boxes = boxes_in_image(pairs.boxes, crops, feat_size, input_size)
    return InstanceData.cat(pairs._replace(boxes=boxes).instances())


def read_outputs(case: Case, prefix: str, outputs_type: type) -> tuple:
    """Maps under their official names, of one stack."""
    pattern = re.compile(rf'{prefix}((?:tl|br|ct)_(?:heat|tag|off))$')
    found = {m[1]: key for key in case.keys if (m := pattern.match(key))}
    return outputs_type(**keypoints({name: case.tensor(key) for name, key in found.items()}))


def pairing_options(case: Case) -> dict:
    """Arguments of the encoder that select pairs."""
    return {'topk': case.number('K'), **case.options('{}', 'num_dets', 'ae_threshold')}


def _compare_pairs(case: Case, key: str, count: str, pairs: CornerPairs) -> None:
    """The rows of every image that were not rejected."""
    case.compare(count, pairs.valid.sum(1))
    for image, instances in enumerate(pairs.instances()):
        wanted = case[key][image][: case[count][image]]
        _compare_rows(case, f'{key}[{image}]', instances, wanted)


def _compare_instances(case: Case, stem: str, instances: InstanceData) -> None:
    rows, labels = f'{stem}_rows', f'{stem}_labels'
    wanted = np.concatenate((case[rows], case[labels][:, None]), 1)
    _compare_rows(case, f'{rows}, {labels}', instances, wanted)


def _compare_rows(case: Case, keys: str, instances: InstanceData, wanted: np.ndarray) -> None:
    """x1, y1, x2, y2, score, (scores of both corners,) class."""
    scores = ('scores', 'tl_scores', 'br_scores')[: wanted.shape[1] - 5]
    rows = columns(instances, 'bboxes', *scores, 'labels')
    case.compare_rows(keys, rows, wanted, [EXACT] * (rows.shape[1] - 1) + [0.0], empty=NONE)


CHECKS: dict[str, Check] = {
    **{
        f'decode_{name}': decode
        for name in ('cornernet', 'squeeze', 'kernel1', 'centernet', 'saccade_no_border')
    },
    'decode_softnms': softnms,
    'decode_saccade_pieces': saccade_pieces,
    'decode_saccade_full': saccade_test,
}
