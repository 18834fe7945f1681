"""The demo, on a few images."""

import json
import sys
from pathlib import Path

import cv2

from tests.processes import ROOT, run_command


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


def test_demo_writes_its_results_and_overwrites_nothing(tmp_path):
    output = run(tmp_path)
    out = tmp_path / 'work_dirs' / 'demo'
    for stage in range(1, 6):
        assert f'[{stage}/5]' in output
    for text in ('validation: AP 0.', 'bbox mAP', 'tools/dist_train.sh'):
        assert text in output
    metrics = json.loads((out / 'metrics.json').read_text())
    assert 0 <= metrics['bbox_mAP'] <= 1 and metrics['seed'] == 0
    assert (out / 'epoch_1.pth').is_file()
    for name in ('learning_curve.png', 'predictions.png', 'targets.png'):
        assert cv2.imread(str(out / name)).std() > 1

    (tmp_path / 'data' / 'digits').rename(tmp_path / 'mine')
    again = run(tmp_path, '--data', 'mine')
    assert 'moved to' in again and 'nothing to do' in again
    assert 'data_root=mine/' in again and not (tmp_path / 'data' / 'digits').exists()
    earlier = [each for each in out.parent.iterdir() if each.name.startswith('demo_')]
    assert len(earlier) == 1
    assert json.loads((earlier[0] / 'metrics.json').read_text()) == metrics
