"""CenterTrack as a detector: training on pairs of frames, online tests."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from mmdet_losses.registry import MODELS

SIZE = (64, 96)


def build(score_thr=0.0, with_tracking=True, image=True, heatmap=True, **tracker):
    """A small detector with boxes of about 24 x 16 pixels; all detections become tracks."""
    torch.manual_seed(0)
    detector = MODELS.build(
        dict(
            type='CenterTrack',
            backbone=dict(
                type='DLANet', channels=(4, 4, 8, 8, 8, 8), previous_image=image,
                previous_heatmap=heatmap,
            ),
            previous_image=image,
            previous_heatmap=heatmap,
            neck=dict(type='DLAUpNeck', in_channels=(8, 8, 8, 8), conv='conv'),
            bbox_head=dict(
                type='EncodedDenseHead',
                predictor=dict(
                    type='CenterTrackPredictor', in_channels=8, num_classes=2, channels=8,
                    with_ltrb_amodal=True, with_tracking=with_tracking,
                ),
                encoder=dict(
                    type='CenterTrackTargetEncoder', num_classes=2, topk=5, min_track_score=0.0,
                    lost_rate=0.3, center_noise=0.1,
                ),
                criterion=dict(type='CenterTrackLoss'),
            ),
            tracker=dict(new_score=0.0, **tracker),
            test_cfg=dict(score_thr=score_thr, max_per_img=5),
        )
    )  # fmt: skip
    for stacks in detector.bbox_head.predictor.children():
        torch.nn.init.normal_(stacks[0][2].weight, std=0.001)  # different scores below 1
    edges = detector.bbox_head.predictor.ltrb_amodal[0][2].bias
    edges.data = torch.tensor([-3.0, -2.0, 3.0, 2.0])
    return detector


def instances(*boxes, ids=None, labels=None):
    return InstanceData(
        bboxes=torch.tensor(boxes).float().reshape(-1, 4),
        labels=torch.tensor(labels or [0] * len(boxes)).long(),
        instances_ids=torch.tensor(ids or range(len(boxes))).int(),
    )


def sample(frame=0, video=1, gt=None, before=None, ignored=None, **meta):
    start = dict(
        img_shape=SIZE, ori_shape=SIZE, batch_input_shape=SIZE, scale_factor=(1.0, 1.0),
        frame_id=frame, video_id=video,
    )  # fmt: skip
    found = DetDataSample(metainfo={k: v for k, v in {**start, **meta}.items() if v is not None})
    if gt is not None:
        found.gt_instances, found.previous = gt, DetDataSample()
        found.previous.gt_instances = before
        found.ignored_instances = ignored or InstanceData()
    return found


def images(count):
    return torch.randn(6, 3, *SIZE, generator=torch.Generator().manual_seed(0))[:count]


def ids(samples):
    return [each.pred_track_instances.instances_id.tolist() for each in samples]


def test_pairs_give_every_loss_term():
    detector = build()
    moved = instances((10, 10, 40, 30), (50, 20, 80, 60), ids=[3, 8])
    before = instances((52, 20, 82, 60), (4, 10, 34, 30), ids=[8, 5])
    samples = [sample(gt=moved, before=before), sample(gt=moved[:0], before=before)]
    losses = detector(images(2), samples, mode='loss', previous=images(2))
    assert set(losses) == {
        'loss_heatmap', 'loss_size', 'loss_offset', 'loss_tracking', 'loss_ltrb_amodal',
        'num_pos', 'num_dropped',
    }  # fmt: skip
    assert losses['num_pos'] == 2
    sum(value for name, value in losses.items() if name.startswith('loss')).backward()
    backbone = detector.backbone
    for stem in (backbone.base_layer, backbone.pre_img_layer, backbone.pre_hm_layer):
        assert stem.conv.weight.grad.abs().sum() > 0
    assert moved.instances_ids.tolist() == [3, 8]  # unchanged, without new fields
    assert 'previous_centers' not in moved


@pytest.mark.parametrize(('image', 'heatmap'), [(False, True), (True, False), (False, False)])
def test_a_network_without_previous_inputs_trains_and_tracks(image, heatmap):
    detector = build(image=image, heatmap=heatmap)
    gt = instances((10, 10, 40, 30))
    losses = detector(images(1), [sample(gt=gt, before=gt)], 'loss', images(1))
    sum(value for name, value in losses.items() if name.startswith('loss')).backward()
    stems = detector.backbone.pre_img_layer, detector.backbone.pre_hm_layer
    assert [stem is not None for stem in stems] == [image, heatmap]
    assert all(stem.conv.weight.grad.abs().sum() > 0 for stem in stems if stem is not None)
    detector.eval()
    with torch.no_grad():
        found = [detector(images(1), [sample(i)], mode='predict')[0] for i in range(2)]
    first, second = ids(found)
    assert len(second) == 5 and set(first) & set(second)


@pytest.mark.parametrize(('step', 'tracks'), [(8, 5), (None, 0)])
def test_public_detections_start_the_tracks_of_a_video(step, tracks):
    """With a public detection near every point all detections are tracks, without any none is."""
    detector = build().eval()
    points = [(x, y) for x in range(4, 96, step) for y in range(4, 64, step)] if step else []
    public = np.array([(x - 4, y - 4, x + 4, y + 4, 1) for x, y in points], np.float32)
    public = public.reshape(-1, 5)
    seen = []
    encode = detector.bbox_head.encoder.encode_previous
    detector.bbox_head.encoder.encode_previous = lambda before, *rest: (
        seen.append(before[0].bboxes) or encode(before, *rest)
    )
    with torch.no_grad():
        [found] = detector(images(1), [sample(public_detections=public)], mode='predict')
    assert seen[0].numpy().tolist() == public[:, :4].tolist()  # tracks before the first frame
    assert len(found.pred_instances) == 5
    assert len(found.pred_track_instances) == tracks


def test_a_network_without_displacements_trains_and_tracks():
    detector = build(with_tracking=False)
    gt = instances((10, 10, 40, 30))
    losses = detector(images(1), [sample(gt=gt, before=gt)], 'loss', images(1))
    assert 'loss_tracking' not in losses
    detector.eval()
    with torch.no_grad():
        found = [detector(images(1), [sample(i)], mode='predict')[0] for i in range(2)]
    assert 'tracking' not in found[0].pred_instances
    first, second = ids(found)
    assert len(second) == 5 and set(first) & set(second)


def test_objects_are_linked_by_identity(monkeypatch):
    """The target is the previous centre of the same identity; crowds have no target."""
    detector = build()
    encoder = detector.bbox_head.encoder
    encoder.center_noise = encoder.lost_rate = 0
    encoded = {}

    def encode(gt_instances, *arguments):
        encoded['gt'] = gt_instances[0]
        return type(encoder).encode(encoder, gt_instances, *arguments)

    monkeypatch.setattr(encoder, 'encode', encode)
    gt = instances((10, 10, 40, 30), (50, 20, 80, 60), ids=[3, 8])
    before = instances((52, 20, 82, 60), (4, 10, 34, 30), ids=[8, 5])
    crowd = instances((0, 0, 20, 20), (5, 5, 9, 9), ids=[3, 4], labels=[1, -2])
    one = sample(gt=gt, before=before, ignored=crowd)
    one.previous.ignored_instances = crowd
    detector(images(1), [one], mode='loss', previous=images(1))
    assert encoded['gt'].previous_mask.tolist() == [False, True, False, True]
    assert encoded['gt'].previous_centers[1].tolist() == [67, 40]
    assert encoded['gt'].crowds.tolist() == [False, False, True, False]
    assert encoded['gt'].labels.tolist() == [0, 0, 1, -2]


def test_the_noise_follows_the_seed():
    detector = build().eval()
    one = sample(gt=instances((10, 10, 40, 30)), before=instances((20, 10, 50, 30)))

    def loss(seed):
        torch.manual_seed(seed)
        given = detector(images(1), [one], mode='loss', previous=images(1))
        return float(given['loss_heatmap'].detach())

    assert loss(1) == loss(1)
    assert len({loss(seed) for seed in range(8)}) > 1


def test_a_batch_without_previous_images_or_identities_raises_an_error():
    with pytest.raises(ValueError, match='this batch has no previous images'):
        build()(images(1), [sample(gt=instances(), before=instances())], mode='loss')
    one = sample(gt=instances((1, 1, 9, 9)), before=instances())
    del one.gt_instances.instances_ids
    with pytest.raises(ValueError, match='have no instances_ids'):
        build()(images(1), [one], mode='loss', previous=images(1))


@torch.no_grad()
def test_online_tracking_equals_a_loop_over_frames():
    """The loop: previous image, heatmap of the last tracks, association."""
    detector = build().eval()
    frames = images(4)
    with_meta = [sample(i) for i in range(4)]
    found = detector(frames, with_meta, mode='predict')
    tracker = MODELS.build(dict(type='CenterTrackTracker', new_score=0.0))
    tracks, last = instances(), frames[:1]
    for i in range(4):
        heatmap = detector.bbox_head.encoder.encode_previous([tracks], SIZE).heatmap
        assert bool(heatmap.any()) is (i > 0)
        feats = detector.neck(detector.backbone(frames[i : i + 1], last, heatmap))
        outputs = detector.bbox_head(feats)
        decoded = detector.bbox_head.predict_by_feat(
            *outputs, batch_img_metas=[with_meta[i].metainfo], rescale=True
        )[0]
        tracks, last = tracker.track(decoded), frames[i : i + 1]
        torch.testing.assert_close(found[i].pred_instances.bboxes, decoded.bboxes)
        want = tracks[tracks.active > 0]
        assert found[i].pred_track_instances.instances_id.tolist() == want.instances_ids.tolist()
        torch.testing.assert_close(found[i].pred_track_instances.bboxes, want.bboxes)
    assert len(found[3].pred_track_instances) == 5


@torch.no_grad()
def test_tracks_do_not_depend_on_the_batch_size():
    frames = images(6)
    together = build().eval()(frames, [sample(i) for i in range(6)], mode='predict')
    detector = build().eval()
    alone = [detector(frames[i : i + 1], [sample(i)], mode='predict')[0] for i in range(6)]
    assert ids(together) == ids(alone)
    assert max(together[5].pred_track_instances.instances_id) > 5


@torch.no_grad()
@pytest.mark.parametrize(
    'second',
    [dict(frame=4, video=2), dict(frame=0), dict(frame=3), dict(frame=None)],
    ids=['another video', 'its first frame', 'the same frame', 'no frame'],
)
def test_a_new_video_starts_without_tracks(second):
    detector = build().eval()
    frames = images(3)
    first = detector(frames[:1], [sample(0)], mode='predict')
    detector(frames[1:2], [sample(3)], mode='predict')
    again = detector(frames[:1], [sample(**second)], mode='predict')
    assert ids(again) == ids(first) == [[1, 2, 3, 4, 5]]
    torch.testing.assert_close(again[0].pred_instances.scores, first[0].pred_instances.scores)
    followed = detector(frames[:1], [sample(9, second.get('video', 1))], mode='predict')
    assert not torch.equal(followed[0].pred_instances.scores, first[0].pred_instances.scores)


@torch.no_grad()
def test_tracks_are_in_image_pixels_and_the_heatmap_in_input_pixels(monkeypatch):
    detector = build().eval()
    passed = []
    encoder = detector.bbox_head.encoder

    def encode_previous(previous, size, *arguments):
        passed.append(previous[0].bboxes)
        return type(encoder).encode_previous(encoder, previous, size, *arguments)

    monkeypatch.setattr(encoder, 'encode_previous', encode_previous)
    meta = dict(scale_factor=(2.0, 0.5), border=(4.0, 60.0, 8.0, 90.0))
    samples = detector(images(2), [sample(i, **meta) for i in range(2)], mode='predict')
    boxes = samples[0].pred_track_instances.bboxes
    scale, corner = torch.tensor([2, 0.5, 2, 0.5]), torch.tensor([8.0, 4, 8, 4])
    torch.testing.assert_close(passed[1], boxes * scale + corner)
    plain = build().eval()(images(1), [sample(0)], mode='predict')[0].pred_instances.bboxes
    torch.testing.assert_close(passed[1], plain)


@torch.no_grad()
def test_tracks_are_not_in_the_state_dict():
    detector = build().eval()
    keys = set(detector.state_dict())
    detector(images(2), [sample(0), sample(1)], mode='predict')
    assert set(detector.state_dict()) == keys
    assert not any('tracker' in key or 'last' in key for key in keys)
    fresh = pickle.loads(pickle.dumps(build()))
    fresh.load_state_dict(detector.state_dict())
    assert fresh.eval()(images(1), [sample(5)], mode='predict')[0].pred_track_instances.age.any()


@torch.no_grad()
def test_unmatched_tracks_are_kept_but_not_returned(monkeypatch):
    detector = build(max_age=4).eval()
    detector(images(1), [sample(0)], mode='predict')
    detector.bbox_head.test_cfg.score_thr = 1.0
    missed = detector(images(1), [sample(1)], mode='predict')
    assert ids(missed) == [[]]
    assert detector.tracker.tracks.instances_ids.tolist() == [1, 2, 3, 4, 5]


def test_tensor_mode_returns_the_outputs():
    detector = build().eval()
    outputs = detector(images(2))
    assert outputs.heatmap.shape == (2, 2, 16, 24)
    assert outputs.ltrb_amodal.shape == (2, 4, 16, 24)


@torch.no_grad()
def test_a_missing_scale_factor_raises_an_error():
    with pytest.raises(KeyError, match=r'scale_factor is missing .* add it to meta_keys'):
        build().eval()(images(1), [sample(scale_factor=None)], mode='predict')


def test_the_flip_test_averages_heatmap_and_size_with_the_mirrored_frames():
    detector = build().eval()
    image, previous, heatmap = images(1), images(2)[1:], torch.rand(1, 1, *SIZE)
    frames = image, previous, heatmap
    with torch.no_grad():
        upright = detector._outputs(*frames)
        mirrored = detector._outputs(*(each.flip(-1) for each in frames))
        detector.flip_test = True
        both = detector._outputs(*frames)
    score = (upright.heatmap.sigmoid() + mirrored.heatmap.flip(-1).sigmoid()) / 2
    torch.testing.assert_close(both.heatmap.sigmoid(), score)
    torch.testing.assert_close(both.size, (upright.size + mirrored.size.flip(-1)) / 2)
    for name in ('offset', 'tracking', 'ltrb_amodal'):
        torch.testing.assert_close(getattr(both, name), getattr(upright, name))
    assert both.ltrb is None


def test_a_mirrored_video_has_mirrored_detections_in_the_flip_test():
    found = []
    for batch in (images(2), images(2).flip(-1)):
        detector = build()
        detector.flip_test = True
        with torch.no_grad():
            samples = detector.eval()(batch, [sample(0), sample(1)], mode='predict')
        found.append([each.pred_instances.scores for each in samples])
    torch.testing.assert_close(found[0][0], found[1][0])
