"""OKS AP: perfect, worse and absent predictions, tolerances, the frame of the original picture."""

import json

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from mmdet_losses.core import postprocess
from mmdet_losses.data import CocoKeypointDataset, DataError
from mmdet_losses.metrics import CocoKeypointMetric

META = dict(CocoKeypointDataset.METAINFO)
JOINTS = 17


def persons(seed=0):
    """Three persons in two pictures, joints (3, 17, 3) with one of flag 0 each."""
    rng = np.random.default_rng(seed)
    boxes = np.array([[10, 20, 60, 90], [100, 30, 50, 80], [40, 40, 70, 100]], float)
    joints = np.full((3, JOINTS, 3), 2.0)
    joints[..., :2] = boxes[:, None, :2] + rng.random((3, JOINTS, 2)) * boxes[:, None, 2:]
    joints[:, 3] = 0
    return boxes, joints


@pytest.fixture(name='truth')
def _truth(tmp_path):
    boxes, joints = persons()
    notes = [
        dict(id=i + 1, image_id=1 + (i == 2), category_id=5, bbox=box.tolist(), iscrowd=0,
             area=float(0.5 * box[2] * box[3]), keypoints=each.ravel().tolist(),
             num_keypoints=16)
        for i, (box, each) in enumerate(zip(boxes, joints, strict=True))
    ]  # fmt: skip
    images = [dict(id=i, file_name=f'{i}.png', height=200, width=200) for i in (1, 2, 3)]
    path = tmp_path / 'truth.json'
    content = dict(images=images, annotations=notes, categories=[dict(id=5, name='person')])
    path.write_text(json.dumps(content))
    return path


def samples(move=lambda joints: joints, chosen=(0, 1, 2), **extra):
    """Predictions of the three pictures: the truth, its joints (n, 17, 2) moved."""
    boxes, joints = persons()
    boxes[:, 2:] += boxes[:, :2]
    found = []
    for number, rows in ((1, (0, 1)), (2, (2,)), (3, ())):
        rows = [row for row in rows if row in chosen]
        instances = dict(
            bboxes=torch.tensor(boxes[rows]).reshape(-1, 4).float(),
            scores=torch.linspace(0.9, 0.8, len(rows)),
            labels=torch.zeros(len(rows), dtype=torch.long),
            keypoints=torch.tensor(move(joints[rows, :, :2])).reshape(-1, JOINTS, 2).float(),
            **{key: value[rows] for key, value in extra.items()},
        )
        found.append(dict(pred_instances=instances, img_id=number, ori_shape=(200, 200)))
    return found


def measure(truth, predictions, meta=META, **options):
    metric = CocoKeypointMetric(str(truth), **options)
    metric.dataset_meta = meta
    metric.process({}, predictions[:2])
    metric.process({}, predictions[2:])
    return metric.evaluate(3)


def test_perfect_predictions(truth):
    found = measure(truth, samples())
    assert found['coco/keypoints_mAP'] == found['coco/keypoints_AR'] == 1
    assert found['coco/bbox_mAP'] == 1
    boxes_only = measure(truth, samples(), metric='bbox')
    assert boxes_only['coco/bbox_mAP'] == 1 and 'coco/keypoints_mAP' not in boxes_only
    keypoints_only = measure(truth, samples(), metric='keypoints')
    assert keypoints_only['coco/keypoints_mAP'] == 1 and 'coco/bbox_mAP' not in keypoints_only


def test_the_similarity_is_that_of_the_formula(truth):
    """All joints a pixel to the right: AP counts the thresholds that the formula passes."""
    boxes, _ = persons()
    sigmas = np.delete(META['sigmas'], 3)  # the joint that is not labelled
    for shift in (1.0, 3.0, 6.0):
        moved = samples(lambda joints, shift=shift: joints + np.array([shift, 0.0]))
        alike = [
            np.exp(-(shift**2) / (2 * (2 * sigmas) ** 2 * 0.5 * w * h)).mean()
            for w, h in boxes[:, 2:]
        ]
        thresholds = np.linspace(0.5, 0.95, 10)
        recall = np.mean([[each >= t for t in thresholds] for each in alike])
        found = measure(truth, moved)
        assert found['coco/keypoints_AR'] == pytest.approx(recall, abs=1e-4)
        assert 0 < found['coco/keypoints_AR'] < 1 or shift == 1.0
        assert found['coco/bbox_mAP'] == 1


