"""Keypoints from the COCO file to the encoder's input; each stays on its dot in the image."""

import inspect
import json
import random

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import BaseTransform
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

import mmdet_losses.data
from mmdet_losses.data import CocoKeypointDataset, DataError
from mmdet_losses.data.keypoints import UNTRACED, settle_keypoints
from mmdet_losses.engine.check import examine
from mmdet_losses.registry import DATASETS, TASK_UTILS, TRANSFORMS
from tests.test_data.samples import item

NAMES = ('nose', 'left_hand', 'right_hand')
META = dict(
    classes=('thing',),
    keypoints=NAMES,
    skeleton=((0, 1), (0, 2)),
    flip_pairs=((1, 2),),
    sigmas=(0.05, 0.05, 0.05),
)
SIZE = (90, 120)  # h, w
# One colour per keypoint, to find each of them in the image.
COLOURS = np.eye(3, dtype=np.uint8) * 255
FIRST = [[30, 20, 2], [50, 40, 1], [20, 60, 2]]
SECOND = [[90, 30, 2], [100, 50, 2], [0, 0, 0]]


@pytest.fixture(autouse=True)
def _scope():
    random.seed(0)  # the generator of CenterAffine
    np.random.seed(0)  # noqa: NPY002 (the generator of MMDetection's transforms)
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def note(number, keypoints, box, **more):
    values = [float(v) for keypoint in keypoints for v in keypoint]
    fields = dict(id=number, image_id=1, category_id=1, bbox=box, area=box[2] * box[3], iscrowd=0)
    return {**fields, 'keypoints': values, **more}


NOTES = [note(1, FIRST, [15, 15, 40, 50]), note(2, SECOND, [85, 25, 20, 30])]
PIPELINE = [dict(type='LoadImageFromFile'), dict(type='LoadKeypointAnnotations', with_bbox=True)]


@pytest.fixture(name='build')
def _build(tmp_path):
    """A data set of two images, the second one without an object."""

    def build(*steps, notes=NOTES, meta=META, **options):
        image = np.zeros((*SIZE, 3), np.uint8)
        for each in NOTES:
            for keypoint, (x, y, flag) in enumerate(
                np.reshape(each['keypoints'], (-1, 3)).tolist()
            ):
                if flag:
                    cv2.circle(image, (int(x), int(y)), 3, COLOURS[keypoint].tolist(), -1)
        images = []
        for number in (1, 2):
            name = f'{number}.png'
            cv2.imwrite(str(tmp_path / name), image if number == 1 else image * 0)
            images.append(dict(id=number, file_name=name, height=SIZE[0], width=SIZE[1]))
        gt = dict(images=images, annotations=notes, categories=[dict(id=1, name='thing')])
        (tmp_path / 'gt.json').write_text(json.dumps(gt))
        return DATASETS.build(
            dict(
                type='CocoKeypointDataset',
                data_root=str(tmp_path),
                ann_file='gt.json',
                data_prefix=dict(img=''),
                metainfo=meta,
                pipeline=[*PIPELINE, *steps],
                **options,
            )
        )

    return build


PACK = dict(type='PackKeypointInputs', meta_keys=('img_id', 'img_shape', 'scale_factor', 'flip'))


def on_their_dots(sample, minimum, mirrored=False):
    """Every labelled keypoint inside the image lies on the dot of its colour.

    In a mirrored image the keypoint drawn as left hand is the right hand.
    """
    image = sample['inputs'].numpy().transpose(1, 2, 0).astype(int)
    gt, seen = sample['data_samples'].gt_instances, 0
    for points, flags in zip(gt.keypoints, gt.keypoints_visible, strict=True):
        for keypoint, ((x, y), flag) in enumerate(
            zip(points.tolist(), flags.tolist(), strict=True)
        ):
            column, row = round(x), round(y)
            inside = 3 < column < image.shape[1] - 4 and 3 < row < image.shape[0] - 4
            if flag and inside:
                drawn = (0, 2, 1)[keypoint] if mirrored else keypoint
                other = np.delete(np.arange(3), drawn)
                assert image[row, column, drawn] > 200, (keypoint, x, y)
                assert image[row, column, other].max() < 60, (keypoint, x, y)
                seen += 1
    assert seen >= minimum
    return gt


