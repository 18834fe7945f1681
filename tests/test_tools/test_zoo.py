"""The zoo measures, continues, keeps other rows, and reports failures."""

import json
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from tools import zoo
from tools.benchmarks.runs import TrainingError, Usage, measure


def row(**changes):
    measured = {
        'config': 'configs/a/a_digits.py', 'coco/bbox_mAP': 0.5, 'coco/bbox_mAP_50': 0.75,
        'minutes': 4.2, 'memory': 900, 'pieces': 1, 'commit': 'abc1234', 'date': '2026-01-02',
        'cores': 2, 'threads': '1',
    }  # fmt: skip
    return {**measured, **changes}


@pytest.fixture(name='page')
def _page(tmp_path, monkeypatch):
    """Rows of the page, which is not written."""
    monkeypatch.setattr(zoo, 'RESULTS', tmp_path / 'zoo.json')
    written = {}
    monkeypatch.setattr(zoo, 'write_page', written.update)
    return written


def test_names_are_those_of_the_small_configs_and_the_baselines():
    assert 'cornernet_digits' in zoo.configs_of_zoo()
    both = {'ssd_digits', 'cornernet_digits'}
    assert set(zoo.chosen(['cornernet', 'ssd_digits'])) == both
    assert zoo.chosen([]) == zoo.configs_of_zoo()
    with pytest.raises(TrainingError, match='there is no config nonsense; choose from '):
        zoo.chosen(['nonsense'])


def test_time_and_memory_of_a_process_are_measured(tmp_path):
    code = 'import time; block = bytearray(80 * 2**20); time.sleep(0.8); print("done")'
    usage = measure([sys.executable, '-c', code], tmp_path / 'log')
    assert usage.status == 0
    assert 0.8 / 60 <= usage.minutes < 1
    assert 80 <= usage.memory < 200
    assert (tmp_path / 'log').read_text() == 'done\n'
    assert measure([sys.executable, '-c', 'raise SystemExit(3)'], tmp_path / 'log').status == 3


def test_an_interrupted_training_continues_and_its_times_are_added(tmp_path, monkeypatch):
    config = zoo.configs_of_zoo()['cornernet_digits']
    monkeypatch.setattr(zoo, 'make_data', lambda cfg, out: None)
    usages = iter([Usage(1, 2.0, 500.0), Usage(0, 3.0, 700.0)])
    monkeypatch.setattr(zoo, 'measure', lambda command, log: next(usages))
    with pytest.raises(TrainingError, match='ended with status 1; see'):
        zoo.train('cornernet_digits', config, tmp_path)
    log = tmp_path / 'cornernet_digits' / '20260101_000000' / 'vis_data' / 'scalars.json'
    log.parent.mkdir(parents=True)
    lines = [{'loss': 1}, {'coco/bbox_mAP': 0.1}, {'coco/bbox_mAP': 0.4, 'coco/bbox_mAP_50': 0.6}]
    log.write_text('\n'.join(map(json.dumps, lines)))
    found = zoo.train('cornernet_digits', config, tmp_path)
    assert (found['minutes'], found['memory'], found['pieces']) == (5.0, 700, 2)
    assert found['coco/bbox_mAP'] == 0.4  # the last one
    again = zoo.train('cornernet_digits', config, tmp_path)  # is not trained again
    assert again == found


def test_other_options_are_tested_on_the_last_checkpoint(tmp_path, monkeypatch):
    commands = []

    def measure(command, log):
        commands.append(command)
        results = Path(command[command.index('--work-dir') + 1]) / '20260101_000000' / 'a.json'
        results.parent.mkdir(parents=True)
        results.write_text('{"coco/bbox_mAP": 0.25, "other": 1}')
        return Usage(0, 1.0, 1.0)

    monkeypatch.setattr(zoo, 'measure', measure)
    (tmp_path / 'last_checkpoint').write_text('there/epoch_5.pth')
    config = zoo.configs_of_zoo()['cornernet_saccade_digits']
    found = zoo.test_options(Config.fromfile(config), config, tmp_path)
    assert found == {'single pass': {'coco/bbox_mAP': 0.25}}
    assert commands[0][-2:] == ['--cfg-options', 'model.max_crops=0']
    assert 'there/epoch_5.pth' in commands[0]


def test_one_failure_does_not_stop_the_others(page, monkeypatch, capsys):
    def train(name, path, out):
        if name == 'cornernet_digits':
            raise TrainingError('out of memory.')
        return row()

    zoo.RESULTS.write_text(json.dumps({'other_digits': row()}))
    monkeypatch.setattr(zoo, 'train', train)
    assert zoo.main(['cornernet', 'centernet_triplet']) == 1
    assert set(page) == {'other_digits', 'centernet_triplet_digits'}
    assert set(json.loads(zoo.RESULTS.read_text())) == set(page)
    assert 'out of memory.' in capsys.readouterr().err
    assert zoo.main(['nonsense']) == 1


def test_the_page_has_the_measured_values(tmp_path):
    saccade = row(
        pieces=3,
        also={'single pass': {'coco/bbox_mAP': 0.125}},
        **{'pixels/seen_share': 0.61},
    )
    pose = row(**{'coco/keypoints_mAP': 0.625})
    zoo.write_page({'b_digits': saccade, 'a_digits': row(), 'c_digits': pose}, tmp_path / 'zoo.md')
    text = (tmp_path / 'zoo.md').read_text()
    ending = '| 4.2 | 900 | 2, 1 | abc1234 | 2026-01-02 |'
    heads, rule, first, _, last = [each for each in text.splitlines() if each.startswith('|')]
    assert heads.startswith('| detector | AP | AP50 | OKS AP | MOTA | IDF1 |')
    assert heads.count('|') == rule.count('|') == first.count('|') == last.count('|')
    assert first.startswith('| [a_digits](../configs/a/a_digits.py) | 0.500 | 0.750 |')
    assert first.endswith(ending) and ' | 0.625 |' in last
    assert text.index('a_digits') < text.index('b_digits')
    assert 'b_digits was trained in 3 parts.' in text
    assert 'b_digits processed 0.61 of the pixels' in text
    assert 'b_digits, single pass: AP 0.125.' in text
    assert 'a_digits was trained' not in text
