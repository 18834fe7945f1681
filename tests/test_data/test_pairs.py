"""Pairs of frames: sampling, motion, packing and normalisation."""

import random
from collections import Counter

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate

from mmdet_losses.data.clean import DataError
from mmdet_losses.registry import MODELS, TRANSFORMS


def frame(number, folder=None, boxes=((20.0, 10.0, 40.0, 30.0),)):
    """The record of a frame in a video data set; with a folder, its image is written."""
    path = f'{folder}/{number}.png'
    if folder is not None:
        image = np.full((48, 64, 3), 10, np.uint8)
        for x1, y1, x2, y2 in boxes:
            image[int(y1) : int(y2), int(x1) : int(x2)] = 40 + 10 * number
        cv2.imwrite(path, image)
    instances = [
        dict(bbox=list(box), bbox_label=0, ignore_flag=0, instance_id=i)
        for i, box in enumerate(boxes)
    ]
    return dict(img_path=path, img_id=number, frame_id=number, instances=instances)


def video(*numbers, **more):
    return dict(video_id=3, video_length=len(numbers), images=[frame(n) for n in numbers]) | more


def build(kind, **options):
    return TRANSFORMS.build(dict(type=kind, **options))


def test_all_gaps_are_drawn_equally_often():
    sample = build('SamplePair', gaps=(-2, -1, 0, 1, 2))
    random.seed(0)
    seen = Counter(sample(video(4, 5, 7, 8, 9, key_frame_id=2))['frame_gap'] for _ in range(600))
    assert set(seen) == {-2, -1, 0, 2}  # frame 6 is missing
    assert all(110 < count < 190 for count in seen.values())


def test_frames_are_found_by_frame_id():
    results = build('SamplePair', gaps=(2,))(video(4, 5, 7, key_frame_id=2))
    assert (results['frame_id'], results['previous']['frame_id']) == (7, 5)
    assert results['video_id'] == results['previous']['video_id'] == 3
    assert 'previous' not in results['previous']


def test_a_frame_without_neighbours_is_its_own_previous_frame():
    for numbers in ((4, 9), (4,)):
        results = build('SamplePair', gaps=(1,))(video(*numbers, key_frame_id=0))
        assert results['previous']['frame_id'] == 4
        assert results['frame_gap'] == 0


def test_without_a_sampler_the_frame_is_random():
    random.seed(0)
    seen = {build('SamplePair')(video(1, 2, 3))['frame_id'] for _ in range(50)}
    assert seen == {1, 2, 3}


def test_a_test_item_has_no_previous_frame():
    item = {key: [value] for key, value in frame(5).items()}
    results = build('SamplePair')(item)
    assert results['img_id'] == 5
    assert 'previous' not in results
    with pytest.raises(
        DataError, match=r'has 2 frames instead of one; set sampler=.*TrackImgSampler'
    ):
        build('SamplePair')({key: 2 * value for key, value in item.items()})


def test_no_gaps_raises():
    with pytest.raises(ValueError, match='gaps is empty'):
        build('SamplePair', gaps=())


LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadTrackAnnotations')]


@pytest.fixture(name='pair')
def _pair(tmp_path):
    """A loaded pair one frame apart; the object moves by (6, 4)."""
    frames = [frame(1, tmp_path), frame(2, tmp_path, [(26.0, 14.0, 46.0, 34.0)])]
    item = dict(video_id=3, video_length=2, images=frames, key_frame_id=1)
    results = build('SamplePair', gaps=(1,))(item)
    return build('WithPrevious', transforms=LOAD)(results)


def test_both_are_loaded(pair):
    assert pair['img'][20, 30, 0] == 60
    assert pair['previous']['img'][20, 30, 0] == 50
    assert pair['gt_bboxes'][0, 0] - pair['previous']['gt_bboxes'][0, 0] == 6


def test_a_missing_image_is_named(tmp_path):
    results = build('SamplePair', gaps=(1,))(video(1, 2, key_frame_id=1))
    with pytest.raises(FileNotFoundError, match=r'2\.png'):
        build('WithPrevious', transforms=LOAD)(results)


def bright(image):
    """Corners xyxy of what is brighter than the ground."""
    ys, xs = np.nonzero(image[..., 0] > 30)
    return np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])


