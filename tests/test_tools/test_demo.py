"""The demo, on a few images."""

import json
import sys
from argparse import Namespace
from pathlib import Path

import cv2

from tests.processes import ROOT, run_command
from tools import demo


def run(folder: Path, *arguments: str) -> str:
    small = ['--train', '16', '--val', '6', *arguments]
    options = [
        'train_cfg.max_epochs=1',
        'train_cfg.val_interval=1',
        'default_hooks.logger.interval=1',
    ]
    command = [sys.executable, ROOT / 'tools' / 'demo.py', *small, '--cfg-options', *options]
    done = run_command(command, cwd=folder, env={'PYTHONPATH': ROOT})
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


def test_demo_writes_its_results(tmp_path):
    output = run(tmp_path)
    out = tmp_path / 'work_dirs' / 'demo'
    for stage in range(1, 6):
        assert f'[{stage}/5]' in output
    for text in ('validation: step 2, AP 0.', 'bbox mAP', 'tools/dist_train.sh'):
        assert text in output
    metrics = json.loads((out / 'metrics.json').read_text())
    assert 0 <= metrics['bbox_mAP'] <= 1 and metrics['seed'] == 0
    assert (out / 'epoch_1.pth').is_file()
    for name in ('learning_curve.png', 'predictions.png', 'targets.png'):
        assert cv2.imread(str(out / name)).std() > 1


def test_a_second_demo_keeps_the_results_of_the_first(tmp_path, capsys):
    out = tmp_path / 'demo'
    demo.move_earlier_demo(out)
    out.mkdir()
    (out / 'metrics.json').write_text('{}')
    demo.move_earlier_demo(out)
    (earlier,) = tmp_path.iterdir()
    assert earlier.name.startswith('demo_') and (earlier / 'metrics.json').is_file()
    assert 'moved to' in capsys.readouterr().out


def test_the_demo_trains_on_another_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(demo.engine, 'check_data', lambda *_, **__: None)
    args = Namespace(out=tmp_path / 'demo', data='mine', cfg_options=None)
    cfg = demo.load_config(args)
    assert cfg.train_dataloader.dataset.data_root == 'mine/'
    assert cfg.val_evaluator.ann_file.startswith('mine/')
