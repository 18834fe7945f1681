"""Comparisons continue, read the logs, and do not call noise a difference."""

import json
import re
from pathlib import Path

import pytest
import torch

from tools import compare_baselines as compare
from tools import zoo

METRIC = 'coco/bbox_mAP'
CONFIGS = [str(path) for path in list(zoo.tiny_configs().values())[:2]]


def finish(work_dir, ap, step=0.5):
    """Leave behind what a training leaves."""
    log = work_dir / '20260101_000000' / 'vis_data' / 'scalars.json'
    log.parent.mkdir(parents=True)
    lines = [
        dict(loss=2.0, time=step, head_time=step / 5, grad_norm=3.0, step=50),
        {METRIC: ap / 2, 'step': 1},
        dict(loss=1.0, time=step, head_time=step / 5, grad_norm=1.0, step=100),
        {METRIC: ap, 'step': 2},
    ]
    log.write_text('\n'.join(map(json.dumps, lines)))
    torch.save(dict(state_dict=dict(a=torch.zeros(3, 4))), work_dir / 'epoch_2.pth')
    (work_dir / 'last_checkpoint').write_text(str(work_dir / 'epoch_2.pth'))


@pytest.fixture(name='trainings')
def _trainings(monkeypatch):
    """Trainings that take no time; the commands that would have run."""
    commands = []

    def measure(command, log):
        commands.append(command)
        finish(log.parent, ap=0.5 + 0.01 * len(commands))
        return zoo.Usage(0, 1.0, 640.0)

    def step_times(configs, options, repeats):
        return [[300.0 * (number + 1)] * repeats for number, _ in enumerate(configs)]

    monkeypatch.setattr(compare, 'measure', measure)
    monkeypatch.setattr(compare, 'step_times', step_times)
    monkeypatch.setattr(compare, 'make_data', lambda cfg, out: None)
    return commands


def test_trains_what_is_missing_and_reports(trainings, tmp_path):
    arguments = [*CONFIGS, '--seeds', '2', '--out', str(tmp_path), '--cfg-options', 'a=1']
    assert compare.main(arguments) == 0
    assert len(trainings) == 4
    assert trainings[1][-3:] == ['randomness.seed=1', trainings[1][-2], 'a=1']
    text = (tmp_path / 'report.md').read_text()
    assert '0.515 ± 0.007 | 300 | 20 % | 640 | 2.00 | 12 |' in text
    assert '-0.020, within noise (95 % interval: -0.050 to +0.010); its step takes 0.50' in text
    assert f'python tools/compare_baselines.py {" ".join(arguments)}\n' in text
    assert (tmp_path / 'report.png').stat().st_size > 5000
    told = json.loads((tmp_path / 'report.json').read_text())
    assert [len(each['runs']) for each in told.values()] == [2, 2]
    assert all(len(each['step_times']) == compare.STEPS for each in told.values())
    assert compare.main(arguments) == 0
    assert len(trainings) == 4  # everything was there


def test_another_budget_is_not_taken_for_the_same(trainings, tmp_path, capsys):
    arguments = [CONFIGS[0], '--out', str(tmp_path), '--cfg-options']
    assert compare.main([*arguments, 'a=1']) == 0
    assert compare.main([*arguments, 'a=2']) == 1
    assert 'was begun with --cfg-options a=1, which is another budget' in capsys.readouterr().err


def test_an_interrupted_training_continues_under_its_own_budget(
    trainings, tmp_path, monkeypatch, capsys
):
    def interrupt(command, log):
        raise KeyboardInterrupt

    arguments = [CONFIGS[0], '--out', str(tmp_path), '--cfg-options']
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(compare, 'measure', interrupt)
        compare.main([*arguments, 'a=1'])
    assert compare.main([*arguments, 'a=2']) == 1 and trainings == []
    assert 'was begun with --cfg-options a=1, which is another budget' in capsys.readouterr().err
    assert compare.main([*arguments, 'a=1']) == 0 and len(trainings) == 1


def test_another_metric_is_asked_for_and_taken(trainings, tmp_path, capsys):
    arguments = [CONFIGS[0], '--out', str(tmp_path), '--metric']
    assert compare.main([*arguments, 'pascal_voc/mAP']) == 1
    said = capsys.readouterr().err
    assert 'no pascal_voc/mAP is logged in' in said and f'name one of {METRIC} with' in said
    assert compare.main([*arguments, METRIC]) == 0
    assert len(trainings) == 1


def test_data_that_lie_elsewhere_are_not_made(trainings, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(compare, 'make_data', lambda cfg, out: made.append(out))
    arguments = [CONFIGS[0], '--out', str(tmp_path), '--cfg-options', 'data_root=/far']
    assert compare.main(arguments) == 0
    assert made == []


def test_data_of_ones_own_are_not_made(trainings, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(compare, 'make_data', lambda cfg, out: made.append(Path(out).name))
    mine = tmp_path / 'mine.py'
    mine.write_text(
        f"_base_ = {CONFIGS[0]!r}\ntrain_dataloader = dict(dataset=dict(data_root='m/'))"
    )
    assert compare.main([CONFIGS[0], str(mine), '--out', str(tmp_path / 'out')]) == 0
    assert made == ['digits']


def test_pairs_are_compared_among_themselves(trainings, tmp_path, capsys):
    configs = [str(path) for path in list(zoo.tiny_configs().values())[:4]]
    assert compare.main([*configs, '--pairs', '--seeds', '2', '--out', str(tmp_path)]) == 0
    text = (tmp_path / 'report.md').read_text()
    names = [Path(config).stem for config in configs]
    verdicts = re.findall(r'- AP of (\S+) minus (\S+):', text)
    assert verdicts == [(names[0], names[1]), (names[2], names[3])]
    with pytest.raises(SystemExit):
        compare.parse_args([*configs[:3], '--pairs'])
    assert 'leaves one alone' in capsys.readouterr().err


def test_a_failure_is_told_and_does_not_lose_the_rest(trainings, tmp_path, monkeypatch, capsys):
    measure = compare.measure

    def fail_once(command, log):
        return measure(command, log) if trainings else trainings.append(0) or zoo.Usage(1, 0, 0)

    monkeypatch.setattr(compare, 'measure', fail_once)
    assert compare.main([*CONFIGS, '--out', str(tmp_path)]) == 1
    assert 'ended with status 1: see ' in capsys.readouterr().err
    assert (tmp_path / 'report.md').is_file()


def test_noise_is_called_noise():
    assert 'within noise' in compare.verdict([0.5, 0.6], [0.52, 0.6])
    assert 'beyond noise' in compare.verdict([0.5, 0.501], [0.3, 0.301])
    assert 'the same with every seed' in compare.verdict([0.5, 0.5], [0.4, 0.4])
    assert 'one seed' in compare.verdict([0.5], [0.4])


def test_two_configs_of_one_name_are_refused(capsys):
    with pytest.raises(SystemExit):
        compare.parse_args([CONFIGS[0], CONFIGS[0]])
    assert 'share a name' in capsys.readouterr().err
