"""Options of darknet's detection layers as configs of encoder, criterion and test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmdet_losses.detectors.yolo.darknet_cfg import CfgError, Section
from mmdet_losses.detectors.yolo.darknet_encoder import Code
from mmdet_losses.detectors.yolo.darknet_tables import class_map, class_tree
from mmdet_losses.detectors.yolo.gaussian_yolo_encoder import POINTS

FROM_LAST = {
    'jitter', 'resize', 'random', 'max', 'nms_kind', 'beta_nms', 'show_details',
    'track_history_size', 'sim_thresh', 'dets_for_track', 'dets_for_show', 'track_ciou_norm',
}  # fmt: skip
"""Options that darknet reads from the last layer, or that change neither training nor boxes."""
READ = {
    'yolo': FROM_LAST | {
        'mask', 'anchors', 'classes', 'num', 'ignore_thresh', 'truth_thresh', 'map', 'scale_x_y',
        'iou_thresh', 'iou_loss', 'iou_normalizer', 'obj_normalizer', 'cls_normalizer', 'max_delta',
        'new_coords', 'objectness_smooth', 'label_smooth_eps', 'focal_loss', 'counters_per_class',
        'iou_thresh_kind', 'delta_normalizer', 'embedding_layer',
    },
    'gaussian_yolo': FROM_LAST | {
        'mask', 'anchors', 'classes', 'num', 'ignore_thresh', 'truth_thresh', 'map', 'scale_x_y',
        'iou_thresh', 'iou_loss', 'iou_normalizer', 'obj_normalizer', 'cls_normalizer', 'max_delta',
        'objectness_smooth', 'label_smooth_eps', 'counters_per_class', 'iou_thresh_kind',
        'uc_normalizer', 'yolo_point',
    },
    'region': {
        'anchors', 'classes', 'num', 'coords', 'softmax', 'background', 'rescore', 'thresh',
        'bias_match', 'object_scale', 'noobject_scale', 'class_scale', 'coord_scale', 'jitter',
        'random', 'max', 'map', 'tree', 'log', 'absolute', 'focal_loss',
    },
    'detection': {
        'classes', 'num', 'side', 'coords', 'softmax', 'sqrt', 'rescore', 'forced', 'random',
        'object_scale', 'noobject_scale', 'class_scale', 'coord_scale', 'jitter', 'max',
    },
}  # fmt: skip
"""Type of a detection layer -> options that darknet reads."""

POINT = 'center'
MISSING_SIDE = 0.5
"""darknet's value of an anchor's side that the cfg does not give."""


class Head(NamedTuple):
    """The parts of a detector that its detection layers define."""

    predictor: dict[str, Any]
    encoder: dict[str, Any]
    criterion: dict[str, Any]
    nms: dict[str, Any]
    max_objects: int


def import_heads(
    heads: Sequence[Section], code: Code, strides: Sequence[float], folder: Path
) -> Head:
    """The head of a cfg.

    Args:
        heads: its detection layers, in order.
        code: the program that the cfg is for.
        strides: pixels per cell of each head, for the anchors of `[region]`.
        folder: of the cfg, where the file of ``map`` is looked for.

    Raises:
        CfgError: an option that encoder and criterion do not express.
    """
    kinds = {head.type for head in heads}
    several = kinds in ({'yolo'}, {'gaussian_yolo'})
    if len(kinds) > 1 or (not several and len(heads) > 1):
        raise CfgError(
            f'{heads[1].where()}: this combination of detection layers is not supported; use '
            '[yolo] layers, or one [region] or [detection] layer.'
        )
    for head in heads:
        if not head.text('classes', ''):
            raise CfgError(f'{head.where()}: the option classes is missing; add it.')
    if kinds == {'detection'}:
        return _detection(heads[0], code)
    if kinds == {'region'}:
        return _region(heads[0], code, strides[0], folder)
    return _yolo(heads, code, folder)


def remarks(head: Section) -> list[str]:
    """What darknet accepts in a detection layer although it has no effect, one message each."""
    found = [
        f'{head.where(option)}: darknet does not read this option, it has no effect.'
        for option in head.options
        if option not in READ[head.type]
    ]
    if head.type != 'detection':
        given, count = len(head.reals('anchors')), _count(head)
        if given < 2 * count:
            found.append(
                f'{head.where("anchors")}: {given} numbers are given for {count} anchors; the '
                f'missing ones are {MISSING_SIDE}, as in darknet.'
            )
        if count > head.number('num', 1):
            found.append(
                f'{head.where("mask")}: num is only {head.number("num", 1)}; darknet reads beyond '
                'its list there, here these anchors are used.'
            )
    return found


def _forbid(section: Section, option: str, default: object, advice: str) -> None:
    """Raise ``CfgError`` unless an option has its default."""
    text = section.text(option, str(default))
    try:
        same = float(text) == float(str(default))
    except ValueError:
        same = text.lower() == str(default).lower()
    if not same:
        raise CfgError(f'{section.where(option)}: this value is not supported; {advice}')


def _same(heads: Sequence[Section], option: str, read: Callable[[Section], Any]) -> Any:
    """The common value of an option of all heads."""
    values = [read(head) for head in heads]
    for head, value in zip(heads, values, strict=True):
        if value != values[0]:
            raise CfgError(
                f'{head.where(option)}: {option} differs between the detection layers, which is '
                'not supported; give all of them the same value.'
            )
    return values[0]


def _per_map(values: list[Any]) -> Any:
    """One value if all are equal, otherwise one per map."""
    return values[0] if all(value == values[0] for value in values) else tuple(values)


def _count(head: Section) -> int:
    """Number of anchors in the list: ``num``, or more if a mask needs them and they are given."""
    needed = max(head.whole('mask') or [-1]) + 1
    given = len(head.reals('anchors')) // 2
    return max(head.number('num', 1), needed if needed <= given else 0)


def _pairs(head: Section, count: int) -> list[tuple[float, float]]:
    """The first ``count`` anchors in the list of a head."""
    numbers = [*head.reals('anchors'), *[MISSING_SIDE] * 2 * count][: 2 * count]
    return [(_plain(w), _plain(h)) for w, h in zip(numbers[::2], numbers[1::2], strict=True)]


def _plain(value: float) -> float:
    """A whole number as int, so that configs are short."""
    return int(value) if value == int(value) else value


def _limit(head: Section, code: Code, redmon: int) -> int:
    """Number of objects per image that darknet uses."""
    if code == 'redmon':
        return min(redmon, head.number('max', redmon)) if head.type == 'yolo' else redmon
    return head.number('max', 200)


def _yolo(heads: Sequence[Section], code: Code, folder: Path) -> Head:
    for head in heads:
        _forbid(head, 'iou_thresh_kind', 'iou', 'remove it.')
        _forbid(head, 'delta_normalizer', 1, 'remove it.')
        if head.type == 'gaussian_yolo':
            _forbid(head, 'objectness_smooth', 0, 'remove it.')
        if 'embedding_layer' in head.options:
            raise CfgError(f'{head.where("embedding_layer")}: embeddings are not supported.')
    gaussian = heads[0].type == 'gaussian_yolo'
    stem = 'GaussianYOLO' if gaussian else 'YOLOV3' if code == 'redmon' else 'YOLOV4'
    version = 'gaussian_yolo' if gaussian else stem.lower()
    classes = _same(heads, 'classes', lambda head: head.number('classes', 20))
    limit = _limit(heads[-1], code, 90)
    encoder: dict[str, Any] = dict(
        type=f'{stem}TargetEncoder',
        num_classes=classes,
        code=code,
        max_objects=limit,
        **_anchors(heads),
    )
    if code == 'alexeyab':
        encoder |= dict(
            scale_xy=_per_map([head.real('scale_x_y', 1) for head in heads]),
            iou_threshold=_same(heads, 'iou_thresh', lambda head: head.real('iou_thresh', 1)),
        )
    if gaussian:
        encoder['point'] = _same(heads, 'yolo_point', lambda head: head.text('yolo_point', POINT))
        if encoder['point'] not in POINTS:
            raise CfgError(f'{heads[0].where("yolo_point")}: choose one of {", ".join(POINTS)}.')
    elif code == 'alexeyab':
        encoder['squared'] = _same(
            heads, 'new_coords', lambda head: bool(head.number('new_coords', 0))
        )
    table = _same(heads, 'map', lambda head: class_map(head, folder))
    if table is not None:
        encoder['class_map'] = table
    predictor = dict(type='DarknetPredictor', detector=version, num_classes=classes)
    criterion = dict(type=f'{stem}Loss', **_yolo_loss(heads, code))
    if gaussian:
        criterion['uc_normalizer'] = _same(
            heads, 'uc_normalizer', lambda head: head.real('uc_normalizer', 1)
        )
    return Head(predictor, encoder, criterion, _nms(heads[-1], code), limit)


def _anchors(heads: Sequence[Section]) -> dict[str, Any]:
    """Anchors of the maps; with masks where an anchor belongs to no map or to several."""
    count = max(map(_count, heads))
    listed = _same(heads, 'anchors', lambda head: _pairs(head, count))
    masks = [tuple(head.whole('mask') or range(len(listed))) for head in heads]
    for head, mask in zip(heads, masks, strict=True):
        if not all(0 <= number < len(listed) for number in mask):
            raise CfgError(
                f'{head.where("mask")}: there are only {len(listed)} anchors; count from 0.'
            )
    anchors: dict[str, Any] = dict(anchors=[[listed[i] for i in mask] for mask in masks])
    areas = [w * h for w, h in listed]
    used = sorted(number for mask in masks for number in mask)
    if used != list(range(len(listed))) or areas != sorted(set(areas)):
        anchors |= dict(all_anchors=listed, masks=masks)
    return anchors


def _yolo_loss(heads: Sequence[Section], code: Code) -> dict[str, Any]:
    def common(option: str, default: float) -> float:
        return _same(heads, option, lambda head: head.real(option, default))

    criterion: dict[str, Any] = dict(
        code=code,
        ignore_threshold=common('ignore_thresh', 0.5),
        truth_threshold=common('truth_thresh', 1),
        normalizer='images',
    )
    if code == 'redmon':
        return criterion
    box = _same(heads, 'iou_loss', lambda head: head.text('iou_loss', 'mse'))
    if box not in ('mse', 'iou', 'giou', 'diou', 'ciou'):
        raise CfgError(f'{heads[0].where("iou_loss")}: choose mse, iou, giou, diou or ciou.')
    gaussian = heads[0].type == 'gaussian_yolo'
    squared = not gaussian and bool(heads[0].number('new_coords', 0))
    if box == 'mse' and squared:
        raise CfgError(f'{heads[0].where("new_coords")}: iou_loss=mse is not supported with it.')
    bounds = [head.real('max_delta', 0) if 'max_delta' in head.options else None for head in heads]
    criterion |= dict(
        box=box,
        iou_normalizer=_per_map([head.real('iou_normalizer', 0.75) for head in heads]),
        obj_normalizer=_per_map([head.real('obj_normalizer', 1) for head in heads]),
        cls_normalizer=common('cls_normalizer', 1),
        max_delta=_per_map(bounds),
        label_smoothing=common('label_smooth_eps', 0),
    )
    if not gaussian:
        smooth = [bool(head.number('objectness_smooth', 0)) for head in heads]
        criterion |= dict(
            gradient='darknet',
            objectness_smooth=_per_map(smooth),
            focal=bool(common('focal_loss', 0)),
        )
    counted = [head for head in heads if 'counters_per_class' in head.options]
    if counted:
        criterion['class_counters'] = _same(
            counted, 'counters_per_class', lambda head: head.whole('counters_per_class')
        )
        if len(counted) < len(heads):
            criterion['counted'] = tuple(head in counted for head in heads)
    if criterion['truth_threshold'] < 1 and criterion.get('objectness_smooth'):
        raise CfgError(f'{heads[0].where("truth_thresh")}: not supported with objectness_smooth.')
    return criterion


def _nms(head: Section, code: Code) -> dict[str, Any]:
    kind = head.text('nms_kind', 'default')
    if code == 'redmon' or kind == 'default':
        return dict(type='nms', iou_threshold=0.45)
    if kind not in ('greedynms', 'diounms'):
        raise CfgError(f'{head.where("nms_kind")}: choose default, greedynms or diounms.')
    beta = 0.6 if kind == 'greedynms' else head.real('beta_nms', 0.6)
    return dict(type='darknet_nms', iou_threshold=0.45, kind='diou', beta=beta)


def _region(head: Section, code: Code, stride: float, folder: Path) -> Head:
    _forbid(head, 'coords', 4, 'set coords=4.')
    _forbid(head, 'focal_loss', 0, 'remove it.')
    tree = class_tree(head, folder)
    softmax, background = (bool(head.number(option, 0)) for option in ('softmax', 'background'))
    if tree is not None:  # darknet then reads neither of them
        softmax, background = True, False
    if code == 'alexeyab' and (background or not softmax):
        option = 'background' if background else 'softmax'
        raise CfgError(
            f'{head.where(option)}: AlexeyAB has softmax=1 and background=0 only; import the file '
            'with --code redmon.'
        )
    classes, limit = head.number('classes', 20), _limit(head, code, 30)
    anchors = [(round(w * stride, 4), round(h * stride, 4)) for w, h in _pairs(head, _count(head))]
    encoder = dict(
        type='YOLOV2TargetEncoder',
        num_classes=classes,
        anchors=[anchors],
        all_anchors=anchors,
        masks=[tuple(range(len(anchors)))],
        code=code,
        max_objects=limit,
        softmax=softmax,
        background=background,
    )
    if (table := class_map(head, folder)) is not None:
        encoder['class_map'] = table
    criterion = dict(
        type='YOLOV2Loss',
        code=code,
        object_scale=head.real('object_scale', 1),
        no_object_scale=head.real('noobject_scale', 1),
        class_scale=head.real('class_scale', 1),
        coord_scale=head.real('coord_scale', 1),
        rescore=bool(head.number('rescore', 0)),
        ignore_threshold=head.real('thresh', 0.5),
        match_shape=bool(head.number('bias_match', 0)),
        softmax=softmax,
        background=background,
        normalizer='images',
    )
    if tree is not None:
        encoder['tree'] = criterion['tree'] = tree
    predictor = dict(type='DarknetPredictor', detector='yolov2', num_classes=classes)
    return Head(predictor, encoder, criterion, _nms(head, code), limit)


def _detection(head: Section, code: Code) -> Head:
    _forbid(head, 'coords', 1 if 'coords' not in head.options else 4, 'set coords=4.')
    classes, boxes = head.number('classes', 1), head.number('num', 1)
    square_root, softmax = (bool(head.number(option, 0)) for option in ('sqrt', 'softmax'))
    encoder = dict(
        type='YOLOV1TargetEncoder',
        num_classes=classes,
        num_boxes=boxes,
        square_root=square_root,
        softmax=softmax,
    )
    criterion = dict(
        type='YOLOV1Loss',
        coord_scale=head.real('coord_scale', 1),
        object_scale=head.real('object_scale', 1),
        no_object_scale=head.real('noobject_scale', 1),
        class_scale=head.real('class_scale', 1),
        rescore=bool(head.number('rescore', 0)),
        square_root=square_root,
        softmax=softmax,
        forced=bool(head.number('forced', 0)),
        random=bool(head.number('random', 0)),
        normalizer='images',
    )
    predictor = dict(
        type='DarknetPredictor',
        detector='yolov1',
        num_classes=classes,
        side=head.number('side', 7),
        num_boxes=boxes,
    )
    return Head(predictor, encoder, criterion, dict(type='nms', iou_threshold=0.4), 30)
