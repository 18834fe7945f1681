"""CenterTrack's association against a slow loop and all permutations."""

from __future__ import annotations

import itertools

import pytest
import torch
from mmengine.structures import InstanceData

from mmdet_losses.detectors.center.tracker import _costs
from mmdet_losses.registry import MODELS


def build(**options):
    return MODELS.build({'type': 'CenterTrackTracker', **options})


def detections(generator: torch.Generator, count: int) -> InstanceData:
    """Random boxes of two classes, by descending score."""
    centers = torch.rand((count, 2), generator=generator) * 60
    half = 4 + torch.rand((count, 2), generator=generator) * 8
    return InstanceData(
        bboxes=torch.cat((centers - half, centers + half), 1),
        scores=torch.rand(count, generator=generator).sort(descending=True).values,
        labels=torch.randint(2, (count,), generator=generator),
        centers=centers,
        tracking=torch.randn((count, 2), generator=generator) * 4,
    )


def area(box) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def slow_step(tracks: list[dict], found: InstanceData, last_id: int, new: float, max_age: int):
    """The official association of one frame, one object at a time."""
    free, result, unmatched = list(tracks), [], []
    for row in range(len(found)):
        box, origin = found.bboxes[row], found.centers[row] + found.tracking[row]
        best, best_distance = None, None
        for track in free:
            distance = float(((origin - track['center']) ** 2).sum())
            if distance > area(box) or distance > area(track['box']):
                continue
            if int(found.labels[row]) != track['label']:
                continue
            if best is None or distance < best_distance:
                best, best_distance = track, distance
        state = {'box': box, 'center': found.centers[row], 'label': int(found.labels[row])}
        if best is None:
            unmatched.append((row, state))
        else:
            free = [track for track in free if track is not best]
            result.append({**state, 'id': best['id'], 'age': 1, 'active': best['active'] + 1})
    for row, state in unmatched:
        if found.scores[row] > new:
            last_id += 1
            result.append({**state, 'id': last_id, 'age': 1, 'active': 1})
    missed = [track for track in free if track['age'] < max_age]
    result += [{**track, 'age': track['age'] + 1, 'active': 0} for track in missed]
    return result, last_id


@pytest.mark.parametrize('max_age', [-1, 1, 2, 4])
def test_tracks_equal_a_loop_over_objects(max_age):
    generator = torch.Generator().manual_seed(5)
    tracker, tracks, last_id = build(new_score=0.4, max_age=max_age), [], 0
    matches = 0
    for _ in range(40):
        count = int(torch.randint(0, 9, (1,), generator=generator))
        found = detections(generator, count)
        tracks, last_id = slow_step(tracks, found, last_id, 0.4, max_age)
        have = tracker.track(found)
        assert have.instances_ids.tolist() == [track['id'] for track in tracks]
        assert have.age.tolist() == [track['age'] for track in tracks]
        assert have.active.tolist() == [track['active'] for track in tracks]
        assert have.labels.tolist() == [track['label'] for track in tracks]
        for box, track in zip(have.bboxes, tracks, strict=True):
            assert torch.equal(box, track['box'])
        matches += sum(track['active'] > 1 for track in tracks)
    assert matches > 20


def test_hungarian_has_the_smallest_sum_of_all_assignments():
    generator = torch.Generator().manual_seed(1)
    different = 0
    for _ in range(30):
        tracker = build(new_score=-1.0, match='hungarian')
        greedy = build(new_score=-1.0)
        first, second = detections(generator, 4), detections(generator, 4)
        first.labels[:], second.labels[:] = 0, 0
        before = tracker.track(first)
        greedy.track(first)
        cost = torch.from_numpy(_costs(second, before)).clamp(max=1e6)
        least = min(
            sum(float(cost[row, column]) for row, column in enumerate(order))
            for order in itertools.permutations(range(4))
        )
        after = tracker.track(second)
        pairs = dict(zip(after.detection.tolist(), after.instances_ids.tolist(), strict=True))
        paid = sum(float(cost[row, i - 1]) if i <= 4 else 1e6 for row, i in pairs.items())
        assert paid == pytest.approx(least, rel=1e-6)
        other = greedy.track(second)
        ids = dict(zip(other.detection.tolist(), other.instances_ids.tolist(), strict=True))
        different += any(ids[row] != pairs[row] for row in pairs if ids[row] <= 4)
    assert different  # from the greedy assignment, at least once


def one(x: float, score: float, label: int = 0, move: float = 0.0) -> InstanceData:
    """A box of 10 x 10 around (x, 50)."""
    return InstanceData(
        bboxes=torch.tensor([[x - 5, 45.0, x + 5, 55.0]]),
        scores=torch.tensor([score]),
        labels=torch.tensor([label]),
        centers=torch.tensor([[x, 50.0]]),
        tracking=torch.tensor([[move, 0.0]]),
    )


