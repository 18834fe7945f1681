"""Full recipes of the corner family: official checkpoints load, one step trains, tests run."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import load_checkpoint
from mmengine.structures import InstanceData

from mmdet_losses.core.checkpoint import convert, network_of, strip_module
from mmdet_losses.detectors.corner.checkpoints import CORNERS
from mmdet_losses.registry import MODELS, TRANSFORMS
from tools.convert_checkpoint import main, read_model
from tools.parity.models import make_weights

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / 'tests' / 'golden' / 'models'
# config, folder of the official network's keys
RECIPES = [
    ('cornernet/cornernet_hg104_8xb6-500k_coco', 'cornernet_hg104'),
    ('cornernet/cornernet_hg104_8xb6-500k_coco', 'cornernet_lite_hg104'),
    ('cornernet_squeeze/cornernet_squeeze_8xb7-500k_coco', 'cornernet_squeeze'),
    ('cornernet_saccade/cornernet_saccade_8xb6-500k_coco', 'cornernet_saccade'),
    ('centernet_triplet/centernet_triplet_hg104_8xb6-480k_coco', 'centernet_triplet_hg104'),
    ('centernet_triplet/centernet_triplet_hg52_8xb6-480k_coco', 'centernet_triplet_hg52'),
]
SQUEEZE = RECIPES[2]


def path_of(config):
    return str(ROOT / 'configs' / f'{config}.py')


def build(config):
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(Config.fromfile(path_of(config)).model)


def read(folder, name):
    return json.loads((GOLDEN / folder / name).read_text())


@pytest.mark.parametrize(('config', 'folder'), RECIPES, ids=[each[1] for each in RECIPES])
def test_the_official_checkpoint_loads_into_the_recipe(config, folder):
    """The converted names and shapes load strictly."""
    with torch.device('meta'):
        source = {key: torch.empty(shape) for key, shape in read(folder, 'keys.json').items()}
        model = build(config)
    target = network_of(read_model(path_of(config))).state_dict()
    result = convert(strip_module(source), target, CORNERS).state_dict
    assert {key: value.shape for key, value in result.items()} == {
        key: value.shape for key, value in model.state_dict().items()
    }
    model.load_state_dict(result, strict=True, assign=True)


def test_a_converted_file_loads_strictly(tmp_path):
    config, folder = SQUEEZE
    official, ours = tmp_path / 'CornerNet_Squeeze_500000.pkl', tmp_path / 'squeeze.pth'
    torch.save(make_weights(read(folder, 'keys.json'), read(folder, 'meta.json')), official)
    assert main([path_of(config), str(official), str(ours)]) == 0
    model = build(config)
    load_checkpoint(model, str(ours), strict=True)
    written = torch.load(ours, weights_only=True)['state_dict']
    name = 'bbox_head.predictor.stacks.1.tl.offset.2.weight'
    assert torch.equal(model.state_dict()[name], written[name])


# the full network; tests/test_recipe_steps.py takes a step with every recipe
@pytest.mark.parametrize('config', [SQUEEZE[0]])
def test_one_step_at_a_reduced_size(config):
    torch.manual_seed(0)
    model = build(config).train()
    boxes, labels = torch.tensor([[10.0, 12, 90, 70], [40, 50, 100, 120]]), torch.tensor([3, 79])
    sample = DetDataSample(metainfo=dict(img_shape=(127, 127)))
    sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
    inputs = torch.randint(0, 256, (3, 127, 127), dtype=torch.uint8)
    data = model.data_preprocessor(
        dict(inputs=[inputs, inputs.flip(-1)], data_samples=[sample, sample]), True
    )
    losses = model(**data, mode='loss')
    assert losses['num_pos'] == 4
    total, _ = model.parse_losses(losses)
    total.backward()
    parameters = dict(model.named_parameters())
    untrained = [name for name, each in parameters.items() if each.grad is None]
    assert untrained == []
    before = parameters['backbone.stem.0.conv.weight'].detach().clone()
    torch.optim.SGD(model.parameters(), lr=1e-6).step()
    assert torch.isfinite(total)
    assert not torch.equal(before, parameters['backbone.stem.0.conv.weight'])


# config -> number of views of --tta (0: none)
TESTS = {
    'cornernet/cornernet_hg52_8xb6-500k_coco': 2,
    'cornernet/cornernet_hg104_8xb6-500k_coco_multiscale': 10,
    'cornernet/cornernet_hg104_8xb6-500k_coco_plain': 0,
    'cornernet_squeeze/cornernet_squeeze_8xb7-500k_coco': 1,
    'cornernet_squeeze/cornernet_squeeze_8xb7-500k_coco_plain': 0,
    'cornernet_saccade/cornernet_saccade_8xb6-500k_coco': 0,
    'centernet_triplet/centernet_triplet_hg52_8xb6-480k_coco': 2,
    'centernet_triplet/centernet_triplet_hg104_8xb6-480k_coco_multiscale': 10,
    'centernet_triplet/centernet_triplet_hg104_8xb6-480k_coco_plain': 0,
}


def thin(model):
    """The model of the recipe with one small hourglass."""
    if model.backbone.type == 'HourglassNet':
        stages = dict(stage_channels=(256, *[8] * 5), stage_blocks=(1,) * 6)
        model.backbone.update(num_stacks=1, **stages)
        model.bbox_head.predictor.num_stacks = 1
    return model


@pytest.mark.parametrize(('config', 'count'), TESTS.items(), ids=list(TESTS))
def test_published_tests_run(config, count):
    """The test pipeline and that of --tta on random pixels; --tta clips boxes to the image."""
    cfg = Config.fromfile(path_of(config))
    image = np.random.default_rng(0).integers(0, 255, (70, 95, 3), dtype=np.uint8)
    loaded = dict(img=image, img_id=1, img_path='1.png', ori_shape=(70, 95), instances=[])
    loaded['img_shape'] = (70, 95)
    steps = cfg.test_dataloader.dataset.pipeline[1:]
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'), torch.no_grad():
        model = MODELS.build(thin(cfg.model)).eval()
        packed = TRANSFORMS.build(dict(type='Compose', transforms=steps))(dict(loaded))
        found = model.test_step({name: [value] for name, value in packed.items()})
        if count:
            views = TRANSFORMS.build(cfg.tta_pipeline[1])(dict(loaded))
            whole = MODELS.build({**cfg.tta_model, 'module': thin(cfg.model)}).eval()
            batch = {key: [[view] for view in views[key]] for key in ('inputs', 'data_samples')}
            assert len(batch['inputs']) == count
            [merged] = whole.test_step(batch)
            assert (merged.pred_instances.bboxes <= torch.tensor([95.0, 70] * 2)).all()
            found.append(merged)
    for sample in found:
        assert len(sample.pred_instances) <= 100
        assert torch.isfinite(sample.pred_instances.bboxes).all()
