"""Timer of the head's method, and the error for detectors without it."""

import time
from types import SimpleNamespace

import pytest
from mmengine.logging import MessageHub
from torch import nn

from mmdet_losses.engine import HeadTimeHook


class Head(nn.Module):
    def loss_by_feat(self, seconds, *, label):
        time.sleep(seconds)
        return dict(loss=label)


def test_seconds_of_the_head_are_logged():
    hub = MessageHub.get_instance('head_time_test')
    model = nn.Module()
    model.bbox_head = Head()
    HeadTimeHook().before_train(SimpleNamespace(model=model))
    assert model.bbox_head.loss_by_feat(0.02, label=7) == dict(loss=7)
    logged = hub.get_scalar('train/head_time').current()
    assert logged >= 0.02


def test_a_detector_without_a_dense_head_raises_an_error():
    with pytest.raises(TypeError, match='Identity has no bbox_head with loss_by_feat'):
        HeadTimeHook().before_train(SimpleNamespace(model=nn.Identity()))
