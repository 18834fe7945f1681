"""CenterTrack: displacements, ignored regions, the previous heatmap and its noise."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.structures import InstanceData

from mmdet_losses.ops import draw_gaussians, splat_gaussians
from mmdet_losses.registry import TASK_UTILS

SIZE = (96, 160)


def build(num_classes: int = 3, **options):
    return TASK_UTILS.build(
        {'type': 'CenterTrackTargetEncoder', 'num_classes': num_classes, **options}
    )


def frame(boxes, labels=None, ids=None, **fields) -> InstanceData:
    boxes = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
    count = len(boxes)
    return InstanceData(
        bboxes=boxes,
        labels=torch.tensor([0] * count if labels is None else labels, dtype=torch.int64),
        instances_ids=torch.tensor(range(count) if ids is None else ids, dtype=torch.int64),
        **{name: torch.tensor(value) for name, value in fields.items()},
    )


@st.composite
def scenes(draw):
    """Objects in different cells, some of them also in the previous frame."""
    now, before = [], []
    for place in draw(st.permutations(range(8)))[: draw(st.integers(0, 4))]:
        x, y = 36.0 * (place % 4) + 18, 44.0 * (place // 4) + 22
        w, h = (draw(st.floats(4, 26, width=32)) for _ in range(2))
        dx, dy = (draw(st.floats(-8, 8, width=32)) for _ in range(2))
        now.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
        before.append([x - w / 2 + dx, y - h / 2 + dy, x + w / 2 + dx, y + h / 2 + dy])
    known = draw(st.lists(st.booleans(), min_size=len(now), max_size=len(now)))
    ids = [10 + row for row in range(len(now))]
    previous = [(box, i) for box, i, kept in zip(before, ids, known, strict=True) if kept]
    return (
        frame(now, ids=ids),
        frame([box for box, _ in previous], ids=[i for _, i in previous]),
        known,
        draw(st.sampled_from([(24, 20), (12, 40), (24, 40)])),
    )


@settings(max_examples=60, deadline=None, derandomize=True)
@given(scenes(), st.sampled_from(['whole', 'clipped', 'size']))
def test_round_trip(scene, branches):
    now, before, known, feat_size = scene
    encoder = build()
    linked = encoder.link([now], encoder.encode_previous([before], SIZE))
    targets = encoder.encode(linked, [feat_size], SIZE)
    outputs = encoder.ideal_outputs(targets)
    if branches != 'whole':
        outputs = outputs._replace(ltrb_amodal=None)
    if branches == 'size':
        outputs = outputs._replace(ltrb=None)
    (found,) = encoder.decode(outputs, SIZE)
    found = found[found.scores > 0.999]
    assert len(found) == len(now) == int(targets.num_pos)
    # Clipped boxes and sizes end at the last cell.
    last = torch.tensor([SIZE[1] - SIZE[1] / feat_size[1], SIZE[0] - SIZE[0] / feat_size[0]])
    for row, box in enumerate(now.bboxes):
        if branches != 'whole':
            box = torch.minimum(box, last.repeat(2))
        best = (found.bboxes - box).abs().amax(1).argmin()
        torch.testing.assert_close(found.bboxes[best], box, rtol=0, atol=1e-3)
        if known[row]:
            at = before.instances_ids.tolist().index(int(now.instances_ids[row]))
            was = before.bboxes[at].clamp(min=0)
            was = torch.minimum(was, torch.tensor([159.0, 95.0]).repeat(2))
            origin = found.centers[best] + found.tracking[best]
            torch.testing.assert_close(origin, (was[:2] + was[2:]) / 2, rtol=0, atol=1e-3)


def test_the_displacement_of_an_object_at_rest_is_its_offset():
    encoder, image = build(), frame([[10, 10, 33, 41]])
    linked = encoder.link([image], encoder.encode_previous([image], SIZE))
    targets = encoder.encode(linked, [(24, 40)], SIZE)
    assert torch.equal(targets.tracking, targets.offset)
    assert targets.tracking_mask.all()


def test_objects_are_linked_by_identity_to_the_first_match():
    encoder = build()
    before = frame([[0, 0, 20, 20], [40, 40, 60, 60], [80, 0, 90, 10]], ids=[7, 7, -1])
    now = frame([[0, 0, 20, 20]] * 3, ids=[7, -1, 5])
    (linked,) = encoder.link([now], encoder.encode_previous([before], SIZE))
    assert linked.previous_mask.tolist() == [True, False, False]
    assert linked.previous_centers[0].tolist() == [10, 10]
    assert 'previous_mask' not in now


def test_large_identities_are_distinguished():
    encoder, big = build(), 2**40
    before = frame([[0, 0, 20, 20], [40, 40, 60, 60]], ids=[big, big + 1])
    (linked,) = encoder.link(
        [frame([[0, 0, 9, 9]], ids=[big + 1])], encoder.encode_previous([before], SIZE)
    )
    assert linked.previous_centers.tolist() == [[50, 50]]


def test_ignored_regions_equal_a_loop_over_boxes():
    boxes = [
        [-9, 4, 31, 30],
        [90, 60, 400, 500],
        [20, 70, 20, 75],
        [70, 8, 110, 50],
        [5, 60, 50, 90],
    ]
    labels, crowds = [-1, -3, -2, 2, 1], [False, False, False, True, False]
    targets = build().encode([frame(boxes, labels, crowds=crowds)], [(24, 40)], SIZE)
    want = torch.zeros(3, 24, 40, dtype=torch.bool)
    for box, label, crowd in zip(boxes, labels, crowds, strict=True):
        if label >= 0 and not crowd:
            continue
        x1, y1, x2, y2 = (
            int(min(max(side / 4, 0), limit))
            for side, limit in zip(box, (39, 23, 39, 23), strict=True)
        )
        channel = slice(None) if label == -1 else label if label >= 0 else -2 - label
        want[channel, y1 : y2 + 1, x1 : x2 + 1] = True
    assert torch.equal(targets.ignore[0], want)
    assert targets.mask.tolist() == [[False, False, False, False, True]]
    assert targets.num_pos == 1 and targets.num_dropped == 0


def test_ignored_regions_can_be_disabled():
    image = frame([[0, 0, 90, 90], [10, 10, 40, 40]], [-1, 1])
    targets = build(ignore_regions=False).encode([image], [(24, 40)], SIZE)
    assert targets.ignore is None and targets.mask.tolist() == [[False, True]]


def test_the_previous_heatmap_of_ground_truth():
    encoder = build(num_classes=2)
    before = frame(
        [[8, 8, 28, 28], [50, 8, 70, 28], [90, 8, 110, 28], [8, 60, 28, 80], [50, 60, 50, 80]],
        labels=[1, -1, 2, 0, 0],
        crowds=[False, False, False, True, False],
    )
    previous = encoder.encode_previous([before, before[:0]], SIZE)
    assert previous.mask.tolist() == [[True, True, False, False, False], [False] * 5]
    peaks = (previous.heatmap[0, 0] == 1).nonzero().tolist()
    assert peaks == [[18, 18], [18, 60]]
    assert previous.heatmap[1].max() == 0 and previous.heatmap.shape == (2, 1, *SIZE)


def test_the_previous_heatmap_of_tracks():
    boxes = [[8, 8, 28, 28], [50, 8, 70, 28], [90, 8, 110, 28]]
    tracks = frame(boxes, scores=[0.5, 0.49, 0.9], active=[1, 2, 0])
    previous = build(min_track_score=0.5).encode_previous([tracks], SIZE)
    assert previous.mask.tolist() == [[True, False, False]]


def test_the_noise_depends_on_the_generator_only():
    encoder = build(center_noise=0.05, lost_rate=0.4, false_rate=0.3)
    before = frame([[30 * i, 20, 30 * i + 22, 60] for i in range(5)])
    plain = build().encode_previous([before], SIZE)
    without_generator = encoder.encode_previous([before], SIZE)
    assert torch.equal(plain.heatmap, without_generator.heatmap)
    state = torch.random.get_rng_state()
    noisy = [
        encoder.encode_previous([before], SIZE, torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(noisy[0].heatmap, noisy[1].heatmap)
    assert not torch.equal(noisy[0].heatmap, noisy[2].heatmap)
    assert not torch.equal(noisy[0].heatmap, plain.heatmap)


def test_lost_objects_are_linked_to_their_noisy_centre_and_kept_ones_to_the_exact_one():
    before = frame([[30 * i, 20, 30 * i + 22, 60] for i in range(5)] * 40)
    plain = build().encode_previous([before], SIZE)

    def noisy(**rates):
        generator = torch.Generator().manual_seed(0)
        encoder = build(center_noise=0.05, **rates)
        return encoder.encode_previous([before], SIZE, generator)

    kept = noisy()
    assert torch.equal(kept.centers, plain.centers)
    assert not torch.equal(kept.heatmap, plain.heatmap)
    lost = noisy(lost_rate=1.0)
    assert lost.heatmap.max() == 0 and lost.mask.all()
    noise = (lost.centers - plain.centers)[0] / torch.tensor([22.0, 40.0])
    assert noise.std(0).tolist() == pytest.approx([0.05, 0.05], rel=0.15)
    some = noisy(lost_rate=0.4)
    share = (some.centers != plain.centers).any(-1).float().mean()
    assert float(share) == pytest.approx(0.4, abs=0.1)
    false = build(false_rate=1.0).encode_previous([before], SIZE, torch.Generator().manual_seed(0))
    assert (false.heatmap == 1).sum() > (plain.heatmap == 1).sum()
    assert torch.equal(false.centers, plain.centers)


def test_drawn_and_splatted_maps_are_equal():
    generator = torch.Generator().manual_seed(0)
    xy = torch.randint(40, (2, 20, 2), generator=generator) - 5  # some outside
    radius = torch.randint(9, (2, 20), generator=generator)
    mask = torch.rand((2, 20), generator=generator) > 0.3
    sigma = (2 * radius + 1) / 6
    drawn = draw_gaussians(xy, radius, sigma, mask, (24, 30))
    splats = splat_gaussians(xy, radius, sigma, torch.zeros_like(radius), mask, (1, 24, 30), 9)
    torch.testing.assert_close(drawn, splats.dense()[:, 0], rtol=0, atol=1e-6)


def test_negative_sizes_count_as_zero():
    encoder = build(topk=1)
    image = frame([[20, 20, 60, 60]])
    outputs = encoder.ideal_outputs(encoder.encode([image], [(24, 40)], SIZE))
    outputs = outputs._replace(ltrb=None, ltrb_amodal=None, size=-outputs.size)
    (found,) = encoder.decode(outputs, SIZE)
    assert found.bboxes.tolist() == [[40, 40, 40, 40]]
