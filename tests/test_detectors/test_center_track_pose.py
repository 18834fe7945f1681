"""CenterTrack with keypoints: data, targets, loss against a slow loop, detections."""

import json
import math
import random
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from mmdet_losses.data import DataError
from mmdet_losses.detectors.center import (
    CenterNetPoseOutputs,
    CenterTrackLoss,
    CenterTrackOutputs,
    CenterTrackPredictor,
    CenterTrackTargetEncoder,
)
from mmdet_losses.detectors.center.tta import average_mirrored
from mmdet_losses.registry import DATASETS, MODELS
from tests.test_detectors.test_center_track_detector import images, sample

CONFIG = Path(__file__).parents[2] / 'configs/centertrack/centertrack_dla34_8xb16-70e_coco_pose.py'
SIZE, K = (64, 96), 3
H, W = 16, 24
BOXES = torch.tensor([[8.0, 8.0, 40.0, 40.0], [50.0, 12.0, 90.0, 50.0], [4.0, 30.0, 30.0, 60.0]])
POINTS = torch.tensor(
    [
        [[10.0, 12.0], [21.5, 33.0], [30.0, 20.0]],
        [[55.0, 14.0], [99.0, 20.0], [70.0, 45.5]],  # the second is outside of the image
        [[5.0, 31.0], [9.0, 40.0], [20.0, 50.0]],
    ]
)
VISIBLE = torch.tensor([[2, 1, 0], [2, 2, 1], [2, 2, 2]])


def persons(*rows, crowds=None):
    rows = list(rows)
    found = InstanceData(bboxes=BOXES[rows], labels=torch.zeros(len(rows), dtype=torch.long))
    found.keypoints, found.keypoints_visible = POINTS[rows], VISIBLE[rows]
    found.instances_ids = torch.arange(len(rows))
    found.crowds = torch.tensor(crowds or [False] * len(rows), dtype=torch.bool)
    return found


@pytest.fixture(name='encoder')
def _encoder():
    pose = dict(num_keypoints=K, min_keypoint_score=0.2, snap_reach=math.inf)
    return CenterTrackTargetEncoder(1, pose=pose)


def outputs_with(leaves):
    return CenterTrackOutputs(
        heatmap=leaves['heatmap'], size=leaves['size'], offset=leaves['offset'],
        tracking=leaves['tracking'], keypoints=leaves['keypoints'],
        keypoint_heatmap=leaves['keypoint_heatmap'], keypoint_offset=leaves['keypoint_offset'],
    )  # fmt: skip


def leaves_of(batch):
    generator = torch.Generator().manual_seed(0)
    channels = dict(heatmap=1, size=2, offset=2, tracking=2, keypoints=2 * K)
    channels |= dict(keypoint_heatmap=K, keypoint_offset=2)
    return {
        name: torch.randn(batch, count, H, W, generator=generator).requires_grad_()
        for name, count in channels.items()
    }


def slow_pose_terms(leaves, batch, heatmap):
    """The three terms, one keypoint at a time, from the annotations; crowds have none."""
    l1 = off = count = 0
    positives, points = 0.0, 0
    for b, gt in enumerate(batch):
        for n in range(len(gt)):
            if gt.crowds[n]:
                continue
            x1, y1, x2, y2 = (gt.bboxes[n] / 4).tolist()
            cx, cy = int((x1 + x2) / 2), int((y1 + y2) / 2)
            for k in range(K):
                x, y = (gt.keypoints[n, k] / 4).tolist()
                if gt.keypoints_visible[n, k] == 0 or not (0 <= x < W and 0 <= y < H):
                    continue
                at = leaves['keypoints'][b, 2 * k : 2 * k + 2, cy, cx]
                l1 = l1 + (at - torch.tensor([x - cx, y - cy])).abs().sum()
                at = leaves['keypoint_offset'][b, :, int(y), int(x)]
                off = off + (at - torch.tensor([x - int(x), y - int(y)])).abs().sum()
                p = leaves['keypoint_heatmap'][b, k, int(y), int(x)].sigmoid()
                positives = positives - (1 - p) ** 2 * p.log()
                points, count = points + 1, count + 2
    p = leaves['keypoint_heatmap'].sigmoid()
    negatives = -((1 - heatmap) ** 4 * p**2 * F.logsigmoid(-leaves['keypoint_heatmap'])).sum()
    return {
        'loss_keypoints': l1 / (count + 1e-4),
        'loss_keypoint_offset': off / (count + 1e-4),
        'loss_keypoint_heatmap': (positives + negatives) / points,
    }


