"""Encoder and criterion as one compiled graph."""

import copy
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import mmdet_losses
from mmdet_losses.core import compiled
from mmdet_losses.core.compiled import Annotations, CompiledLoss, bucket
from mmdet_losses.ops.kernels.launch import Launch, intercept_launches
from mmdet_losses.registry import MODELS
from tests.cases import DETECTORS
from tests.detector_cases import instances, meta
from tools.benchmarks.launch_table import CASES, ground_truth, work_of


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


FAMILIES = {'anchor': 'SSD', 'center': 'CenterNetPoints', 'corner': 'CornerNet', 'yolo': 'YOLOV4'}
"""A detector of each family."""


def assert_equal_steps(stem: str, backend: str, batches: tuple[tuple[int, ...], ...]):
    """Compiled and eager steps on batches with these numbers of objects; one graph for all."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    eager, head = build(stem), build(stem, {'backend': backend})
    for counts in batches:
        want, have = (train(each, stem, counts) for each in (eager, head))
        assert want[0].keys() == have[0].keys()
        for name, value in want[0].items():
            torch.testing.assert_close(have[0][name], value, rtol=1e-4, atol=1e-5)
        for mine, other in zip(have[1], want[1], strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-5)
    assert torch._dynamo.utils.counters['stats']['unique_graphs'] == 1
    return head


def test_every_family_has_a_detector():
    folders = (Path(mmdet_losses.__file__).parent / 'detectors').iterdir()
    assert FAMILIES.keys() == {each.name for each in folders if (each / '__init__.py').exists()}


@pytest.mark.parametrize('stem', FAMILIES.values())
def test_a_compiled_step_equals_the_eager_step(stem):
    """One graph for both batches; the head can be copied."""
    head = assert_equal_steps(stem, 'aot_eager', ((3, 1), (0, 2)))
    assert copy.deepcopy(head).compiled is not None


class Recorder(TorchDispatchMode):
    """Shapes of all operators, and the tensors that they read but did not make.

    Args:
        given: tensors that a caller of a CUDA graph writes to fixed addresses.
    """

    def __init__(self, given: list[torch.Tensor]) -> None:
        super().__init__()
        self.calls: list[tuple] = []
        self.constants: list[int] = []
        self.kept: list = [given]  # so that no address is used twice
        self.known = set(map(storage_of, given))

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.record(str(func), tree_leaves((args, kwargs)), tree_leaves(result))
        return result

    def launch(self, call: Launch) -> None:
        """Record a Triton kernel."""
        self.record(f'{call.name}{call.grid}', list(call.args), call.outputs)

    def record(self, name: str, inputs: list, results: list) -> None:
        """Record an operator."""
        inputs, results = (
            [each for each in leaves if isinstance(each, torch.Tensor)]
            for leaves in (inputs, results)
        )
        self.kept.append((inputs, results))
        self.constants += [storage_of(x) for x in inputs if storage_of(x) not in self.known]
        self.known.update(map(storage_of, (*inputs, *results)))
        self.calls.append((name, [(x.shape, x.stride(), x.dtype) for x in results]))


def storage_of(x: torch.Tensor) -> int:
    return x.untyped_storage()._cdata


@pytest.mark.parametrize('stem', CASES)
def test_a_step_is_safe_for_a_cuda_graph(stem, monkeypatch):
    """Two batches of one bucket run the same operators on the path of a GPU.

    All shapes are equal, so an allocator that serves the same requests returns the same addresses.
    Constants are the same tensors. Tensors without values show that no shape depends on one.
    """
    monkeypatch.setattr(torch, 'compile', lambda function, **options: function)
    loss, few = CompiledLoss({}), work_of(stem, images=2, objects=3)
    many = few._replace(gt_instances=[x.to('meta') for x in ground_truth(stem, 2, 14)])
    leaves = [x for x in tree_leaves(few.outputs) if isinstance(x, torch.Tensor)]
    recorded = []
    for work in (few, few, many):  # the first step makes the constants
        record = Recorder([*leaves, *few.criterion.buffers()])

        def encode_and_compare(encoder, criterion, outputs, fields, *rest, record=record):
            record.known.update(map(storage_of, fields.values()))
            record.kept.append(fields)
            with record, intercept_launches(record.launch):
                losses, statistics = compiled.encode_and_compare(
                    encoder, criterion, outputs, fields, *rest
                )
                total = sum(value for name, value in losses.items() if 'loss' in name)
                torch.autograd.grad(total, leaves, allow_unused=True)
            return losses, statistics

        loss.run = encode_and_compare
        loss(few.encoder, few.criterion, few.outputs, work.gt_instances, few.size, None)
        recorded.append(record)
    _, first, second = recorded
    assert len(first.calls) > 20 and first.calls == second.calls
    assert first.constants == second.constants


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