def test_a_new_track_needs_a_score_above_the_threshold_and_a_match_does_not():
    tracker = build(new_score=0.5)
    assert len(tracker.track(one(20, 0.5))) == 0
    assert tracker.track(one(20, 0.75)).instances_ids.tolist() == [1]
    assert tracker.track(one(22, 0.01)).instances_ids.tolist() == [1]


@pytest.mark.parametrize('move, matched', [(-30.0, True), (-40.0, True), (-41.0, False)])
def test_a_match_is_allowed_up_to_the_area_of_the_box(move, matched):
    tracker = build()
    tracker.track(one(20, 0.9))
    # A displacement of -30 ends at the track; -40 ends 10 away, whose square is the box area.
    assert (tracker.track(one(50, 0.9, move=move)).instances_ids.tolist() == [1]) is matched


def test_identities_are_not_reused_before_reset():
    tracker = build()
    assert tracker.track(one(20, 0.9)).instances_ids.tolist() == [1]
    assert tracker.track(one(90, 0.9)).instances_ids.tolist() == [2]
    assert tracker.track(one(90, 0.9, label=1)).instances_ids.tolist() == [3]
    tracker.reset()
    assert tracker.track(one(90, 0.9)).instances_ids.tolist() == [1]


def test_results_do_not_share_memory_with_the_tracker():
    tracker = build()
    detected = one(20, 0.9)
    tracks = tracker.track(detected)
    tracks.instances_ids += 7
    tracks.bboxes += 100
    assert 'instances_ids' not in detected
    assert detected.bboxes.tolist() == [[15, 45, 25, 55]]
    assert tracker.track(one(20, 0.9)).instances_ids.tolist() == [1]


def test_an_unknown_match_raises_an_error():
    with pytest.raises(ValueError, match="match='random' is unknown"):
        build(match='random')


@pytest.mark.parametrize('match', ['greedy', 'hungarian'])
def test_displacement_false_uses_zero_displacements(match):
    """The result still has the displacements of the detections."""
    generator = torch.Generator().manual_seed(3)
    still, zero, moved, absent = (
        build(match=match, displacement=flag, max_age=3) for flag in (False, True, True, True)
    )
    differs = 0
    for _ in range(20):
        found = detections(generator, 6)
        nothing, without = found[:], found[:]
        nothing.tracking = torch.zeros_like(found.tracking)
        del without.tracking
        have, want, same = still.track(found), zero.track(nothing), absent.track(without)
        assert have.instances_ids.tolist() == want.instances_ids.tolist()
        assert same.instances_ids.tolist() == want.instances_ids.tolist()
        now = have.active > 0
        assert torch.equal(have.tracking[now], found.tracking[have.detection[now]])
        differs += have.instances_ids.tolist() != moved.track(found).instances_ids.tolist()
    assert differs


def slow_public(found: InstanceData, centers: torch.Tensor, matched: list[int], new: float):
    """The official choice of new tracks, one public detection at a time."""
    used, started = set(matched), []
    for center in centers:
        free = [row for row in range(len(found)) if row not in used]
        distances = [
            float(((found.centers[row] + found.tracking[row] - center) ** 2).sum()) for row in free
        ]
        if distances and min(distances) < area(found.bboxes[free[distances.index(min(distances))]]):
            row = free[distances.index(min(distances))]
            used.add(row)
            if found.scores[row] > new:
                started.append(row)
    return started


def test_only_public_detections_start_tracks():
    generator = torch.Generator().manual_seed(0)
    counts = []
    for _ in range(30):
        tracker = build(new_score=0.3)
        first = detections(generator, 4)
        tracker.start(first)
        assert tracker.last_id == int((first.scores > 0.3).sum())
        last_id = tracker.last_id
        found, public = detections(generator, 8), detections(generator, 5)
        tracks = tracker.track(found, public)
        rows = tracks.detection.tolist()
        ids = tracks.instances_ids.tolist()
        matched = [row for row, own in zip(rows, ids, strict=True) if own <= last_id]
        started = [row for row, own in zip(rows, ids, strict=True) if own > last_id]
        assert started == slow_public(found, public.centers, matched, 0.3)
        assert sorted(ids)[len(matched) :] == list(range(last_id + 1, last_id + 1 + len(started)))
        counts.append((len(matched), len(started)))
    assert any(matched and started for matched, started in counts)  # no trivial case


def test_without_public_detections_no_track_starts():
    generator = torch.Generator().manual_seed(0)
    found = detections(generator, 8)
    assert len(build(new_score=0.0).track(found)) == 8
    assert len(build(new_score=0.0).track(found, found[:0])) == 0
