"""Networks of darknet's cfg files: forward passes, and detections of official checkpoints.

Images, cfgs and weights are in ``data/darknet``. A JPEG is decoded as darknet does; of other kinds
of JPEG the lossless copy (`.png`) is read.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from mmdet.models import DetDataPreprocessor
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet_losses.core import postprocess
from mmdet_losses.data.darknet_jpeg import UnsupportedJpeg, decode_jpeg
from mmdet_losses.detectors.yolo import YOLOV3Outputs, YOLOV3TargetEncoder
from mmdet_losses.detectors.yolo.cells import Grid
from mmdet_losses.detectors.yolo.darknet_cfg import Section, layer_table, parse_cfg
from mmdet_losses.detectors.yolo.darknet_files import layers_in_order, read_darknet_weights
from mmdet_losses.detectors.yolo.maps import RawLevel, join_level, split_level
from mmdet_losses.networks import DarknetFromCfg
from mmdet_losses.registry import TRANSFORMS
from tools.parity.golden import Case, Check
from tools.parity.models import TOLERANCE, make_inputs, make_weights
from tools.parity.yolo_decode import after_nms, cell_major

ROOT = Path(__file__).resolve().parents[2]
LOWEST, OVERLAP = 0.005, 0.45
"""Least objectness of ``det_*`` and the NMS threshold of both programs."""
PROBABILITY, PIXELS, LOGIT, INPUT = 5e-5, 5e-3, 1e-3, 1e-6
"""Tolerances of the golden data's README; of the input: float32 rounding."""

NONE = 'the program finds nothing, and ours neither'


def darknet_data(path: Path) -> Path:
    """``data/darknet`` above a golden file, or in ``shared`` of the project or beside it.

    Raises:
        FileNotFoundError: there is none.
    """
    above = [*path.resolve().parents, ROOT / 'shared', ROOT.parent / 'shared']
    for folder in above:
        if (folder / 'data' / 'darknet').is_dir():
            return folder / 'data' / 'darknet'
    raise FileNotFoundError(f'There is no data/darknet above {path}; put images and cfgs there.')


def cfg_forward(case: Case) -> None:
    """Mean and standard deviation of every layer, inputs and outputs of the detection layers.

    The cfg is ``data/darknet/cfg/<name>.cfg``.
    """
    name = case.file.name.removeprefix('cfg_forward_')
    cfg = darknet_data(case.file.path) / 'cfg' / f'{name}.cfg'
    height, width = case.size('input_hw')
    eps = 1e-6 if str(case['cfg']).startswith('pjreddie') else 1e-5
    sections = parse_cfg(cfg.read_text())
    network = DarknetFromCfg(
        layer_table(sections), (height, width), norm_cfg=dict(type='BN', eps=eps)
    ).eval()
    meta = dict(
        weights_seed=int(case['weights_seed']),
        scale=json.loads(str(case['scale'])),
        input_seed=int(case['input_seed']),
        inputs={'image': {'shape': (1, 3, height, width)}},
    )
    weights = make_weights(json.loads(str(case['keys'])), meta)
    case.compare('floats', sum(value.numel() for value in weights.values()))
    fill(network, list(weights.values()))
    image = make_inputs(meta)['image']
    case.compare('input_first', image.flatten()[:8])
    traced: dict[int, Tensor] = {}
    for index, layer in enumerate(network.layers):
        layer.register_forward_hook(
            lambda module, inputs, output, index=index: traced.update({index: output})
        )
    with torch.no_grad():
        outputs = network(image)
    case.compare('heads', np.array(network.heads))
    for head, output in zip(network.heads, outputs, strict=True):
        # sizes are logits before and after, so both arrays have the tolerance of the logits
        atol = TOLERANCE * float(case[f'pre_{head}'].std())
        case.compare(f'pre_{head}', output[0], atol=atol)
        case.compare(f'post_{head}', head_output(sections[head + 1], output)[0], atol=atol)
    case.skip('the sections of the cfg', 'layer_types')
    spread = np.full(case['trace'].shape, np.nan)
    for index, values in traced.items():
        spread[index] = float(values.mean()), float(values.std(correction=0))
    where = ~np.isnan(spread[:, 0])
    case.compare('trace', spread, where=where, atol=TOLERANCE * case['trace'][where].std())