def test_the_encoder_gets_keypoints_and_visibility(build):
    dataset = build(PACK)
    gt = on_their_dots(dataset[0], 5)
    assert gt.keypoints.shape == (2, 3, 2) and gt.keypoints.dtype == torch.float32
    assert gt.keypoints_visible.tolist() == [[2, 1, 2], [2, 2, 0]]
    assert gt.keypoints[0].tolist() == [[30, 20], [50, 40], [20, 60]]
    empty = dataset[1]['data_samples'].gt_instances
    assert empty.keypoints.shape == (0, 3, 2) and empty.keypoints_visible.shape == (0, 3)
    encoder = TASK_UTILS.build(dict(type='CenterNetPoseTargetEncoder', num_keypoints=3))
    targets = encoder.encode([gt, empty], [(24, 32)], (96, 128))
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
def test_keypoints_follow_the_image(build, steps):
    mirrors = [
        (each.get('flip_prob') == 1 or each['type'] == 'RandomFlip')
        and each.get('direction') != 'diagonal'
        for each in steps
    ]
    mirrored = sum(mirrors) % 2 == 1
    gt = on_their_dots(build(*steps, PACK)[0], 3, mirrored)
    expected = [[2, 2, 1], [2, 0, 2]] if mirrored else [[2, 1, 2], [2, 2, 0]]
    assert gt.keypoints_visible.tolist() == expected


def test_a_crop_keeps_the_keypoints_of_the_boxes_that_stay(build):
    crop = dict(type='RandomCrop', crop_size=(60, 50), allow_negative_crop=True)  # (w, h)
    counts = set()
    dataset = build(dict(type='CheckAnnotations'), crop, FLIP, PACK)
    for _ in range(20):
        gt = on_their_dots(dataset[0], 0, mirrored=True)
        assert len(gt.keypoints) == len(gt.bboxes) == len(gt.labels)
        counts.add(len(gt.bboxes))
        rows = zip(gt.bboxes.tensor, gt.keypoints, gt.keypoints_visible, strict=True)
        for box, points, flags in rows:
            inside = (points >= 1).all(1) & (points[:, 0] < 59) & (points[:, 1] < 49)
            own = points[inside & (flags > 0)]
            assert (own >= box[:2] - 1).all() and (own <= box[2:] + 1).all()
    assert counts >= {1, 2}


def test_the_keypoints_of_a_dropped_box_are_dropped():
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
    results['gt_bboxes'] = results['gt_bboxes'][:1]  # as in a transform without ids
    with pytest.raises(DataError, match='1 boxes, but keypoints of 2 objects'):
        settle_keypoints(results)


def test_labels_loaded_after_resizing_stay_in_original_pixels(build):
    """MMDetection's test pipelines load the ground truth after resizing."""
    dataset = build(PACK, test_mode=True)
    dataset.pipeline.transforms.insert(1, TRANSFORMS.build(RESIZE))
    gt = dataset[0]['data_samples'].gt_instances
    assert gt.keypoints[0].tolist() == [[30, 20], [50, 40], [20, 60]]


def test_crowds_are_ignored_with_their_keypoints(build):
    crowd = note(3, [[0, 0, 0]] * 3, [10, 10, 50, 50], iscrowd=1)
    gt = build(PACK, notes=[crowd, *NOTES])[0]['data_samples']
    assert gt.gt_instances.keypoints[0, 0].tolist() == [30, 20]
    assert len(gt.gt_instances) == 2 and len(gt.ignored_instances) == 1


@pytest.mark.parametrize('kind', ['RandomShift', 'MinIoURandomCrop', 'Expand'])
def test_transforms_that_move_boxes_only_raise(build, kind):
    with pytest.raises(DataError, match=f'the pipeline has {kind}, which moves boxes but not'):
        build(dict(type=kind), PACK)


def moves_boxes_alone(kind):
    """Whether a transform moves boxes and leaves ``homography_matrix`` as it was."""
    arguments = inspect.signature(kind).parameters.values()
    if any(each.default is each.empty and each.kind < each.VAR_POSITIONAL for each in arguments):
        return False  # WithPrevious, which has no transforms of its own
    step = kind()
    results = item([[20, 30, 90, 95]], size=(100, 130))
    results['img_path'] = 'image.png'
    if hasattr(step, 'get_indexes'):
        results['mix_results'] = [item([[10, 10, 50, 60]]) for _ in range(3)]
    before, frame = results['gt_bboxes'].tensor.clone(), results.get('homography_matrix')
    for _ in range(20):  # some transforms do nothing in half of the draws
        results = step(results)
        results.setdefault('mix_results', [item([[10, 10, 50, 60]]) for _ in range(3)])
        after = results['gt_bboxes'].tensor
        if results.get('homography_matrix') is frame and not torch.equal(after, before):
            return True
    return False


