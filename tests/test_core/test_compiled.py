"""Encoder and criterion as one compiled graph."""

import copy

import pytest
import torch

from mmdet_losses.core.compiled import Annotations, bucket
from mmdet_losses.registry import MODELS
from tests.cases import DETECTORS
from tests.detector_cases import instances, meta


def build(stem: str, compile: bool | dict = False):
    case = DETECTORS[stem]
    torch.manual_seed(3)
    return MODELS.build(
        {
            'type': 'EncodedDenseHead',
            'predictor': case.predictor,
            'encoder': case.encoder,
            'criterion': case.criterion,
            'compile': compile,
        }
    )


def train(head, stem: str, counts: tuple[int, ...]):
    """Losses and gradients of one step."""
    case, generator = DETECTORS[stem], torch.Generator().manual_seed(1)
    feats = tuple(torch.randn(len(counts), *shape, generator=generator) for shape in case.feats)
    ground_truth = [instances(case, count, generator) for count in counts]
    head.zero_grad()
    losses = head.loss_by_feat(*head(feats), ground_truth, [meta()] * len(counts), None)
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    return losses, [parameter.grad.clone() for parameter in head.parameters()]


def test_a_compiled_step_equals_the_eager_step():
    """One graph for both batches; the head can be copied."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    eager, compiled = build('SSD'), build('SSD', {'backend': 'aot_eager'})
    for counts in ((3, 1), (0, 2)):
        want, have = (train(each, 'SSD', counts) for each in (eager, compiled))
        assert want[0].keys() == have[0].keys()
        for name, value in want[0].items():
            torch.testing.assert_close(have[0][name], value, rtol=1e-4, atol=1e-5)
        for mine, other in zip(have[1], want[1], strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-5)
    assert torch._dynamo.utils.counters['stats']['unique_graphs'] == 1
    assert copy.deepcopy(compiled).compiled is not None


def test_buckets_are_powers_of_two():
    assert [bucket(count) for count in (0, 1, 16, 17, 32, 33, 1000)] == [
        16,
        16,
        16,
        32,
        32,
        64,
        1024,
    ]


def test_annotations_have_the_access_of_instance_data():
    annotations = Annotations({'labels': torch.tensor([1, 2]), 'bboxes': torch.zeros(2, 4)})
    assert len(annotations) == 2 and set(annotations) == {'labels', 'bboxes'}
    assert 'labels' in annotations and 'keypoints' not in annotations
    assert annotations.bboxes is annotations['bboxes']
    with pytest.raises(AttributeError):
        _ = annotations.keypoints