def test_the_terms_of_the_keypoints_equal_a_slow_loop(encoder):
    batch = [persons(0, 1, 2, crowds=[False, False, True]), persons(1)]
    targets = encoder.encode(batch, [(H, W)], SIZE)
    heatmap = targets.pose.keypoint_heatmap.dense()
    assert (heatmap == 1).sum() == 6 and heatmap[0, :, 12].max() < 1  # none of the crowd
    leaves = leaves_of(2)
    losses = CenterTrackLoss()(outputs_with(leaves), targets)
    want = slow_pose_terms(leaves, batch, heatmap)
    for name, value in want.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-5, atol=1e-6)
        (other,) = torch.autograd.grad(value, leaves[name[5:]], retain_graph=True)
        (ours,) = torch.autograd.grad(losses[name], leaves[name[5:]], retain_graph=True)
        torch.testing.assert_close(ours, other, rtol=1e-5, atol=1e-6)


def test_round_trip_of_boxes_tracks_and_keypoints(encoder):
    gt = persons(0, 1)
    gt.previous_centers, gt.previous_mask = (
        torch.tensor([[20.0, 22.0], [70.0, 30.0]]),
        torch.ones(2),
    )
    targets = encoder.encode([gt], [(H, W)], SIZE)
    (found,) = encoder.decode(encoder.ideal_outputs(targets), SIZE)
    found = found[found.scores > 0.5]
    assert len(found) == 2
    for row, box in enumerate(gt.bboxes):
        own = found[(found.bboxes - box).abs().amax(1) < 1e-3][0]
        kept = targets.pose.keypoint_mask[0, row]
        assert kept.sum() == 2
        torch.testing.assert_close(
            own.keypoints[0][kept], gt.keypoints[row][kept], rtol=0, atol=1e-3
        )
        previous = own.centers[0] + own.tracking[0]
        torch.testing.assert_close(previous, gt.previous_centers[row], rtol=0, atol=1e-3)


def test_a_network_without_the_branches_raises(encoder):
    targets = encoder.encode([persons(0)], [(H, W)], SIZE)
    leaves = leaves_of(1)
    with pytest.raises(ValueError, match='set num_keypoints of CenterTrackPredictor'):
        CenterTrackLoss()(outputs_with(leaves)._replace(keypoints=None), targets)
    predictor = CenterTrackPredictor(4, 1, channels=4, num_keypoints=K)
    made = predictor((torch.zeros(1, 4, H, W),))
    assert made.keypoints.shape[1] == 2 * K and made.keypoint_heatmap.shape[1] == K


def test_mirrored_keypoints_are_averaged_as_poses():
    upright, mirrored = (outputs_with(leaves_of(1)) for _ in range(2))
    found = average_mirrored(upright, mirrored, [(0, 1)])
    pose = average_mirrored(upright.pose(), mirrored.pose(), [(0, 1)])
    assert isinstance(pose, CenterNetPoseOutputs)
    torch.testing.assert_close(found.keypoints, pose.keypoints)
    torch.testing.assert_close(found.keypoint_heatmap, pose.keypoint_heatmap)
    torch.testing.assert_close(found.tracking, upright.tracking)


