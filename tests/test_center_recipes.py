"""Full recipes of the centre detectors: official checkpoints load, one step trains, tests run."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from mmdet_losses.core.checkpoint import convert, network_of, strip_module
from mmdet_losses.detectors.center.checkpoints import LAYOUTS
from mmdet_losses.registry import MODELS, TRANSFORMS
from tools.convert_checkpoint import main

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / 'tests' / 'golden' / 'models'
POINTS, POSE = 'centernet_points/centernet_points', 'centernet_pose/centernet_pose'
# config, layout of the file, folder of the official network's keys
RECIPES = [
    (f'{POINTS}_resdcn18_8xb14-140e_coco', 'centernet_resdcn', 'ctdet_resdcn18'),
    (f'{POINTS}_dla34_8xb16-140e_coco', 'centernet_dla', 'ctdet_dla34'),
    (f'{POINTS}_dla34_8xb16-230e_coco_multiscale', 'centernet_dla', 'ctdet_dla34'),
    (f'{POINTS}_hg104_8xb3-50e_coco', 'centernet_hourglass', 'ctdet_hourglass'),
    (f'{POSE}_dla34_8xb16-320e_coco', 'centernet_dla', 'multi_pose_dla34'),
]


def read(config):
    return Config.fromfile(ROOT / 'configs' / f'{config}.py')


def build(config, **changes):
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build({**read(config).model, **changes})


@pytest.mark.parametrize(('config', 'layout', 'folder'), RECIPES, ids=[each[0] for each in RECIPES])
def test_the_official_checkpoint_loads_into_the_recipe(config, layout, folder):
    """The converted names and shapes load strictly."""
    with torch.device('meta'):
        keys = json.loads((GOLDEN / folder / 'keys.json').read_text())
        source = {key: torch.empty(shape) for key, shape in keys.items()}
        model = build(config)
    target = network_of(read(config).model).state_dict()
    result = convert(strip_module(source), target, LAYOUTS[layout].rules).state_dict
    assert {key: value.shape for key, value in result.items()} == {
        key: value.shape for key, value in model.state_dict().items()
    }
    model.load_state_dict(result, strict=True, assign=True)


def test_imagenet_weights_of_dla_load_into_the_recipe(tmp_path):
    """The ImageNet file has the names of a classifier and the shapes of the backbone."""
    folder = GOLDEN / 'ctdet_dla34'
    keys = {name.removeprefix('module.'): shape for name, shape in
            json.loads((folder / 'keys.json').read_text()).items()}  # fmt: skip
    shapes = {name.removeprefix('base.'): s for name, s in keys.items() if name.startswith('base.')}
    shapes |= {'fc.weight': [1000, 512, 1, 1], 'fc.bias': [1000]}
    official, ours = tmp_path / 'dla34-ba72cf86.pth', tmp_path / 'dla34_imagenet.pth'
    source = {
        name: torch.randn(shape) if shape else torch.tensor(0) for name, shape in shapes.items()
    }
    torch.save(source, official)
    config = f'{POINTS}_dla34_8xb16-140e_coco'
    assert main([str(ROOT / 'configs' / f'{config}.py'), str(official), str(ours)]) == 0
    backbone = read(config).model.backbone
    assert backbone.init_cfg == dict(
        type='Pretrained', checkpoint='checkpoints/dla34_imagenet.pth', prefix='backbone.'
    )
    backbone.init_cfg.checkpoint = str(ours)
    with DefaultScope.overwrite_default_scope('mmdet'):
        network = MODELS.build(backbone)
    network.init_weights()
    assert torch.equal(network.base_layer.conv.weight, source['base_layer.0.weight'])
    have, want = network.levels[5].tree2.conv2.bn.bias, source['level5.tree2.bn2.bias']
    assert torch.equal(have, want)


# full networks; tests/test_recipe_steps.py takes a step with every recipe
STEPS = [f'{POINTS}_resdcn18_4xb8-70e-512_voc0712', f'{POSE}_dla34_8xb16-140e_coco']


@pytest.mark.parametrize('config', STEPS)
def test_one_step_at_a_reduced_size(config):
    torch.manual_seed(0)
    model = build(config).train()
    boxes = torch.tensor([[10.0, 12, 90, 70], [40, 50, 100, 120]])
    sample = DetDataSample(metainfo=dict(img_shape=(128, 128)))
    sample.gt_instances = InstanceData(
        bboxes=boxes,
        labels=torch.zeros(2, dtype=torch.long),
        keypoints=boxes[:, None, :2] + torch.arange(17.0)[:, None],
        keypoints_visible=torch.arange(17).remainder(3).expand(2, -1),
    )
    inputs = torch.randint(0, 256, (3, 128, 128), dtype=torch.uint8)
    data = model.data_preprocessor(
        dict(inputs=[inputs, inputs.flip(-1)], data_samples=[sample, sample]), True
    )
    losses = model(**data, mode='loss')
    assert losses['num_pos'] == 4
    total, _ = model.parse_losses(losses)
    total.backward()
    assert torch.isfinite(total)
    untrained = [name for name, each in model.named_parameters() if each.grad is None]
    assert untrained == []


@pytest.mark.parametrize(
    'config', [STEPS[0], f'{POINTS}_hg104_8xb3-50e_coco', f'{POSE}_dla34_8xb16-140e_coco']
)
def test_colour_distortion_follows_the_affine_map_as_in_the_official_code(config):
    """Jitter and lighting act on the network input, after the affine map."""
    dataset = read(config).train_dataloader.dataset
    for pipeline in [each.pipeline for each in dataset.get('datasets', [dataset])]:
        steps = [step.type for step in pipeline]
        assert steps[steps.index('CenterAffine') + 1] == 'ColorJitterLighting'
        assert 'PhotoMetricDistortion' not in steps
    loaded = dict(
        img=np.full((70, 95, 3), 99, np.uint8), img_id=1, img_path='1.png', ori_shape=(70, 95),
        img_shape=(70, 95), instances=[], num_keypoints=17,
    )  # fmt: skip
    with DefaultScope.overwrite_default_scope('mmdet'):
        packed = TRANSFORMS.build(dict(type='Compose', transforms=pipeline[1:]))(loaded)
    assert packed['inputs'].dtype == torch.float32
    size = pipeline[steps.index('CenterAffine')].size
    assert packed['inputs'].shape == (3, *size[::-1])


def test_all_pipelines_of_the_512_pixel_voc_recipe_have_512_pixels():
    cfg = read(f'{POINTS}_dla34_4xb8-70e-512_voc0712')
    loaders = [each.pipeline for each in cfg.train_dataloader.dataset.datasets]
    loaders += [cfg.val_dataloader.dataset.pipeline, cfg.test_dataloader.dataset.pipeline]
    steps = [step for pipeline in loaders for step in pipeline if step.type == 'CenterAffine']
    steps += cfg.tta_pipeline[1].transforms[0]
    assert len(steps) == 5
    assert {tuple(step['size']) for step in steps} == {(512, 512)}
    assert cfg.model.bbox_head.encoder.max_objects == 50


@pytest.mark.parametrize(
    ('config', 'count'),
    [
        (f'{POINTS}_resdcn18_8xb14-140e_coco', 2),
        (f'{POINTS}_dla34_8xb16-230e_coco_multiscale', 10),
        (f'{POSE}_dla34_8xb16-140e_coco', 2),
    ],
)
def test_published_tests_run(config, count):
    """The wrapped detector with the pipeline of --tta on random pixels."""
    cfg = read(config)
    image = np.random.default_rng(0).integers(0, 255, (70, 95, 3), dtype=np.uint8)
    loaded = dict(
        img=image, img_id=1, img_path='1.png', ori_shape=(70, 95), instances=[], num_keypoints=17
    )
    with DefaultScope.overwrite_default_scope('mmdet'):
        views = TRANSFORMS.build(cfg.tta_pipeline[1])(loaded)
        model = MODELS.build({**cfg.tta_model, 'module': cfg.model}).eval()
    batch = {key: [[view] for view in views[key]] for key in ('inputs', 'data_samples')}
    assert len(batch['inputs']) == count
    [sample] = model.test_step(batch)
    found = sample.pred_instances
    assert len(found) <= 100 and torch.isfinite(found.bboxes).all()
    assert ('keypoints' in found) == ('pose' in config)
