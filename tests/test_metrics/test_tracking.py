"""CLEAR MOT and identity metrics: computed by hand, and equal to MMDetection's."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from mmdet_losses.registry import METRICS


def boxes(*places):
    """Boxes of 10 x 10 at x = ``places``."""
    return torch.tensor([[x, 0.0, x + 10, 10.0] for x in places]).reshape(-1, 4)


def sample(frame, gt, found, video=1, labels=None, ignored=(), other_labels=None):
    """Sample of one frame; ``gt`` and ``found`` map an identity to a place."""
    labels = labels or [0] * len(gt)
    other_labels = other_labels or [0] * len(found)
    tracks = InstanceData(
        bboxes=boxes(*found.values()),
        labels=torch.tensor(other_labels).long(),
        scores=torch.ones(len(found)),
        instances_ids=torch.tensor(list(found)).long(),
    )
    return dict(
        video_id=video,
        frame_id=frame,
        img_path=f'data/video-{video}/img1/{frame + 1:06d}.jpg',
        gt_instances=dict(
            bboxes=boxes(*gt.values()),
            labels=torch.tensor(labels).long(),
            instances_ids=torch.tensor(list(gt)).long(),
        ),
        ignored_instances=dict(
            bboxes=boxes(*ignored), labels=torch.zeros(len(ignored), dtype=torch.long)
        ),
        pred_track_instances=tracks.to_dict(),
    )


def measure(*samples, **options):
    metric = METRICS.build(dict(type='MOTMetric', **options))
    metric.process(None, list(samples))
    return {name.partition('/')[2]: value for name, value in metric.evaluate(0).items()}


def test_values_equal_a_calculation_by_hand():
    """Object 1 changes from track 5 to 6, object 2 is missed once, and one track is wrong."""
    found = measure(
        sample(0, {1: 0, 2: 50}, {5: 0, 7: 50}),
        sample(1, {1: 2, 2: 50}, {5: 1, 8: 90}),
        sample(2, {1: 4, 2: 50}, {6: 4, 7: 50}),
        sample(3, {1: 6, 2: 50}, {6: 6, 7: 50}),
    )
    assert found['misses'] == found['false_positives'] == found['id_switches'] == 1
    assert found['mota'] == pytest.approx(1 - 3 / 8)
    # Track 7 is object 2 three times; object 1 is track 5 or 6, two times each.
    assert found['idf1'] == pytest.approx(2 * 5 / (8 + 8))
    assert found['motp'] == pytest.approx((6 + 9 / 11) / 7)


def test_perfect_tracks_score_one_and_missing_tracks_zero():
    right = [sample(i, {1: i, 2: 50}, {9: i, 4: 50}) for i in range(3)]
    assert measure(*right)['mota'] == measure(*right)['idf1'] == 1
    empty = measure(*(sample(i, {1: i}, {}) for i in range(3)))
    assert empty['mota'] == empty['idf1'] == 0
    assert empty['misses'] == 3


def test_identities_are_separate_per_video():
    """Two videos use the same identities, and their frames are mixed and unordered."""
    one = [sample(i, {1: i}, {1: i}, video='a') for i in range(4)]
    two = [sample(i, {1: 50 + i}, {1: 50 + i}, video='b') for i in range(4)]
    found = measure(*[each for pair in zip(two, one, strict=True) for each in pair][::-1])
    assert found['id_switches'] == 0
    assert found['mota'] == found['idf1'] == 1


def test_a_track_matches_its_class_only():
    found = measure(sample(0, {1: 0}, {1: 0}, labels=[1]))
    assert found['false_positives'] == found['misses'] == 1


def test_tracks_on_ignored_boxes_do_not_count():
    assert measure(sample(0, {1: 0}, {1: 0, 2: 51}, ignored=[50]))['false_positives'] == 0
    assert measure(sample(0, {1: 0}, {1: 0, 2: 59}, ignored=[50]))['false_positives'] == 1
    # A track on an object and on an ignored box is assigned to the object.
    assert measure(sample(0, {1: 0}, {1: 0}, ignored=[1]))['mota'] == 1


def test_a_tracker_can_replace_the_predicted_identities():
    """Two objects cross at 12 pixels per frame: only the displacement distinguishes them."""
    samples = []
    for frame in range(4):
        places = 12 * frame, 24 - 12 * frame
        each = sample(frame, dict(zip((1, 2), places, strict=True)), {})
        each['pred_instances'] = dict(
            bboxes=boxes(*places),
            scores=torch.tensor([0.9, 0.8]),
            labels=torch.zeros(2, dtype=torch.long),
            centers=torch.tensor([[x + 5.0, 5.0] for x in places]),
            tracking=torch.tensor([[-12.0, 0], [12.0, 0]]),
        )
        samples.append(each)
    moved, still = (
        measure(*samples, tracker=dict(type='CenterTrackTracker', displacement=flag))
        for flag in (True, False)
    )
    assert moved['id_switches'] == 0
    assert moved['idf1'] == 1
    assert still['id_switches'] > 0
    again = measure(*samples, *samples, tracker=dict(type='CenterTrackTracker'))
    assert again['misses'] == 0


def test_result_files_have_the_mot_challenge_format(tmp_path):
    samples = [sample(i, {}, {3: 2 * i}) for i in range(2)]
    assert measure(*samples, results_dir=str(tmp_path), format_only=True) == {}
    lines = (tmp_path / 'video-1.txt').read_text().splitlines()
    assert lines[1] == '2,3,2.00,0.00,10.00,10.00,1.00,-1,-1,-1'
    with pytest.raises(ValueError, match='format_only=True needs results_dir'):
        METRICS.build(dict(type='MOTMetric', format_only=True))


def test_two_objects_with_one_identity_raise_an_error():
    frame = sample(2, {1: 0, 2: 50}, {1: 0, 2: 50})
    frame['gt_instances']['instances_ids'] = torch.tensor([-1, -1])
    with pytest.raises(ValueError, match='2 objects in frame 2 of video 1 have the identity -1: '):
        measure(frame)


@pytest.mark.parametrize('field', ['video_id', 'frame_id', 'gt_instances', 'pred_track_instances'])
def test_a_missing_field_is_named(field):
    broken = sample(0, {1: 0}, {1: 0})
    del broken[field]
    with pytest.raises(KeyError, match=f'{field}.*missing from a data sample'):
        measure(broken)


def test_a_missing_trackeval_raises_an_error_with_the_install_command(monkeypatch):
    monkeypatch.setitem(sys.modules, 'trackeval', None)
    with pytest.raises(ImportError, match=r'MOTMetric needs TrackEval.*pip install trackeval'):
        METRICS.build(dict(type='MOTMetric'))


def test_values_equal_those_of_mmdetections_metric():
    """Three videos of random tracks with misses, false positives and identity switches."""
    rng = np.random.default_rng(0)
    theirs = METRICS.build(dict(type='mmdet.MOTChallengeMetric', metric=['CLEAR', 'Identity']))
    samples = []
    for video in range(3):
        for frame in range(12):
            places = {i: 40 * i + 2 * frame for i in range(1, 4)}
            found = {
                10 * i + int(rng.random() < 0.3): place + int(rng.integers(-2, 3))
                for i, place in places.items()
                if rng.random() < 0.85
            }
            if rng.random() < 0.3:
                found[99] = 300
            samples.append(sample(frame, places, found, video=video))
            theirs.process(None, [dict(video_data_samples=[as_theirs(samples[-1], 12)])])
    want = theirs.evaluate()
    have = measure(*samples)
    names = dict(mota='MOTA', idf1='IDF1', id_switches='IDSW', misses='FN', motp='MOTP')
    for ours, name in names.items():
        assert have[ours] == pytest.approx(want[f'motchallenge-metric/{name}'], abs=1e-4), name
    assert have['id_switches'] > 0
    assert 0.3 < have['mota'] < 0.9


def as_theirs(ours, length):
    """A sample in the format of MMDetection's metric."""
    gt, tracks = ours['gt_instances'], dict(ours['pred_track_instances'])
    tracks['instances_id'] = tracks.pop('instances_ids')
    boxes, ids = gt['bboxes'].tolist(), gt['instances_ids'].tolist()
    known = dict(mot_conf=1, category_id=1, visibility=1)
    instances = [dict(bbox=b, instance_id=i, **known) for b, i in zip(boxes, ids, strict=True)]
    result = DetDataSample(
        metainfo=dict(
            img_path=ours['img_path'], frame_id=ours['frame_id'], ori_video_length=length,
            instances=instances,
        )
    )  # fmt: skip
    result.pred_track_instances = InstanceData(**tracks)
    return result
