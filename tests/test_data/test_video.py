"""Videos whose objects have identities."""

import json

import pytest
from mmdet.datasets import BaseVideoDataset
from mmdet.datasets.samplers import TrackImgSampler

from mmdet_losses.data.clean import DataError
from mmdet_losses.engine.check import examine
from mmdet_losses.registry import DATASETS

CATEGORIES = [dict(id=i, name=name) for i, name in ((1, 'car'), (2, 'van'), (3, 'sky'))]


def image(number, video=1, frame=0, **more):
    name = f'{video}/img1/{int(frame) + 1:06d}.jpg'
    more = dict(video_id=video, frame_id=frame, height=60, width=100) | more
    return {k: v for k, v in (dict(id=number, file_name=name) | more).items() if v is not None}


def note(image_id, identity=1, **more):
    start = dict(image_id=image_id, category_id=1, bbox=[10, 20, 30, 15], instance_id=identity)
    return {k: v for k, v in (start | more).items() if v is not None}


def build(path, images, notes, test_mode=False, **options):
    notes = [dict(each, id=i) for i, each in enumerate(notes)]
    videos = [dict(id=1, name='1')]
    gt = dict(images=images, annotations=notes, categories=CATEGORIES, videos=videos)
    file = path / 'gt.json'
    file.write_text(json.dumps(gt))
    config = dict(
        type='IdentityVideoDataset', ann_file=str(file), metainfo=dict(classes=('car',)),
        data_prefix=dict(img='images'), test_mode=test_mode,
    )  # fmt: skip
    return DATASETS.build(config | options)


def frames(dataset, video=0):
    return dataset.get_data_info(video)['images']


def test_frames_are_sorted_and_empty_frames_are_kept(tmp_path):
    images = [image(1, frame=2), image(2, frame=0), image(3, video=7, frame=4), image(4, frame=1)]
    dataset = build(tmp_path, images, [note(1), note(2, 0)])
    assert isinstance(dataset, BaseVideoDataset)
    assert [each['frame_id'] for each in frames(dataset)] == [0, 1, 2]
    assert [len(each['instances']) for each in frames(dataset)] == [1, 0, 1]
    assert frames(dataset)[0]['img_path'] == 'images/1/img1/000001.jpg'
    assert frames(dataset)[2]['instances'] == [
        dict(bbox=[10, 20, 40, 35], bbox_label=0, ignore_flag=0, instance_id=1)
    ]
    assert dataset.get_data_info(1)['video_id'] == 7
    assert sorted(TrackImgSampler(dataset, seed=0)) == [(0, 0), (0, 1), (0, 2), (1, 0)]


def test_an_identity_of_zero_is_one(tmp_path):
    """The reason for the class: MMDetection gives identity 0 a new number in every frame."""
    images = [image(1), image(2, frame=1)]
    notes = [note(1, 0), note(1, 5), note(2, 5, area=450), note(2, 0)]
    notes = [dict(each, area=450, iscrowd=0) for each in notes]
    dataset = build(tmp_path, images, notes)
    ids = [[each['instance_id'] for each in frame['instances']] for frame in frames(dataset)]
    assert ids == [[0, 5], [5, 0]]
    theirs = DATASETS.build(
        dict(
            type='mmdet.BaseVideoDataset', ann_file=dataset.ann_file,
            metainfo=dict(classes=('car',)), data_prefix=dict(img_path=''),
        )
    )  # fmt: skip
    wrong = [[each['instance_id'] for each in frame['instances']] for frame in frames(theirs)]
    assert wrong == [[0, 5], [5, 1]]


def test_track_id_is_an_identity(tmp_path):
    dataset = build(tmp_path, [image(1)], [note(1, None, track_id=9)])
    assert frames(dataset)[0]['instances'][0]['instance_id'] == 9


def test_identities_of_ignored_objects_may_repeat(tmp_path):
    notes = [note(1, 3), note(1, 3, iscrowd=1), note(1, -1, iscrowd=1), note(1, 3, mot_conf=0)]
    dataset = build(tmp_path, [image(1)], notes)
    ids = [(each['instance_id'], each['ignore_flag']) for each in frames(dataset)[0]['instances']]
    assert ids == [(3, 0), (3, 1), (-1, 1)]


def test_integers_may_be_written_as_floats(tmp_path):
    [frame] = frames(build(tmp_path, [image(1, frame=4.0)], [note(1, 7.0)]))
    assert (frame['frame_id'], frame['instances'][0]['instance_id']) == (4, 7)
    assert isinstance(frame['frame_id'], int)


