"""Networks without a golden run equal their cfg, computed layer by layer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdet_losses.core.checkpoint import network_of
from mmdet_losses.detectors.yolo.checkpoints import darknet_order
from mmdet_losses.detectors.yolo.darknet_files import layers_in_order
from tools.parity.models import DARKNET_CONFIGS, forward, recipe

GOLDEN = Path(__file__).parents[1] / 'golden' / 'models'
WIRING = json.loads((GOLDEN / 'darknet_wiring.json').read_text())
"""Name -> layers: [kind, arguments], those of darknet's cfg with absolute indices."""
ACTIVATIONS = {
    'leaky': lambda x: F.leaky_relu(x, 0.1),
    'mish': F.mish,
    'linear': nn.Identity(),
    'logistic': nn.Identity(),  # the last one of new_coords; our networks return logits
}


def run_cfg(layers: list[list], weights: list[list[Tensor]], image: Tensor) -> list[Tensor]:
    """Inputs of the [yolo] layers; ``weights`` are those of the convolutions in file order."""
    outputs, found, left = [], [], iter(weights)
    for kind, *arguments in layers:
        x = outputs[-1] if outputs else image
        if kind == 'convolutional':
            stride, pad, activation = arguments
            bias, *norm, kernel = next(left)
            x = F.conv2d(x, kernel, None if norm else bias, stride, pad)
            if norm:
                scale, mean, variance = norm
                x = F.batch_norm(x, mean, variance, scale, bias, eps=1e-5)
            x = ACTIVATIONS[activation](x)
        elif kind == 'route':
            x = torch.cat([outputs[i] for i in arguments], 1)
        elif kind == 'shortcut':
            x = x + outputs[arguments[0]]
        elif kind == 'maxpool':
            x = F.max_pool2d(x, arguments[0], 1, arguments[0] // 2)
        elif kind == 'upsample':
            x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        else:
            found.append(x)
        outputs.append(x)
    assert next(left, None) is None
    return found


@pytest.mark.parametrize('name', sorted(WIRING))
def test_equals_the_cfg_layer_by_layer(name):
    model = recipe(DARKNET_CONFIGS[name], {'bbox_head.predictor.num_classes': 2})
    network = network_of(model).to_empty(device='cpu').eval()
    generator = torch.Generator().manual_seed(0)
    for key, value in network.state_dict().items():
        if key.endswith('running_var'):
            value.uniform_(0.5, 1.5, generator=generator)
        elif value.is_floating_point():
            fan_in = value[0].numel() if value.dim() > 1 else 4
            value.normal_(0, fan_in**-0.5, generator=generator)
    state = network.state_dict()
    weights = [
        [state[key] for key in layer.keys]
        for layer in layers_in_order(network, darknet_order(model))
    ]
    image = torch.rand(1, 3, 64, 128, generator=generator)
    with torch.no_grad():
        want = run_cfg(WIRING[name], weights, image)
        have = forward(network, image).levels
    for official, ours in zip(want, have, strict=True):
        assert 0 < official.std() < torch.inf
        torch.testing.assert_close(ours, official, rtol=0, atol=1e-5 * float(official.std()))
