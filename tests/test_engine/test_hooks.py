"""Training hooks, without a training."""

from __future__ import annotations

import logging
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import DefaultSampler
from mmengine.logging import MessageHub
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmdet_losses.engine import EpochSeedHook, NumPositivesHook


class Watch:
    """A runner reduced to a log and a message hub."""

    def __init__(self) -> None:
        self.message_hub = MessageHub(f'watch_{id(self)}')
        self.epoch = 0
        self.warnings: list[str] = []
        self.logger = logging.getLogger(f'watch_{id(self)}')
        self.logger.warning = self.warnings.append

    def feed(self, hook: NumPositivesHook, *values: float, key: str = 'num_pos') -> None:
        for value in values:
            self.message_hub.update_scalar(f'train/{key}', value)
            hook.after_train_iter(self, 0)


def test_warns_once_after_patience():
    hook, watch = NumPositivesHook(patience=3), Watch()
    watch.feed(hook, 0, 0, 2, 0, 0)
    assert watch.warnings == []
    watch.feed(hook, 0, 0, 0, 0, 0)
    (warning,) = watch.warnings
    for word in ('3 consecutive iterations', 'num_pos = 0', 'crop', 'class list'):
        assert word in warning


def test_reads_the_log_only():
    """Model outputs are never read, because reading one synchronises the device."""
    hook, watch = NumPositivesHook(patience=1), Watch()
    hook.after_train_iter(watch, 0, outputs={'num_pos': torch.tensor(0.0, device='meta')})
    assert watch.warnings == []


def test_reports_dropped_boxes_once():
    hook, watch = NumPositivesHook(), Watch()
    watch.feed(hook, 0, 0, key='num_dropped')
    hook.after_train_epoch(watch)
    assert watch.warnings == []
    watch.feed(hook, 2, 0, 3, key='num_dropped')
    watch.epoch = 1
    hook.after_train_epoch(watch)
    hook.after_train_epoch(watch)
    (warning,) = watch.warnings
    assert '5 boxes' in warning
    assert 'epoch 2' in warning


def test_patience_is_checked():
    with pytest.raises(ValueError, match='patience is 0'):
        NumPositivesHook(patience=0)


class Noise(torch.utils.data.Dataset):
    """Items are numbers of the three random generators."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> list[float]:
        number = np.random.rand()  # noqa: NPY002, augmentation draws from the global state
        return [index, random.random(), number, float(torch.rand(()))]


def epochs(monkeypatch, workers: int, numbers: list[int], rank: int = 0, seed: int = 5) -> list:
    """The data of some epochs, each as a list of items."""
    monkeypatch.setattr('mmdet_losses.engine.hooks.get_rank', lambda: rank)
    data = dict(dataset=Noise(), batch_size=1, num_workers=workers)
    data['persistent_workers'] = workers > 0
    loader = Runner.build_dataloader(
        dict(**data, sampler=dict(type='DefaultSampler', shuffle=True)), seed=99
    )
    loop = EpochBasedTrainLoop.__new__(EpochBasedTrainLoop)
    runner = SimpleNamespace(train_loop=loop, train_dataloader=loader, seed=seed, cfg=Config())
    seen = []
    for runner.epoch in numbers:
        torch.manual_seed(1234 + len(seen))  # any earlier state
        loader.batch_sampler.sampler.set_epoch(runner.epoch)
        EpochSeedHook().before_train_epoch(runner)
        seen.append([tuple(item[0] for item in map(list, batch)) for batch in loader])
    sampler = loader.batch_sampler.sampler
    assert isinstance(sampler, DefaultSampler)
    assert sampler.seed == seed
    return seen


@pytest.mark.parametrize('workers', [0, 2])
def test_an_epoch_depends_on_its_number_only(monkeypatch, workers):
    one, two, three = epochs(monkeypatch, workers, [0, 1, 2])
    assert epochs(monkeypatch, workers, [2]) == [three]
    values = [value for epoch in (one, two, three) for item in epoch for value in item[1:]]
    assert len(set(values)) == len(values) == 36  # nothing is drawn twice
    (other_rank,) = epochs(monkeypatch, workers, [2], rank=1)
    assert not {v for i in other_rank for v in i[1:]} & {v for i in three for v in i[1:]}


def test_iteration_based_loops_are_not_changed():
    before = torch.get_rng_state()
    EpochSeedHook().before_train_epoch(SimpleNamespace(train_loop=object()))
    assert torch.equal(torch.get_rng_state(), before)