def test_training_drops_hidden_objects_and_a_test_keeps_them(tmp_path):
    notes = [note(1, 1, visibility=0.1), note(1, 2, visibility=0.9), note(1, 3, mot_conf=0)]
    notes += [note(1, 4, bbox=[-50, 0, 20, 20]), note(1, 5, bbox=[0, 0, 0.5, 9])]
    for test_mode, expected in ((False, [2]), (True, [1, 2])):
        dataset = build(tmp_path, [image(1)], notes, test_mode, visibility_thr=0.25)
        assert [each['instance_id'] for each in frames(dataset)[0]['instances']] == expected


def test_ignored_categories_become_regions(tmp_path):
    notes = [note(1, 1), note(1, None, category_id=2), note(1, None, category_id=3)]
    notes += [note(1, 6, iscrowd=1)]
    ignored = dict(van='car', sky=None)
    found = frames(build(tmp_path, [image(1)], notes, ignored=ignored))[0]['instances']
    labels = [(each['bbox_label'], each['ignore_flag']) for each in found]
    assert labels == [(0, 0), (-2, 1), (-1, 1), (0, 1)]
    assert len(frames(build(tmp_path, [image(1)], notes))[0]['instances']) == 2


def test_single_images_need_no_identity(tmp_path):
    single = [image(i, frame=i, video_id=None, frame_id=None) for i in (1, 2)]
    dataset = build(tmp_path, single, [note(1, None), note(1, None), note(2, None)])
    assert len(dataset) == 2
    assert [each['instance_id'] for each in frames(dataset)[0]['instances']] == [0, 1]
    assert dataset.remarks == []


@pytest.mark.parametrize(
    ('images', 'notes', 'message'),
    [
        ([image(1)], [note(1, None)], r'annotation 0 of 1/img1/000001.jpg in .* no instance_id; g'),
        ([image(1, height=None)], [], r'000001.jpg in .* has no height; give every image'),
        ([image(1, frame_id=None, width=None)], [], r'has no width and no frame_id'),
        ([image(1), image(2)], [], r'have the same frame_id 0 in video 1; give each frame'),
        ([image(1, frame='0')], [], r"000001.jpg in .* has the frame_id '0' in video 1; number"),
        ([image(1, frame=0.5)], [], r'has the frame_id 0.5 in video 1'),
        ([dict(image(1), frame_id=None)], [], r'has the frame_id None in video 1'),
        ([image(1)], [note(1, -1)], r'annotation 0 of 1/img1/000001.jpg in .* has the inst.*id -1'),
        ([image(1)], [note(1, 'a7')], r"the instance_id 'a7'; give every object .* >= 0"),
        ([image(1)], [note(1, float('nan'))], r'the instance_id nan; give every object'),
        ([image(1)], [note(1, 2.5)], r'the instance_id 2.5; give every object'),
        ([image(1)], [note(1, bbox=None)], r'000001.jpg in .* has the bbox None; give x, y, width'),
        ([image(1)], [note(1, bbox=[1, 2, 3])], r'has the bbox \[1, 2, 3\]; give x'),
        ([image(1)], [note(1, 3)] * 2, r'2 objects of 1/img1/000001.jpg in .* the instance_id 3; '),
    ],
)
def test_invalid_annotations_raise(tmp_path, images, notes, message):
    with pytest.raises(DataError, match=message):
        build(tmp_path, images, notes)


def test_missing_classes_raise(tmp_path):
    with pytest.raises(DataError, match='has the classes car, van, sky, but not bus; set meta'):
        build(tmp_path, [image(1)], [], metainfo=dict(classes=('bus',)))
    with pytest.raises(DataError, match='but not fog'):
        build(tmp_path, [image(1)], [], ignored=dict(fog=None))


def test_missing_frames_and_single_frames_are_logged(tmp_path):
    images = [image(1, frame=0), image(2, frame=3), image(3, frame=4), image(4, video=2, frame=9)]
    dataset = build(tmp_path, images, [note(1), note(2), note(4)])
    single, gaps, empty = examine(dataset, 1, training=True)
    assert single.endswith(
        '1 of 2 videos have one frame (the first is 2); it is its own previous frame.'
    )
    assert '2 frames are missing from 1 of 2 videos (2 from video 1)' in gaps
    assert empty.startswith('1 of 4 training ')


def test_a_data_set_without_objects_raises(tmp_path):
    with pytest.raises(DataError, match='none of the 1 training'):
        examine(build(tmp_path, [image(1)], []), 1, training=True)
