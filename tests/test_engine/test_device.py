"""Every metric of the package accepts results on a device."""

import json

import pytest
import torch

from mmdet_losses.registry import METRICS

KEYPOINTS = 3


class OnDevice(torch.Tensor):
    """Imitates a GPU tensor: NumPy cannot read it before ``cpu()``."""

    def __array__(self, *args, **kwargs):
        raise TypeError('numpy cannot read device memory')

    numpy = __array__

    def cpu(self):
        return self.as_subclass(torch.Tensor)

    def __deepcopy__(self, memo):
        return self.clone()


def on_device(values):
    return torch.as_tensor(values).as_subclass(OnDevice)


def objects(**more):
    start = dict(bboxes=[[0.0, 0, 60, 60]], labels=[0])
    return {key: on_device(value) for key, value in (start | more).items()}


def tracked(path):
    tracks = objects(instances_ids=[1], scores=[0.9])
    return dict(type='MOTMetric'), dict(
        video_id=1, frame_id=0, gt_instances=objects(instances_ids=[1]),
        ignored_instances=objects(bboxes=[[80.0, 0, 90, 10]]), pred_track_instances=tracks,
    )  # fmt: skip


def tracked_anew(path):
    config, sample = tracked(path)
    sample['pred_instances'] = objects(
        scores=[0.9], centers=[[30.0, 30]], tracking=[[0.0, 0]], instances_ids=[7]
    )
    return config | dict(tracker=dict(type='CenterTrackTracker')), sample


def posed(path):
    keypoints = [[10.0 * i, 20] for i in range(KEYPOINTS)]
    annotation = dict(
        id=1, image_id=1, category_id=1, iscrowd=0, area=3600.0, bbox=[0, 0, 60, 60],
        num_keypoints=KEYPOINTS, keypoints=[n for point in keypoints for n in (*point, 2)],
    )  # fmt: skip
    file = path / 'keypoints.json'
    file.write_text(
        json.dumps(
            dict(
                images=[dict(id=1, height=99, width=99)],
                annotations=[annotation],
                categories=[dict(id=1, name='person')],
            )
        )
    )
    config = dict(type='CocoKeypointMetric', ann_file=str(file), sigmas=[0.1] * KEYPOINTS)
    scores = [[0.9] * KEYPOINTS]
    found = objects(scores=[0.9], keypoints=[keypoints], keypoint_scores=scores)
    return config, dict(img_id=1, ori_shape=(99, 99), pred_instances=found)


def rated_by_class(path):
    return dict(type='ClassAPMetric'), dict(
        gt_instances=objects(),
        ignored_instances=objects(bboxes=[[80.0, 0, 90, 10]]),
        pred_instances=objects(scores=[0.9]),
    )


def seen(path):
    return dict(type='SeenPixels'), dict(seen_pixels=5, image_pixels=10)


CASES = {
    tracked: ('mot/mota', 1),
    tracked_anew: ('mot/mota', 1),
    posed: ('coco/keypoints_mAP', 1),
    rated_by_class: ('voc/mAP', 1),
    seen: ('pixels/seen_share', 0.5),
}


def test_every_metric_has_a_case(tmp_path):
    ours = {name for name, each in METRICS.module_dict.items() if 'mmdet_losses' in each.__module__}
    assert {case(tmp_path)[0]['type'] for case in CASES} == ours


@pytest.mark.parametrize(('case', 'expected'), CASES.items(), ids=[each.__name__ for each in CASES])
def test_results_on_a_device(case, expected, tmp_path):
    config, sample = case(tmp_path)
    metric = METRICS.build(config)
    metric.dataset_meta = dict(classes=('person',))
    metric.process({}, [sample])
    name, value = expected
    assert metric.evaluate(1)[name] == value
