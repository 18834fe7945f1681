"""The official SSD checkpoint in MMDetection's VGG and neck, and our predictor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from mmdet_losses.core.checkpoint import CheckpointMismatch, convert, network_of
from mmdet_losses.detectors.anchor.checkpoints import SSD, background_last
from tools.parity.models import check_model, forward, recipe, ssd_pattern

GOLDEN = Path(__file__).parents[1] / 'golden' / 'models' / 'ssd300_vgg16_voc'


def official(dtype: str = 'meta') -> dict[str, torch.Tensor]:
    keys = json.loads((GOLDEN / 'keys.json').read_text())
    return {key: torch.empty(shape, device=dtype) for key, shape in keys.items()}


def network(size: int, num_classes: int = 20) -> nn.Module:
    changes = {'bbox_head.predictor.num_classes': num_classes}
    return network_of(recipe(ssd_pattern(size, 'voc0712'), changes))


def test_outputs_equal_the_official_network() -> None:
    rows = check_model(GOLDEN)
    assert {row.quantity for row in rows} == {'loc', 'conf', 'priors'}
    assert all(row.ok for row in rows), [row for row in rows if not row.ok]


def test_background_moves_from_the_first_class_to_the_last() -> None:
    weight = torch.arange(4 * 3).float().reshape(12, 1, 1, 1)  # 4 priors, background and 2 classes
    boxes = torch.zeros(16, 1, 1, 1)
    moved = background_last({'conf.0.weight': weight, 'loc.0.weight': boxes})
    assert moved['conf.0.weight'].flatten().tolist() == [1, 2, 0, 4, 5, 3, 7, 8, 6, 10, 11, 9]
    assert moved['loc.0.weight'] is boxes


@pytest.mark.parametrize('change', ['missing', 'unexpected', 'shape'])
def test_a_file_that_does_not_fit_raises(change: str) -> None:
    source = official()
    key = 'extras.3.weight'
    if change == 'missing':
        del source[key]
    elif change == 'unexpected':
        source['extras.10.weight'] = source[key]
    else:
        source[key] = source[key][:, :64]
    with pytest.raises(CheckpointMismatch, match=change):
        convert(source, network(300).state_dict(), SSD)


def test_another_number_of_classes_keeps_all_but_the_class_layers() -> None:
    target = network(300, num_classes=3).state_dict()
    result = convert(official(), target, SSD, allow_class_layers=True)
    assert len(result.class_layers) == 12
    assert all('cls_convs' in key for key in result.class_layers)


def test_sizes_of_both_networks() -> None:
    for size, priors in ((300, 8732), (512, 24564)):
        with torch.device('meta'):
            image = torch.empty(1, 3, size, size)
            outputs = forward(network(size).to('meta'), image)  # the L2 norm ignores the context
        boxes = sum(box.shape[1] // 4 * box.shape[2] * box.shape[3] for box in outputs.box)
        scores = sum(cls.shape[1] // 21 * cls.shape[2] * cls.shape[3] for cls in outputs.cls)
        assert boxes == scores == priors
