"""Forward passes of the anchor and YOLO families against the official networks' outputs.

The golden weights are converted like a published file: a `.weights` file is written and read back
for darknet's networks; official names go through the converter for the PyTorch ones.
"""

from __future__ import annotations

import json
import re
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from mmdet_losses.detectors.anchor.checkpoints import background_last
from mmdet_losses.detectors.checkpoints import LAYOUTS
from mmdet_losses.detectors.yolo.checkpoints import split_scaled_yolov4
from mmdet_losses.detectors.yolo.maps import split_level
from mmdet_losses.ops import box_center, box_size
from mmdet_losses.registry import TASK_UTILS
from tools.parity.models import (
    Outputs,
    Shapes,
    compare_outputs,
    load,
    make_inputs,
    make_weights,
    recipe,
)
from tools.parity.rows import Row
from tools.parity.yolo import layer_output

DARKNET_CONFIGS = {
    'yolov1': 'yolov1/yolov1_extraction_8xb8-155e_voc0712.py',
    'yolov2': 'yolov2/yolov2_d19_8xb8-ms-273e_coco.py',
    'yolov3': 'yolov3/yolov3_d53_8xb8-ms-608-273e_coco.py',
    'yolov3-spp': 'yolov3/yolov3_d53-spp_8xb8-ms-608-273e_coco.py',
    'yolov4': 'yolov4/yolov4_csp53_8xb8-ms-608-273e_coco.py',
    'yolov4-csp': 'yolov4/yolov4-csp_8xb8-640-273e_coco.py',
    'yolov4x-mish': 'yolov4/yolov4x-mish_8xb8-640-273e_coco.py',
    'yolov4-p5': 'yolov4/yolov4-p5_8xb8-896-273e_coco.py',
    'yolov4-p6': 'yolov4/yolov4-p6_8xb8-1280-273e_coco.py',
}
"""Name of the official cfg -> config."""
SAME_LAYERS = {'yolov2-voc': 'yolov2'}
"""cfg -> the one whose layers it has, but for its number of classes."""


def check_model(folder: Path) -> list[Row] | None:
    """Compare every stored output of a folder; None where no network of ours is meant.

    ``max_rel`` and ``tolerance`` are in standard deviations of the golden tensor.
    """
    folder = Path(folder)
    meta = json.loads((folder / 'meta.json').read_text())
    keys = json.loads((folder / 'keys.json').read_text())
    name = meta.get('network', folder.name)
    name = SAME_LAYERS.get(name, name)
    if 'header' in meta and name in DARKNET_CONFIGS:
        run = _run_darknet
    elif name.startswith('ssd'):
        run = _run_ssd
    elif name.startswith('scaled_yolov4'):
        run = _run_scaled
    elif name == 'yolov4_pytorch':
        run = _run_yolov4_pytorch
    else:
        return None
    with torch.no_grad():
        outputs = run(name, keys, meta)
    return compare_outputs(folder, meta, outputs)


def forward(model: nn.Module, image: Tensor) -> tuple:
    """Backbone, neck where there is one, predictor."""
    feats = model['backbone'](image)
    if 'neck' in model:
        feats = model['neck'](feats)
    return model['bbox_head']['predictor'](feats)


# ---------------------------------------------------------------------------------- darknet


def _run_darknet(name: str, keys: Shapes, meta: dict) -> Outputs:
    encoder = TASK_UTILS.build(recipe(DARKNET_CONFIGS[name]).bbox_head.encoder)
    config = recipe(DARKNET_CONFIGS[name], _darknet_changes(name, keys))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f'{name}.weights'
        _write_golden(path, make_weights(keys, meta), meta['header'])
        model = load(LAYOUTS['darknet'], config, path)
    outputs = forward(model, make_inputs(meta)['image'])
    heads = sorted({int(key.split('_')[1]) for key in meta['outputs']})
    if name == 'yolov1':
        vector = torch.cat([outputs.cls.permute(0, 2, 3, 1).flatten(1), *_v1_boxes(outputs)], 1)
        return {f'{when}_{heads[0]}': vector[..., None, None] for when in ('pre', 'post')}
    found: Outputs = {}
    for level, (head, level_map) in enumerate(zip(heads, outputs.levels, strict=True)):
        raw = split_level(level_map, len(encoder.anchors[level]))
        found[f'pre_{head}'] = level_map.sigmoid() if encoder.squared else level_map
        if name == 'yolov2':  # cell-major, with raw x, y
            obj, cls = encoder.scores(raw)
            parts = torch.cat((raw.xy, raw.wh, obj.unsqueeze(2), cls), 2)
            found[f'post_{head}'] = parts.permute(0, 3, 1, 2)
        else:
            grid = encoder.grid(level, tuple(level_map.shape[2:]), (1, 1), raw.xy)
            found[f'post_{head}'] = layer_output(encoder, raw, grid)
    return found


