"""The training pipeline of every full recipe reads hard images, and the recipe takes one real step.

Pipeline, collating, preprocessor, head, losses and optimizer are those of the recipe; images and
inputs are small. Most hourglasses are narrow. VGG-16, whose heads need inputs of 300 and 512
pixels, and the backbones of P5 to P7 and x-mish are replaced by convolutions of pooled pixels.
Recipes with equal pipelines share their 2,000 draws (2 to 6 ms each), recipes with equal models and
pipelines their step.
The long form of the draws is ``python tools/check_augmentation.py --hard-images --draws 50000``.
"""

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn
from torch.nn.functional import avg_pool2d

from mmdet_losses.registry import MODELS
from tools.augmentation.hard_images import SmallData, draw_hard_images
from tools.augmentation.recipes import train_pipeline
from tools.augmentation.record import seed_all
from tools.datasets.small_configs import full_recipes

FIXED_SIDES = {'ssd300': 300, 'ssd512': 512, 'yolov1': 448}
"""Heads that need the input of the recipe."""
HOURGLASS = dict(stage_channels=(256, *[8] * 5), stage_blocks=(1,) * 6)


class PooledMaps(nn.Module):
    """Stands in for a large backbone: one map per stride."""

    def __init__(self, channels, strides):
        super().__init__()
        self.strides = strides
        self.convs = nn.ModuleList(nn.Conv2d(3, each, 1) for each in channels)

    def forward(self, image):
        pooled = (avg_pool2d(image, stride, ceil_mode=True) for stride in self.strides)
        return [conv(each).relu() for conv, each in zip(self.convs, pooled, strict=True)]


def thin(model):
    """The model of a recipe, smaller where a step would take long."""
    backbone = model.backbone
    backbone.pop('init_cfg', None)
    if backbone.type in ('HourglassNet', 'StackedHourglassNet'):
        backbone.update(HOURGLASS)
    if backbone.type == 'SSDVGG':
        model.backbone = dict(type=PooledMaps, channels=(512, 1024), strides=(8, 16))
    if backbone.get('arch') in ('p5', 'p6', 'p7', 'x'):
        strides = [2**level for level in backbone.out_indices]
        wide, narrow = [16] * len(strides), [8] * len(strides)
        model.backbone = dict(type=PooledMaps, channels=wide, strides=strides)
        model.neck.update(in_channels=wide, out_channels=narrow)
        model.bbox_head.predictor.in_channels = narrow
    return model


RECIPES = full_recipes()
DONE = set()
"""Pipelines that were drawn from, and models with their pipelines that took a step."""
DRAWS = 2_000
"""Mosaics once stopped the training at one in 300 to 450 samples."""


def objects(item):
    return len(item['data_samples'].gt_instances)


LEARN_CROWDS = ('cornernet', 'centernet')
"""Official codes that do not read ``iscrowd``; the label files of the others have no crowds."""
LEAVE_OUT_EMPTY = ('yolov2', 'yolov3', 'yolov4', 'centernet_pose')
"""Their lists of images have those with objects. PyTorch_YOLOv4's list has all images."""


def check_images(cfg, path):
    """The recipe trains on the images and objects of the official code, in random order."""
    loader = cfg.train_dataloader
    pipeline = train_pipeline(cfg)
    crowds = [step.crowd for step in pipeline.steps if step.type == 'CrowdAnnotations']
    if path.stem.startswith(('retinanet', 'centertrack')) or 'coco' not in path.stem:
        return
    assert (loader.sampler.type, loader.sampler.shuffle) == ('DefaultSampler', True)
    assert loader.get('batch_sampler') is None or 'Drawn' in loader.batch_sampler.type
    assert crowds == ['object' if path.stem.startswith(LEARN_CROWDS) else 'drop']
    filtered = (pipeline.dataset.get('filter_cfg') or {}).get('filter_empty_gt', False)
    mmdet_training = path.stem.startswith('ssd')
    pytorch = cfg.optim_wrapper.type == 'NominalBatchOptimWrapper'  # trained as PyTorch_YOLOv4
    left_out = path.stem.startswith(LEAVE_OUT_EMPTY) and not pytorch
    assert filtered == (left_out or mmdet_training)


def take_step(cfg, data):
    """One training step on two small images with objects."""
    seed_all(0)
    data.sizes = None  # the size of the pipeline
    model = MODELS.build(cfg.model).train()
    if cfg.model.get('neck') and cfg.model.neck.type == 'SSDNeck':
        model.neck.init_weights()  # MMDetection's L2Norm has no values before
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    batch = [item for item in map(data.item, range(40)) if objects(item)][:2]
    batch = model.data_preprocessor(pseudo_collate(batch), training=True)
    total, _ = model.parse_losses(model(**batch, mode='loss'))
    assert torch.isfinite(total)
    assert total > 0
    trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
    first = next(iter(trained.values()))
    before = first.detach().clone()
    wrapper.zero_grad = lambda **_: None  # keeps the gradients that are checked below
    wrapper.update_params(total)
    assert [name for name, each in trained.items() if each.grad is None] == []
    assert not torch.equal(first, before)


@pytest.mark.parametrize('path', RECIPES, ids=[path.stem for path in RECIPES])
def test_a_full_recipe_reads_hard_images_and_takes_one_step(path):
    cfg = Config.fromfile(path)
    side = next((each for name, each in FIXED_SIDES.items() if name in path.stem), 128)
    check_images(cfg, path)
    with DefaultScope.overwrite_default_scope('mmdet'):
        small = SmallData(cfg)
        if small.key not in DONE:
            drawn = draw_hard_images(small, DRAWS)
            assert drawn.empty > 0, 'images without objects are dropped'
            DONE.add(small.key)
        cfg.model = thin(cfg.model)
        key = repr(({**cfg.model, 'test_cfg': None}, small.key, cfg.optim_wrapper))
        if key not in DONE:
            take_step(cfg, SmallData(cfg, side))
            DONE.add(key)
