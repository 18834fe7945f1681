"""Every config builds, and every small config overfits two images."""

import itertools
import json
import random
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.structures.bbox import bbox_overlaps
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from mmdet_losses import engine
from mmdet_losses.core.tta import WITHOUT_AUGMENTATION
from mmdet_losses.engine.cpu import cpu_has_bfloat16
from mmdet_losses.metrics.oracle import Perfect
from mmdet_losses.registry import DATASETS, MODELS, TRANSFORMS
from mmdet_losses.visualization import PicturesHook, draw_targets
from tools import anchors, browse_targets, oracle_map, test, train
from tools.datasets.small_configs import data_maker, make_data, small_configs

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
DETECTORS = sorted(path for path in CONFIGS.glob('*/*.py') if path.parent.name != '_base_')
PAIRS = [path for path in DETECTORS if path.parent.name in ('baselines', 'bccd')]
SMALL = list(small_configs().values())


# Options that make two images of every kind of data.
FEW = {
    'make_digits': dict(train=2, val=2, objects=(2, 3)),
    'make_figures': dict(train=2, val=2, objects=(1, 2), empty_fraction=0.0),
    'make_videos': dict(train=2, val=2, frames=2, objects=(2, 3), leave=0.0, speed=(2, 6)),
}


def named(paths):
    return pytest.mark.parametrize('path', paths, ids=[path.stem for path in paths])


@pytest.fixture(autouse=True)
def _scope():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


@pytest.fixture(name='two_images', scope='session')
def _two_images(tmp_path_factory):
    """Function that makes two images for a config."""
    root = tmp_path_factory.mktemp('data')

    def make(cfg):
        tool, options = data_maker(cfg)
        name = '_'.join(f'{key}{value}' for key, value in sorted(options.items()))
        few = FEW[tool]
        if cfg.model.type == 'CornerNetSaccade':  # crops of larger images take longer
            few = {**few, 'size': (256, 256), 'scale': (40, 64)}
        return make_data(cfg, root / f'{tool}{name}', **few)

    return make


@named(DETECTORS)
def test_config_builds(path):
    cfg = Config.fromfile(path)
    assert cfg.custom_imports.imports == ['mmdet_losses']
    assert 'test_cfg' not in cfg.model.get('bbox_head', {}), 'the detector overwrites it'
    with torch.device('meta'):  # weights without values
        model = MODELS.build(cfg.model)
    assert any(parameter.requires_grad for parameter in model.parameters())
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        dataset = cfg[loader].dataset
        while 'pipeline' not in dataset:
            dataset = dataset.get('dataset') or dataset.datasets[0]
        assert all(TRANSFORMS.build(step) is not None for step in dataset.pipeline)
    assert cfg.train_cfg.get('max_epochs', cfg.train_cfg.get('max_iters')) > 0
    hooks = [hook['type'] for hook in cfg.get('custom_hooks') or []]
    assert cfg.param_scheduler or 'ScaledYOLOV4ScheduleHook' in hooks
    assert cfg.auto_scale_lr.base_batch_size > 0


def with_crowds(cfg, folder):
    """Mark an object of the training image with most objects as a crowd: an ignored region."""
    dataset = cfg.train_dataloader.dataset
    dataset = dataset.get('dataset', dataset)
    content = json.loads(Path(dataset.data_root, dataset.ann_file).read_text())
    notes = content['annotations']
    fullest = Counter(note['image_id'] for note in notes).most_common(1)[0][0]
    next(note for note in notes if note['image_id'] == fullest)['iscrowd'] = 1
    path = folder / 'crowds.json'
    path.write_text(json.dumps(content))
    dataset.ann_file = str(path)


def use_data(cfg, folder):
    """Give a small config other data, loaded by this process."""
    for name, split in (('train', 'train'), ('val', 'val'), ('test', 'val')):
        loader = cfg[f'{name}_dataloader']
        loader.update(num_workers=0, persistent_workers=False, batch_size=2)
        if loader.dataset.type == 'RepeatDataset':
            loader.dataset.times = 1
        dataset = loader.dataset.get('dataset', loader.dataset)
        dataset.update(data_root=f'{folder}/', ann_file=f'annotations/{split}.json')
    for name in ('val_evaluator', 'test_evaluator'):
        for each in cfg[name] if isinstance(cfg[name], list) else [cfg[name]]:
            if 'ann_file' in each:
                each.ann_file = f'{folder}/annotations/val.json'


