"""The official test pipeline and MMDetection's plain transforms give equal boxes.

The image has the size of the canvas, so it needs no padding. The last row and column of CornerNet's
odd canvas are black, so those of the image are black too.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmdet_losses.registry import MODELS, TRANSFORMS

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
CORNERS = dict(
    cornernet='cornernet_hg104_8xb6-500k',
    cornernet_squeeze='cornernet_squeeze_8xb7-500k',
    centernet_triplet='centernet_triplet_hg104_8xb6-480k',
)


def read(folder, name):
    return Config.fromfile(CONFIGS / folder / f'{name}.py')


def corner_pipelines(folder):
    official = read(folder, f'{CORNERS[folder]}_coco').test_dataloader.dataset.pipeline
    plain = read(folder, f'{CORNERS[folder]}_coco_plain').test_dataloader.dataset.pipeline
    [pad] = [step for step in plain if step.type == 'Pad']
    pad.size_divisor = 1  # the image needs no padding
    return 127, official, plain


def center_pipelines(folder):
    cfg = read(folder, 'centernet_points_dla34_4xb8-70e-384_voc0712')
    official = cfg.test_dataloader.dataset.pipeline
    meta_keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
    plain = [official[0], dict(type='Resize', scale=(384, 384), keep_ratio=True), official[2]]
    return 384, official, [*plain, dict(type='PackDetInputs', meta_keys=meta_keys)]


def run(pipeline, image, model):
    loaded = dict(
        img=image.copy(), img_id=1, img_path='1.png', ori_shape=image.shape[:2],
        img_shape=image.shape[:2], instances=[],
    )  # fmt: skip
    data = TRANSFORMS.build(dict(type='Compose', transforms=pipeline[1:]))(loaded)
    [sample] = model.test_step({name: [value] for name, value in data.items()})
    return data['inputs'], sample.pred_instances


@pytest.mark.parametrize('folder', [*CORNERS, 'centernet_points'])
def test_an_image_without_padding_has_equal_boxes(folder):
    pipelines = corner_pipelines if folder in CORNERS else center_pipelines
    side, official, plain = pipelines(folder)
    image = np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8)
    image[-1] = image[:, -1] = 0
    cfg = read(folder, f'{folder}_digits').model
    cfg.test_cfg = dict(score_thr=0.0, max_per_img=100)
    if folder in CORNERS:
        # untrained networks give few corner pairs with one class and similar embeddings
        cfg.bbox_head.encoder.update(num_classes=1, ae_threshold=100.0)
        cfg.bbox_head.predictor.num_classes = 1
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'), torch.no_grad():
        model = MODELS.build(cfg).eval()
        (inputs, found), (same, wanted) = (run(each, image, model) for each in (official, plain))
    assert torch.equal(inputs, same)
    assert len(found) == len(wanted) > 5
    order, other = (each.scores.argsort(descending=True, stable=True) for each in (found, wanted))
    for name in ('bboxes', 'scores', 'labels'):
        torch.testing.assert_close(found[name][order], wanted[name][other], atol=1e-4, rtol=1e-5)
