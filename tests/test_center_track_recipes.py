"""Full recipes of CenterTrack: official checkpoints load, pipelines run, one step trains."""

import json
import random
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DefaultScope

from mmdet_losses.core.checkpoint import convert, network_of, strip_module
from mmdet_losses.detectors.center.checkpoints import DLA
from mmdet_losses.registry import DATASETS, MODELS
from tools.datasets.videos import make_videos

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / 'tests' / 'golden' / 'models'
STEM = 'centertrack_dla34'
SIZES = {
    f'{STEM}_2xb16-70e_mot17-half': (544, 960),
    f'{STEM}_2xb16-70e_mot17': (544, 960),
    f'{STEM}_4xb16-140e_crowdhuman': (512, 512),
    f'{STEM}_2xb8-70e_kitti-half': (384, 1280),
    f'{STEM}_8xb16-70e_coco': (512, 512),
}


def read(config):
    return Config.fromfile(ROOT / 'configs' / 'centertrack' / f'{config}.py')


@pytest.fixture(autouse=True)
def _scope():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


@pytest.fixture(scope='module', name='videos')
def _videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp('recipes') / 'videos'
    return make_videos(folder, train=1, val=1, frames=4, leave=0.0)


def on(cfg, videos):
    """Data set of a recipe, with drawn videos."""
    cfg.update(
        data_root=f'{videos}/', ann_file='annotations/train.json',
        data_prefix=dict(img='train/'), metainfo=dict(classes=('digit',)), ignored=None,
    )  # fmt: skip
    return DATASETS.build(cfg)


@pytest.mark.parametrize(
    ('config', 'folder'),
    [
        (f'{STEM}_2xb16-70e_mot17', 'centertrack_dla34_mot17'),
        (f'{STEM}_4xb16-140e_crowdhuman', 'centertrack_dla34_mot17'),
        (f'{STEM}_8xb16-70e_coco', 'centertrack_dla34_coco'),
    ],
)
def test_the_official_checkpoint_loads_into_the_recipe(config, folder):
    """The converted names and shapes load strictly."""
    with torch.device('meta'):
        keys = json.loads((GOLDEN / folder / 'keys.json').read_text())
        source = {key: torch.empty(shape) for key, shape in keys.items()}
        model = MODELS.build(read(config).model)
    target = network_of(read(config).model).state_dict()
    result = convert(strip_module(source), target, DLA).state_dict
    assert {key: value.shape for key, value in result.items()} == {
        key: value.shape for key, value in model.state_dict().items()
    }
    model.load_state_dict(result, strict=True, assign=True)


@pytest.mark.parametrize(('config', 'size'), SIZES.items(), ids=list(SIZES))
def test_pairs_have_the_size_of_the_recipe(config, size, videos):
    cfg = read(config)
    dataset = on(cfg.train_dataloader.dataset, videos)
    gaps = set()
    for seed in range(6):
        random.seed(seed)
        item = dataset[0, 2]
        assert item['inputs'].shape[1:] == item['previous'].shape[1:] == size
        sample = item['data_samples']
        path = sample.previous.img_path
        gaps.add(int(Path(sample.img_path).stem) - int(Path(path).stem))
        identities = set(sample.gt_instances.instances_ids.tolist())
        assert identities & set(sample.previous.gt_instances.instances_ids.tolist())
    single = 'crowdhuman' in config or 'coco' in config
    assert gaps == {0} if single else len(gaps) > 1


@pytest.mark.parametrize('config', [f'{STEM}_2xb16-70e_mot17-half', f'{STEM}_2xb8-70e_kitti-half'])
def test_test_boxes_are_in_pixels_of_the_original_image(config, videos):
    cfg = read(config).val_dataloader
    dataset = on(cfg.dataset, videos)
    assert dataset.test_mode
    item = dataset[0, 1]
    assert item['inputs'].shape[1:] == SIZES[config]
    sample = item['data_samples']
    assert {'video_id', 'frame_id', 'border', 'scale_factor'} <= set(sample.metainfo_keys())
    expected = [each['bbox'] for each in dataset.get_data_info(0)['images'][1]['instances']]
    boxes = sample.gt_instances.bboxes
    assert getattr(boxes, 'tensor', torch.as_tensor(boxes)).tolist() == expected


@pytest.mark.parametrize('config', [f'{STEM}_2xb16-70e_mot17-half', f'{STEM}_2xb8-70e_kitti-half'])
def test_one_step_at_a_reduced_size(config, videos):
    torch.manual_seed(0)
    cfg = read(config)
    cfg.model.backbone.pop('init_cfg', None)
    model = MODELS.build(cfg.model).train()
    for step in cfg.train_dataloader.dataset.pipeline:
        if step.type == 'PairAffine':
            step.update(size=(128, 128))
    dataset = on(cfg.train_dataloader.dataset, videos)
    data = model.data_preprocessor(pseudo_collate([dataset[0, 1], dataset[0, 2]]), True)
    total, logged = model.parse_losses(model(**data, mode='loss'))
    total.backward()
    assert torch.isfinite(total)
    assert logged['num_pos'] > 2
    assert logged['loss_tracking'] > 0
    assert ('loss_ltrb_amodal' in logged) == ('mot17' in config)
    assert not [name for name, each in model.named_parameters() if each.grad is None]


def test_the_test_split_writes_files_for_the_server():
    cfg = read(f'{STEM}_2xb16-70e_mot17')
    assert cfg.test_evaluator.format_only
    assert cfg.test_dataloader.dataset.data_prefix.img == 'test/'
    assert cfg.val_evaluator.type == 'MOTMetric'
    assert 'format_only' not in cfg.val_evaluator