def head_output(head: Section, level: Tensor) -> Tensor:
    """Output (B, A * (5 + C), H, W) of a [yolo] layer, or of Redmon's [region] layer."""
    region = head.type == 'region'
    count = head.number('num', 1) if region else len(head.text('mask', '0').split(','))
    raw, scale = split_level(level, count), float(head.text('scale_x_y', '1'))
    size = tuple(level.shape[2:])
    if head.number('new_coords', 0):  # the convolution before has the sigmoid
        xy = raw.xy * scale - (scale - 1) / 2
        return join_level(raw._replace(xy=xy), size)
    cls = raw.cls.softmax(2) if region else raw.cls.sigmoid()
    place = Grid(torch.ones(count, 2), size, scale).every()
    return join_level(RawLevel(place.offset(raw.xy), raw.wh, raw.obj.sigmoid(), cls), size)


def fill(network: DarknetFromCfg, values: list[Tensor]) -> None:
    """Copy tensors, in the order of darknet's files, into a network."""
    holder = torch.nn.ModuleDict({'backbone': network})
    keys = [key for layer in layers_in_order(holder, ('backbone',)) for key in layer.keys]
    state = holder.state_dict()
    with torch.no_grad():
        for key, value in zip(keys, values, strict=True):
            state[key].copy_(value.reshape(state[key].shape))


class Program(NamedTuple):
    """An official checkpoint and how its program treats images."""

    network: DarknetFromCfg
    heads: list[Section]
    encoder: YOLOV3TargetEncoder
    transform: str
    nms: dict[str, Any]
    names: list[str]


@cache
def load_program(cfg: Path, redmon: bool) -> Program:
    """The network of a cfg with the weights beside it."""
    sections = parse_cfg(cfg.read_text())
    norm_cfg = dict(type='BN', eps=1e-6 if redmon else 1e-5)
    network = DarknetFromCfg(layer_table(sections), norm_cfg=norm_cfg).eval()
    holder = nn.ModuleDict({'backbone': network})
    state = read_darknet_weights(cfg.with_suffix('.weights'), holder, ('backbone',))
    holder.load_state_dict(state, strict=False)
    heads = [section for section in sections if section.type == 'yolo']
    encoder = YOLOV3TargetEncoder(
        int(heads[0].text('classes', '20')),
        [_anchors(head) for head in heads],
        scale_xy=[float(head.text('scale_x_y', '1')) for head in heads],
        score_thr=LOWEST,
        topk=None,
    )
    transform = 'DarknetLetterBox' if redmon else 'DarknetResize'
    names = (cfg.parent / 'coco.names').read_text().splitlines()
    return Program(network, heads, encoder, transform, _nms(heads[-1]), names)


def _anchors(head: Section) -> list[tuple[float, float]]:
    pairs = np.array(head.text('anchors', '').split(','), float).reshape(-1, 2)
    return [tuple(pairs[int(each)]) for each in head.text('mask', '0').split(',')]


def _nms(head: Section) -> dict[str, Any]:
    kind = head.text('nms_kind', 'default')
    if kind == 'default':
        return dict(type='nms', iou_threshold=OVERLAP)
    beta = 0.6 if kind == 'greedynms' else float(head.text('beta_nms', '0.6'))
    return dict(type='darknet_nms', iou_threshold=OVERLAP, kind='diou', beta=beta)


