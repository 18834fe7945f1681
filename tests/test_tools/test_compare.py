"""Comparisons continue, read the logs, and distinguish noise from a difference."""

import json
import re
from pathlib import Path

import pytest
import torch

from mmdet_losses.engine.data_report import check_data
from tools import compare_baselines as compare
from tools import zoo
from tools.benchmarks import report
from tools.benchmarks.runs import Usage

METRIC = 'coco/bbox_mAP'
CONFIGS = [str(path) for path in list(zoo.small_configs().values())[:2]]


def finish(work_dir, ap, step=0.5):
    """Write the files of a finished training."""
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
    """Replaces the trainings by instant results; returns the commands."""
    commands = []

    def measure(command, log):
        commands.append(command)
        finish(log.parent, ap=0.5 + 0.01 * len(commands))
        return Usage(0, 1.0, 640.0)

    def step_times(configs, options, repeats):
        return [[300.0 * (number + 1)] * repeats for number, _ in enumerate(configs)]

    monkeypatch.setattr(compare, 'measure', measure)
    monkeypatch.setattr(compare, 'step_times', step_times)
    monkeypatch.setattr(compare, 'make_data', lambda cfg, out: None)
    monkeypatch.setattr(compare.engine, 'check_data', lambda cfg: None)
    return commands


def test_trains_what_is_missing_and_reports(trainings, tmp_path):
    arguments = [
        *CONFIGS,
        '--seeds',
        '2',
        '--out',
        str(tmp_path),
        '--cfg-options',
        'log_level=DEBUG',
    ]
    assert compare.main(arguments) == 0
    assert len(trainings) == 4
    assert trainings[1][-3:] == ['randomness.seed=1', trainings[1][-2], 'log_level=DEBUG']
    text = (tmp_path / 'report.md').read_text()
    assert '0.515 ± 0.007 | 300 | 20 % | 640 | 2.00 | 12 |' in text
    assert '-0.020, within noise (95 % interval: -0.050 to +0.010); its step takes 0.50' in text
    command = f'python tools/compare_baselines.py {" ".join(arguments)}\n'
    assert command in text.replace(' \\\n    ', ' ')
    assert all(len(line) <= 100 for line in report._command(arguments * 9).split('\n'))
    assert (tmp_path / 'report.png').stat().st_size > 5000
    content = json.loads((tmp_path / 'report.json').read_text())
    assert [len(each['runs']) for each in content.values()] == [2, 2]
    assert all(len(each['step_times']) == report.STEPS for each in content.values())
    assert compare.main(arguments) == 0
    assert len(trainings) == 4  # nothing is trained again


def test_other_options_do_not_continue_a_training(trainings, tmp_path, capsys):
    arguments = [CONFIGS[0], '--out', str(tmp_path), '--cfg-options']
    assert compare.main([*arguments, 'log_level=DEBUG']) == 0
    assert compare.main([*arguments, 'log_level=ERROR']) == 1
    assert (
        'was started with --cfg-options log_level=DEBUG; use these options'
        in capsys.readouterr().err
    )


def test_an_interrupted_training_continues_with_its_own_options(
    trainings, tmp_path, monkeypatch, capsys
):
    def interrupt(command, log):
        raise KeyboardInterrupt

    arguments = [CONFIGS[0], '--out', str(tmp_path), '--cfg-options']
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(compare, 'measure', interrupt)
        compare.main([*arguments, 'log_level=DEBUG'])
    assert compare.main([*arguments, 'log_level=ERROR']) == 1 and trainings == []
    assert (
        'was started with --cfg-options log_level=DEBUG; use these options'
        in capsys.readouterr().err
    )
    assert compare.main([*arguments, 'log_level=DEBUG']) == 0 and len(trainings) == 1


