"""The first hour in short: own labels, a new project, its targets, a training, predictions."""

import json

import pytest
import torch

pytest.importorskip('globox')

from mmdet_losses import engine
from tests.test_tools.test_import_data import make_yolo
from tools import browse_targets, import_data, new_project, predict, train

QUICK = [
    'train_cfg.max_epochs=1', 'train_dataloader.dataset.times=1',
    *(f'{split}_dataloader.{key}' for split in ('train', 'val')
      for key in ('batch_size=2', 'num_workers=0', 'persistent_workers=False')),
]  # fmt: skip


def run(tool, work, *arguments):
    """Run a tool in this process; ``work`` is its function for a config."""
    engine.run_tool(work, tool.parse_args([str(argument) for argument in arguments]))


@pytest.mark.short_training
def test_from_yolo_labels_to_predictions(tmp_path, monkeypatch, capsys):
    make_yolo(tmp_path / 'labels')
    torch.save({'state_dict': {'backbone.unused': torch.zeros(1)}}, tmp_path / 'weights.pth')
    monkeypatch.chdir(tmp_path)
    assert import_data.main(['labels', '--out', 'data/mine']) == 0
    options = ['--detector', 'centernet_points', '--size', '64', '--weights', 'weights.pth']
    assert new_project.main(['--data', 'data/mine', *options]) == 0
    config = tmp_path / 'centernet_points_mine.py'
    (tmp_path / 'elsewhere').mkdir()
    monkeypatch.chdir(tmp_path / 'elsewhere')  # the config works from any folder
    capsys.readouterr()

    run(browse_targets, browse_targets.work, config, '--index', 0, '--out', 'targets')
    assert 'objects have no target that decodes to them' in capsys.readouterr().out
    assert (tmp_path / 'elsewhere' / 'targets' / '000000.png').is_file()

    run(train, train.train, config, '--cfg-options', *QUICK)
    printed = capsys.readouterr().out
    assert 'validation: ' in printed and 'hooks' not in printed.lower()
    checkpoint, command = printed.rstrip().splitlines()[-2:]
    assert checkpoint == 'checkpoint: work_dirs/centernet_points_mine/epoch_1.pth'
    assert 'predict.py' in command

    weights = checkpoint.removeprefix('checkpoint: ')
    source = tmp_path / 'data/mine/images'  # the printed command
    run(predict, predict.work, config, weights, source, '--json', '--out', 'predicted')
    found = json.loads((tmp_path / 'elsewhere' / 'predicted' / 'predictions.json').read_text())
    assert len(found['images']) == 3 and found['classes'] == ['cat', 'dog']