def detections(case: Case) -> None:
    """Preprocessing, network outputs, boxes, NMS and printed lines of an image."""
    printed = [rows for key, rows in case.file.arrays.items() if key.endswith('printed_25')]
    redmon = not any('left_x' in str(row) for rows in printed for row in rows)  # no -ext_output
    data = darknet_data(case.file.path)
    name = case.file.name.removeprefix('real_').replace('_', '-')
    program = load_program(data / f'{name}.cfg', redmon)
    file = data / str(case['file'])
    image = _read(file)
    checksum, shape = np.array(posix_checksum(file.read_bytes())), np.array(image.shape[1::-1])
    case.table({'cksum': checksum, 'im_wh': shape, 'pixels_sub16': image[::16, ::16, ::-1]})
    results = dict(img=image, ori_shape=image.shape[:2])
    transform = TRANSFORMS.build(dict(type=program.transform, size=case.size('net_wh')))
    results = transform.transform(results)
    inputs = torch.from_numpy(results['img']).permute(2, 0, 1)
    preprocessor = DetDataPreprocessor([0] * 3, [255] * 3, bgr_to_rgb=True)
    batch = preprocessor(dict(inputs=[inputs], data_samples=None))['inputs']
    spread = batch.double().mean(), batch.double().std(correction=0)
    table = {'input_sub8': batch[0, :, ::8, ::8], 'input_mean_std': torch.stack(spread)}
    case.table(table, 0.0, atol=INPUT)
    with torch.no_grad():
        maps = program.network(batch)
    for level, index in enumerate(program.network.heads):
        after = head_output(program.heads[level], maps[level])
        before, sample = maps[level][0], maps[level].flatten()[::4]
        table = {f'pre_{index}': before, f'pre_{index}.sample': sample}
        case.table({**table, f'post_{index}.sample': after.flatten()[::28]}, 0.0, atol=LOGIT)
    _compare_detections(case, program, YOLOV3Outputs(maps), results)


def _read(file: Path) -> np.ndarray:
    try:
        return decode_jpeg(file.read_bytes())
    except UnsupportedJpeg:
        return cv2.imread(str(file.with_suffix('.png')))


def _compare_detections(
    case: Case, program: Program, outputs: YOLOV3Outputs, results: dict
) -> None:
    """Boxes with an objectness above :data:`LOWEST`, their probabilities, NMS, printed lines."""
    found = predictions(program.encoder, outputs, results)
    pixels, prob = found.pixels, found.prob
    width, height = case.size('im_wh')
    corners = (pixels[:, :2] + pixels[:, 2:]) / 2, pixels[:, 2:] - pixels[:, :2]
    fractions = torch.cat(corners, 1) / torch.tensor([width, height] * 2)
    case.compare('det_box', pixels, atol=PIXELS)
    case.compare('det_box_frac', fractions, atol=PIXELS / max(width, height))
    case.compare('det_obj', found.objects, atol=PROBABILITY)
    listed = torch.where(prob > LOWEST, prob, 0)
    undecided = (prob - LOWEST).abs() < PROBABILITY
    case.compare('det_prob', listed, atol=PROBABILITY, where=~undecided.numpy())
    # NMS of the golden boxes: a rounding can change the winner of two equal predictions
    boxes = _to_input(case.tensor('det_box'), results)
    config = dict(score_thr=LOWEST, nms=program.nms)
    case.compare('det_prob_nms', after_nms(boxes, case.tensor('det_prob'), config))
    limits = np.array([0, PROBABILITY, *[PIXELS] * 4])
    case.compare('final', listed_pairs(found, program.nms, 0.25), atol=limits, empty=NONE)
    for key in ('printed_25', 'printed_50'):
        _compare_printed(case, key, found, program)


class Found(NamedTuple):
    """Predictions of an image in the order of the program: level, row, column, anchor."""

    boxes: Tensor
    """(n, 4) xyxy in pixels of the network input."""
    pixels: Tensor
    """(n, 4) xyxy in pixels of the image."""
    objects: Tensor
    prob: Tensor
    """(n, C) objectness times class score."""


