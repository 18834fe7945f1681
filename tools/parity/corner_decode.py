"""Golden checks of the corner family's decoding: pairs, whole tests, soft-NMS, Saccade's crops."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from mmengine.structures import InstanceData
from torch import Tensor
from torch.utils._pytree import tree_map

from mmdet_losses.core.soft_nms import official_soft_nms, soft_nms
from mmdet_losses.detectors.corner import (
    CenterNetTripletOutputs,
    CenterNetTripletTargetEncoder,
    CornerNetOutputs,
    CornerNetSaccadeTargetEncoder,
    CornerNetTargetEncoder,
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
from tools.parity.corner_losses import keypoints
from tools.parity.golden_file import GoldenFile
from tools.parity.rows import Row

PIXELS, SCORE = 1e-4, 1e-6
METHODS = {'nms': 'naive', 'linear': 'linear', 'exp': 'gaussian'}


def check_pairs(path: Path) -> list[Row]:
    """Pairs of corners in cells, and the peaks that they come from."""
    golden = GoldenFile(path)
    outputs = _outputs(golden, 'in_', CornerNetOutputs)
    encoder = CornerNetTargetEncoder(
        outputs.tl.heatmap.shape[1],
        peak_kernel=golden.number('kernel'),
        no_border=bool(golden.array('no_border')),
        **_pairing(golden),
    )
    pairs = pair_corners(outputs.tl, outputs.br, encoder.pairing)
    _compare_pairs(golden, 'det', 'num_valid', pairs)
    scores, kernel = outputs.tl.heatmap.sigmoid(), encoder.pairing.peak_kernel
    golden.compare('mid_tl_heat_after_nms', suppress_non_peaks(scores, kernel), SCORE)
    peaks = find_peaks(outputs.tl.heatmap, encoder.topk, kernel)
    xy = cell_xy(peaks.index, scores.shape[-1])
    golden.compare('mid_tl_topk_scores', peaks.scores, SCORE)
    golden.compare('mid_tl_topk_pixel', peaks.index)
    golden.compare('mid_tl_topk_cls', peaks.labels)
    golden.compare('mid_tl_topk_x', xy[..., 0])
    golden.compare('mid_tl_topk_y', xy[..., 1])
    return golden.finish()


def check_cornernet_test(path: Path) -> list[Row]:
    """The whole test of CornerNet and CornerNet-Squeeze."""
    golden = GoldenFile(path)
    golden.array('flip')  # equal to the number of images per scale
    _check_test(golden, CornerNetTargetEncoder, CornerNetOutputs)
    return golden.finish()


def check_triplet_test(path: Path) -> list[Row]:
    """The whole test of CenterNet triplets."""
    golden = GoldenFile(path)
    encoder = _check_test(golden, CenterNetTripletTargetEncoder, CenterNetTripletOutputs)
    for key in [key for key in golden.arrays if re.match(r'mid_scale\d+_centers', key)]:
        scale = key.split('_')[1]
        outputs = _outputs(golden, f'in_{scale}_', CenterNetTripletOutputs)
        centers = top_centers(outputs.center, encoder.topk)
        rows = torch.cat((centers.xy, centers.labels[..., None], centers.scores[..., None]), 2)
        golden.compare(key, rows, PIXELS)
        pairs = pair_corners(outputs.tl, outputs.br, encoder.pairing)
        _compare_pairs(golden, f'mid_{scale}_det', f'mid_{scale}_num_valid', pairs)
    return golden.finish()


def _check_test(
    golden: GoldenFile, encoder_type: type[CornerNetTargetEncoder], outputs_type: type
) -> CornerNetTargetEncoder:
    encoder = encoder_type(golden.number('num_classes'), **_pairing(golden))
    height, width = golden.array('image_size').tolist()
    outputs, views = [], []
    for place, scale in enumerate(golden.array('test_scales').tolist()):
        both = _outputs(golden, f'in_scale{place}_', outputs_type)
        for mirrored in range(len(both.tl.heatmap)):
            image = slice(mirrored, mirrored + 1)
            outputs.append(tree_map(lambda maps, image=image: maps[image], both))
            views.append(canvas_view((height, width), round(scale, 6), flipped=bool(mirrored)))
            _check_stride(golden, views[-1].input_size, outputs[-1].tl.heatmap.shape[-2:])
    [instances] = encoder.decode_views(outputs, views)
    _compare_instances(golden, 'prenms_rows', 'prenms_labels', instances, columns=7)
    merge = bool(golden.array('merge_bbox'))
    exponent = float(golden.array('weight_exp'))
    result = official_soft_nms(
        instances,
        iou_threshold=float(golden.array('nms_threshold')),
        merge_exponent=exponent if merge else None,
        max_num=golden.number('max_per_image'),
    )
    _compare_instances(golden, 'final_rows', 'final_labels', result, columns=5)
    return encoder


def _check_stride(golden: GoldenFile, input_size: tuple, feat_size: tuple) -> None:
    """The canvas is the one that the stored maps were computed from."""
    stride = golden.number('stride')
    expected = tuple((side + 1) // stride for side in input_size)
    if expected != tuple(feat_size):
        raise ValueError(f'Maps of {tuple(feat_size)} cells for a canvas of {input_size} pixels.')


def check_soft_nms(path: Path) -> list[Row]:
    """Every soft-NMS variant, with the rows that stay behind."""
    golden = GoldenFile(path)
    boxes = golden.array('in_boxes')
    pattern = r'(soft|merge)_(nms|linear|exp)_Nt(\d+)_(?:sigma|exp)(\d+)_array'
    for key in [key for key in golden.arrays if key.endswith('_array')]:
        kind, method, threshold, number = re.match(pattern, key).groups()
        options = (
            {'sigma': float(f'0.{number}')} if kind == 'soft' else {'merge_exponent': float(number)}
        )
        result = soft_nms(
            boxes,
            method=METHODS[method],
            iou_threshold=float(f'0.{threshold}'),
            offset=1.0,
            frozen_extras=True,
            **options,
        )
        golden.compare(key, result.rows, PIXELS)
        golden.compare(key.replace('_array', '_kept'), result.kept)
    return golden.finish()


def check_saccade_pieces(path: Path) -> list[Row]:
    """Attention to locations, locations to crops, boxes of crops to the image."""
    golden = GoldenFile(path)
    maps = [golden.tensor(key) for key in sorted(golden.arrays) if key.startswith('in_att')]
    for scale, each in enumerate(maps):
        golden.compare(f'attnms_out{scale}', suppress_non_peaks(each))
    height, width = golden.array('image_size').tolist()
    crops = Crops(
        golden.tensor('decode_atts_scales').double(), golden.tensor('decode_atts_offsets').double()
    )
    for key in [key for key in golden.arrays if re.match(r'decode_atts_\w+_out_f64', key)]:
        prefix = key.removesuffix('out_f64')
        locations = attention_locations(
            maps,
            crops,
            (height, width),
            strides=golden.array('att_ratios').tolist(),
            zooms=golden.array(f'{prefix}att_scales').tolist(),
            threshold=float(golden.array(f'{prefix}thresh')),
            enlarge_only=bool(golden.array(f'{prefix}ignore_same')),
        )
        golden.compare(key, locations, PIXELS)
    detections = golden.tensor('in_ref_dets')
    golden.compare(
        'ref_locs_out_f64', detection_locations(detections[:, :4], detections[:, 4]), 1e-5
    )
    for key in [key for key in golden.arrays if re.match(r'locnms_thresh\d+_out_f64', key)]:
        distance = float(re.search(r'\d+', key)[0])
        golden.compare(key, nms_locations(golden.tensor('in_locnms_f64'), distance))
    _check_crops(golden)
    return golden.finish()


def _check_crops(golden: GoldenFile) -> None:
    image = golden.tensor('in_crop_image_u8').permute(2, 0, 1).double() / 255
    locations = golden.tensor('crop_locations')
    height, width = golden.array('crop_input_size').tolist()
    crops = crop_image(image, locations, (height, width)).float()
    golden.compare('crop_images', crops, SCORE)
    crops = crops_at(locations, (height, width))
    golden.compare('crop_offsets_yx', crops.offset)
    rows = golden.tensor('in_remap_dets')
    # The file's boxes live on a map of a quarter of the input, rounded up (8 cells for 31 pixels).
    cells = ((height + 1) // 4, (width + 1) // 4)
    boxes = boxes_in_image(rows[..., :4], crops, cells, (height, width))
    golden.compare('remap_out', torch.cat((boxes, rows[..., 4:]), -1), PIXELS)


def check_saccade_test(path: Path) -> list[Row]:
    """The whole test of CornerNet-Saccade, both passes."""
    golden = GoldenFile(path)
    image_size, input_size, feat_size = (
        tuple(golden.array(key).tolist()) for key in ('image_size', 'input_size', 'output_size')
    )
    threshold = float(golden.array('att_threshold'))
    encoder = CornerNetSaccadeTargetEncoder(golden.number('num_classes'), **_pairing(golden))
    first = full_image_locations(image_size, golden.array('init_sizes').tolist())
    golden.compare('first_locations_f64', first, SCORE)
    crops = crops_at(golden.tensor('first_locations_f64'), input_size)
    golden.compare('first_offsets_yx', crops.offset)
    found = _saccade_pass(golden, 'in_first_', encoder, crops, feat_size, input_size)
    found = found[found.scores > 0.3]

    maps = [key for key in sorted(golden.arrays) if key.startswith('in_first_att_logits')]
    locations = attention_locations(
        [golden.tensor(key).sigmoid() for key in maps],
        crops,
        image_size,
        zooms=golden.array('att_scales').tolist(),
        threshold=threshold,
    )
    if bool(golden.array('ref_dets')):
        locations = torch.cat((locations, detection_locations(found.bboxes, found.scores)))
    _compare_locations(golden, 'locations_before_nms_f64', locations)
    most = golden.number('att_max_crops')
    kept = nms_locations(golden.tensor('locations_before_nms_f64'))
    _compare_locations(golden, 'locations_after_nms_f64', kept)
    kept = nms_locations(golden.tensor('locations_before_nms_f64'), most=most)
    _compare_locations(golden, 'second_locations_f64', kept)
    crops = crops_at(golden.tensor('second_locations_f64'), input_size)
    golden.compare('second_offsets_yx', crops.offset)
    pooled = found
    if len(crops.zoom):
        closer = _saccade_pass(golden, 'in_second_', encoder, crops, feat_size, input_size)
        pooled = InstanceData.cat([found, closer])
    elif 'in_second_tl_heat' in golden:  # nowhere to look closer: the second pass is empty
        _outputs(golden, 'in_second_', CornerNetOutputs)
    _compare_instances(golden, 'prenms_rows', 'prenms_labels', pooled, columns=7)
    result = official_soft_nms(pooled, sigma=float(golden.array('softnms_sigma')), stale_rows=False)
    _compare_instances(golden, 'final_rows', 'final_labels', result, columns=5)
    return golden.finish()


def _compare_locations(golden: GoldenFile, key: str, got: Tensor) -> None:
    """Sets: the order of equal scores is not defined."""
    _compare_sets(golden, key, got, golden.array(key), (PIXELS, PIXELS, SCORE, SCORE))


def _saccade_pass(
    golden: GoldenFile,
    prefix: str,
    encoder: CornerNetSaccadeTargetEncoder,
    crops: Crops,
    feat_size: tuple[int, int],
    input_size: tuple[int, int],
) -> InstanceData:
    outputs = _outputs(golden, prefix, CornerNetOutputs)
    pairs = pair_corners(outputs.tl, outputs.br, encoder.pairing)
    boxes = boxes_in_image(pairs.boxes, crops, feat_size, input_size)
    return InstanceData.cat(pairs._replace(boxes=boxes).instances())


def _outputs(golden: GoldenFile, prefix: str, outputs_type: type) -> tuple:
    """Maps under their official names, of one stack."""
    pattern = re.compile(rf'{prefix}((?:tl|br|ct)_(?:heat|tag|off))$')
    found = {m[1]: key for key in golden.arrays if (m := pattern.match(key))}
    return outputs_type(**keypoints({name: golden.tensor(key) for name, key in found.items()}))


def _pairing(golden: GoldenFile) -> dict:
    return {
        'topk': golden.number('K'),
        'num_dets': golden.number('num_dets'),
        'ae_threshold': round(float(golden.array('ae_threshold')), 6),
    }


def _compare_pairs(golden: GoldenFile, key: str, count: str, pairs: CornerPairs) -> None:
    """The rows of every image that were not rejected; the order of equal scores is free."""
    golden.compare(count, pairs.valid.sum(1))
    for image, instances in enumerate(pairs.instances()):
        rows = _rows(instances, 7)
        wanted = golden.array(key)[image][: golden.array(count)[image]]
        _compare_sets(golden, f'{key}[{image}]', rows, wanted, (PIXELS,) * 4 + (SCORE,) * 4)


def _compare_instances(
    golden: GoldenFile, rows: str, labels: str, instances: InstanceData, columns: int
) -> None:
    wanted = np.concatenate((golden.array(rows), golden.array(labels)[:, None]), 1)
    tolerances = (PIXELS,) * 4 + (SCORE,) * (columns - 4) + (SCORE,)
    _compare_sets(golden, f'{rows}, {labels}', _rows(instances, columns), wanted, tolerances)


def _rows(instances: InstanceData, columns: int) -> Tensor:
    """x1, y1, x2, y2, score, (tl, br,) class."""
    names = ('scores', 'tl_scores', 'br_scores')[: columns - 4]
    fields = [instances[name][:, None] for name in (*names, 'labels')]
    return torch.cat((instances.bboxes, *fields), 1)


def _compare_sets(
    golden: GoldenFile, quantity: str, got: Tensor, wanted: np.ndarray, tolerances: tuple
) -> None:
    """Each golden row against the nearest free row of ours, in units of the tolerances."""
    have = got.detach().double().numpy()
    if len(have) != len(wanted):
        message = f'{quantity}: {len(have)} rows instead of {len(wanted)}'
        golden.rows.append(Row(golden.name, message, np.inf, np.inf, 'same number', False))
        return
    free, worst, units = np.ones(len(have), bool), 0.0, 0.0
    for row in wanted.astype(np.float64):
        distance = np.abs(have - row)
        distance[have == row] = 0  # infinite zooms of empty boxes
        scaled = np.where(free, (distance / tolerances).max(1), np.inf)
        best = int(scaled.argmin())
        free[best] = False
        worst, units = max(worst, float(distance[best].max())), max(units, float(scaled[best]))
    tolerance = f'px {PIXELS:g}, score {SCORE:g}'
    golden.rows.append(Row(golden.name, quantity, worst, units, tolerance, units <= 1))
