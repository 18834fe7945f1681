"""The tools with a pose detector: training, test, flip test and drawn skeletons."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmdet_losses import engine
from mmdet_losses.visualization.skeletons import LEFT, RIGHT
from tools import test as test_tool
from tools import train as train_tool
from tools.datasets.figures import make_figures

CONFIG = Path(__file__).resolve().parents[2] / 'configs/centernet_pose/centernet_pose_figures.py'
CHILD = """
_base_ = {config!r}
data_root = {root!r}
train_cfg = dict(max_epochs=1, dynamic_intervals=None, val_interval=1)
loader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root))
train_dataloader = dict(batch_size=2, **loader)
val_dataloader = dict(batch_size=2, **loader)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + '/annotations/val.json')
test_evaluator = val_evaluator
test_cfg = dict(type='TestLoop')
model = dict(test_cfg=dict(score_thr=0.0, max_per_img=5))
default_hooks = dict(visualization=dict(score_thr=0.0))
visualizer = dict(keypoint_score_thr=0.0)
"""


@pytest.fixture(name='config')
def _config(tmp_path):
    root = make_figures(tmp_path / 'data', train=4, val=2, empty_fraction=0.0)
    path = tmp_path / 'child.py'
    path.write_text(CHILD.format(config=str(CONFIG), root=str(root)))
    return path


def run(tool, work, *words):
    engine.run_tool(work, tool.parse_args([str(word) for word in words]))


def test_a_pose_detector_is_trained_tested_and_drawn(config, tmp_path):
    out = tmp_path / 'work'
    run(train_tool, train_tool.train, config, '--work-dir', out)
    [scalars] = out.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in scalars.read_text().splitlines()]
    measured = next(line for line in lines if 'coco/keypoints_mAP' in line)
    assert 0 <= measured['coco/keypoints_mAP'] <= 1 and 'coco/bbox_mAP' in measured
    weights = out / 'epoch_1.pth'
    run(test_tool, test_tool.test, config, weights, '--work-dir', out, '--show-dir', 'shown')
    images = sorted(out.glob('*/shown/*.jpg'))
    assert len(images) == 2
    drawn = cv2.imread(str(images[0]))[..., ::-1].astype(int)
    assert drawn.shape == (160, 320, 3)  # ground truth left, predictions right
    for colour in (LEFT, RIGHT):
        assert (np.abs(drawn[:, :160] - colour).max(-1) < 30).sum() > 20
    # MMEngine gives runs with one name in one second one log, so this run has another name
    name = ['--cfg-options', 'experiment_name=flip']
    run(test_tool, test_tool.test, config, weights, '--work-dir', tmp_path / 'flip', '--tta', *name)
    [log] = (tmp_path / 'flip').glob('*/*.log')
    assert re.search(r'coco/keypoints_mAP: [\d.]+', log.read_text())
