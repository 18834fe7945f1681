"""A config with a ``DarknetFromCfg`` network as a darknet cfg: the inverse of the import."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.config import Config, ConfigDict

from mmdet_losses.detectors.yolo.darknet_loss import DarknetLoss
from mmdet_losses.detectors.yolo.gaussian_yolo_loss import GaussianYOLOLoss
from mmdet_losses.detectors.yolo.yolov1_loss import YOLOV1Loss
from mmdet_losses.detectors.yolo.yolov2_loss import YOLOV2Loss
from mmdet_losses.networks.darknet_from_cfg import HEADS, DarknetFromCfg, layer_shape
from mmdet_losses.registry import MODELS, TASK_UTILS

Options = dict[str, Any]


def export_cfg(cfg: Config, network: DarknetFromCfg) -> str:
    """The text of a cfg.

    Args:
        cfg: the config of the detector. Training options are written as far as it has darknet's
            transforms, optimizer and schedule.
        network: its backbone.
    """
    test = _first(cfg, 'test_dataloader', 'DarknetLetterBox', 'DarknetResize')
    height, width = cfg.model.backbone.get('size', (416, 416))
    width, height = test.get('size', (width, height))
    sections = [('net', _net(cfg, width, height))]
    heads = _heads(cfg, network, width, height)
    squared = cfg.model.bbox_head.encoder.get('squared', False)
    for index, row in enumerate(network.table):
        if row['type'] in HEADS:
            sections.append((row['type'], next(heads)))
        else:
            options = _layer(index, row)
            if squared and index + 1 in network.heads:
                options['activation'] = 'logistic'  # [yolo] with new_coords reads sigmoids
            sections.append((row['type'], options))
    return '\n'.join(_section(kind, options) for kind, options in sections)


def _section(kind: str, options: Options) -> str:
    lines = (f'{key}={_text(value)}\n' for key, value in options.items())
    name = kind.capitalize() if kind == 'gaussian_yolo' else kind
    return f'[{name}]\n{"".join(lines)}'


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, list | tuple):
        return ','.join(map(_text, value))
    if isinstance(value, float) and value == int(value):
        return str(int(value))
    return str(value)


def _first(cfg: Config, loader: str, *types: str) -> ConfigDict:
    """The first transform of one of these types in a loader; empty if there is none."""
    pipeline = cfg.get(loader, ConfigDict()).get('dataset', ConfigDict()).get('pipeline') or []
    return next((each for each in pipeline if each['type'] in types), ConfigDict())


# ------------------------------------------------------------------------------------- [net]


def _net(cfg: Config, width: int, height: int) -> Options:
    batch = cfg.get('train_dataloader', ConfigDict()).get('batch_size', 1)
    wrapper = cfg.get('optim_wrapper', ConfigDict())
    parts = wrapper.get('accumulative_counts', 1)
    options: Options = dict(
        batch=batch * parts, subdivisions=parts, width=width, height=height, channels=3
    )
    optimizer = wrapper.get('optimizer', ConfigDict())
    if optimizer.get('type') == 'SGD':
        options |= dict(
            momentum=optimizer.get('momentum', 0),
            decay=optimizer.get('weight_decay', 0),
            learning_rate=optimizer.lr,
        )
    colors = _first(cfg, 'train_dataloader', 'RedmonColors', 'DarknetMosaic', 'DarknetJitter')
    for option in ('hue', 'saturation', 'exposure'):
        if option in colors:
            options[option] = colors[option]
    if colors.get('flip') is False:
        options['flip'] = 0
    if colors.get('type') == 'DarknetMosaic':
        options['mosaic'] = 1
    alexeyab = cfg.model.bbox_head.encoder.get('code') == 'alexeyab'
    if alexeyab and _first(cfg, 'test_dataloader', 'DarknetLetterBox'):
        options['letter_box'] = 1
    return options | _schedule(cfg, parts)


def _schedule(cfg: Config, subdivisions: int) -> Options:
    rates = [each for each in cfg.get('param_scheduler') or [] if each['type'] == 'DarknetLR']
    options: Options = {}
    for rate in rates:
        options |= dict(burn_in=rate.get('burn_in', 0), power=rate.get('power', 4))
        options['policy'] = 'steps' if rate.get('steps') else 'constant'
        if rate.get('steps'):
            options |= dict(steps=rate.steps, scales=rate.scales)
    iterations = cfg.get('train_cfg', ConfigDict()).get('max_iters')
    if iterations:
        options['max_batches'] = iterations // subdivisions
    for hook in cfg.get('custom_hooks') or []:
        if hook['type'] == 'DarknetEMAHook':
            options['ema_alpha'] = hook.get('alpha', 0.9998)
    return options


# ------------------------------------------------------------------------------------- layers


def _layer(index: int, row: dict[str, Any]) -> Options:
    """The options of a row of the table; sources are written relative to the layer."""
    kind = row['type']
    options = {key: value for key, value in row.items() if key not in ('type', 'layers', 'padding')}
    if kind in ('convolutional', 'local'):
        options.setdefault('stride', 1)
        if row.get('padding', row['size'] // 2) == row['size'] // 2:
            options['pad'] = 1
        else:
            options['padding'] = row['padding']
    elif kind == 'maxpool' and row['padding'] != row['size'] - 1:
        options['padding'] = row['padding']
    if 'layers' in row:
        name = 'layers' if kind == 'route' else 'from'
        options = {name: [source - index for source in row['layers']], **options}
    return options


# -------------------------------------------------------------------------------------- heads


def _heads(cfg: Config, network: DarknetFromCfg, width: int, height: int) -> Iterator[Options]:
    """The options of the detection layers, in their order."""
    head = cfg.model.bbox_head
    encoder, criterion = TASK_UTILS.build(head.encoder), MODELS.build(head.criterion)
    training = _training(cfg, encoder)
    if isinstance(criterion, YOLOV1Loss):
        yield _detection(head, encoder, criterion) | training
    elif isinstance(criterion, YOLOV2Loss):
        shapes: list[tuple[int, int, int]] = []
        for index, row in enumerate(network.table):
            shapes.append(layer_shape(index, row, (shapes or [(3, height, width)])[-1], shapes))
        stride = width / shapes[network.heads[0]][2]
        yield _region(encoder, criterion, stride) | training
    elif isinstance(criterion, DarknetLoss):
        listed, masks = _listed(encoder)
        for index, mask in enumerate(masks):
            options: dict[str, Any] = dict(mask=mask)
            options |= dict(anchors=[side for pair in listed for side in pair])
            options |= dict(classes=encoder.num_classes, num=len(listed))
            options |= _yolo(index, len(masks), encoder, criterion, head.criterion)
            yield options | _nms(cfg) | training
    else:
        raise ValueError(
            f'{head.criterion.type} has no detection layer in darknet; choose a config with '
            'YOLOV1Loss, YOLOV2Loss, YOLOV3Loss, YOLOV4Loss or GaussianYOLOLoss.'
        )


def _training(cfg: Config, encoder: Any) -> Options:
    """Options of the training input, which every detection layer repeats."""
    place = _first(
        cfg, 'train_dataloader', 'RedmonPlace', 'RedmonCrop', 'DarknetMosaic', 'DarknetJitter'
    )
    options: Options = {}
    if 'jitter' in place:
        options['jitter'] = place.jitter
    if place.get('resize', 1) != 1:
        options['resize'] = place.resize
    if cfg.get('train_dataloader', ConfigDict()).get('batch_sampler'):
        options['random'] = 1
    limit = getattr(encoder, 'max_objects', None)
    if limit is not None and limit != {'redmon': 90, 'alexeyab': 200}[encoder.code]:
        options['max'] = limit
    return options


def _listed(encoder: Any) -> tuple[list[Sequence[float]], list[Sequence[int]]]:
    """All anchors and the masks of the maps; without masks the smallest anchor is first."""
    if encoder.masks is not None:
        return list(encoder.all_anchors), list(encoder.masks)
    flat = [anchor for level in encoder.anchors for anchor in level]
    order = sorted(range(len(flat)), key=lambda i: flat[i][0] * flat[i][1])
    numbers = iter(sorted(range(len(flat)), key=order.__getitem__))
    return [flat[i] for i in order], [[next(numbers) for _ in level] for level in encoder.anchors]


def _yolo(
    index: int, count: int, encoder: Any, criterion: DarknetLoss, config: ConfigDict
) -> Options:
    options: Options = dict(
        ignore_thresh=criterion.ignore_threshold, truth_thresh=criterion.truth_threshold
    )
    if encoder.class_map is not None:
        raise ValueError('class_map is a file in darknet; remove class_map to export the network.')
    gaussian = isinstance(criterion, GaussianYOLOLoss)
    if gaussian:
        options |= dict(yolo_point=encoder.point, uc_normalizer=criterion.uc_normalizer)
    if criterion.code == 'redmon':
        return options
    layer = criterion.options_of(index, count)
    options |= dict(
        scale_x_y=encoder.scale_xy[index],
        iou_thresh=encoder.iou_threshold,
        iou_loss=criterion.box,
        iou_normalizer=layer.iou_normalizer,
        obj_normalizer=layer.obj_normalizer,
        cls_normalizer=criterion.cls_normalizer,
        label_smooth_eps=criterion.label_smoothing,
    )
    if not gaussian:
        options |= dict(
            objectness_smooth=layer.objectness_smooth,
            focal_loss=criterion.focal,
            new_coords=encoder.squared,
        )
    if layer.max_delta is not None:
        options['max_delta'] = layer.max_delta
    if config.get('class_counters') and layer.counted:
        options['counters_per_class'] = config.class_counters
    return options


def _nms(cfg: Config) -> Options:
    nms = cfg.model.test_cfg.nms
    if nms.get('kind') != 'diou':
        return {}
    beta = nms.get('beta', 0.6)
    return dict(nms_kind='greedynms' if beta == 0.6 else 'diounms', beta_nms=beta)


def _region(encoder: Any, criterion: YOLOV2Loss, stride: float) -> Options:
    if encoder.tree is not None:
        raise ValueError('tree is a file in darknet; remove tree to export the network.')
    pairs = [side for pair in encoder.anchors[0] for side in pair]
    return dict(
        anchors=[round(side / stride, 6) for side in pairs],
        classes=encoder.num_classes,
        coords=4,
        num=len(encoder.anchors[0]),
        softmax=criterion.softmax,
        background=criterion.background,
        bias_match=criterion.match_shape,
        rescore=criterion.rescore,
        object_scale=criterion.object_scale,
        noobject_scale=criterion.no_object_scale,
        class_scale=criterion.class_scale,
        coord_scale=criterion.coord_scale,
        thresh=criterion.ignore_threshold,
    )


def _detection(head: ConfigDict, encoder: Any, criterion: YOLOV1Loss) -> Options:
    return dict(
        classes=encoder.num_classes,
        coords=4,
        side=head.predictor.get('side', 7),
        num=encoder.num_boxes,
        softmax=encoder.softmax,
        sqrt=encoder.square_root,
        rescore=criterion.rescore,
        forced=criterion.forced,
        random=criterion.random,
        object_scale=criterion.object_scale,
        noobject_scale=criterion.no_object_scale,
        class_scale=criterion.class_scale,
        coord_scale=criterion.coord_scale,
    )
