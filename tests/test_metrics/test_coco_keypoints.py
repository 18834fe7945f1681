"""Keypoint AP: perfect, shifted and missing predictions, tolerances, original image pixels."""

import json

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from mmdet_losses.core import postprocess
from mmdet_losses.data import CocoKeypointDataset, DataError
from mmdet_losses.metrics import CocoKeypointMetric

META = dict(CocoKeypointDataset.METAINFO)
KEYPOINTS = 17


def persons(seed=0):
    """Three persons in two images, keypoints (3, 17, 3) with one unlabelled keypoint each."""
    rng = np.random.default_rng(seed)
    boxes = np.array([[10, 20, 60, 90], [100, 30, 50, 80], [40, 40, 70, 100]], float)
    keypoints = np.full((3, KEYPOINTS, 3), 2.0)
    keypoints[..., :2] = boxes[:, None, :2] + rng.random((3, KEYPOINTS, 2)) * boxes[:, None, 2:]
    keypoints[:, 3] = 0
    return boxes, keypoints


@pytest.fixture(name='ann_file')
def _ann_file(tmp_path):
    boxes, keypoints = persons()
    annotations = [
        dict(id=i + 1, image_id=1 + (i == 2), category_id=5, bbox=box.tolist(), iscrowd=0,
             area=float(0.5 * box[2] * box[3]), keypoints=each.ravel().tolist(),
             num_keypoints=16)
        for i, (box, each) in enumerate(zip(boxes, keypoints, strict=True))
    ]  # fmt: skip
    images = [dict(id=i, file_name=f'{i}.png', height=200, width=200) for i in (1, 2, 3)]
    path = tmp_path / 'keypoints.json'
    content = dict(images=images, annotations=annotations, categories=[dict(id=5, name='person')])
    path.write_text(json.dumps(content))
    return path


def samples(move=lambda keypoints: keypoints, chosen=(0, 1, 2), **extra):
    """Predictions of the three images: the ground truth with moved keypoints (n, 17, 2)."""
    boxes, keypoints = persons()
    boxes[:, 2:] += boxes[:, :2]
    found = []
    for number, rows in ((1, (0, 1)), (2, (2,)), (3, ())):
        rows = [row for row in rows if row in chosen]
        instances = dict(
            bboxes=torch.tensor(boxes[rows]).reshape(-1, 4).float(),
            scores=torch.linspace(0.9, 0.8, len(rows)),
            labels=torch.zeros(len(rows), dtype=torch.long),
            keypoints=torch.tensor(move(keypoints[rows, :, :2])).reshape(-1, KEYPOINTS, 2).float(),
            **{key: value[rows] for key, value in extra.items()},
        )
        found.append(dict(pred_instances=instances, img_id=number, ori_shape=(200, 200)))
    return found


def measure(ann_file, predictions, meta=META, **options):
    metric = CocoKeypointMetric(str(ann_file), **options)
    metric.dataset_meta = meta
    metric.process({}, predictions[:2])
    metric.process({}, predictions[2:])
    return metric.evaluate(3)


def test_perfect_predictions(ann_file):
    found = measure(ann_file, samples())
    assert found['coco/keypoints_mAP'] == found['coco/keypoints_AR'] == 1
    assert found['coco/bbox_mAP'] == 1
    boxes_only = measure(ann_file, samples(), metric='bbox')
    assert boxes_only['coco/bbox_mAP'] == 1 and 'coco/keypoints_mAP' not in boxes_only
    keypoints_only = measure(ann_file, samples(), metric='keypoints')
    assert keypoints_only['coco/keypoints_mAP'] == 1 and 'coco/bbox_mAP' not in keypoints_only


def test_recall_follows_the_oks_formula(ann_file):
    """With all keypoints shifted, AR counts the thresholds below the OKS of the formula."""
    boxes, _ = persons()
    sigmas = np.delete(META['sigmas'], 3)  # the unlabelled keypoint
    for shift in (1.0, 3.0, 6.0):
        moved = samples(lambda keypoints, shift=shift: keypoints + np.array([shift, 0.0]))
        oks = [
            np.exp(-(shift**2) / (2 * (2 * sigmas) ** 2 * 0.5 * w * h)).mean()
            for w, h in boxes[:, 2:]
        ]
        thresholds = np.linspace(0.5, 0.95, 10)
        recall = np.mean([[each >= t for t in thresholds] for each in oks])
        found = measure(ann_file, moved)
        assert found['coco/keypoints_AR'] == pytest.approx(recall, abs=1e-4)
        assert 0 < found['coco/keypoints_AR'] < 1 or shift == 1.0
        assert found['coco/bbox_mAP'] == 1


