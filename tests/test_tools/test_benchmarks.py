"""The benchmarks run and compare like with like."""

import pytest
import torch
from mmengine.registry import DefaultScope

from mmdet_losses.registry import MODELS
from tools import benchmark_losses
from tools.benchmarks import grids, heatmaps, inference
from tools.benchmarks.heatmaps import Setting, encode, ground_truth, points_encoder
from tools.benchmarks.memory import MEMORY_BAR, memory_of
from tools.benchmarks.timing import Line, against, boxes_like_coco, middle, timed


@pytest.fixture(autouse=True)
def _scope():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def test_sides_take_turns():
    calls = []
    rows = timed(lambda: calls.append('a'), lambda: calls.append('b'), repeats=3)
    assert calls == ['a', 'b'] * 4  # one warm-up each
    assert [len(row) for row in rows] == [3, 3] and min(map(min, rows)) >= 0


def test_a_line_holds_median_spread_and_ratio():
    assert middle([1.0, 2.0, 3.0, 4.0, 100.0])[0] == 3.0
    assert middle([5.0]) == (5.0, 0.0)
    line = against('x', 'y', lambda: None, lambda: sum(range(20000)), 5, bar=2.0)
    assert line.ratio == pytest.approx(line.theirs / line.ours) and line.ratio > 2
    assert against('x', 'y', lambda: None, None, 2).ratio is None


@pytest.mark.parametrize('device', ['cpu', 'meta'])
@pytest.mark.parametrize('images', [1, 4])
def test_the_focal_loss_needs_little_more_than_its_gradient(device, images):
    """On the CPU, and the way of every other device."""
    setting = Setting(images, 80, 128, 15)
    gt_instances = [each.to(device) for each in ground_truth(setting)]
    target = encode(points_encoder(setting), setting, gt_instances).heatmap
    loss = MODELS.build({'type': 'PenaltyReducedFocalLoss'})
    logits = torch.zeros(target.shape, device=device, requires_grad=True)
    kept, peak = memory_of(lambda x: loss(x, target), logits)
    assert 1 <= kept < 1.01 and kept < peak <= MEMORY_BAR
    dense = target.dense()
    assert (
        memory_of(lambda x: x.sigmoid().clamp(0.1, 0.9).sub(dense).square().sum(), logits)[0] > 1.9
    )


@pytest.mark.parametrize('name', ['CornerNet', 'CenterNetPoints'])
def test_both_sides_of_a_head_run(name):
    line = against(name, 'small', *heatmaps.head_pairs(Setting(1, 3, 32, 2))[name], repeats=1)
    assert line.ours > 0 and line.theirs > 0


@pytest.mark.parametrize('name', inference.SETTINGS)
def test_both_sides_of_inference_run(monkeypatch, name):
    monkeypatch.setattr(inference, 'IMAGES', 1)
    monkeypatch.setattr(inference, 'CLASSES', 3)
    setting = inference.SETTINGS[name]._replace(size=(128, 128), survivors=10)
    with torch.no_grad():
        line = against(name, setting, *inference.inference_pair(name, setting), repeats=1)
    assert line.ours > 0 and line.theirs > 0


@pytest.mark.parametrize('survivors', [0, 10])
@pytest.mark.parametrize('name', ['SSD', 'RetinaNet', 'YOLOV3'])
def test_the_wanted_number_of_scores_is_above_the_threshold(monkeypatch, name, survivors):
    monkeypatch.setattr(inference, 'IMAGES', 1)
    monkeypatch.setattr(inference, 'CLASSES', 3)
    found = []
    monkeypatch.setattr(inference, 'postprocess', lambda instances, *_: found.append(instances))
    setting = inference.SETTINGS[name]._replace(size=(128, 128), survivors=survivors)
    with torch.no_grad():
        inference.inference_pair(name, setting)[0]()
    assert abs(len(found[0]) - survivors) <= (3 if survivors else 0)


def test_the_distance_to_the_limits_is_told():
    def line(what, ours):
        return Line(what, 'any', ours, 0.0, None, None, None, None)

    lines = [line('limit: read', 2.0), line('focal', 5.0), line('other', 1.0)]
    [output] = benchmark_losses.compared_with_limits(lines)
    assert output == 'focal, forward and backward, takes 2.5 times the limit (read)'
    assert benchmark_losses.compared_with_limits(lines[1:]) == []


def test_boxes_lie_inside():
    for image in boxes_like_coco(2, 40, 5, 300):
        assert (image.bboxes >= 0).all() and (image.bboxes <= 300).all()
        assert (image.bboxes[:, 2:] - image.bboxes[:, :2] >= 15.9).all()
        assert image.labels.max() < 5


@pytest.mark.parametrize('name', grids.FAMILIES)
def test_both_sides_run_and_give_gradients(name, monkeypatch):
    """Both sides differentiate by the same leaves and every one takes part."""
    gradients = []
    original = torch.autograd.grad
    monkeypatch.setattr(torch.autograd, 'grad', lambda *a, **k: gradients.append(original(*a, **k)))
    setting = grids.GridSetting(1, 3, 300 if name == 'SSD' else 128, 4)
    for side in grids.family_pair(name, setting):
        side()
    ours, theirs = gradients
    assert [each.shape for each in ours] == [each.shape for each in theirs]
    assert all(each.isfinite().all() for each in (*ours, *theirs))
    assert sum(float(each.abs().sum()) for each in ours) > 0


def test_command_line(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(grids, 'PAIRS', (100,))
    threads = torch.get_num_threads()
    try:
        file = tmp_path / 'numbers.json'
        arguments = ['--only', 'iou', '--repeats', '1', '--json', str(file)]
        assert benchmark_losses.main(arguments) == 0
    finally:
        torch.set_num_threads(threads)
    assert '"what": "ciou loss, and gradient"' in file.read_text()
    assert capsys.readouterr().out.count(' loss, ') == 8
    assert benchmark_losses.main(['--only', 'nothing']) == 2
    assert 'is unknown' in capsys.readouterr().out