def predictions(encoder: YOLOV3TargetEncoder, outputs: YOLOV3Outputs, results: dict) -> Found:
    """All predictions whose objectness is above :data:`LOWEST`."""
    decoded = encoder.decode_all(outputs, results['img_shape'])
    counts = [len(level) for level in encoder.anchors]
    sizes = [tuple(level.shape[2:]) for level in outputs.levels]
    numbers = [count * h * w for count, (h, w) in zip(counts, sizes, strict=True)]
    boxes, objects, classes = (
        torch.cat(
            [
                cell_major(part, count, size)
                for part, count, size in zip(values.split(numbers, 1), counts, sizes, strict=True)
            ]
        )
        for values in decoded
    )
    kept = objects > LOWEST
    boxes, objects = boxes[kept], objects[kept]
    same = InstanceData(bboxes=boxes, scores=torch.ones(len(boxes)))
    pixels = postprocess(same, results, {}, rescale=True).bboxes
    return Found(boxes, pixels, objects, classes[kept] * objects[:, None])


def _to_input(pixels: Tensor, results: dict) -> Tensor:
    """The inverse of the rescaling: boxes in pixels of the network input."""
    top, _, left, _ = results.get('border', (0, 0, 0, 0))
    return pixels * torch.tensor(results['scale_factor'] * 2) + torch.tensor([left, top] * 2)


def listed_pairs(found: Found, nms: dict[str, Any], score_thr: float) -> Tensor:
    """(m, 6) class, probability, box of the pairs after NMS, in the order of the program.

    The program sorts its boxes by the probability of each class in turn, also of classes that NMS
    drops; the last class decides.
    """
    kept = after_nms(found.boxes, found.prob, dict(score_thr=score_thr, nms=nms))
    above = torch.where(found.prob > score_thr, found.prob, 0)
    order = torch.arange(len(above))
    for column in above.t():
        order = order[column[order].argsort(descending=True, stable=True)]
    row, label = kept[order].nonzero(as_tuple=True)
    row = order[row]
    return torch.cat((label[:, None], kept[row, label][:, None], found.pixels[row]), 1)


def _compare_printed(case: Case, key: str, found: Found, program: Program) -> None:
    """Class and percentage of every line, and the box where the program prints it."""
    lines = [str(line) for line in case[key]]
    want = np.array([_numbers(line, program.names) for line in lines]).reshape(len(lines), -1)
    got = listed_pairs(found, program.nms, int(key[-2:]) / 100)
    if want.shape[1] > 2:
        got = _by_left_edge(got)
    x1, y1, x2, y2 = got[:, 2:].t()
    columns = torch.stack((got[:, 0], got[:, 1] * 100, x1, y1, x2 - x1, y2 - y1), 1)
    # half a unit is the rounding of the program
    limits = np.array([0, 0.5 + 100 * PROBABILITY, *[0.5 + PIXELS] * 4])[: want.shape[1]]
    case.compare(key, columns[:, : want.shape[1]], want=want, atol=limits, empty=NONE)


def _numbers(line: str, names: list[str]) -> list[float]:
    """Class, percentage and, where printed, left, top, width, height."""
    name, _, rest = line.partition(': ')
    return [names.index(name), *(float(each) for each in re.findall(r'-?\d+', rest))]


def _by_left_edge(rows: Tensor) -> Tensor:
    """Rows by the left edge of their box; of one box the best class, then the others in order."""
    rows = rows[rows[:, 0].argsort(stable=True)]
    same = (rows[:, None, 2:] == rows[:, 2:]).all(-1)
    behind = (rows[:, 1] > rows[:, 1, None]) & same
    rows = rows[behind.any(1).long().argsort(stable=True)]
    return rows[rows[:, 2].argsort(stable=True)]


def posix_checksum(data: bytes) -> list[int]:
    """Checksum and number of bytes, as ``cksum`` prints them."""
    table, crc, length = [], 0, len(data)
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1) ^ (0x104C11DB7 if value >> 31 else 0)
        table.append(value)
    for byte in data + length.to_bytes((length.bit_length() + 7) // 8, 'little'):
        crc = (crc << 8) & 0xFFFFFFFF ^ table[crc >> 24 ^ byte]
    return [~crc & 0xFFFFFFFF, length]


CHECKS: dict[str, Check] = {'cfg_forward': cfg_forward, 'real_': detections}