@named(SMALL)
def test_every_tool_runs_on_every_small_config(path, two_images, tmp_path, capsys):
    cfg = Config.fromfile(path)
    use_data(cfg, two_images(cfg))
    with_crowds(cfg, tmp_path)
    cfg.train_cfg.update(max_epochs=1, val_interval=5, dynamic_intervals=None)
    config, work_dir = str(tmp_path / f'{path.stem}.py'), str(tmp_path / 'work')
    cfg.dump(config)

    def run(work, parse_args, *arguments):
        engine.run_tool(work, parse_args([config, *arguments, '--work-dir', work_dir]))

    run(train.train, train.parse_args)
    checkpoint = str(tmp_path / 'work' / 'epoch_1.pth')
    run(test.test, test.parse_args, checkpoint, '--show-dir', 'shown')
    assert list(tmp_path.glob('work/*/shown/*'))
    capsys.readouterr()
    if cfg.model.type in WITHOUT_AUGMENTATION:
        with pytest.raises(SystemExit):
            run(test.test, test.parse_args, checkpoint, '--tta')
        error = capsys.readouterr().err
        assert f'error: {cfg.model.type} has no test-time augmentation, because' in error
    else:
        run(test.test, test.parse_args, checkpoint, '--tta')
    run(browse_targets.work, browse_targets.parse_args, '--index', '0')
    assert (tmp_path / 'work' / 'targets' / '000000.png').is_file()
    run(oracle_map.work, oracle_map.parse_args)
    size = ['--size', '160', '160']  # not every pipeline has a Resize with a scale
    assert anchors.main([config, '--levels', '1', '--per-level', '2', *size]) == 0
    assert 'anchors=' in capsys.readouterr().out


@named(PAIRS)
def test_configs_of_a_comparison_train_and_validate(path, two_images, tmp_path):
    cfg = Config.fromfile(path)
    folder = f'{two_images(Config.fromfile(CONFIGS / "ssd" / "ssd_digits.py"))}/'
    for name, split in (('train', 'train'), ('val', 'val')):
        loader = cfg[f'{name}_dataloader']
        loader.update(num_workers=0, persistent_workers=False, batch_size=2)
        dataset = loader.dataset.get('dataset', loader.dataset)
        dataset.update(
            data_root=folder,
            ann_file=f'annotations/{split}.json',
            data_prefix=dict(img=f'{split}/'),
            metainfo=dict(classes=tuple('0123456789')[: cfg.num_classes]),
        )
        if loader.dataset.type == 'RepeatDataset':
            loader.dataset.times = 1
    with_crowds(cfg, tmp_path)
    cfg.val_evaluator.ann_file = f'{folder}annotations/val.json'
    cfg.update(work_dir=str(tmp_path), experiment_name=path.stem, test_dataloader=None)
    cfg.load_from = None  # official weights are not part of the repository
    cfg.update(test_cfg=None, test_evaluator=None)
    cfg.train_cfg.update(max_epochs=2, val_interval=2, dynamic_intervals=None)
    cfg.default_hooks.logger.interval = 1
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.iter == 2
    losses, _ = runner.message_hub.get_scalar('train/loss').data
    assert all(0 < loss < float('inf') for loss in losses)
    shown = runner.model.val_step(next(iter(runner.val_dataloader)))
    assert all('pred_instances' in sample for sample in shown)


def test_the_wide_cornernet_has_the_data_and_the_encoder_of_the_small_one():
    wide, small = (
        Config.fromfile(CONFIGS / 'cornernet' / f'cornernet_{name}.py')
        for name in ('wide_digits', 'digits')
    )
    assert wide.train_dataloader == small.train_dataloader
    assert wide.model.bbox_head.encoder == small.model.bbox_head.encoder
    assert wide.model.bbox_head.predictor != small.model.bbox_head.predictor


def training_images(dataset, folder):
    """The training images of a folder with their ground truth, loaded by this data set."""
    dataset.data_root, dataset.test_mode = f'{folder}/', False
    dataset.ann_file, dataset.data_prefix = 'annotations/train.json', {'img': 'train/'}
    return DATASETS.build(dataset)