def test_every_transform_that_moves_boxes_alone_is_named():
    """A new transform of ours that does not move keypoints cannot be forgotten."""
    kinds = [
        each
        for each in vars(mmdet_losses.data).values()
        if isinstance(each, type) and issubclass(each, BaseTransform)
    ]
    kinds = [each for each in kinds if not each.__name__.startswith(('Pack', 'Load', 'SamplePair'))]
    unnamed = [
        each.__name__
        for each in kinds
        if not {base.__name__ for base in each.__mro__} & {*UNTRACED} and moves_boxes_alone(each)
    ]
    # CenterAffine and PairAffine move keypoints themselves
    assert unnamed == ['CenterAffine', 'PairAffine']
    assert len(kinds) > 15


def test_images_without_objects_are_kept_by_default(build):
    assert len(build()) == 2
    assert len(build(filter_cfg=dict(filter_empty_gt=True))) == 1


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (dict(keypoints=[1.0] * 8), 'annotation 7 of image 1 in .*gt.json has 8 numbers .*9'),
        (dict(keypoints=None), 'annotation 7 .*has no keypoints; use the file'),
        (dict(keypoints=[1, 2, 'x'] * 3), 'annotation 7 .* not all numbers'),
        (
            dict(keypoints=[1, 2, 2, 3, 4, 3, 0, 0, 0]),
            'gives left_hand the visibility 3, .*wrong_key',
        ),
        (dict(keypoints=[1, 2, 2, 3, 4, 0.5, 0, 0, 0]), 'gives left_hand the visibility 0.5'),
        (
            dict(keypoints=[float('nan'), 2, 2, 3, 4, 2, 0, 0, 0]),
            r'gives nose the position \[nan, 2.0\], which is not finite',
        ),
    ],
    ids=['length', 'none', 'words', 'three', 'half', 'nan'],
)
def test_wrong_keypoints_raise(build, change, words):
    with pytest.raises(DataError, match=words):
        build(notes=[*NOTES, {**note(7, FIRST, [1, 1, 50, 60]), **change}])


def test_wrong_keypoints_are_dropped_and_counted_on_request(build):
    values = [1, 2, 2, 3, 4, 7, float('inf'), 6, 1]
    notes = [*NOTES, {**note(7, FIRST, [1, 1, 50, 60]), 'keypoints': values}]
    dataset = build(PACK, notes=notes, wrong_keypoints='drop')
    assert dataset.num_dropped_keypoints == 2
    gt = dataset[0]['data_samples'].gt_instances
    assert gt.keypoints_visible[2].tolist() == [2, 0, 0]
    assert gt.keypoints[2].tolist() == [[1, 2], [0, 0], [0, 0]]
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
def test_inconsistent_metainfo_raises(build, change, words):
    with pytest.raises(DataError, match=words):
        build(meta={**META, **change})


def test_the_defaults_are_coco_persons():
    meta = CocoKeypointDataset.METAINFO
    assert len(meta['keypoints']) == len(meta['sigmas']) == 17 and len(meta['skeleton']) == 19
    assert all(meta['keypoints'][a][4:] == meta['keypoints'][b][5:] for a, b in meta['flip_pairs'])


def test_the_data_check_reads_the_annotation_file(build):
    small = note(9, FIRST, [1, 1, 0.5, 60])
    [message, *_] = examine(build(PACK, notes=[*NOTES, small]), 1, True)
    assert '1 of 3 boxes are not used' in message
    other = {**META, 'classes': ('dog',)}
    with pytest.raises(DataError, match='not dog'):
        examine(build(PACK, meta=other), 1, True)


def test_the_encoder_raises_for_instances_without_keypoints():
    encoder = TASK_UTILS.build(dict(type='CenterNetPoseTargetEncoder', num_keypoints=3))
    bare = InstanceData(bboxes=torch.ones(1, 4), labels=torch.zeros(1, dtype=torch.long))
    with pytest.raises(ValueError, match='has no keypoints'):
        encoder.encode([bare], [(24, 32)], (96, 128))
