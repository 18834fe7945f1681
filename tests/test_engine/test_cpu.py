"""bfloat16 and channels last on a CPU."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mmdet_losses.engine import ChannelsLastHook, CPUAutocastOptimWrapper, cpu


@pytest.mark.parametrize(('native', 'dtype'), [(True, torch.bfloat16), (False, torch.float32)])
def test_layers_run_in_bfloat16_only_if_the_cpu_has_it(monkeypatch, native, dtype):
    monkeypatch.setattr(cpu, 'cpu_has_bfloat16', lambda: native)
    layer = nn.Conv2d(2, 3, 3)
    wrapper = CPUAutocastOptimWrapper(torch.optim.SGD(layer.parameters(), lr=0.1))
    before = layer.weight.detach().clone()
    with wrapper.optim_context(layer):
        outputs = layer(torch.ones(1, 2, 5, 5))
    assert outputs.dtype == dtype
    wrapper.update_params(outputs.float().sum())
    assert layer.weight.dtype == torch.float32
    assert not torch.equal(layer.weight, before)


def test_channels_last_changes_the_layout_but_no_result():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 2, 1)).eval()
    image = torch.randn(2, 4, 9, 7)
    before = model(image)
    ChannelsLastHook().before_train(SimpleNamespace(model=model))
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(model(image), before)
