"""Which recipe a file of official draws belongs to, and the recipe's training pipeline."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config, ConfigDict

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
RECIPES = {
    'centernet_triplet': 'centernet_triplet/centernet_triplet_hg104_8xb6-480k_coco.py',
    'centertrack_crowdhuman': 'centertrack/centertrack_dla34_4xb16-140e_crowdhuman.py',
    'centertrack_kitti': 'centertrack/centertrack_dla34_2xb8-70e_kitti-half.py',
    'centertrack_mot17': 'centertrack/centertrack_dla34_2xb16-70e_mot17-half.py',
    'cornernet': 'cornernet/cornernet_hg104_8xb6-500k_coco.py',
    'cornernet_saccade': 'cornernet_saccade/cornernet_saccade_8xb6-500k_coco.py',
    'cornernet_squeeze': 'cornernet_squeeze/cornernet_squeeze_8xb7-500k_coco.py',
    'ctdet_coco': 'centernet_points/centernet_points_dla34_8xb16-140e_coco.py',
    'ctdet_pascal': 'centernet_points/centernet_points_dla34_4xb8-70e-384_voc0712.py',
    'multi_pose': 'centernet_pose/centernet_pose_dla34_8xb16-140e_coco.py',
    'scaled_yolov4': 'scaled_yolov4/scaled_yolov4_csp_8xb8-300e-640_coco.py',
    'scaled_yolov4_finetune': 'scaled_yolov4/scaled_yolov4_p5_8xb8-450e-896_coco_finetune.py',
    'ssd300': 'ssd/ssd300_vgg16_4xb8-232e_voc0712.py',
    'yolov1': 'yolov1/yolov1_extraction_8xb8-155e_voc0712.py',
    'yolov2': 'yolov2/yolov2_d19_8xb8-ms-310e_voc0712.py',
    'yolov3': 'yolov3/yolov3_d53_8xb8-ms-608-273e_coco.py',
    'yolov4': 'yolov4/yolov4_csp53_8xb8-ms-608-273e_coco.py',
    'yolov4_csp': 'yolov4/yolov4-csp_8xb8-640-273e_coco.py',
}
"""Beginning of a file's name -> its recipe; the longest beginning wins."""
RECIPES['ctdet'], RECIPES['ssd'] = RECIPES['ctdet_coco'], RECIPES['ssd300']
SIZED = ('size', 'scale', 'img_scale', 'crop_size')
"""Arguments of transforms that hold the input's size."""


def recipe_of(name: str) -> Path:
    """The config that a file of draws belongs to.

    Raises:
        KeyError: no name begins like that.
    """
    known = [beginning for beginning in RECIPES if name.startswith(beginning)]
    if not known:
        raise KeyError(f'{name} belongs to no recipe; the known names are {", ".join(RECIPES)}.')
    return CONFIGS / RECIPES[max(known, key=len)]


class TrainPipeline(NamedTuple):
    """The training pipeline of a recipe and how its images are batched."""

    steps: list[ConfigDict]
    """From loading to packing."""
    batch_sampler: ConfigDict | None
    dataset: ConfigDict
    """Innermost data set."""


def train_pipeline(cfg: Config) -> TrainPipeline:
    """Steps of all wrappers around the training set, the inner ones first."""
    loader = cfg.train_dataloader
    steps: list[ConfigDict] = []
    dataset = loader.dataset
    while True:
        steps = [*dataset.get('pipeline', []), *steps]
        inner = dataset.get('dataset') or (dataset.get('datasets') or [None])[0]
        if inner is None:
            return TrainPipeline(copy.deepcopy(steps), loader.get('batch_sampler'), dataset)
        dataset = inner


def all_steps(steps: list[ConfigDict]) -> Iterator[ConfigDict]:
    """The steps and those inside of ``WithPrevious``."""
    for step in steps:
        yield step
        yield from all_steps(step.get('transforms', []))


def pipeline_size(steps: list[ConfigDict]) -> tuple[int, int] | None:
    """(w, h) of the input, from the last step that has a size."""
    sizes = [_pair(step[key]) for step in steps for key in SIZED if _pair(step.get(key))]
    return sizes[-1] if sizes else None


def with_size(steps: list[ConfigDict], size: tuple[int, int]) -> list[ConfigDict]:
    """The steps with every size of the input replaced by (w, h)."""
    old, steps = pipeline_size(steps), copy.deepcopy(steps)
    for step in steps:
        for key in SIZED:
            if _pair(step.get(key)) == old:
                step[key] = size[0] if isinstance(step[key], int) else size
    return steps


def _pair(value: Any) -> tuple[int, int] | None:
    """A size as (w, h); None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value, value
    if isinstance(value, (list, tuple)) and len(value) == 2:
        return tuple(value) if all(isinstance(each, int) for each in value) else None
    return None
