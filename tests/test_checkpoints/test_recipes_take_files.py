"""What a converter makes of an official file is, key by key, the network of its recipe."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmdet_losses.detectors.anchor.checkpoints import FAMILIES as ANCHORS
from mmdet_losses.detectors.yolo.checkpoints import FAMILIES as GRIDS
from mmdet_losses.registry import MODELS

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
FAMILIES = {**ANCHORS, **GRIDS}
RECIPES = {
    'ssd300': 'ssd/ssd300_vgg16_4xb8-232e_voc0712',
    'ssd512': 'ssd/ssd512_vgg16_4xb8-232e_voc0712',
    'retinanet_mmdet': 'retinanet/retinanet_r50_fpn_8xb2-12e_coco',
    'darknet_yolov1': 'yolov1/yolov1_extraction_8xb8-155e_voc0712',
    'darknet_yolov2': 'yolov2/yolov2_d19_8xb8-ms-273e_coco',
    'darknet_yolov3': 'yolov3/yolov3_d53_8xb8-ms-608-273e_coco',
    'darknet_yolov3_spp': 'yolov3/yolov3_d53-spp_8xb8-ms-608-273e_coco',
    'darknet_yolov4': 'yolov4/yolov4_csp53_8xb8-ms-608-273e_coco',
    'yolov4_pytorch': 'yolov4/yolov4_csp53_8xb8-ms-608-273e_coco',
    'darknet_yolov4_csp': 'yolov4/yolov4-csp_8xb8-640-273e_coco',
    'darknet_yolov4x_mish': 'yolov4/yolov4x-mish_8xb8-640-273e_coco',
    'darknet_yolov4_p5': 'yolov4/yolov4-p5_8xb8-896-273e_coco',
    'darknet_yolov4_p6': 'yolov4/yolov4-p6_8xb8-1280-273e_coco',
    'scaled_yolov4_csp': 'scaled_yolov4/scaled_yolov4_csp_8xb8-300e-640_coco',
    'scaled_yolov4_p5': 'scaled_yolov4/scaled_yolov4_p5_8xb8-300e-896_coco',
    'scaled_yolov4_p6': 'scaled_yolov4/scaled_yolov4_p6_8xb8-300e-1280_coco',
    'scaled_yolov4_p7': 'scaled_yolov4/scaled_yolov4_p7_8xb8-300e-1536_coco',
}
NOT_IN_FILES = {
    'bbox_head.criterion.seen'
}  # YOLOv2 counts images; a file without it loads strictly


def test_every_family_has_a_recipe():
    assert RECIPES.keys() == FAMILIES.keys()


@pytest.mark.parametrize('name', RECIPES)
def test_keys_and_shapes(name):
    cfg = Config.fromfile(CONFIGS / f'{RECIPES[name]}.py')
    with torch.device('meta'), DefaultScope.overwrite_default_scope('mmdet'):
        recipe, converted = MODELS.build(cfg.model), FAMILIES[name].build()
    shapes = {key: tuple(value.shape) for key, value in recipe.state_dict().items()}
    expected = {key: tuple(value.shape) for key, value in converted.state_dict().items()}
    assert {key: shapes[key] for key in shapes if key not in NOT_IN_FILES} == expected