@named(SMALL)
def test_a_small_config_overfits_two_images(path, two_images):
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 (transforms use it)
    random.seed(0)
    cfg = Config.fromfile(path)
    folder = two_images(cfg)
    dataset = training_images(cfg.val_dataloader.dataset, folder)
    batch = pseudo_collate([dataset[0], dataset[1]])
    batches = itertools.repeat(batch)
    if cfg.model.type == 'CornerNetSaccade':  # random crops
        crops = training_images(cfg.train_dataloader.dataset.dataset, folder)
        batches = (pseudo_collate([crops[i % 2] for i in range(6)]) for _ in itertools.count())
    if cfg.model.type == 'CenterTrack':  # random previous frames
        batches = (pseudo_collate([dataset[0], dataset[1]]) for _ in itertools.count())
    model = MODELS.build(cfg.model).to(memory_format=torch.channels_last)
    model.init_weights()
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = 0.1  # a short training needs fast statistics
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=150)
    for step, each in enumerate(itertools.islice(batches, 150), start=1):
        data = model.data_preprocessor(each, training=True)
        # the corner pools are slow in float32 on a CPU
        half = 'Corner' in cfg.model.bbox_head.encoder.type and cpu_has_bfloat16()
        with torch.autocast('cpu', torch.bfloat16, enabled=half):
            total, _ = model.parse_losses(model(**data, mode='loss'))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        schedule.step()
        if step in (60, 80, 100, 125, 150):
            missing = missing_objects(model, batch)
            if not missing:
                break
    assert not missing, f'not detected after {step} steps: {missing}'


def missing_objects(model, batch):
    """Boxes of the ground truth that a model does not detect, or with wrong keypoints."""
    model.eval()
    with torch.no_grad():
        results = model.val_step(batch)
    model.train()
    missing = []
    for sample in results:
        gt, found = sample.gt_instances, sample.pred_instances
        scale = torch.tensor(sample.scale_factor).repeat(2)
        for row, (box, label) in enumerate(zip(gt.bboxes / scale, gt.labels, strict=True)):
            same = found[(found.labels == label) & (found.scores > 0.3)]
            overlaps = bbox_overlaps(box[None], same.bboxes)[0]
            close = len(same) > 0 and overlaps.max() > 0.6
            if close and 'keypoints' in gt:
                best = same.keypoints[overlaps.argmax()] * scale[:2]
                labelled = gt.keypoints_visible[row] > 0
                apart = (best - gt.keypoints[row]).norm(dim=-1)[labelled]
                close = apart.median() < 3  # pixels
            if not close:
                missing.append(box.tolist())
    return missing


@named(SMALL)
def test_targets_of_a_small_config_are_drawn_and_include_every_object(path, two_images, tmp_path):
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 (transforms use it)
    cfg = Config.fromfile(path)
    dataset = cfg.train_dataloader.dataset
    dataset = training_images(dataset.get('dataset', dataset), two_images(cfg))
    perfect = Perfect(MODELS.build(cfg.model))
    encoded = perfect(pseudo_collate([dataset[0], dataset[1]]))
    sheet, missed = draw_targets(encoded, perfect, dataset.metainfo['classes'])
    sheet.savefig(tmp_path / 'sheet.png')
    assert (tmp_path / 'sheet.png').stat().st_size > 10_000
    assert len(missed) == len(encoded.samples[0].gt_instances)
    if cfg.model.type == 'CornerNetSaccade':  # objects at the border of a crop are not targets
        boxes = encoded.samples[0].gt_instances.bboxes
        missed = missed & (boxes > 8).all(-1) & (boxes < 119).all(-1)
    assert not missed.any()
    found = [sample.pred_instances for sample in perfect.results(encoded, rescale=False)]
    assert sum(map(len, found)) > 0  # a crop can have no complete object
    assert all(len(a) >= len(b) for a, b in zip(encoded.decoded, found, strict=True))

    images = {}  # the hook draws the same targets during training
    runner = SimpleNamespace(
        model=perfect.model.train(),
        train_dataloader=SimpleNamespace(dataset=dataset),
        visualizer=SimpleNamespace(add_image=lambda name, image, _: images.update({name: image})),
        epoch=0,
        iter=7,
    )
    hook = PicturesHook(indices=(1,), score_thr=0.0)
    hook.before_train(runner)
    hook.after_train_epoch(runner)
    assert images['image_1'].std() > 10
    assert perfect.model.training
