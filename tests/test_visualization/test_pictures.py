"""Hook for drawing: every backend gets the sheets, and the training result does not change."""

import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import VISBACKENDS
from mmengine.runner import Runner
from mmengine.visualization import BaseVisBackend
from torch import nn

import mmdet_losses.visualization.pictures as hook_module
from mmdet_losses.visualization import PicturesHook
from tools.make_digits import make_digits

CONFIG = Path(__file__).resolve().parents[2] / 'configs/centernet_points/centernet_points_digits.py'


@VISBACKENDS.register_module()
class KeepsImages(BaseVisBackend):
    """A backend that stores the images in a dict."""

    images = {}

    def _init_env(self):
        pass

    @property
    def experiment(self):
        return self

    def add_image(self, name, image, step=0, **kwargs):
        self.images[name, step] = image


@pytest.fixture(name='train')
def _train(tmp_path):
    """Function that trains two iterations with the given hooks and returns the runner."""
    data = make_digits(tmp_path / 'data', train=2, val=2, objects=(2, 3))

    def train(name, hooks):
        cfg = Config.fromfile(CONFIG)
        cfg.train_dataloader.update(num_workers=0, persistent_workers=False, batch_size=1)
        cfg.train_dataloader.dataset.data_root = f'{data}/'
        cfg.train_cfg.update(max_epochs=1, val_interval=5, dynamic_intervals=None)
        for key in ('val_dataloader', 'val_cfg', 'val_evaluator', 'test_dataloader', 'test_cfg',
                    'test_evaluator'):  # fmt: skip
            cfg[key] = None
        cfg.update(work_dir=str(tmp_path / name), experiment_name=name, custom_hooks=hooks)
        cfg.visualizer.update(
            name=name, vis_backends=[dict(type='LocalVisBackend'), dict(type='KeepsImages')]
        )
        runner = Runner.from_cfg(cfg)
        runner.train()
        return runner

    return train


def test_every_backend_gets_the_sheets_and_the_weights_stay_equal(train, tmp_path):
    KeepsImages.images.clear()
    hook = dict(type='PicturesHook', indices=[0, 1], interval=1, by_epoch=False)
    watched = train('watched', [hook])
    steps = [(f'image_{index}', step) for index in (0, 1) for step in (1, 2)]
    assert sorted(KeepsImages.images) == steps
    for image in KeepsImages.images.values():
        assert image.dtype == np.uint8 and image.ndim == 3 and image.std() > 10
    assert len(list(tmp_path.glob('watched/*/vis_data/vis_image/*.png'))) == 4
    alone = train('alone', [])
    for mine, other in zip(
        watched.model.state_dict().values(), alone.model.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, other)


def test_modes_and_random_states_are_restored():
    model = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    with pytest.raises(KeyError), hook_module.preserved_state(model):
        assert not model.training
        random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002
        raise KeyError
    assert [module.training for module in model.modules()] == [True, True, False]
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[2])


def test_only_the_main_process_draws(monkeypatch):
    monkeypatch.setattr(hook_module, 'is_main_process', lambda: False)
    drawn = []
    runner = SimpleNamespace(
        epoch=0,
        iter=1,
        model=nn.Identity(),
        train_dataloader=SimpleNamespace(dataset=SimpleNamespace(metainfo=dict(classes=()))),
        visualizer=SimpleNamespace(add_image=lambda *args: drawn.append(args)),
    )
    hook = PicturesHook(indices=[0])
    hook.before_train(runner)
    hook._batches = [{}]
    monkeypatch.setattr(hook_module, 'Perfect', lambda model: None)
    monkeypatch.setattr(hook, '_sheet', lambda *args: 'sheet')
    hook.after_train_epoch(runner)
    assert drawn == []
    monkeypatch.setattr(hook_module, 'is_main_process', lambda: True)
    hook.after_train_epoch(runner)
    assert drawn == [('image_0', 'sheet', 1)]


def test_wrong_settings_raise_errors():
    with pytest.raises(ValueError, match='interval is 0'):
        PicturesHook(interval=0)
    with pytest.raises(ValueError, match='indices is empty'):
        PicturesHook(indices=())
    loader = SimpleNamespace(dataset=[0, 0])
    with pytest.raises(ValueError, match='index 2 is outside the training set; use 0 to 1'):
        PicturesHook(indices=[2]).before_train(SimpleNamespace(train_dataloader=loader))
