"""Budgets of kernel launches, and the counter behind them."""

import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch.utils._pytree import tree_map

from mmdet_losses.ops import forget_constants
from mmdet_losses.registry import MODELS, TASK_UTILS
from tests.cases import DETECTORS
from tests.detector_cases import IMG_SIZE, instances
from tools import benchmark_losses
from tools.benchmarks import device, heatmaps, launch_table
from tools.benchmarks.launch_table import BUDGETS, CASES, ENCODE_GOAL, GOALS, MAP_GOALS, work_of
from tools.benchmarks.launches import (
    HostCopies,
    LaunchCounter,
    OnDevice,
    count_on_host,
    count_on_meta,
    count_with_values,
    on_device,
)


@pytest.fixture(autouse=True)
def _scope():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def test_views_and_allocations_are_no_launches():
    x = torch.empty(4, 6, device='meta')
    assert count_on_meta(lambda: x.view(2, 12)[:, 3:].t().expand(9, 2)).counts == (0, 0, 0)
    assert count_on_meta(lambda: torch.empty_like(x)).counts.launches == 0
    assert count_on_meta(lambda: x * 2 + x).counts == (2, 5 * 4 * 24, 0)


def test_gathered_bytes_are_those_of_the_result():
    x, index = torch.empty(1000, device='meta'), torch.zeros(3, dtype=torch.long, device='meta')
    assert count_on_meta(lambda: x.gather(0, index)).counts.bytes == 3 * 8 + 2 * 3 * 4


def test_the_gradient_of_a_gather_is_written_in_place():
    x, index = (torch.empty(1000, device='meta', dtype=kind) for kind in (torch.float, torch.long))
    given = x.requires_grad_().gather(0, index[:3]).sum()
    counter = count_on_meta(lambda: torch.autograd.grad(given, x, retain_graph=True))
    assert x.nbytes < counter.counts.bytes < 2 * x.nbytes  # zeros, and three numbers


@pytest.mark.parametrize(
    'read',
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.any()),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: x.cpu(),
        lambda x: x.new_tensor([1.0, 2.0]),
        lambda x: torch.tensor([1.0], device=x.device),
        lambda x: x[torch.tensor([1, 2])],
    ],
)
def test_a_read_value_and_a_copy_are_synchronisations(read):
    x = OnDevice(torch.tensor([1.0, -2.0, 3.0]))
    assert count_with_values(lambda: read(x)).counts.syncs == 1


def test_tensors_on_the_device_have_values():
    x = OnDevice(torch.tensor([1.0, -2.0, 3.0])).requires_grad_()
    found = []

    def work():
        y = torch.where(x > 0, x, torch.zeros_like(x)).square().sum()
        found[:] = [y.item(), torch.autograd.grad(y, x)[0].tolist()]

    counter = count_with_values(work)
    assert found == [10.0, [2.0, 0.0, 6.0]]
    assert counter.counts.syncs == 2  # item and tolist


def test_work_of_the_host_is_counted_on_request():
    x = torch.ones(3)
    assert count_on_host(lambda: (x + 1).sum().item()).counts[::2] == (2, 1)
    assert count_on_meta(lambda: x + 1).counts.launches == 0


@pytest.mark.parametrize('stem', CASES)
def test_launches_stay_in_their_budgets(stem):
    """Meta tensors raise where a value is read, so encode and loss do not synchronise."""
    (first, total), work = BUDGETS[stem], work_of(stem)
    encode, step = count_on_meta(work.encode).counts, count_on_meta(work.step).counts
    assert encode.launches <= first <= ENCODE_GOAL
    assert step.launches <= total <= GOALS.get(stem, total)
    assert encode.syncs == step.syncs == 0
    if stem in MAP_GOALS:
        heatmap = work.outputs[0][0]
        assert heatmap.shape[1] == CASES[stem].classes
        assert step.bytes <= MAP_GOALS[stem] * heatmap.nbytes


@pytest.mark.parametrize('stem', CASES)
def test_launches_of_an_encoder_do_not_depend_on_images_and_objects(stem):
    few, many = work_of(stem, images=2, objects=3), work_of(stem, images=3, objects=15)
    launches = [count_on_meta(work.encode).counts.launches for work in (few, many)]
    assert launches[0] == launches[1]


@pytest.mark.parametrize('stem', CASES)
def test_decoding_does_not_synchronise(stem):
    work = work_of(stem, images=2)
    with torch.no_grad():
        counter = count_on_meta(lambda: work.encoder.decode(work.outputs, work.size))
    assert counter.counts.syncs == 0