def test_the_metric_can_be_chosen(trainings, tmp_path, capsys):
    arguments = [CONFIGS[0], '--out', str(tmp_path), '--metric']
    assert compare.main([*arguments, 'pascal_voc/mAP']) == 1
    error = capsys.readouterr().err
    assert (
        'has no pascal_voc/mAP in its logs' in error and f'choose --metric from {METRIC}' in error
    )
    assert compare.main([*arguments, METRIC]) == 0
    assert len(trainings) == 1


def test_data_in_another_folder_are_not_made(trainings, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(compare, 'make_data', lambda cfg, out: made.append(out))
    arguments = [CONFIGS[0], '--out', str(tmp_path), '--cfg-options', 'data_root=/far']
    assert compare.main(arguments) == 0
    assert made == []


@pytest.mark.parametrize('content', ["_base_ = 'absent.py'", 'modle = 1', None])
def test_all_configs_load_before_the_first_training(trainings, tmp_path, content):
    config = tmp_path / 'other.py'
    if content is not None:
        config.write_text(content)
    with pytest.raises(SystemExit, match=r'^error: .*other.py: '):
        compare.main([CONFIGS[0], str(config), '--out', str(tmp_path)])
    assert trainings == []


def test_missing_data_stop_before_the_first_training(trainings, tmp_path, monkeypatch):
    monkeypatch.setattr(compare.engine, 'check_data', check_data)
    options = ['--out', str(tmp_path), '--cfg-options', f'data_root={tmp_path}/none/']
    with pytest.raises(SystemExit, match=r'annotation file .*none/annotations/train.json does not'):
        compare.main([*CONFIGS, *options])
    assert trainings == []


def test_own_data_are_not_made(trainings, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(compare, 'make_data', lambda cfg, out: made.append(Path(out).name))
    mine = tmp_path / 'mine.py'
    mine.write_text(
        f"_base_ = {CONFIGS[0]!r}\ntrain_dataloader = dict(dataset=dict(data_root='m/'))"
    )
    assert compare.main([CONFIGS[0], str(mine), '--out', str(tmp_path / 'out')]) == 0
    assert made == ['digits']


def test_configs_can_be_compared_in_pairs(trainings, tmp_path, capsys):
    configs = [str(path) for path in list(zoo.small_configs().values())[:4]]
    assert compare.main([*configs, '--pairs', '--seeds', '2', '--out', str(tmp_path)]) == 0
    text = (tmp_path / 'report.md').read_text()
    names = [Path(config).stem for config in configs]
    verdicts = re.findall(r'- AP of (\S+) minus (\S+):', text)
    assert verdicts == [(names[0], names[1]), (names[2], names[3])]
    with pytest.raises(SystemExit):
        compare.parse_args([*configs[:3], '--pairs'])
    assert 'needs an even number of configs' in capsys.readouterr().err


def test_a_failure_is_reported_and_the_rest_is_compared(trainings, tmp_path, monkeypatch, capsys):
    measure = compare.measure

    def fail_once(command, log):
        return measure(command, log) if trainings else trainings.append(0) or Usage(1, 0, 0)

    monkeypatch.setattr(compare, 'measure', fail_once)
    assert compare.main([*CONFIGS, '--out', str(tmp_path)]) == 1
    assert 'ended with status 1; see ' in capsys.readouterr().err
    assert (tmp_path / 'report.md').is_file()


def test_noise_is_reported_as_noise():
    assert 'within noise' in report.verdict([0.5, 0.6], [0.52, 0.6])
    assert 'beyond noise' in report.verdict([0.5, 0.501], [0.3, 0.301])
    assert 'equal for every seed' in report.verdict([0.5, 0.5], [0.4, 0.4])
    assert 'one seed' in report.verdict([0.5], [0.4])
    assert report.verdict([0.0, 0.0], [0.0, 0.0]) == 'nothing was learned'


def test_two_configs_with_one_name_raise(capsys):
    with pytest.raises(SystemExit):
        compare.parse_args([CONFIGS[0], CONFIGS[0]])
    assert 'two configs have one name' in capsys.readouterr().err