def test_unlabelled_keypoints_do_not_count(ann_file):
    def move(keypoints):
        keypoints[:, 3] += 1000.0
        return keypoints

    assert measure(ann_file, samples(move))['coco/keypoints_mAP'] == 1


def test_larger_tolerances_give_a_higher_ap(ann_file):
    moved = samples(lambda keypoints: keypoints + 4.0)
    strict = measure(ann_file, moved)['coco/keypoints_mAP']
    wide = measure(ann_file, moved, sigmas=[0.3] * KEYPOINTS)['coco/keypoints_mAP']
    assert strict < 0.8 < 0.99 < wide


def test_missing_predictions_lower_the_recall(ann_file):
    assert measure(ann_file, samples(chosen=(0, 2)))['coco/keypoints_AR'] == pytest.approx(
        2 / 3, 0.01
    )
    found = measure(ann_file, samples(chosen=()))
    assert found['coco/keypoints_mAP'] == found['coco/keypoints_AR'] == 0


def test_keypoint_scores_are_written_to_the_file_only(ann_file, tmp_path):
    scores = torch.rand(3, KEYPOINTS, generator=torch.Generator().manual_seed(0))
    prefix = str(tmp_path / 'out' / 'results')
    found = measure(ann_file, samples(keypoint_scores=scores), outfile_prefix=prefix)
    assert found['coco/keypoints_mAP'] == 1
    rows = json.loads((tmp_path / 'out' / 'results.keypoints.json').read_text())
    assert [row['image_id'] for row in rows] == [1, 1, 2] and rows[0]['category_id'] == 5
    np.testing.assert_allclose(rows[1]['keypoints'][2::3], scores[1].numpy(), rtol=1e-6)


def test_predictions_keep_their_keypoints_after_nms_and_rescaling(ann_file):
    """Predictions in pixels of a resized, padded input; NMS removes a duplicate of lower score."""
    meta = dict(scale_factor=(1.6, 0.75), border=(7.0, 0, 11.0, 0))
    scale, shift = torch.tensor(meta['scale_factor']), torch.tensor([11.0, 7.0])
    predictions = samples(keypoint_scores=torch.full((3, KEYPOINTS), 0.5))
    for sample in predictions:
        instances = InstanceData(**sample['pred_instances'])
        instances.bboxes = instances.bboxes * scale.repeat(2) + shift.repeat(2)
        instances.keypoints = instances.keypoints * scale + shift
        duplicate = InstanceData(**instances)
        duplicate.scores = duplicate.scores - 0.5
        duplicate.keypoints = duplicate.keypoints + 50
        duplicate.keypoint_scores = duplicate.keypoint_scores * 0
        both = InstanceData.cat([duplicate, instances])
        test_cfg = dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=10)
        kept = postprocess(both, meta, test_cfg, rescale=True)
        assert len(kept) == len(instances) and (kept.keypoint_scores == 0.5).all()
        sample['pred_instances'] = dict(kept.items())
    found = measure(ann_file, predictions)
    assert found['coco/keypoints_mAP'] == found['coco/bbox_mAP'] == 1


def test_wrong_settings_raise_errors(ann_file):
    with pytest.raises(ValueError, match='needs ann_file'):
        CocoKeypointMetric()
    with pytest.raises(ValueError, match='has no sigmas'):
        measure(ann_file, samples(), meta=dict(classes=('person',)))
    with pytest.raises(DataError, match=r'annotation 1 in .* has 51 keypoint numbers instead of 6'):
        measure(ann_file, samples(), sigmas=[0.1, 0.1])
    few = samples()
    for sample in few:
        sample['pred_instances']['keypoints'] = sample['pred_instances']['keypoints'][:, :5]
    with pytest.raises(DataError, match='predicts 5 keypoints, but there are 17 sigmas'):
        measure(ann_file, few)