@pytest.fixture(name='recipe')
def _recipe(tmp_path):
    """The recipe on one drawn image with a person and a crowd."""
    cfg = Config.fromfile(CONFIG)
    cv2.imwrite(str(tmp_path / 'a.png'), np.full((200, 300, 3), 90, np.uint8))
    points = [[60 + 5 * k, 70 + 4 * k, 2] for k in range(17)]
    note = dict(image_id=1, category_id=1, area=8000, iscrowd=0, weight=0.25)
    notes = [
        dict(note, id=1, bbox=[50, 60, 100, 90], keypoints=[v for point in points for v in point]),
        dict(note, id=2, bbox=[200, 20, 60, 60], iscrowd=1, keypoints=[0] * 51),
    ]
    content = dict(
        images=[dict(id=1, file_name='a.png', height=200, width=300)],
        annotations=notes,
        categories=[dict(id=1, name='person')],
    )
    (tmp_path / 'a.json').write_text(json.dumps(content))
    data = cfg.train_dataloader.dataset
    data.update(data_root=f'{tmp_path}/', ann_file='a.json', data_prefix=dict(img=''))
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield cfg, content, tmp_path


def test_pairs_of_the_recipe_carry_moved_keypoints(recipe):
    cfg, _, _ = recipe
    dataset, flips = DATASETS.build(cfg.train_dataloader.dataset), set()
    for seed in range(4):
        random.seed(seed)
        found = dataset[0, 0]['data_samples']
        for each in (found, found.previous):
            (box,) = each.gt_instances.bboxes.numpy()
            (points,), (seen,) = each.gt_instances.keypoints, each.gt_instances.keypoints_visible
            assert (seen == 2).all() and len(each.ignored_instances.keypoints) == 1
            assert each.gt_instances.weights.tolist() == [0.25]
            scale = (box[2] - box[0]) / 100
            nose = points[0].numpy() - box[:2]
            flip = nose[0] > 50 * scale
            nose[0] = 100 * scale - nose[0] if flip else nose[0]
            np.testing.assert_allclose(nose / scale, [10, 10], atol=1.1)  # 0.5 pixel per mirror
            eyes = points[1] - points[2]  # left and right swap, so their order stays
            assert eyes[0] < 0
            flips.add(bool(flip))
        assert not np.allclose(
            found.gt_instances.keypoints[0], found.previous.gt_instances.keypoints[0]
        )
    assert flips == {True, False}


def test_wrong_numbers_of_keypoints_raise(recipe):
    cfg, content, folder = recipe
    content['annotations'][0]['keypoints'] = [1, 2, 2]
    (folder / 'a.json').write_text(json.dumps(content))
    with pytest.raises(DataError, match='has 3 numbers as keypoints instead of 51'):
        DATASETS.build(cfg.train_dataloader.dataset)


def test_a_pair_trains_the_detector_and_detections_have_keypoints():
    torch.manual_seed(0)
    detector = MODELS.build(
        dict(
            type='CenterTrack',
            backbone=dict(
                type='DLANet', channels=(4, 4, 8, 8, 8, 8), previous_image=True,
                previous_heatmap=True,
            ),
            neck=dict(type='DLAUpNeck', in_channels=(8, 8, 8, 8), conv='conv'),
            bbox_head=dict(
                type='EncodedDenseHead',
                predictor=dict(
                    type='CenterTrackPredictor', in_channels=8, num_classes=1, channels=8,
                    num_keypoints=K,
                ),
                encoder=dict(
                    type='CenterTrackTargetEncoder', num_classes=1, topk=5, min_track_score=0.0,
                    pose=dict(num_keypoints=K),
                ),
                criterion=dict(type='CenterTrackLoss'),
            ),
            tracker=dict(new_score=0.0),
            test_cfg=dict(score_thr=0.0, max_per_img=5),
            flip_test=True,
            flip_pairs=((0, 1),),
        )
    )  # fmt: skip
    gt = persons(0, 1)
    losses = detector(images(1), [sample(gt=gt, before=gt)], 'loss', images(1))
    sum(value for name, value in losses.items() if name.startswith('loss')).backward()
    for branch in ('keypoints', 'keypoint_heatmap', 'keypoint_offset'):
        grads = [each.grad for each in getattr(detector.bbox_head.predictor, branch).parameters()]
        assert all(each.abs().sum() > 0 for each in grads)
    detector.eval()
    with torch.no_grad():
        (found,) = detector(images(1), [sample()], mode='predict')
    assert found.pred_instances.keypoints.shape == (5, K, 2)
    assert found.pred_track_instances.keypoints.shape == (5, K, 2)