@pytest.mark.parametrize('stem', sorted(DETECTORS))
def test_the_path_of_a_gpu_gives_the_results_of_the_cpu(stem):
    """Targets and boxes of tensors that report another device but have values."""
    case, generator = DETECTORS[stem], torch.Generator().manual_seed(7)
    feats = tuple(torch.randn(2, *shape, generator=generator) for shape in case.feats)
    encoder, criterion = TASK_UTILS.build(case.encoder), MODELS.build(case.criterion)
    with torch.no_grad():
        outputs = MODELS.build(case.predictor)(feats)
    gt_instances = [instances(case, count, generator) for count in (3, 1)]
    there = [InstanceData(**{k: OnDevice(v) for k, v in each.items()}) for each in gt_instances]
    sizes, counter = encoder.feat_sizes(outputs), LaunchCounter()
    forget_constants()
    with torch.no_grad(), HostCopies(counter), counter:
        targets = encoder.encode(there, sizes, IMG_SIZE)
        found = encoder.decode(on_device(outputs), IMG_SIZE)
    forget_constants()
    assert counter.counts.syncs == 0
    targets = tree_map(lambda x: x.held if isinstance(x, OnDevice) else x, targets)
    want = criterion(outputs, encoder.encode(gt_instances, sizes, IMG_SIZE))
    for name, value in criterion(outputs, targets).items():
        torch.testing.assert_close(value, want[name], rtol=1e-4, atol=1e-5)
    for mine, other in zip(found, encoder.decode(outputs, IMG_SIZE), strict=True):
        scores = mine.scores.held[mine.scores.held > -1]
        order, rank = scores.argsort(descending=True), other.scores.argsort(descending=True)
        torch.testing.assert_close(scores[order], other.scores[rank])
        boxes = mine.bboxes.held[mine.scores.held > -1]
        torch.testing.assert_close(boxes.sum(0), other.bboxes.sum(0), rtol=1e-3, atol=1e-2)


def test_the_table_has_both_sides(capsys, monkeypatch):
    monkeypatch.setattr(launch_table, 'IMAGES', 1)
    monkeypatch.setattr(launch_table, 'CLASSES', 3)
    threads = torch.get_num_threads()
    try:
        arguments = ['--only', 'launches', '--detectors', 'YOLOV3', '--repeats', '1']
        assert benchmark_losses.main(arguments) == 0
    finally:
        torch.set_num_threads(threads)
    [row] = [line for line in capsys.readouterr().out.splitlines() if '| YOLOV3 |' in line]
    ours, theirs = (cell.split('/') for cell in (row.split('|')[3], row.split('|')[6]))
    assert int(ours[0]) > 0 and int(theirs[0]) > 0
    assert int(ours[2]) == 0 and int(theirs[2]) > 0  # synchronisations


@pytest.fixture(name='small')
def _small(monkeypatch):
    """The detectors with small maps; ``torch.compile`` returns its function."""
    fixed = ('SSD', 'YOLOV1')  # the size of their maps is a part of the network
    small = {
        stem: case._replace(side=case.side if stem in fixed else 128, classes=min(case.classes, 3))
        for stem, case in CASES.items()
    }
    monkeypatch.setattr(launch_table, 'CASES', small)
    monkeypatch.setattr(launch_table, 'IMAGES', 1)
    monkeypatch.setattr(launch_table, 'CLASSES', 3)
    monkeypatch.setattr(device, 'WARM_UP', 1)
    setting = heatmaps.Setting(1, 3, 32, 4)
    monkeypatch.setattr(heatmaps, 'Setting', lambda *_: setting)
    monkeypatch.setattr(torch, 'compile', lambda function, **options: function)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_the_cases_are_all_detectors():
    assert CASES.keys() == BUDGETS.keys() == DETECTORS.keys()


def test_the_benchmark_of_a_device_measures_every_detector(small, capsys):
    assert benchmark_losses.main(['--device', 'cpu', '--repeats', '1']) == 0
    output = capsys.readouterr().out
    for who in ('ours', 'ours, compiled', 'MMDetection', 'MMDetection, compiled'):
        assert f'| focal loss | {who} |' in output
    for stem in CASES:
        assert f'| {stem} | ours |' in output and f'| {stem} | ours, compiled |' in output
    assert output.count('| MMDetection |') == 6


def test_the_smoke_test_compares_every_detector(small, capsys):
    """Train step, decoding and half precision."""
    assert benchmark_losses.main(['--device', 'cpu', '--smoke']) == 0
    output = capsys.readouterr().out
    assert [f'ok {stem}' for stem in CASES] == output.splitlines()[-len(CASES) :]


def test_the_smoke_test_reports_a_difference(small, capsys, monkeypatch):
    works = []

    def work(*arguments, **options):
        works.append(work_of(*arguments, **options))
        factor = len(works)  # the outputs of the second one are doubled
        outputs = tree_map(lambda x: (factor * x).detach().requires_grad_(), works[-1].outputs)
        return works[-1]._replace(outputs=outputs)

    monkeypatch.setattr(device, 'work_of', work)
    assert benchmark_losses.main(['--device', 'cpu', '--smoke', '--detectors', 'SSD']) == 1
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith('FAILED SSD: loss_')
    assert 'torch.bfloat16' in line and 'scores of decode differ' in line


def test_a_wrong_choice_is_reported(capsys):
    assert benchmark_losses.main(['--detectors', 'Nothing']) == 2
    assert "'Nothing' is unknown" in capsys.readouterr().out
