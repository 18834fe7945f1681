"""A stock MMDetection config that names one of our losses, under MMDetection's own tool."""

import sys
from pathlib import Path

import mmdet

from tests.processes import ROOT, run_command
from tools.make_digits import make_digits

CONFIG = """
_base_ = 'mmdet::centernet/centernet_r18_8xb16-crop512-140e_coco.py'

model = dict(
    bbox_head=dict(
        loss_center_heatmap=dict(
            _delete_=True, type='mmdet_losses.PenaltyReducedFocalLoss', activated=True
        )
    )
)
"""
DATA = """
digits = dict(metainfo=dict(classes=tuple('0123456789')), data_root={root!r})
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        times=1,
        dataset=dict(ann_file='annotations/train.json', data_prefix=dict(img='train/'), **digits),
    ),
)
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(ann_file='annotations/val.json', data_prefix=dict(img='val/'), **digits),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file={root!r} + 'annotations/val.json')
test_evaluator = val_evaluator
"""
OPTIONS = {
    'train_dataloader.dataset.dataset.pipeline.3.crop_size': '(128,128)',
    'train_dataloader.dataset.dataset.pipeline.4.scale': '(128,128)',
    'model.backbone.init_cfg': None,
    'model.bbox_head.num_classes': 10,
    'train_cfg.max_epochs': 1,
    'default_hooks.logger.interval': 1,
}


def test_trains_without_an_import_line(tmp_path):
    digits = make_digits(tmp_path / 'digits', train=4, val=2, objects=(1, 2))
    (tmp_path / 'config.py').write_text(CONFIG + DATA.format(root=f'{digits}/'))
    tool = Path(mmdet.__file__).parent / '.mim' / 'tools' / 'train.py'
    options = [f'{key}={value}' for key, value in OPTIONS.items()]
    run = run_command(
        [sys.executable, tool, 'config.py', '--work-dir', 'work', '--cfg-options', *options],
        cwd=tmp_path,
        env={'PYTHONPATH': ROOT},
    )
    log = run.stdout + run.stderr
    assert run.returncode == 0, log[-3000:]
    lines = [line for line in log.splitlines() if 'Epoch(train)' in line]
    losses = [line for line in lines if 'loss_center_heatmap' in line]
    assert len(losses) == 2 and 'nan' not in ''.join(losses)
    assert (tmp_path / 'work' / 'epoch_1.pth').is_file()
