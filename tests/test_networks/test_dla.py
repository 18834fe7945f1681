"""DLA, its up-sampling neck, and the stems of the previous frame."""

import pytest
import torch

from mmdet_losses import compat
from mmdet_losses.networks import DLANet, DLAUpNeck
from mmdet_losses.networks.dla_up import bilinear_kernel

SMALL = {'levels': (1, 1, 1, 2, 1), 'channels': (4, 4, 6, 8, 10), 'out_indices': (2, 3, 4)}


def test_one_map_at_the_finest_size():
    backbone, neck = DLANet(**SMALL), DLAUpNeck((6, 8, 10), conv='conv')
    maps = backbone(torch.randn(2, 3, 48, 64))
    assert [tuple(each.shape) for each in maps] == [(2, 6, 12, 16), (2, 8, 6, 8), (2, 10, 3, 4)]
    (fused,) = neck(maps)
    assert fused.shape == (2, 6, 12, 16)
    fused.sum().backward()
    for module in (backbone, neck):
        assert [name for name, each in module.named_parameters() if each.grad is None] == []


def test_up_sampling_starts_bilinear():
    x = torch.linspace(0, 1, 6)[None, None, None].expand(1, 1, 6, 6)
    for factor in (2, 4):
        weight = bilinear_kernel(factor)[None, None]
        up = torch.nn.functional.conv_transpose2d(x, weight, stride=factor, padding=factor // 2)
        wanted = torch.nn.functional.interpolate(
            x, scale_factor=factor, mode='bilinear', align_corners=False
        )
        inside = (..., slice(factor, -factor), slice(factor, -factor))
        torch.testing.assert_close(up[inside], wanted[inside])


def test_no_heatmap_differs_from_a_heatmap_of_zeros():
    torch.manual_seed(0)
    network = DLANet(previous_image=True, previous_heatmap=True, **SMALL).eval()
    torch.nn.init.constant_(network.pre_hm_layer.bn.bias, 0.5)
    x, zeros = torch.randn(1, 3, 32, 32), torch.zeros(1, 1, 32, 32)
    assert not torch.allclose(network(x)[0], network(x, pre_hm=zeros)[0])


def test_invalid_sizes_and_inputs_raise():
    network = DLANet(**SMALL)
    with pytest.raises(ValueError, match='pad it to multiples of 16'):
        network(torch.randn(1, 3, 40, 32))
    with pytest.raises(ValueError, match='previous_image=True'):
        network(torch.randn(1, 3, 32, 32), torch.randn(1, 3, 32, 32))
    with pytest.raises(ValueError, match="conv='deform' is unknown"):
        DLAUpNeck(conv='deform')


def test_deformable_convolution_without_compiled_operators_raises(monkeypatch):
    monkeypatch.setattr('mmdet_losses.networks.dla_up.has_mmcv_ops', lambda: False)
    with pytest.raises(RuntimeError, match="`make env OPS=1`, or use conv='conv'") as caught:
        DLAUpNeck()
    assert '\n' not in str(caught.value)
    DLAUpNeck((6, 8, 10), conv='conv')


@pytest.mark.skipif(not compat.has_mmcv_ops(), reason='needs the compiled operators of MMCV')
def test_a_new_deformable_convolution_is_half_of_a_plain_one():
    """The initial offsets are 0 and the initial masks sigmoid(0)."""
    torch.manual_seed(0)
    deformable, plain = DLAUpNeck((6, 8, 10)).eval(), DLAUpNeck((6, 8, 10), conv='conv').eval()
    state = {k: v for k, v in deformable.state_dict().items() if 'conv_offset' not in k}
    state = {k: 0.5 * v if k.endswith('.conv.weight') else v for k, v in state.items()}
    plain.load_state_dict(state)
    maps = [torch.randn(1, c, 16 >> i, 16 >> i) for i, c in enumerate((6, 8, 10))]
    torch.testing.assert_close(deformable(maps)[0], plain(maps)[0])
