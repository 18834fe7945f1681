"""MobileNetV2 in torchvision's names becomes MMDetection's."""

import pytest
import torch
from mmdet.models.backbones import MobileNetV2
from torch import nn

from mmdet_losses.core.checkpoint import CheckpointMismatch, convert
from mmdet_losses.detectors.checkpoints import LAYOUTS

LAYOUT = LAYOUTS['mobilenetv2_imagenet']

# expansion, channels, blocks, stride of every stage, from the paper's table 2
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
          (6, 160, 3, 2), (6, 320, 1, 1))  # fmt: skip


def layer(channels, out, kernel, stride=1, groups=1):
    conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(out), nn.ReLU6()]


class Block(nn.Module):
    """One inverted residual, its layers numbered as torchvision does."""

    def __init__(self, channels, out, stride, expansion):
        super().__init__()
        wide = channels * expansion
        expand = layer(channels, wide, 1) if expansion > 1 else []
        depthwise = layer(wide, wide, 3, stride, wide)
        self.conv = nn.Sequential(*expand, *depthwise, *layer(wide, out, 1)[:2])
        self.shortcut = stride == 1 and channels == out

    def forward(self, x):
        return x + self.conv(x) if self.shortcut else self.conv(x)


def network():
    channels, features = 32, [nn.Sequential(*layer(3, 32, 3, 2))]
    for expansion, out, blocks, stride in STAGES:
        for block in range(blocks):
            features.append(Block(channels, out, stride if block == 0 else 1, expansion))
            channels = out
    features.append(nn.Sequential(*layer(channels, 1280, 1)))
    return nn.ModuleDict(dict(features=nn.Sequential(*features)))


def target():
    state = MobileNetV2(out_indices=(1, 2, 4, 7)).state_dict()
    return {f'backbone.{key}': value for key, value in state.items()}


def test_the_converted_network_computes_the_same():
    torch.manual_seed(0)
    official = network().eval()
    for module in official.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            nn.init.uniform_(module.weight, 0.8, 1.2)
    source = official.state_dict()
    assert len(source) == 312
    state = convert(source, target(), LAYOUT.rules).state_dict
    backbone = MobileNetV2(out_indices=(1, 7))
    backbone.eval()  # returns nothing
    backbone.load_state_dict({key.removeprefix('backbone.'): value for key, value in state.items()})
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        fine, coarse = backbone(image)
        torch.testing.assert_close(fine, official['features'][:4](image))
        torch.testing.assert_close(coarse, official['features'](image))


def test_a_missing_tensor_is_named():
    source = dict(network().state_dict())
    del source['features.7.conv.3.weight']
    with pytest.raises(CheckpointMismatch, match=r'layer4\.0\.depthwise_conv\.conv\.weight'):
        convert(source, target(), LAYOUT.rules)