@pytest.mark.parametrize('flip', [0.0, 1.0])
def test_two_frames_get_one_map(pair, flip):
    affine = build(
        'PairAffine', size=(96, 96), flip_prob=flip, scale_range=(0.8, 1.2, 0.1), center_border=24,
        shift=0.2, zoom=0.2,
    )  # fmt: skip
    random.seed(1)
    results = affine(pair)
    previous = results['previous']
    assert results['img'].shape == previous['img'].shape == (96, 96, 3)
    factor = results['scale_factor'][0]
    way = results['gt_bboxes'] - previous['gt_bboxes']
    sign = -1 if flip else 1
    np.testing.assert_allclose(way[0], np.array([6 * sign, 4] * 2) * factor, rtol=1e-5)
    for each in (results, previous):
        np.testing.assert_allclose(bright(each['img']), each['gt_bboxes'][0], atol=1.5)


def test_an_image_that_is_its_own_previous_frame_gets_motion(pair):
    affine = build('PairAffine', size=(96, 96), shift=0.05, zoom=0.05)
    ways, zooms = [], []
    for seed in range(40):
        random.seed(seed)
        same = {**pair, 'previous': {k: v for k, v in pair.items() if k != 'previous'}}
        results = affine({**same, 'frame_gap': 0})
        previous = results['previous']
        np.testing.assert_allclose(bright(previous['img']), previous['gt_bboxes'][0], atol=1.5)
        box, other = results['gt_bboxes'][0], previous['gt_bboxes'][0]
        zooms.append((other[2] - other[0]) / (box[2] - box[0]))
        middle = np.array([48, 48])  # of the canvas, where the zoom is centred
        centers = [(each[:2] + each[2:]) / 2 - middle for each in (box, other)]
        ways.append(centers[1] * (1 / zooms[-1]) - centers[0])
    assert np.all((np.array(zooms) >= 1 / 1.05 - 1e-5) & (np.array(zooms) <= 1 / 0.95 + 1e-5))
    assert np.std(zooms) > 0.02
    shift = np.array(ways) / 96
    assert np.all(np.abs(shift) <= 0.1 + 1e-5)
    assert np.all((np.std(shift, 0) > 0.03) & (np.std(shift, 0) < 0.07))


def test_two_frames_get_two_maps_on_request(pair):
    random.seed(1)
    results = build('PairAffine', size=(96, 96), shift=0.05, zoom=0.05, same_map=False)(pair)
    assert not np.array_equal(results['affine'], results['previous']['affine'])


def test_without_motion_the_previous_frame_is_equal(pair):
    same = {**pair, 'previous': {k: v for k, v in pair.items() if k != 'previous'}}
    results = build('PairAffine', size=(96, 96))({**same, 'frame_gap': 0})
    np.testing.assert_array_equal(results['img'], results['previous']['img'])


def test_packed_pairs_are_normalised_alike(pair):
    pair['gt_ignore_flags'] = np.array([False])
    packed = build('PackPairInputs')(pair)
    sample = packed['data_samples']
    assert sample.frame_id == 2
    assert sample.video_id == 3
    assert sample.gt_instances.instances_ids.tolist() == [0]
    assert sample.previous.gt_instances.bboxes.tolist() == [[20, 10, 40, 30]]
    processor = MODELS.build(
        dict(
            type='PairDataPreprocessor', mean=[10.0, 20.0, 30.0], std=[2.0, 4.0, 5.0],
            bgr_to_rgb=True, pad_size_divisor=32,
        )
    )  # fmt: skip
    data = processor(pseudo_collate([packed, packed]), True)
    assert data['inputs'].shape == data['previous'].shape == (2, 3, 64, 64)
    # R, G, B of a grey object: (60 - mean) / std
    assert data['inputs'][1, :, 20, 30].tolist() == [25.0, 10.0, 6.0]
    assert data['previous'][1, :, 20, 30].tolist() == [20.0, 7.5, 4.0]
    assert torch.equal(data['inputs'][:, :, 48:], torch.zeros(2, 3, 16, 64))
    assert data['data_samples'][0].batch_input_shape == (64, 64)


def test_without_previous_frames_it_equals_mmdetections(pair):
    del pair['previous']
    packed = build('PackPairInputs')(pair)
    assert 'previous' not in packed
    processor = MODELS.build(dict(type='PairDataPreprocessor', pad_size_divisor=32))
    assert set(processor(pseudo_collate([packed]), False)) == {'inputs', 'data_samples'}


def test_frames_of_two_sizes_raise(pair):
    pair['previous']['img'] = pair['previous']['img'][:40]
    with pytest.raises(DataError, match=r'have \(48, 64\) and \(40, 64\) pixels'):
        build('PackPairInputs')(pair)


def test_batch_augments_raise():
    augment = dict(type='BatchSyncRandomResize', random_size_range=(32, 64), interval=1)
    with pytest.raises(ValueError, match='PairDataPreprocessor cannot use batch_augments'):
        MODELS.build(dict(type='PairDataPreprocessor', batch_augments=[augment]))
