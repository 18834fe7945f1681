"""Keypoints from the COCO file to the encoder's input: they stay on the picture's bright dots."""

import json
import random

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from mmdet_losses.data import CocoKeypointDataset, DataError
from mmdet_losses.data.keypoints import settle_keypoints
from mmdet_losses.engine.check import examine
from mmdet_losses.registry import DATASETS, TASK_UTILS, TRANSFORMS

NAMES = ('nose', 'left_hand', 'right_hand')
META = dict(
    classes=('thing',),
    keypoints=NAMES,
    skeleton=((0, 1), (0, 2)),
    flip_pairs=((1, 2),),
    sigmas=(0.05, 0.05, 0.05),
)
SIZE = (90, 120)  # h, w
# One colour a joint, so that a test sees which joint moved where.
COLOURS = np.eye(3, dtype=np.uint8) * 255
FIRST = [[30, 20, 2], [50, 40, 1], [20, 60, 2]]
SECOND = [[90, 30, 2], [100, 50, 2], [0, 0, 0]]


@pytest.fixture(autouse=True)
def _scope():
    random.seed(0)  # what CenterAffine draws from
    np.random.seed(0)  # noqa: NPY002 (what MMDetection's transforms draw from)
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def note(number, joints, box, **more):
    values = [float(v) for joint in joints for v in joint]
    fields = dict(id=number, image_id=1, category_id=1, bbox=box, area=box[2] * box[3], iscrowd=0)
    return {**fields, 'keypoints': values, **more}


NOTES = [note(1, FIRST, [15, 15, 40, 50]), note(2, SECOND, [85, 25, 20, 30])]
PIPELINE = [dict(type='LoadImageFromFile'), dict(type='LoadKeypointAnnotations', with_bbox=True)]


@pytest.fixture(name='build')
def _build(tmp_path):
    """A data set of two pictures, the second one without an object."""

    def build(*steps, notes=NOTES, meta=META, **options):
        picture = np.zeros((*SIZE, 3), np.uint8)
        for each in NOTES:
            for joint, (x, y, flag) in enumerate(np.reshape(each['keypoints'], (-1, 3)).tolist()):
                if flag:
                    cv2.circle(picture, (int(x), int(y)), 3, COLOURS[joint].tolist(), -1)
        images = []
        for number in (1, 2):
            name = f'{number}.png'
            cv2.imwrite(str(tmp_path / name), picture if number == 1 else picture * 0)
            images.append(dict(id=number, file_name=name, height=SIZE[0], width=SIZE[1]))
        truth = dict(images=images, annotations=notes, categories=[dict(id=1, name='thing')])
        (tmp_path / 'truth.json').write_text(json.dumps(truth))
        return DATASETS.build(
            dict(
                type='CocoKeypointDataset',
                data_root=str(tmp_path),
                ann_file='truth.json',
                data_prefix=dict(img=''),
                metainfo=meta,
                pipeline=[*PIPELINE, *steps],
                **options,
            )
        )

    return build


PACK = dict(type='PackKeypointInputs', meta_keys=('img_id', 'img_shape', 'scale_factor', 'flip'))


def on_their_dots(sample, minimum, mirrored=False):
    """Every labelled joint inside the picture lies on the dot of its colour.

    In a mirrored picture what was drawn as the left hand is the right one.
    """
    picture = sample['inputs'].numpy().transpose(1, 2, 0).astype(int)
    truth, seen = sample['data_samples'].gt_instances, 0
    for points, flags in zip(truth.keypoints, truth.keypoints_visible, strict=True):
        for joint, ((x, y), flag) in enumerate(zip(points.tolist(), flags.tolist(), strict=True)):
            column, row = round(x), round(y)
            inside = 3 < column < picture.shape[1] - 4 and 3 < row < picture.shape[0] - 4
            if flag and inside:
                drawn = (0, 2, 1)[joint] if mirrored else joint
                other = np.delete(np.arange(3), drawn)
                assert picture[row, column, drawn] > 200, (joint, x, y)
                assert picture[row, column, other].max() < 60, (joint, x, y)
                seen += 1
    assert seen >= minimum
    return truth


