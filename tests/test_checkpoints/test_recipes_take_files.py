"""Each full recipe accepts the files of its official code."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope

from mmdet_losses.core.checkpoint import network_of
from mmdet_losses.detectors.checkpoints import LAYOUTS
from mmdet_losses.registry import MODELS
from tools.convert_checkpoint import accepted, read_model

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
RECIPES = {
    'cornernet/cornernet_hg104_8xb6-500k_coco': ['cornernet'],
    'cornernet_saccade/cornernet_saccade_8xb6-500k_coco': ['cornernet'],
    'cornernet_squeeze/cornernet_squeeze_8xb7-500k_coco': ['cornernet'],
    'centernet_triplet/centernet_triplet_hg52_8xb6-480k_coco': ['cornernet'],
    'centernet_points/centernet_points_dla34-plain_8xb16-140e_coco': ['dla34_imagenet'],
    'centernet_points/centernet_points_hg104_8xb3-50e_coco': [
        'centernet_hourglass',
        'extremenet_hourglass',
    ],
    'centernet_points/centernet_points_mbv2_bccd': ['mobilenetv2_imagenet'],
    'centernet_points/centernet_points_resdcn18_8xb14-140e_coco': ['centernet_resdcn'],
    'centernet_pose/centernet_pose_dla34_8xb16-320e_coco': ['centernet_dla', 'dla34_imagenet'],
    'centertrack/centertrack_dla34_2xb16-70e_mot17': ['centernet_dla', 'dla34_imagenet'],
    'ssd/ssd300_vgg16_4xb8-232e_voc0712': ['ssd_pytorch', 'vgg16_reducedfc'],
    'ssd/ssd512_vgg16-caffe_4xb8-232e_voc0712': ['ssd_pytorch', 'vgg16_reducedfc'],
    'retinanet/retinanet_r50_fpn_8xb2-12e_coco': ['retinanet_mmdet'],
    'yolov1/yolov1_extraction_8xb8-155e_voc0712': ['darknet'],
    'yolov2/yolov2_d19_8xb8-ms-273e_coco': ['darknet'],
    'yolov2/yolov2-tiny_8xb8-ms-155e_voc0712': ['darknet'],
    'yolov3/yolov3_d53_8xb8-ms-608-273e_coco': ['darknet'],
    'yolov3/yolov3-tiny-prn_8xb8-ms-416-273e_coco': ['darknet'],
    'yolov3/yolov3_d53-spp_8xb8-ms-608-273e_coco': ['darknet'],
    'yolov4/yolov4_csp53_8xb8-ms-608-273e_coco': ['darknet', 'yolov4_pytorch'],
    'yolov4/yolov4-csp_8xb8-640-273e_coco': ['darknet'],
    'yolov4/yolov4-tiny_8xb8-416-273e_coco': ['darknet'],
    'yolov4/yolov4x-mish_8xb8-640-273e_coco': ['darknet'],
    'yolov4/yolov4-p5_8xb8-896-273e_coco': ['darknet'],
    'yolov4/yolov4-p6_8xb8-1280-273e_coco': ['darknet'],
    'scaled_yolov4/scaled_yolov4_csp_8xb8-300e-640_coco': ['scaled_yolov4'],
    'scaled_yolov4/scaled_yolov4_p5_8xb8-300e-896_coco': ['scaled_yolov4'],
    'scaled_yolov4/scaled_yolov4_p6_8xb8-300e-1280_coco': ['scaled_yolov4'],
    'scaled_yolov4/scaled_yolov4_p7_8xb8-300e-1536_coco': ['scaled_yolov4'],
    'ssd/ssd_digits': [],
}
NOT_IN_FILES = {'bbox_head.criterion.seen'}
"""YOLOv2 counts images; files without the counter load strictly."""


def test_every_layout_has_a_recipe():
    assert {name for names in RECIPES.values() for name in names} == LAYOUTS.keys()


@pytest.mark.parametrize('name', RECIPES)
def test_a_recipe_accepts_its_files_and_no_others(name):
    assert accepted(read_model(CONFIGS / f'{name}.py')) == RECIPES[name]


@pytest.mark.parametrize('name', ['yolov2/yolov2_d19_8xb8-ms-273e_coco', 'ssd/ssd_digits'])
def test_the_converter_builds_the_whole_network_of_a_recipe(name):
    model = read_model(CONFIGS / f'{name}.py')
    with torch.device('meta'), DefaultScope.overwrite_default_scope('mmdet'):
        recipe = MODELS.build(model)
    assert network_of(model).state_dict().keys() == recipe.state_dict().keys() - NOT_IN_FILES
