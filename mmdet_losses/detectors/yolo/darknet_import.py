"""A darknet cfg as a complete config of MMDetection."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmdet_losses.detectors.yolo.darknet_cfg import (
    CfgError,
    Section,
    check_shapes,
    layer_table,
    parse_cfg,
)
from mmdet_losses.detectors.yolo.darknet_encoder import Code
from mmdet_losses.detectors.yolo.darknet_heads import Head, import_heads, remarks
from mmdet_losses.networks.darknet_from_cfg import HEADS, values_before_classes

ALEXEYAB_ONLY = {
    'net': 'mosaic letter_box ema_alpha cutmix mixup optimized_memory dynamic_minibatch '
    'max_epochs show_receptive_field contrastive track',
    'yolo': 'scale_x_y iou_thresh iou_loss iou_normalizer obj_normalizer cls_normalizer max_delta '
    'new_coords objectness_smooth label_smooth_eps focal_loss counters_per_class resize nms_kind',
    'gaussian_yolo': '',
    'route': 'groups',
    'convolutional': 'groups dilation',
    'sam': '',
    'scale_channels': '',
}
"""Type of a section -> options that only AlexeyAB's program has; '' for the whole section."""
UNSUPPORTED = {
    'mixup': 0, 'cutmix': 0, 'mosaic_bound': 0, 'blur': 0, 'gaussian_noise': 0, 'adam': 0,
    'track': 0, 'contrastive': 0, 'adversarial_lr': 0, 'train_only_bn': 0, 'time_steps': 1,
    'augment_speed': 1, 'dynamic_minibatch': 0, 'loss_scale': 1, 'num_sigmas_reject_badlabels': 0,
    'badlabels_rejection_percentage': 0, 'equidistant_point': 0, 'batch_normalize': 1,
    'learning_rate_min': 0,
}  # fmt: skip
"""Options of `[net]` that change the training and are not expressed -> their default."""


class Imported(NamedTuple):
    """A cfg in the terms of MMDetection."""

    code: Code
    parts: dict[str, Any]
    """Variables of the config, in their order."""
    notes: list[str]
    """Differences between cfg and config, one message each."""


def import_cfg(
    text: str, code: Code | None = None, names: Sequence[str] | None = None, folder: str = '.'
) -> Imported:
    """The config of a cfg.

    Args:
        text: content of the file.
        code: the program that the cfg is for; None: AlexeyAB's if an option exists only there.
        names: names of the classes; None skips the check of their number.
        folder: of the cfg, for files that it names.

    Raises:
        CfgError: what the config cannot express; the message names section, option and line.
    """
    sections = parse_cfg(text)
    net, heads = sections[0], [each for each in sections if each.type in HEADS]
    if not heads:
        raise CfgError('The cfg has no [yolo], [region] or [detection] layer; nothing to detect.')
    table = layer_table(sections)
    code = code or guess_code(sections)
    _check_net(net)
    shapes = check_shapes(sections, table)
    width = net.number('width', 416)
    strides = [width / shapes[head.index - 1][2] for head in heads]
    head = import_heads(heads, code, strides, Path(folder))
    _check_channels(heads, shapes, head)
    if head.encoder.get('squared'):
        _read_logits(sections, table, heads)
    if names is not None and len(names) != head.predictor['num_classes']:
        raise CfgError(
            f'{heads[0].where("classes")}: the file of names has {len(names)} classes; use that of '
            'this detector.'
        )
    notes = [note for each in heads for note in remarks(each)]
    parts = {
        'model': _model(net, table, head, _frozen(sections)),
        'train_pipeline': _train_pipeline(net, heads[-1], head, code, notes),
        'test_pipeline': _test_pipeline(net, heads[-1], code),
        **_batches(net, heads[-1], code),
        **_schedule(net, notes),
    }
    parts['custom_hooks'] += _unfreezing(sections, net.number('subdivisions', 1))
    return Imported(code, parts, notes)


def guess_code(sections: Sequence[Section]) -> Code:
    """The program that a cfg is for."""
    for section in sections:
        options = ALEXEYAB_ONLY.get(section.type)
        if options == '' or (options and set(options.split()) & section.options.keys()):
            return 'alexeyab'
        if section.text('activation', '') in ('mish', 'swish'):
            return 'alexeyab'
    return 'redmon'


