"""Settings that a part of the config does not accept: one message with the place in the config."""

import re

import pytest
import torch
from mmdet.datasets import CocoDataset
from mmdet.models import DetDataPreprocessor
from mmengine.config import Config
from mmengine.optim import LinearLR, build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import nn

from mmdet_losses.engine.cli import check_length
from mmdet_losses.engine.explain import explain
from mmdet_losses.engine.processes import UsageError
from mmdet_losses.registry import HOOKS, MODELS, PARAM_SCHEDULERS
from tests.test_engine.test_explain import raised


def optimizer(**settings):
    wrapper = dict(optimizer=dict(dict(type='SGD', lr=0.1), **settings))
    cfg = Config(dict(optim_wrapper=wrapper, default_scope='mmdet'))
    return cfg, lambda: build_optim_wrapper(nn.Linear(1, 1), cfg.optim_wrapper)


def model(**settings):
    backbone = dict(type='mmdet.ResNet', depth=18)
    cfg = Config(dict(model=dict(backbone=dict(backbone, **settings))))
    return cfg, lambda: MODELS.build(cfg.model.backbone)


def scheduler(**settings):
    step = nn.Linear(1, 1)
    cfg = Config(dict(param_scheduler=[dict(dict(type='LinearLR', end=5), **settings)]))
    built = torch.optim.SGD(step.parameters(), lr=0.1)
    return cfg, lambda: PARAM_SCHEDULERS.build(
        cfg.param_scheduler[0], default_args=dict(optimizer=built)
    )


def hook(**settings):
    cfg = Config(dict(default_hooks=dict(logger=dict(type='LoggerHook', **settings))))
    return cfg, lambda: HOOKS.build(cfg.default_hooks.logger)


def loader(**settings):
    part = dict(dataset=[1, 2], sampler=dict(type='DefaultSampler'), batch_size=1)
    cfg = Config(dict(train_dataloader=dict(part, **settings)))
    return cfg, lambda: Runner.build_dataloader(dict(part, **settings))


RESNET = r'^ResNet \(model.backbone in the config\) cannot be built \('


@pytest.mark.parametrize(
    ('case', 'words'),
    [
        (optimizer(lr=-1), r'^SGD \(optim_wrapper.optimizer in .*\(ValueError: Invalid learning'),
        (optimizer(lr='a'), r'^SGD .*cannot be built \(TypeError: '),
        (optimizer(type='Adm'), r"type='Adm' .* not registered \(optimizer\): did you mean .*Adam"),
        (model(depth=17), RESNET + 'KeyError: invalid depth 17'),
        (model(out_indices=(9,)), RESNET + 'AssertionError'),
        (model(frozen_stages=9), RESNET + 'AttributeError: .*layer5'),
        (scheduler(end='a'), r'LinearLR \(param_scheduler\[0\] in .*TypeError'),
        (scheduler(end=-3), r'LinearLR .*end should be larger than begin'),
        (hook(interval=0), r'^LoggerHook \(default_hooks.logger in the config\) cannot be built'),
        (loader(batch_size=0), r'^train_dataloader cannot be built \(ValueError: batch_size'),
        (loader(num_workers=-1), r'^train_dataloader .*num_workers option should be'),
        (loader(persistent_workers=True), r'^train_dataloader .*persistent_workers option needs'),
        (loader(dataset=None), r'^DefaultSampler \(train_dataloader.sampler in the config\)'),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_one_message_with_its_place(case, words):
    cfg, build = case
    with DefaultScope.overwrite_default_scope('mmdet'):
        error = raised(build)
    message = explain(error, cfg)
    assert re.search(words, message), message
    assert message.count('\n') == 0
    assert explain(error) is None or 'registered' in message  # without a config: the traceback


def test_settings_of_the_first_batch_are_named():
    image = dict(inputs=[torch.zeros(3, 8, 8)], data_samples=[])
    error = raised(lambda: DetDataPreprocessor(pad_size_divisor=0)(image))
    assert 'model.data_preprocessor cannot use the batch' in explain(error, Config(dict(model={})))
    error = raised(lambda: DetDataPreprocessor()(dict(img=1)))
    assert 'must end with PackDetInputs (KeyError: inputs)' in explain(
        error, Config(dict(model={}))
    )
    rate = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
    rates = LinearLR(rate, start_factor=0)
    message = explain(raised(lambda: [rates.step() for _ in range(3)]), Config(dict(model={})))
    assert 'LinearLR of param_scheduler cannot change the learning rate (ZeroDivision' in message
    error = raised(lambda: nn.Conv2d(3, 1, 1)([torch.zeros(3, 8, 8)]))
    assert 'use DetDataPreprocessor' in explain(error, Config(dict(model={})))


def test_a_data_set_without_images_after_its_filters_is_named(tmp_path):
    (tmp_path / 'a.json').write_text('{"images": [], "annotations": [], "categories": []}')
    path = str(tmp_path / 'a.json')
    settings = dict(ann_file=path, data_prefix=dict(img=''), filter_cfg=dict(min_size=99))
    message = explain(raised(lambda: CocoDataset(**settings)))
    assert (
        f"CocoDataset of {path} has no images left: check its filter_cfg ({{'min_size'" in message
    )


def test_a_component_of_another_scope_is_named():
    def build():
        raise KeyError('SingleStageDetector is not in the mmyolo::model registry.')

    message = explain(raised(build), Config(dict(default_scope='mmyolo')))
    assert "is not registered in the scope 'mmyolo' (model): set default_scope='mmdet'" in message


@pytest.mark.parametrize('key', ['max_epochs', 'max_iters'])
@pytest.mark.parametrize('value', [0, -1, 'abc', 1.5])
def test_a_training_of_no_epochs_is_an_error(key, value):
    with pytest.raises(UsageError, match=rf'train_cfg\.{key} is {value!r}; set a whole number'):
        check_length(Config(dict(train_cfg={key: value})))
    check_length(Config(dict(train_cfg={key: 1})))
    check_length(Config(dict(train_cfg=None)))


@pytest.mark.parametrize(
    ('part', 'key'), [('encoder', 'topk'), ('encoder', 'max_objects'), ('predictor', 'num_classes')]
)
@pytest.mark.parametrize('value', [0, -3])
def test_a_number_below_one_is_an_error_of_the_head(part, key, value):
    settings = {'predictor': {}, 'encoder': {}, part: {key: value}}
    with pytest.raises(ValueError, match=f'{key} is {value} in the {part}; set 1 or more'):
        MODELS.build(dict(type='EncodedDenseHead', criterion={}, **settings))
