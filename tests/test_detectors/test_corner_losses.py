"""Criteria of the corner family: sums, divisors, terms that a config can replace."""

import pytest
import torch
from mmengine.structures import InstanceData
from torch.utils._pytree import tree_map

from mmdet_losses.registry import MODELS, TASK_UTILS

SIZE, IMG = (12, 20), (48, 160)
ATTENTIONS = [(3, 10), (6, 20), (12, 40)]
STEMS = ('CornerNet', 'CenterNetTriplet', 'CornerNetSaccade')


def example(stem, stacks=1, counts=(3, 1), **options):
    """A criterion with random outputs and the targets of random boxes."""
    generator = torch.Generator().manual_seed(4)
    encoder = TASK_UTILS.build({'type': f'{stem}TargetEncoder', 'num_classes': 2})
    ground_truth = []
    for count in counts:
        low = torch.rand(count, 2, generator=generator) * torch.tensor([90.0, 12.0])
        high = low + 20 + torch.rand(count, 2, generator=generator) * torch.tensor([40.0, 14.0])
        labels = torch.randint(2, (count,), generator=generator)
        ground_truth.append(InstanceData(bboxes=torch.cat((low, high), 1), labels=labels))
    sizes = [SIZE, *ATTENTIONS] if stem == 'CornerNetSaccade' else [SIZE]
    targets = encoder.encode(ground_truth, sizes, IMG)
    shapes = encoder.ideal_outputs(targets)

    def random_like(value):
        return torch.randn(value.shape, generator=generator).requires_grad_()

    outputs = [tree_map(random_like, shapes) for _ in range(stacks)]
    criterion = MODELS.build({'type': f'{stem}Loss', **options})
    return criterion, outputs, targets


@pytest.mark.parametrize('stem', STEMS)
def test_terms_are_means_over_stacks_and_attention_twice(stem):
    criterion, outputs, targets = example(stem, stacks=3)
    have = criterion(outputs[-1]._replace(earlier=tuple(outputs[:-1])), targets)
    single = [criterion(each, targets) for each in outputs]
    for name, value in have.items():
        mean = sum(each[name] for each in single) / 3
        torch.testing.assert_close(value, mean / 3 if name == 'loss_attention' else mean)


def test_offsets_divide_by_objects_and_sum_both_coordinates():
    criterion, [outputs], targets = example('CornerNet')
    index = targets.tl.index
    image = torch.arange(2)[:, None]
    read = outputs.tl.offset.flatten(2).transpose(1, 2)[image, index]
    distance = torch.nn.functional.smooth_l1_loss(read, targets.tl.offset, reduction='none')
    want = distance[targets.mask].sum() / (4 + 1e-4)
    torch.testing.assert_close(criterion(outputs, targets)['loss_tl_offset'], want)


def test_saccade_counts_positives_in_skipped_windows():
    criterion, [outputs], targets = example('CornerNetSaccade')
    valid = targets.tl.valid & (targets.tl.heatmap.dense() == 0)
    hidden = targets._replace(tl=targets.tl._replace(valid=valid))
    logits = outputs.tl.heatmap
    background = logits.sigmoid() ** 2 * torch.nn.functional.softplus(logits)
    want = (background * valid).sum() / (targets.tl.heatmap.dense() == 1).sum()
    torch.testing.assert_close(criterion(outputs, hidden)['loss_tl_heatmap'], want)


def test_saccade_divides_by_the_positives_of_all_ranks(monkeypatch):
    criterion, [outputs], targets = example('CornerNetSaccade')
    ranks, *_ = example(
        'CornerNetSaccade',
        loss_heatmap={'type': 'PenaltyReducedFocalLoss', 'normalizer': 'positives_all_ranks'},
    )
    monkeypatch.setattr('mmdet_losses.ops.reduce.mean_over_ranks', lambda n: n * 2)
    want, have = criterion(outputs, targets), ranks(outputs, targets)
    torch.testing.assert_close(have['loss_tl_heatmap'], want['loss_tl_heatmap'] / 2)
    with pytest.raises(ValueError, match=r"'positives_per_image' .* Choose 'positives' or"):
        example(
            'CornerNetSaccade',
            loss_heatmap={'type': 'PenaltyReducedFocalLoss', 'normalizer': 'positives_per_image'},
        )


@pytest.mark.parametrize('stem', STEMS)
def test_terms_can_be_replaced(stem):
    terms = {
        'loss_heatmap': {'type': 'PenaltyReducedFocalLoss', 'loss_weight': 2.0},
        'loss_embedding': {'type': 'PullPushLoss', 'pull_weight': 0.2, 'push_weight': 0.3},
        'loss_offset': {'type': 'MaskedSmoothL1Loss', 'loss_weight': 5.0},
    }
    plain, [outputs], targets = example(stem)
    want, have = plain(outputs, targets), MODELS.build({'type': f'{stem}Loss', **terms})
    factors = {'heatmap': 2, 'pull': 2, 'push': 3, 'offset': 5, 'attention': 1}
    for name, value in have(outputs, targets).items():
        torch.testing.assert_close(value, want[name] * factors[name.split('_')[-1]])


@pytest.mark.parametrize('alias', ['CornerNet_Loss', 'CornerNet_Saccade_Loss'])
def test_names_of_the_official_code_build(alias):
    assert type(MODELS.build({'type': alias})).__name__ == alias.replace('_', '')


@pytest.mark.parametrize('stem', STEMS)
def test_batch_of_one_without_objects(stem):
    criterion, [outputs], targets = example(stem, counts=(0,))
    losses = criterion(outputs, targets)
    sum(losses.values()).backward()
    assert all(value.isfinite() for value in losses.values())
    assert outputs.br.embedding.grad is not None
    assert outputs.tl.heatmap.grad.isfinite().all()