def _check_net(net: Section) -> None:
    for option, default in UNSUPPORTED.items():
        if option in net.options and net.real(option, default) != default:
            raise CfgError(f'{net.where(option)}: this option is not supported; remove it.')
    for option in ('width', 'height'):
        if option not in net.options:
            raise CfgError(f'{net.where()}: {option} is missing; set it to that of the input.')
    if net.number('channels', 3) != 3:
        raise CfgError(f'{net.where("channels")}: only 3 channels are supported; set channels=3.')
    if net.text('policy', 'constant') not in ('constant', 'steps'):
        raise CfgError(f'{net.where("policy")}: this policy is not supported; use steps.')
    if net.number('batch', 1) % net.number('subdivisions', 1):
        raise CfgError(f'{net.where("subdivisions")}: give a divisor of batch.')


def _check_channels(
    heads: Sequence[Section], shapes: Sequence[tuple[int, int, int]], head: Head
) -> None:
    """The layer before a head must have the outputs that the head reads."""
    classes = head.predictor['num_classes']
    for number, section in enumerate(heads):
        channels, height, width = shapes[section.index - 1]
        if section.type == 'detection':
            side, boxes = head.predictor['side'], head.predictor['num_boxes']
            have, want = channels * height * width, side * side * (classes + 5 * boxes)
        else:
            values = values_before_classes(section.type) + classes
            have, want = channels, len(head.encoder['anchors'][number]) * values
        if have != want:
            raise CfgError(
                f'{section.where("classes")}: the layer before has {have} outputs, but this layer '
                f'reads {want}; correct its filters, or classes, num and mask here.'
            )


def _read_logits(
    sections: Sequence[Section], table: list[dict[str, Any]], heads: Sequence[Section]
) -> None:
    """Remove the sigmoid before `[yolo]` layers with ``new_coords``: our encoder applies it."""
    for head in heads:
        last = sections[head.index]  # the layer before; sections[0] is [net]
        if table[head.index - 1].get('activation') != 'logistic':
            raise CfgError(
                f'{last.where("activation")}: a [yolo] layer with new_coords=1 needs '
                'activation=logistic before it.'
            )
        table[head.index - 1]['activation'] = 'linear'


def _frozen(sections: Sequence[Section]) -> int:
    """Number of first layers that ``stopbackward`` freezes at the start."""
    stops = [each for each in sections[1:] if each.number('stopbackward', 0)]
    return stops[-1].index + 1 if stops else 0


def _unfreezing(sections: Sequence[Section], subdivisions: int) -> list[dict[str, Any]]:
    """``stopbackward`` above 1 freezes layers only up to that update."""
    stops = [each for each in sections[1:] if each.number('stopbackward', 0)]
    until = stops[-1].number('stopbackward', 0) if stops else 1
    return [dict(type='UnfreezeHook', iteration=until * subdivisions)] if until > 1 else []


def _model(net: Section, table: list[dict[str, Any]], head: Head, frozen: int) -> dict[str, Any]:
    size = net.number('height', 416), net.number('width', 416)
    backbone: dict[str, Any] = dict(type='DarknetFromCfg', layers=table, size=size)
    if frozen:
        backbone['frozen_stages'] = frozen
    return dict(
        type='SingleStageDetector',
        data_preprocessor=dict(
            type='DetDataPreprocessor',
            mean=[0, 0, 0],
            std=[255, 255, 255],
            bgr_to_rgb=True,
            pad_size_divisor=1,
        ),
        backbone=backbone,
        bbox_head=dict(
            type='EncodedDenseHead',
            predictor=head.predictor,
            encoder=head.encoder,
            criterion=head.criterion,
        ),
        test_cfg=dict(nms=head.nms, score_thr=0.005, clip=True),  # as `detector valid`
    )


def _size(net: Section) -> tuple[int, int]:
    """(w, h) of the input."""
    return net.number('width', 416), net.number('height', 416)


def _colors(net: Section) -> dict[str, float]:
    return dict(
        hue=net.real('hue', 0),
        saturation=net.real('saturation', 1),
        exposure=net.real('exposure', 1),
    )


