"""Text of the config of an imported darknet cfg."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from mmdet_losses.detectors.yolo.darknet_import import Imported

WIDTH = 100
PROGRAMS = {'redmon': "Redmon's darknet", 'alexeyab': "AlexeyAB's darknet"}
HEADER = """\
# {name} as a config of MMDetection, with the rules of {program}.
# Written by tools/import_darknet.py; it depends on no other config.
"""
RUNTIME = """\
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

default_scope = 'mmdet'
custom_imports = dict(imports=['mmdet_losses'], allow_failed_imports=False)
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='CheckpointHook', interval=train_cfg['val_interval'], by_epoch=False, max_keep_ckpts=3
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='DetVisualizationHook'),
)
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='KeypointVisualizer', vis_backends=vis_backends, name='visualizer')
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=False)
log_level = 'INFO'
load_from = None
resume = False
"""
DATA = """\
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
{sampler}    dataset=dict(
        type='MixedImageDataset',
        dataset=dict(
            type='CocoDataset',
            data_root=data_root,
            ann_file={train_ann!r},
            data_prefix=dict(img={train_images!r}),
            metainfo=metainfo,
            filter_cfg=dict(filter_empty_gt=False),
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='LoadAnnotations', with_bbox=True),
                dict(type='CheckAnnotations', num_classes=len(classes)),
                dict(type='DropIgnored'),
            ],
        ),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset',
        data_root=data_root,
        ann_file={val_ann!r},
        data_prefix=dict(img={val_images!r}),
        metainfo=metainfo,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='CocoMetric', ann_file=data_root + {val_ann!r}, metric='bbox')
test_evaluator = val_evaluator
"""


class DataPaths(NamedTuple):
    """Places of images and annotations in COCO format."""

    root: str = 'data/coco/'
    train_ann: str = 'annotations/instances_train2017.json'
    train_images: str = 'train2017/'
    val_ann: str = 'annotations/instances_val2017.json'
    val_images: str = 'val2017/'


class Name(str):
    """The name of a variable, as a value."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def config_text(imported: Imported, name: str, classes: Sequence[str], data: DataPaths) -> str:
    """The text of a complete config.

    Args:
        imported: of :func:`~mmdet_losses.detectors.yolo.darknet_import.import_cfg`.
        name: of the cfg, for the first line.
        classes: names of the classes.
        data: where images and annotations are.
    """
    parts = dict(imported.parts)
    model, sampler = dict(parts.pop('model')), parts.pop('batch_sampler', None)
    layers = model['backbone']['layers']
    model['backbone'] = {**model['backbone'], 'layers': Name('layers')}
    blocks = [
        HEADER.format(name=name, program=PROGRAMS[imported.code])
        + ''.join(f'# {note}\n' for note in imported.notes),
        assign('classes', tuple(classes))
        + assign('metainfo', Name('dict(classes=classes)'))
        + assign('data_root', data.root),
        layer_lines(layers),
        assign('model', model),
        assign('train_pipeline', parts.pop('train_pipeline'))
        + assign('test_pipeline', parts.pop('test_pipeline')),
        assign('batch_size', parts.pop('batch_size'))
        + DATA.format(
            sampler=f'    batch_sampler={show(sampler, 4)},\n' if sampler else '', **data._asdict()
        ),
        ''.join(assign(key, value) for key, value in parts.items()) + RUNTIME,
    ]
    return '\n'.join(blocks)


def layer_lines(layers: Sequence[dict[str, Any]]) -> str:
    """The table, one layer per line with its number."""
    rows = (f'    {show(row, -WIDTH)},  # {number}\n' for number, row in enumerate(layers))
    return f'layers = [\n{"".join(rows)}]\n'


def assign(name: str, value: Any) -> str:
    """A line, or several, that set a variable."""
    return f'{name} = {show(value)}\n'


def show(value: Any, indent: int = 0) -> str:
    """A Python expression; it has several lines if it is too long for one."""
    if isinstance(value, dict):
        items = [f'{key}={show(each, indent + 4)}' for key, each in value.items()]
        start, end = 'dict(', ')'
    elif isinstance(value, list | tuple):
        items = [show(each, indent + 4) for each in value]
        start, end = ('(', ')') if isinstance(value, tuple) else ('[', ']')
    else:
        return repr(value)
    one = ',' if isinstance(value, tuple) and len(value) == 1 else ''
    line = f'{start}{", ".join(items)}{one}{end}'
    if '\n' not in line and indent + len(line) < WIDTH - 20:
        return line
    space = ' ' * (indent + 4)
    if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
        items = fill(items, WIDTH - len(space))
    inner = ''.join(f'{space}{item},\n' for item in items)
    return f'{start}\n{inner}{" " * indent}{end}'


def fill(items: Sequence[str], width: int) -> list[str]:
    """Short items joined to lines of at most ``width`` characters."""
    lines = ['']
    for item in items:
        joined = f'{lines[-1]}, {item}' if lines[-1] else item
        if len(joined) < width:
            lines[-1] = joined
        else:
            lines.append(item)
    return lines