def test_what_the_encoder_is_given(build):
    dataset = build(PACK)
    truth = on_their_dots(dataset[0], 5)
    assert truth.keypoints.shape == (2, 3, 2) and truth.keypoints.dtype == torch.float32
    assert truth.keypoints_visible.tolist() == [[2, 1, 2], [2, 2, 0]]
    assert truth.keypoints[0].tolist() == [[30, 20], [50, 40], [20, 60]]
    empty = dataset[1]['data_samples'].gt_instances
    assert empty.keypoints.shape == (0, 3, 2) and empty.keypoints_visible.shape == (0, 3)
    encoder = TASK_UTILS.build(dict(type='CenterNetPoseTargetEncoder', num_keypoints=3))
    targets = encoder.encode([truth, empty], [(24, 32)], (96, 128))
    assert targets.keypoint_mask.sum() == 5 and targets.num_pos == 2


RESIZE = dict(type='Resize', scale=(200, 180), keep_ratio=False)
FLIP = dict(type='RandomFlip', prob=1.0)
AFFINE = dict(type='CenterAffine', size=(160, 160), scale_range=(0.9, 1.1, 0.1), center_border=32)


@pytest.mark.parametrize(
    'steps',
    [
        [RESIZE],
        [FLIP],
        [dict(FLIP, direction='vertical')],
        [dict(FLIP, direction='diagonal')],
        [RESIZE, FLIP],
        [FLIP, RESIZE, FLIP],
        [dict(AFFINE)],
        [dict(AFFINE, flip_prob=1.0)],
        [RESIZE, dict(AFFINE, flip_prob=1.0), FLIP],
        [FLIP, dict(AFFINE)],
        [dict(type='CenterAffine', mode='keep', scale=1.5)],
        [dict(type='Pad', size=(150, 150)), FLIP],
    ],
    ids=lambda steps: '_'.join(each['type'] for each in steps),
)
def test_keypoints_follow_the_picture(build, steps):
    mirrors = [
        (each.get('flip_prob') == 1 or each['type'] == 'RandomFlip')
        and each.get('direction') != 'diagonal'
        for each in steps
    ]
    mirrored = sum(mirrors) % 2 == 1
    truth = on_their_dots(build(*steps, PACK)[0], 3, mirrored)
    expected = [[2, 2, 1], [2, 0, 2]] if mirrored else [[2, 1, 2], [2, 2, 0]]
    assert truth.keypoints_visible.tolist() == expected


def test_a_crop_keeps_the_keypoints_of_the_boxes_that_stay(build):
    crop = dict(type='RandomCrop', crop_size=(60, 50), allow_negative_crop=True)  # (w, h)
    counts = set()
    dataset = build(dict(type='CheckAnnotations'), crop, FLIP, PACK)
    for _ in range(20):
        truth = on_their_dots(dataset[0], 0, mirrored=True)
        assert len(truth.keypoints) == len(truth.bboxes) == len(truth.labels)
        counts.add(len(truth.bboxes))
        rows = zip(truth.bboxes.tensor, truth.keypoints, truth.keypoints_visible, strict=True)
        for box, points, flags in rows:
            inside = (points >= 1).all(1) & (points[:, 0] < 59) & (points[:, 1] < 49)
            own = points[inside & (flags > 0)]
            assert (own >= box[:2] - 1).all() and (own <= box[2:] + 1).all()
    assert counts >= {1, 2}


def test_a_dropped_box_takes_its_keypoints_along():
    step = TRANSFORMS.build(dict(type='CheckAnnotations'))
    load = TRANSFORMS.build(PIPELINE[1])
    boxes = [[0, 0, 9, 9], [5, 5, 5, 9], [3, 3, 30, 30]]
    results = dict(
        img_shape=SIZE,
        num_keypoints=1,
        instances=[
            dict(bbox=box, bbox_label=0, ignore_flag=0, keypoints=[[10 * i, i, 2]])
            for i, box in enumerate(boxes)
        ],
    )
    results = step(load(results))
    settle_keypoints(results)
    assert results['gt_keypoints'][:, 0].tolist() == [[0, 0], [20, 2]]
    results['gt_bboxes'] = results['gt_bboxes'][:1]  # as a transform that knows no ids does
    with pytest.raises(DataError, match='1 boxes, but keypoints of 2 objects'):
        settle_keypoints(results)


def test_labels_loaded_after_resizing_stay_in_original_pixels(build):
    """MMDetection's way of a test pipeline: the truth is that of the original picture."""
    dataset = build(PACK, test_mode=True)
    dataset.pipeline.transforms.insert(1, TRANSFORMS.build(RESIZE))
    truth = dataset[0]['data_samples'].gt_instances
    assert truth.keypoints[0].tolist() == [[30, 20], [50, 40], [20, 60]]