def _train_pipeline(
    net: Section, last: Section, head: Head, code: Code, notes: list[str]
) -> list[dict[str, Any]]:
    jitter, size, pack = last.real('jitter', 0.2), _size(net), dict(type='PackDetInputs')
    if code == 'redmon' or last.type == 'detection':
        place: dict[str, Any] = dict(type='RedmonCrop', size=size, jitter=jitter)
        if last.type != 'detection':
            place = dict(type='RedmonPlace', size=size, jitter=jitter, max_objects=head.max_objects)
        flip = dict(type='RandomFlip', prob=0.5)
        return [place, flip, dict(type='RedmonColors', **_colors(net)), pack]
    mosaic, letter_box = (bool(net.number(option, 0)) for option in ('mosaic', 'letter_box'))
    options = dict(
        size=size,
        jitter=jitter,
        resize=last.real('resize', 1),
        **_colors(net),
        flip=bool(net.number('flip', 1)),
        max_objects=head.max_objects,
    )
    if mosaic and letter_box:
        notes.append(
            f'{net.where("letter_box")}: darknet does not train with mosaic and letter box '
            'together; the training has the mosaic, the test the letter box.'
        )
    if mosaic:
        return [dict(type='DarknetMosaic', **options), pack]
    return [dict(type='DarknetJitter', letter_box=letter_box, **options), pack]


def _test_pipeline(net: Section, last: Section, code: Code) -> list[dict[str, Any]]:
    boxed = code == 'redmon' and last.type != 'detection'
    boxed = boxed or bool(net.number('letter_box', 0))
    keys = ['img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor']
    return [
        dict(type='LoadImageFromFile'),
        dict(type='DarknetLetterBox' if boxed else 'DarknetResize', size=_size(net)),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='PackDetInputs', meta_keys=tuple([*keys, 'border'] if boxed else keys)),
    ]


def _batches(net: Section, last: Section, code: Code) -> dict[str, Any]:
    """``batch_size`` of a subdivision, and the sampler of drawn sizes."""
    subdivisions = net.number('subdivisions', 1)
    parts: dict[str, Any] = dict(batch_size=net.number('batch', 1) // subdivisions)
    random = 0.0 if last.type == 'detection' else last.real('random', 0)
    if not random:
        return parts
    width, height = _size(net)
    if code == 'alexeyab' and (random != 1 or width != height):
        raise CfgError(
            f'{last.where("random")}: drawn sizes need random=1 and width=height; set random=0.'
        )
    sampler = dict(type='DrawnSizeBatchSampler', code=code, interval=10 * subdivisions)
    return parts | dict(batch_sampler=sampler | dict(size=width) if code == 'alexeyab' else sampler)


def _schedule(net: Section, notes: list[str]) -> dict[str, Any]:
    subdivisions, updates = net.number('subdivisions', 1), net.number('max_batches', 0)
    if updates < 1:
        notes.append('[net] has no max_batches: the training has one update.')
    rate: dict[str, Any] = dict(type='DarknetLR', burn_in=net.number('burn_in', 0))
    rate['power'] = net.real('power', 4)
    if net.text('policy', 'constant') == 'steps':
        steps, scales = net.whole('steps'), net.reals('scales')
        if len(steps) != len(scales) or not steps:
            raise CfgError(f'{net.where("scales")}: give one scale per step.')
        rate |= dict(steps=steps, scales=scales)
    wrapper: dict[str, Any] = dict(
        type='OptimWrapper',
        optimizer=dict(
            type='SGD',
            lr=net.real('learning_rate', 0.001),
            momentum=net.real('momentum', 0.9),
            weight_decay=net.real('decay', 0.0001),
        ),
        paramwise_cfg=dict(norm_decay_mult=0, bias_decay_mult=0),
    )
    if subdivisions > 1:
        rate['subdivisions'] = wrapper['accumulative_counts'] = subdivisions
    iterations = max(1, updates) * subdivisions
    hooks = []
    if alpha := net.real('ema_alpha', 0):
        hooks = [
            dict(
                type='DarknetEMAHook',
                alpha=alpha,
                apply_before_end=1000 * subdivisions,
                interval=subdivisions,
                priority=49,
            )
        ]
    return dict(
        train_cfg=dict(
            type='IterBasedTrainLoop',
            max_iters=iterations,
            val_interval=min(iterations, 10_000 * subdivisions),
        ),
        optim_wrapper=wrapper,
        param_scheduler=[rate],
        custom_hooks=hooks,
    )


COCO_SPELLING = {
    'motorbike': 'motorcycle',
    'aeroplane': 'airplane',
    'sofa': 'couch',
    'pottedplant': 'potted plant',
    'diningtable': 'dining table',
    'tvmonitor': 'tv',
}
"""Names in darknet's coco.names -> names in the annotations of COCO."""


def annotation_names(names: Sequence[str]) -> list[str]:
    """Names of the classes in the annotations; darknet spells six classes of COCO differently."""
    if len(names) != 80 or not COCO_SPELLING.keys() <= set(names):
        return list(names)
    return [COCO_SPELLING.get(name, name) for name in names]
