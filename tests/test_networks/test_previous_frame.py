"""CenterTrack's stems beside the first layer of any backbone."""

import pytest
import torch

from mmdet_losses.registry import MODELS

CSP = dict(
    type='mmdet.CSPDarknet', deepen_factor=0.33, widen_factor=0.125, out_indices=(1, 2),
    act_cfg=dict(type='ReLU'),
)  # fmt: skip
RESNET = dict(
    type='mmdet.ResNet', depth=18, base_channels=8, stem_channels=8, num_stages=2,
    strides=(1, 2), dilations=(1, 1), out_indices=(0, 1),
)  # fmt: skip


def build(backbone=CSP, stem='stem', channels=8):
    torch.manual_seed(0)
    network = MODELS.build(
        dict(type='PreviousFrameBackbone', backbone=backbone, stem=stem, channels=channels)
    )
    return network.eval()


@pytest.mark.parametrize(('backbone', 'stem'), [(CSP, 'stem'), (RESNET, 'conv1')])
def test_stems_are_added_to_the_first_layer(backbone, stem):
    network = build(backbone, stem)
    image, previous = torch.randn(2, 2, 3, 64, 96)
    heatmap = torch.rand(2, 1, 64, 96)
    stems = getattr(network.backbone, stem)
    given = {}
    hook = stems.register_forward_hook(lambda module, inputs, output: given.update(sum=output))
    parts = stems.image(image), stems.previous_image(previous)
    parts = *parts, stems.previous_heatmap(heatmap)
    full = network(image, previous, heatmap)
    torch.testing.assert_close(given['sum'], sum(parts))
    network(image, previous)
    torch.testing.assert_close(given['sum'], parts[0] + parts[1])
    network(image, None, heatmap)
    torch.testing.assert_close(given['sum'], parts[0] + parts[2])
    network(image)
    assert torch.equal(given['sum'], parts[0])
    hook.remove()
    assert [each.shape[-1] for each in full] == [24, 12]


def test_without_additional_inputs_it_is_the_backbone():
    network = build()
    image = torch.randn(1, 3, 64, 64)
    alone = MODELS.build(CSP)
    alone.eval()
    state = {
        key.replace('stem.image.', 'stem.'): value
        for key, value in network.backbone.state_dict().items()
        if 'stem.previous' not in key
    }
    alone.load_state_dict(state)
    for have, want in zip(network(image), alone(image), strict=True):
        assert torch.equal(have, want)


def test_every_stem_gets_a_gradient():
    network = build().train()
    inputs = torch.randn(2, 3, 64, 64), torch.randn(2, 3, 64, 64), torch.rand(2, 1, 64, 64)
    sum(each.square().sum() for each in network(*inputs)).backward()
    stems = dict(network.backbone.stem.named_parameters())
    assert len(stems) == 9
    assert not [name for name, p in stems.items() if p.grad is None or not p.grad.any()]


def test_a_missing_layer_raises():
    with pytest.raises(
        ValueError, match="CSPDarknet has no layer 'conv1'; choose stem from stem, "
    ):
        build(stem='conv1')
