"""Skeletons: position, colours of the two sides, and which keypoints are drawn."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from mmdet_losses.registry import MODELS, VISUALIZERS
from mmdet_losses.visualization.skeletons import LEFT, MIDDLE, RIGHT, draw_skeleton

ROOT = Path(__file__).resolve().parents[2]

SKELETON, PAIRS = ((0, 1), (0, 2)), ((1, 2),)
KEYPOINTS = np.array([[50.0, 20.0], [80.0, 60.0], [20.0, 60.0]])


@pytest.fixture(name='visualizer')
def _visualizer(request):
    made = VISUALIZERS.build(dict(type='KeypointVisualizer', name=request.node.name, line_width=1))
    made.dataset_meta = dict(classes=('thing',), skeleton=SKELETON, flip_pairs=PAIRS)
    return made


def instances(**more):
    return InstanceData(
        bboxes=torch.tensor([[5.0, 5.0, 95.0, 75.0]]),
        labels=torch.tensor([0]),
        keypoints=torch.tensor(KEYPOINTS, dtype=torch.float32)[None],
        **more,
    )


def drawn(visualizer, tmp_path, sample, threshold=0.3):
    import cv2

    path = tmp_path / 'shown.png'
    image = np.zeros((90, 110, 3), np.uint8)
    options = dict(out_file=str(path), pred_score_thr=threshold)
    visualizer.add_datasample('shown', image, sample, **options)
    return cv2.imread(str(path))[..., ::-1]


def near(image, xy, colour):
    x, y = (int(v) for v in xy)
    return (np.abs(image[y, x].astype(int) - colour) <= 2).all()


def test_gt_and_predictions_are_drawn_side_by_side(visualizer, tmp_path):
    sample = DetDataSample()
    sample.gt_instances = instances(keypoints_visible=torch.tensor([[2, 1, 0]]))
    scores = dict(scores=torch.tensor([0.9]), keypoint_scores=torch.tensor([[0.9, 0.05, 0.6]]))
    sample.pred_instances = instances(**scores)
    image = drawn(visualizer, tmp_path, sample)
    width = image.shape[1] // 2
    gt, found = image[:, :width], image[:, width:]
    assert near(gt, KEYPOINTS[0], MIDDLE) and near(found, KEYPOINTS[0], MIDDLE)
    assert near(gt, KEYPOINTS[1], LEFT) and near(gt, KEYPOINTS[2], (0, 0, 0))  # not labelled
    assert near(found, KEYPOINTS[2], RIGHT) and near(found, KEYPOINTS[1], (0, 0, 0))  # a low score
    assert near(gt, KEYPOINTS[:2].mean(0), MIDDLE) and near(found, KEYPOINTS[:2].mean(0), (0, 0, 0))


def test_low_scores_are_not_drawn_and_keypoints_are_optional(visualizer, tmp_path):
    sample = DetDataSample()
    sample.pred_instances = instances(scores=torch.tensor([0.2]))
    assert drawn(visualizer, tmp_path, sample).max() == 0
    plain = instances(scores=torch.tensor([0.9]))
    del plain.keypoints
    sample.pred_instances = plain
    image = drawn(visualizer, tmp_path, sample)
    assert image.max() > 0 and near(image, KEYPOINTS[0] + [110, 0], (0, 0, 0))


def test_inverted_boxes_are_drawn(visualizer, tmp_path):
    found = instances(scores=torch.tensor([0.9]))
    found.bboxes = found.bboxes[:, [2, 3, 0, 1]]
    sample = DetDataSample()
    sample.pred_instances = found
    assert drawn(visualizer, tmp_path, sample)[40, 113:118].max() > 0  # right of the ground truth


@pytest.mark.parametrize(
    'config', ['centernet_points/centernet_points_digits', 'centertrack/centertrack_videos']
)
def test_inverted_boxes_of_an_untrained_centre_detector_are_drawn(config, tmp_path):
    """Uses the visualizer of the config."""
    cfg = Config.fromfile(ROOT / 'configs' / f'{config}.py')
    cfg.model.test_cfg.score_thr = 0.0
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'), torch.no_grad():
        model = MODELS.build(cfg.model).eval()
        meta = dict(
            img_shape=(96, 96), ori_shape=(96, 96), scale_factor=(1, 1), frame_id=0, video_id=0
        )
        image = torch.randint(0, 255, (3, 96, 96), dtype=torch.uint8)
        data = dict(inputs=[image], data_samples=[DetDataSample(metainfo=meta)])
        [found] = model.test_step(data)
        made = VISUALIZERS.build({**cfg.visualizer, 'vis_backends': None, 'name': config})
    boxes = found.pred_instances.bboxes
    inverted = (boxes[:, 2:] < boxes[:, :2]).any(1).nonzero()[:3, 0]
    assert len(inverted) == 3
    sample = DetDataSample()
    sample.pred_instances = found.pred_instances[inverted]
    made.dataset_meta = dict(classes=tuple('0123456789'), palette=[(0, 200, 0)] * 10)
    assert drawn(made, tmp_path, sample, threshold=0.0).max() > 0


def test_non_finite_and_distant_keypoints_are_not_drawn():
    image = np.zeros((60, 60, 3), np.uint8)
    keypoints = np.array([[np.nan, 5], [1e12, 5], [30, 30]])
    draw_skeleton(image, keypoints, np.ones(3, bool), SKELETON, PAIRS)
    assert near(image, (30, 30), RIGHT) and (image[:20] == 0).all()
