"""Encoder and criterion as one compiled graph."""

import copy
import os
from types import SimpleNamespace

import pytest
import torch
from mmengine.structures import InstanceData
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

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


def train(head, stem: str, counts: tuple[int, ...], extras: bool):
    """Losses and gradients of one step; ``extras`` are weights of objects and an ignored region."""
    case, generator = DETECTORS[stem], torch.Generator().manual_seed(1)
    torch.manual_seed(2)  # a predictor can have dropout
    feats = tuple(torch.randn(len(counts), *shape, generator=generator) for shape in case.feats)
    ground_truth = [instances(case, count, generator) for count in counts]
    ignored = None
    if extras:
        ground_truth[0].weights = 0.5 + torch.rand(counts[0], generator=generator)
        ignored = [None, InstanceData(bboxes=torch.tensor([[80.0, 0.0, 160.0, 96.0]]))]
    head.zero_grad()
    losses = head.loss_by_feat(*head(feats), ground_truth, [meta()] * len(counts), ignored)
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    return losses, [parameter.grad.clone() for parameter in head.parameters()]


def assert_equal_steps(stem: str, options: bool | dict, extras: bool = False) -> None:
    """Compiled and eager steps of two batches with different numbers of objects; one graph."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    eager, head = build(stem), build(stem, options)
    for counts in ((3, 1), (0, 2)):
        want, have = (train(each, stem, counts, extras) for each in (eager, head))
        assert want[0].keys() == have[0].keys()
        for name, value in want[0].items():
            torch.testing.assert_close(have[0][name], value, rtol=1e-4, atol=1e-5)
        for mine, other in zip(have[1], want[1], strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-5)
    assert torch._dynamo.utils.counters['stats']['unique_graphs'] == 1


@pytest.mark.parametrize('stem', sorted(DETECTORS))
def test_a_compiled_step_equals_the_eager_step(stem):
    """With weights of objects and ignored regions, so that the graph has every part."""
    assert_equal_steps(stem, {'backend': 'aot_eager'}, extras=True)


INDUCTOR = os.environ.get('INDUCTOR', 'RetinaNet')
"""Detectors that inductor compiles, by commas; ``all``: all. The default has few C++ kernels."""


@pytest.mark.slow
@pytest.mark.parametrize('stem', sorted(DETECTORS) if INDUCTOR == 'all' else INDUCTOR.split(','))
def test_a_step_compiled_by_inductor_equals_the_eager_step(stem, tmp_path, monkeypatch):
    """Code for the CPU, compiled without optimisation: the C++ compiler takes most of the time."""
    from torch._inductor import config

    monkeypatch.setenv('TORCHINDUCTOR_CACHE_DIR', str(tmp_path))
    settings = {
        'aot_inductor.debug_compile': True,  # -O0
        'cpp.vec_isa_ok': False,  # no vector instructions, whose headers are large
        'cpp_cache_precompile_headers': False,  # which costs more than it saves for few kernels
        'compile_threads': 1,
    }
    with config.patch(settings):
        assert_equal_steps(stem, True)


def test_a_head_with_a_compiled_step_can_be_copied():
    assert copy.deepcopy(build('SSD', True)).compiled is not None


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


def recorded_steps(stem: str) -> list[Recorder]:
    """Operators of two batches of one bucket on the path of a GPU, after a first step."""
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
    return recorded[1:]


@pytest.fixture(name='uncompiled')
def _uncompiled(monkeypatch):
    """``torch.compile`` returns its function."""
    monkeypatch.setattr(torch, 'compile', lambda function, **options: function)


@pytest.mark.parametrize('stem', CASES)
def test_a_step_is_safe_for_a_cuda_graph(stem, uncompiled):
    """Two batches of one bucket run the same operators.

    All shapes are equal, so an allocator that serves the same requests returns the same addresses.
    Constants are the same tensors. Tensors without values show that no shape depends on one.
    """
    first, second = recorded_steps(stem)
    assert len(first.calls) > 20 and first.calls == second.calls
    assert first.constants and first.constants == second.constants


def test_shapes_that_depend_on_the_number_of_objects_are_found(uncompiled, monkeypatch):
    monkeypatch.setattr(compiled, 'bucket', lambda count: count)
    first, second = recorded_steps('CenterNetPoints')
    assert first.calls != second.calls


def test_a_recorder_finds_tensors_from_outside_of_the_step():
    given, kept, other = torch.ones(2), torch.ones(2), torch.ones(2)

    def constants(outside):
        with Recorder([given]) as record:
            _ = (given + 1) * outside
        return record.constants

    assert len(constants(kept)) == 1
    assert constants(kept) == constants(kept) != constants(other)


def losses_of(stem: str, gt_instances: list[InstanceData], compile: bool):
    """Loss terms of random outputs."""
    case, head = DETECTORS[stem], build(stem, compile)
    feats = tuple(torch.ones(len(gt_instances), *shape) for shape in case.feats)
    return head.loss_by_feat(*head(feats), gt_instances, [meta()] * len(gt_instances), None)


@pytest.mark.parametrize(
    ('name', 'given'),
    [('weights', [3.0, 2.0]), ('crowds', [True, False]), ('previous_mask', [False, True])],
)
def test_images_may_have_different_fields(name, given, uncompiled):
    """The field of one image counts; the other image has its default."""
    case, generator = DETECTORS['CenterTrack'], torch.Generator()
    plain = [instances(case, 2, generator) for _ in range(2)]
    mixed = [instances(case, 2, generator) for _ in range(2)]
    mixed[0][name] = torch.tensor(given)
    if name == 'previous_mask':
        del mixed[1].previous_mask
    want, have = (losses_of('CenterTrack', mixed, compile) for compile in (False, True))
    other = losses_of('CenterTrack', plain, False)
    assert any(value != other[key] for key, value in want.items())
    for key, value in want.items():
        torch.testing.assert_close(have[key], value)


def test_a_graph_per_input_size_without_a_limit_of_torch():
    """Training with many input sizes compiles one graph for each."""
    encoder = SimpleNamespace(
        encode=lambda gt_instances, sizes, size: size[0] * gt_instances[0].labels.sum(),
        feat_sizes=lambda outputs: [],
        statistics=lambda targets: {},
    )
    loss = CompiledLoss({'backend': 'eager'})
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    objects = [InstanceData(labels=torch.tensor([1, 2]))]
    for height in range(1, 12):
        terms = loss(encoder, lambda _, target: {'loss': target}, (), objects, (height, 5), None)
        assert terms['loss'] == 3 * height
    assert torch._dynamo.utils.counters['stats']['unique_graphs'] == 11


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
    copied = annotations[:]
    copied.labels = torch.tensor([5, 6])
    assert copied['labels'].tolist() == [5, 6] and annotations.labels.tolist() == [1, 2]
    with pytest.raises(AttributeError):
        _ = annotations.keypoints