def test_what_is_not_labelled_does_not_count(truth):
    def move(joints):
        joints[:, 3] += 1000.0
        return joints

    assert measure(truth, samples(move))['coco/keypoints_mAP'] == 1


def test_wider_tolerances_forgive_more(truth):
    moved = samples(lambda joints: joints + 4.0)
    strict = measure(truth, moved)['coco/keypoints_mAP']
    wide = measure(truth, moved, sigmas=[0.3] * JOINTS)['coco/keypoints_mAP']
    assert strict < 0.8 < 0.99 < wide


def test_missed_and_absent_persons(truth):
    assert measure(truth, samples(chosen=(0, 2)))['coco/keypoints_AR'] == pytest.approx(2 / 3, 0.01)
    found = measure(truth, samples(chosen=()))
    assert found['coco/keypoints_mAP'] == found['coco/keypoints_AR'] == 0


def test_scores_of_joints_reach_the_file_alone(truth, tmp_path):
    scores = torch.rand(3, JOINTS, generator=torch.Generator().manual_seed(0))
    prefix = str(tmp_path / 'out' / 'results')
    found = measure(truth, samples(keypoint_scores=scores), outfile_prefix=prefix)
    assert found['coco/keypoints_mAP'] == 1
    rows = json.loads((tmp_path / 'out' / 'results.keypoints.json').read_text())
    assert [row['image_id'] for row in rows] == [1, 1, 2] and rows[0]['category_id'] == 5
    np.testing.assert_allclose(rows[1]['keypoints'][2::3], scores[1].numpy(), rtol=1e-6)


def test_rescaled_and_suppressed_predictions_keep_their_keypoints(truth):
    """Predictions in the pixels of a resized, padded input; a weaker double is suppressed."""
    meta = dict(scale_factor=(1.6, 0.75), border=(7.0, 0, 11.0, 0))
    scale, shift = torch.tensor(meta['scale_factor']), torch.tensor([11.0, 7.0])
    predictions = samples(keypoint_scores=torch.full((3, JOINTS), 0.5))
    for sample in predictions:
        instances = InstanceData(**sample['pred_instances'])
        instances.bboxes = instances.bboxes * scale.repeat(2) + shift.repeat(2)
        instances.keypoints = instances.keypoints * scale + shift
        double = InstanceData(**instances)
        double.scores = double.scores - 0.5
        double.keypoints = double.keypoints + 50
        double.keypoint_scores = double.keypoint_scores * 0
        both = InstanceData.cat([double, instances])
        test_cfg = dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=10)
        kept = postprocess(both, meta, test_cfg, rescale=True)
        assert len(kept) == len(instances) and (kept.keypoint_scores == 0.5).all()
        sample['pred_instances'] = dict(kept.items())
    found = measure(truth, predictions)
    assert found['coco/keypoints_mAP'] == found['coco/bbox_mAP'] == 1


def test_bad_input_is_said(truth):
    with pytest.raises(ValueError, match='needs ann_file'):
        CocoKeypointMetric()
    with pytest.raises(ValueError, match='finds no sigmas'):
        measure(truth, samples(), meta=dict(classes=('person',)))
    with pytest.raises(DataError, match=r'annotation 1 in .* has 51 numbers .* instead of 6'):
        measure(truth, samples(), sigmas=[0.1, 0.1])
    few = samples()
    for sample in few:
        sample['pred_instances']['keypoints'] = sample['pred_instances']['keypoints'][:, :5]
    with pytest.raises(DataError, match='predicts 5 keypoints, but there are 17 sigmas'):
        measure(truth, few)