def test_crowds_are_ignored_with_their_keypoints(build):
    crowd = note(3, [[0, 0, 0]] * 3, [10, 10, 50, 50], iscrowd=1)
    truth = build(PACK, notes=[crowd, *NOTES])[0]['data_samples']
    assert truth.gt_instances.keypoints[0, 0].tolist() == [30, 20]
    assert len(truth.gt_instances) == 2 and len(truth.ignored_instances) == 1


@pytest.mark.parametrize('kind', ['RandomShift', 'MinIoURandomCrop', 'Expand'])
def test_transforms_that_leave_keypoints_behind_are_refused(build, kind):
    with pytest.raises(DataError, match=f'the pipeline has {kind}, which moves boxes but not'):
        build(dict(type=kind), PACK)


def test_empty_pictures_stay_unless_told_otherwise(build):
    assert len(build()) == 2
    assert len(build(filter_cfg=dict(filter_empty_gt=True))) == 1


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (dict(keypoints=[1.0] * 8), 'annotation 7 of picture 1 in .*truth.json has 8 numbers .*9'),
        (dict(keypoints=None), 'annotation 7 .*has no keypoints: take the file'),
        (dict(keypoints=[1, 2, 'x'] * 3), 'annotation 7 .* not all numbers'),
        (dict(keypoints=[1, 2, 2, 3, 4, 3, 0, 0, 0]), 'gives left_hand visibility 3, .*wrong_key'),
        (dict(keypoints=[1, 2, 2, 3, 4, 0.5, 0, 0, 0]), 'gives left_hand visibility 0.5'),
        (
            dict(keypoints=[float('nan'), 2, 2, 3, 4, 2, 0, 0, 0]),
            r'gives nose the place \[nan, 2.0\], which is not finite',
        ),
    ],
    ids=['length', 'none', 'words', 'three', 'half', 'nan'],
)
def test_wrong_keypoints_end_in_one_sentence(build, change, words):
    with pytest.raises(DataError, match=words):
        build(notes=[*NOTES, {**note(7, FIRST, [1, 1, 50, 60]), **change}])


def test_wrong_joints_are_dropped_and_counted_when_asked(build):
    values = [1, 2, 2, 3, 4, 7, float('inf'), 6, 1]
    notes = [*NOTES, {**note(7, FIRST, [1, 1, 50, 60]), 'keypoints': values}]
    dataset = build(PACK, notes=notes, wrong_keypoints='drop')
    assert dataset.num_dropped_keypoints == 2
    truth = dataset[0]['data_samples'].gt_instances
    assert truth.keypoints_visible[2].tolist() == [2, 0, 0]
    assert truth.keypoints[2].tolist() == [[1, 2], [0, 0], [0, 0]]
    with pytest.raises(ValueError, match="wrong_keypoints='ignore' is unknown"):
        build(wrong_keypoints='ignore')


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (dict(flip_pairs=((1, 3),)), r'\(1, 3\) in flip_pairs, but 3 keypoints'),
        (dict(skeleton=((0, 1, 2),)), r'\(0, 1, 2\) in skeleton'),
        (dict(sigmas=(0.1,)), '1 sigmas, but 3 keypoints'),
    ],
    ids=['pairs', 'skeleton', 'sigmas'],
)
def test_metainfo_that_does_not_fit_is_said(build, change, words):
    with pytest.raises(DataError, match=words):
        build(meta={**META, **change})


def test_the_defaults_are_coco_persons():
    meta = CocoKeypointDataset.METAINFO
    assert len(meta['keypoints']) == len(meta['sigmas']) == 17 and len(meta['skeleton']) == 19
    assert all(meta['keypoints'][a][4:] == meta['keypoints'][b][5:] for a, b in meta['flip_pairs'])


def test_the_data_check_knows_the_data_set(build):
    """CheckDataHook reads the annotation file of it too."""
    small = note(9, FIRST, [1, 1, 0.5, 60])
    [said, *_] = examine(build(PACK, notes=[*NOTES, small]), 1, True)
    assert '1 of 3 boxes are not used' in said
    other = {**META, 'classes': ('dog',)}
    with pytest.raises(DataError, match='not dog'):
        examine(build(PACK, meta=other), 1, True)


def test_the_encoder_says_when_the_usual_packing_left_them_behind():
    encoder = TASK_UTILS.build(dict(type='CenterNetPoseTargetEncoder', num_keypoints=3))
    bare = InstanceData(bboxes=torch.ones(1, 4), labels=torch.zeros(1, dtype=torch.long))
    with pytest.raises(ValueError, match='has no keypoints'):
        encoder.encode([bare], [(24, 32)], (96, 128))
