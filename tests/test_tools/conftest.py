"""A small data set, a small detector, and the tools as processes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from tests.processes import LIMIT, ROOT, Command, end_command, kill_command, start_command

CONFIG = """
custom_imports = dict(imports=['mmdet_losses'], allow_failed_imports=False)
_base_ = ['mmdet::_base_/default_runtime.py']
data_root = {root!r}
classes = ('one', 'two')
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(64, 64), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(64, 64), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape',
                                          'scale_factor')),
]
dataset = dict(type='CocoDataset', data_root=data_root, ann_file='train.json',
               data_prefix=dict(img='images/'), metainfo=dict(classes=classes))
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(filter_cfg=dict(filter_empty_gt=False), pipeline=pipeline, **dataset))
test_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(test_mode=True, pipeline=test_pipeline, **dataset))
test_evaluator = dict(type='CocoMetric', ann_file=data_root + '/train.json', metric='bbox')
test_cfg = dict(type='TestLoop')
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=3)
model = dict(
    type='SingleStageDetector',
    data_preprocessor=dict(type='DetDataPreprocessor', mean=[127.0] * 3, std=[60.0] * 3,
                           bgr_to_rgb=True, pad_size_divisor=32),
    backbone=dict(type='ResNet', depth=18, base_channels=8, stem_channels=8, num_stages=3,
                  strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,), norm_eval=False),
    neck=dict(type='CTResNetNeck', in_channels=32, num_deconv_filters=(16, 16),
              num_deconv_kernels=(4, 4), use_dcn=False),
    bbox_head=dict(
        type='EncodedDenseHead',
        predictor=dict(type='CenterNetPointsPredictor', in_channels=16, channels=16,
                       num_classes=2),
        encoder=dict(type='CenterNetPointsTargetEncoder', num_classes=2, topk=20),
        criterion=dict(type='CenterNetPointsLoss')),
    test_cfg=dict(score_thr=0.05, max_per_img=20))
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=0.01))
param_scheduler = [dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=6)]
auto_scale_lr = dict(base_batch_size=2)
default_hooks = dict(logger=dict(interval=1))
randomness = dict(seed=7)
"""


# Hooks of the module `spy`, for configs whose custom_imports name it.
SPY = """
import os, time
from pathlib import Path
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class SaveEveryRank(Hook):
    def before_train(self, runner):
        self.start = time.monotonic()

    def after_train(self, runner):
        state = runner.model.module.state_dict()
        state = {key: value for key, value in state.items() if 'running' not in key}
        dump = dict(state=state, iter=runner.iter, seconds=time.monotonic() - self.start)
        torch.save(dump, f'{runner.work_dir}/rank_{runner.rank}.pt')

@HOOKS.register_module()
class StallInEpochTwo(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.epoch == 1 and batch_idx == 2:
            Path(runner.work_dir, 'stalled').touch()
            time.sleep(300)
"""


def _draw_data(root: Path, count: int = 8) -> None:
    """Draw digits 1 and 2 on noise; in ``half.json`` every second image has no object."""
    rng = np.random.default_rng(0)
    images, boxes = [], []
    (root / 'images').mkdir(parents=True)
    for i in range(count):
        image = rng.integers(90, 160, (64, 64, 3), dtype=np.uint8)
        for label in (1, 2):
            x, y = int(rng.integers(2, 34)), 4 + 30 * (label - 1)
            cv2.putText(image, str(label), (x, y + 22), 0, 0.9, (255, 255, 255), 2)
            ids = dict(id=len(boxes) + 1, image_id=i, category_id=label)
            boxes.append(ids | dict(bbox=[x, y, 20, 24], area=480, iscrowd=0))
        cv2.imwrite(str(root / 'images' / f'{i}.png'), image)
        images.append(dict(id=i, file_name=f'{i}.png', height=64, width=64))
    categories = [dict(id=1, name='one'), dict(id=2, name='two')]
    odd = [box for box in boxes if box['image_id'] % 2]
    for name, some in (('train', boxes), ('half', odd)):
        content = dict(images=images, annotations=some, categories=categories)
        (root / f'{name}.json').write_text(json.dumps(content))


def environment(folder: Path, **extra: Any) -> dict[str, Any]:
    """Variables of a tool: this checkout and the modules of ``folder`` can be imported."""
    path = os.pathsep.join([str(ROOT), str(folder), os.environ.get('PYTHONPATH', '')])
    return {'PYTHONPATH': path, 'PYTHON': sys.executable, **extra}


class Tools:
    """The tools as a user calls them, with a small detector on a small data set."""

    root = ROOT

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / 'small.py'
        _draw_data(folder / 'data')
        self.config.write_text(CONFIG.format(root=str(folder / 'data')))
        (folder / 'spy.py').write_text(SPY)
        self.ranks = self._with_hook('SaveEveryRank')
        self.stall = self._with_hook('StallInEpochTwo')

    def _with_hook(self, name: str) -> Path:
        config = self.folder / f'{name}.py'
        config.write_text(
            "_base_ = 'small.py'\n"
            "custom_imports = dict(imports=['mmdet_losses', 'spy'], allow_failed_imports=False)\n"
            f"custom_hooks = [dict(type='{name}')]\n"
        )
        return config

    def start(self, tool: str, *arguments: Any, **env: Any) -> Command:
        """Start a tool; :meth:`end` waits for it."""
        command = [ROOT / 'tools' / tool] if tool.endswith('.sh') else [sys.executable, tool]
        return start_command(
            [*command, *arguments],
            cwd=self.folder if tool.endswith('.sh') or tool == '-c' else ROOT / 'tools',
            env=environment(self.folder, **env),
            stderr=subprocess.STDOUT,
        )

    @staticmethod
    def end(process: Command, limit: float = LIMIT) -> SimpleNamespace:
        """Wait for a tool, at most ``limit`` seconds."""
        done = end_command(process, limit)
        return SimpleNamespace(status=done.returncode, text=done.stdout)

    def run(self, *command: Any, limit: float = LIMIT, **env: Any) -> SimpleNamespace:
        return self.end(self.start(*command, **env), limit)

    @staticmethod
    def free_port() -> int:
        with socket.socket() as sock:
            sock.bind(('127.0.0.1', 0))
            return sock.getsockname()[1]

    @staticmethod
    def weights(path: Path) -> dict[str, torch.Tensor]:
        return torch.load(path, map_location='cpu', weights_only=True)['state_dict']

    @staticmethod
    def wait_for(path: Path, process: Command, limit: float = LIMIT) -> None:
        """Wait until a running tool has made a file."""
        end = time.monotonic() + limit
        while not path.exists():
            if process.poll() is not None or time.monotonic() > end:
                kill_command(process)
                output, _ = process.communicate()
                pytest.fail(f'no {path} within {limit:g} s:\n{output[-3000:]}')
            time.sleep(0.05)


@pytest.fixture(scope='session')
def tools(tmp_path_factory: pytest.TempPathFactory) -> Tools:
    return Tools(tmp_path_factory.mktemp('tools'))


@pytest.fixture(scope='session')
def trained(tools: Tools) -> SimpleNamespace:
    """A training of three epochs with two persistent workers: ``work_dir``, and the output."""
    work_dir = tools.folder / 'trained'
    result = tools.run('train.py', tools.config, '--work-dir', work_dir, '--cfg-options', *WORKERS)
    assert result.status == 0, result.text[-3000:]
    return SimpleNamespace(work_dir=work_dir, text=result.text)


WORKERS = ['train_dataloader.num_workers=2', 'train_dataloader.persistent_workers=True']


@pytest.fixture(scope='session')
def workers() -> list[str]:
    return WORKERS
