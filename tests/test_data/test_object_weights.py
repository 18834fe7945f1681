"""Weights of objects, from the annotation file to the data sample."""

import json

import cv2
import numpy as np
import pytest
from mmengine.registry import DefaultScope

from mmdet_losses.data import DataError
from mmdet_losses.registry import DATASETS


@pytest.fixture(name='build')
def _build(tmp_path):
    """Function from the weights of three annotations and a transform to a data set."""
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((60, 80, 3), np.uint8))
    boxes = [[5, 5, 20, 20], [30, 10, 0, 20], [40, 30, 25, 20]]  # the second one is empty

    def build(weights, *transforms, key='weight'):
        notes = [
            dict(id=i, image_id=1, category_id=1, bbox=box, area=1 + i, iscrowd=0)
            | ({} if weight is None else {key: weight})
            for i, (box, weight) in enumerate(zip(boxes, weights, strict=True))
        ]
        content = dict(
            images=[dict(id=1, file_name='a.png', height=60, width=80)],
            annotations=notes,
            categories=[dict(id=1, name='cat')],
        )
        (tmp_path / 'a.json').write_text(json.dumps(content))
        pipeline = [
            dict(type='LoadImageFromFile'),
            dict(type='LoadWeightedAnnotations', with_bbox=True),
            *transforms,
            dict(type='PackWeightedInputs', meta_keys=()),
        ]
        return DATASETS.build(
            dict(
                type='WeightedCocoDataset',
                weight_key=key,
                data_root=f'{tmp_path}/',
                ann_file='a.json',
                data_prefix=dict(img=''),
                metainfo=dict(classes=('cat',)),
                pipeline=pipeline,
            )
        )

    with DefaultScope.overwrite_default_scope('mmdet'):
        yield build


def test_weights_belong_to_their_boxes(build):
    found = build([0.5, 3, None])[0]['data_samples'].gt_instances
    assert found.bboxes.tensor[:, 0].tolist() == [5, 40]  # MMDetection drops the empty box
    assert found.weights.tolist() == [0.5, 1]
    found = build([0.5, 3, 2], key='score')[0]['data_samples'].gt_instances
    assert found.weights.tolist() == [0.5, 2]


def test_transforms_keep_weights_and_boxes_together(build):
    flip = dict(type='RandomFlip', prob=1.0)
    found = build([0.5, 3, 2], flip)[0]['data_samples'].gt_instances
    assert found.bboxes.tensor[:, 0].tolist() == [55, 15]
    assert found.weights.tolist() == [0.5, 2]
    crop = dict(type='RandomCrop', crop_size=(20, 20), allow_negative_crop=True)
    dataset = build([0.5, 3, 2], crop)
    with pytest.raises(DataError, match='a transform drops boxes without their gt_weights'):
        for _ in range(20):
            dataset[0]


@pytest.mark.parametrize('kind', ['CocoKeypointDataset', 'IdentityVideoDataset'])
def test_data_sets_of_poses_and_videos_read_weights(build, tmp_path, kind):
    build([0.5, 3, 2])
    content = json.loads((tmp_path / 'a.json').read_text())
    for note in content['annotations']:
        note['keypoints'] = [1, 1, 2] * 2
    (tmp_path / 'b.json').write_text(json.dumps(content))
    sample = [dict(type='SamplePair', gaps=(0,)), dict(type='LoadImageFromFile')]
    steps = dict(
        CocoKeypointDataset=['LoadKeypointAnnotations', 'PackKeypointInputs'],
        IdentityVideoDataset=['LoadTrackAnnotations', 'PackPairInputs'],
    )[kind]
    points = dict(keypoints=('a', 'b'), skeleton=(), flip_pairs=(), sigmas=(0.1, 0.1))
    video = kind == 'IdentityVideoDataset'
    dataset = DATASETS.build(
        dict(
            type=kind,
            data_root=f'{tmp_path}/',
            ann_file='b.json',
            data_prefix=dict(img=''),
            metainfo=dict(classes=('cat',), **({} if video else points)),
            pipeline=[
                *(sample[:1] if video else []),
                dict(type='WithPrevious', transforms=[sample[1], dict(type=steps[0])]),
                dict(type=steps[1], meta_keys=()),
            ],
        )
    )
    found = (dataset[0, 0] if video else dataset[0])['data_samples'].gt_instances
    assert found.weights.tolist() == [0.5, 2]


@pytest.mark.parametrize('wrong', [-1, float('nan'), 'much'])
def test_wrong_weights_raise(build, wrong):
    with pytest.raises(DataError, match='give a finite number from 0'):
        build([wrong, 1, 1])