def _darknet_changes(name: str, keys: Shapes) -> dict:
    head, last = 'bbox_head.predictor', keys[next(reversed(keys))][0]
    if name == 'yolov1':
        _, height, width = next(
            shape for key, shape in keys.items() if re.fullmatch(r'local\d+\.bias', key)
        )
        return {f'{head}.num_classes': last // 49 - 15, f'{head}.feat_size': (height, width)}
    encoder = TASK_UTILS.build(recipe(DARKNET_CONFIGS[name]).bbox_head.encoder)
    return {f'{head}.num_classes': last // len(encoder.anchors[-1]) - 5}


def _write_golden(path: Path, weights: Mapping[str, Tensor], header: dict) -> None:
    kind = '<3iQ' if header['bytes'] == 20 else '<3iI'
    with path.open('wb') as file:
        file.write(struct.pack(kind, *(header[k] for k in ('major', 'minor', 'revision', 'seen'))))
        for value in weights.values():
            file.write(value.numpy().astype('<f4').tobytes())


def _v1_boxes(outputs: tuple) -> tuple[Tensor, Tensor]:
    conf = outputs.conf.permute(0, 2, 3, 1).flatten(1)
    return conf, outputs.box.permute(0, 3, 4, 1, 2).flatten(1)


# ------------------------------------------------------------------------------------- PyTorch


def ssd_pattern(size: int, data: str) -> str:
    """The config of ssd.pytorch's network; SSD300 on VOC also has a recipe of Caffe's."""
    return f'ssd/ssd{size}_vgg16{"" if size == 300 else "*"}_*_{data}.py'


def _run_ssd(name: str, keys: Shapes, meta: dict) -> Outputs:
    """Outputs of every input; those of an input ``image<suffix>`` have its suffix, too."""
    size = int(re.match(r'ssd(\d+)', name)[1])
    num_classes = keys['conf.0.weight'][0] // 4 - 1
    data = 'coco' if num_classes == 80 else 'voc0712'
    config = recipe(ssd_pattern(size, data), _classes(num_classes))
    model = load(LAYOUTS['ssd_pytorch'], config, background_last(make_weights(keys, meta)))
    encoder = TASK_UTILS.build(config.bbox_head.encoder)
    found: Outputs = {}
    for image_name, image in make_inputs(meta).items():
        outputs = forward(model, image)
        cls, loc = (
            torch.cat([each.permute(0, 2, 3, 1).reshape(len(image), -1, width) for each in maps], 1)
            for maps, width in ((outputs.cls, num_classes + 1), (outputs.box, 4))
        )
        priors = encoder.priors(encoder.feat_sizes(outputs), (size, size))
        cells = [level.cxcywh().unflatten(0, (level.shape[0], -1)) for level in priors]
        rows = torch.cat([level.transpose(0, 1).flatten(0, 1) for level in cells])
        suffix = image_name.removeprefix('image')
        values = dict(loc=loc, conf=cls.roll(1, dims=2), priors=rows)
        found |= {f'{key}{suffix}': value for key, value in values.items()}
        found |= {f'{image_name}.{key}': value for key, value in values.items()}
    return found


def _classes(number: int) -> dict:
    return {f'bbox_head.{part}.num_classes': number for part in ('predictor', 'encoder')}


def _run_scaled(name: str, keys: Shapes, meta: dict) -> Outputs:
    pattern = f'scaled_yolov4/{name}_*-300e-*.py'
    anchors = len(recipe(pattern).bbox_head.encoder.anchors[0])
    model = recipe(pattern, _classes(keys[next(reversed(keys))][0] // anchors - 5))
    source = split_scaled_yolov4(make_weights(keys, meta))
    image = make_inputs(meta)['image']
    outputs = forward(load(LAYOUTS['scaled_yolov4'], model, source), image)
    found = {f'raw_{k}': level for k, level in enumerate(outputs.levels)}
    encoder = TASK_UTILS.build(model.bbox_head.encoder)
    boxes, objectness, scores = encoder.decode_all(outputs, image.shape[2:])
    boxes = torch.cat([box_center(boxes), box_size(boxes)], dim=2)
    return {**found, 'decoded': torch.cat([boxes, objectness[..., None], scores], dim=2)}


def _run_yolov4_pytorch(name: str, keys: Shapes, meta: dict) -> Outputs:
    model = recipe(DARKNET_CONFIGS['yolov4'], _darknet_changes('yolov4', keys))
    network = load(LAYOUTS['yolov4_pytorch'], model, make_weights(keys, meta))
    levels = forward(network, make_inputs(meta)['image']).levels
    return {f'raw_{k}': level for k, level in enumerate(levels)}
