"""CenterNetPose: round trips of keypoints, persons without keypoints, snapping."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.structures import InstanceData

from mmdet_losses.detectors.center.snap import snap_keypoints
from mmdet_losses.registry import TASK_UTILS


def build(num_keypoints: int = 3, **options):
    return TASK_UTILS.build(
        {
            'type': 'CenterNetPoseTargetEncoder',
            'num_keypoints': num_keypoints,
            **options,
        }
    )


def person(box, keypoints, visible) -> InstanceData:
    return InstanceData(
        bboxes=torch.tensor([box], dtype=torch.float32),
        labels=torch.zeros(1, dtype=torch.int64),
        keypoints=torch.tensor([keypoints], dtype=torch.float32),
        keypoints_visible=torch.tensor([visible]),
    )


@st.composite
def scenes(draw):
    """Persons of three keypoints, all in different cells."""
    stride_x, stride_y = draw(st.sampled_from([(4, 8), (8, 4), (4, 4)]))
    people = []
    for place in draw(st.permutations(range(12)))[: draw(st.integers(0, 4))]:
        x, y = 44.0 * (place % 4) + 22, 44.0 * (place // 4) + 22
        w, h = (draw(st.floats(20, 32, width=32)) for _ in range(2))
        # One keypoint in the left, middle and right third, all in different cells.
        keypoints = [
            [x + third * w / 2.2, y + draw(st.floats(-0.4375, 0.4375, width=32)) * h]
            for third in (-1, 0, 1)
        ]
        visible = draw(st.lists(st.integers(0, 2), min_size=3, max_size=3))
        people.append(person([x - w / 2, y - h / 2, x + w / 2, y + h / 2], keypoints, visible))
    empty = person([0, 0, 1, 1], [[0, 0]] * 3, [0] * 3)[:0]
    return InstanceData.cat([empty, *people]), (136 // stride_y, 192 // stride_x)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(scenes(), st.sampled_from(['object', 'dense']))
def test_round_trip(scene, keypoint_target):
    image, feat_size = scene
    encoder = build(keypoint_target=keypoint_target)
    targets = encoder.encode([image], [feat_size], (136, 192))
    (found,) = encoder.decode(encoder.ideal_outputs(targets), (136, 192))
    found = found[found.scores > 0.999]
    assert len(found) == len(image) == int(targets.num_pos)
    for row in range(len(image)):
        best = (found.bboxes - image.bboxes[row]).abs().amax(1).argmin()
        torch.testing.assert_close(found.bboxes[best], image.bboxes[row], rtol=0, atol=1e-3)
        labelled = image.keypoints_visible[row] > 0
        want = image.keypoints[row, labelled]
        torch.testing.assert_close(found.keypoints[best, labelled], want, rtol=0, atol=1e-3)


def test_a_person_without_keypoints_is_a_positive_without_regression():
    image = person([20, 20, 60, 70], [[30, 30], [40, 40], [50, 50]], [0, 0, 0])
    targets = build().encode([image], [(32, 32)], (128, 128))
    assert int((targets.heatmap.dense() == 1).sum()) == 1
    assert targets.mask.tolist() == [[False]]
    assert targets.size.tolist() == [[[10, 12.5]]]
    assert not targets.keypoint_mask.any() and targets.keypoint_heatmap.dense().max() == 0
    assert targets.num_pos == 1


def test_keypoints_are_used_up_to_the_last_cell_and_not_clipped():
    keypoints = [[127.75, 127.75], [128, 60], [-0.25, 60]]
    image = person([20, 20, 60, 70], keypoints, [1, 2, 2])
    targets = build().encode([image], [(32, 32)], (128, 128))
    assert targets.keypoint_mask.tolist() == [[[True, False, False]]]
    assert targets.keypoint_index[0].tolist() == [31 * 32 + 31, 0, 0]
    assert targets.keypoint_offset[0, 0].tolist() == [0.9375, 0.9375]
    assert targets.keypoints[0, 0].tolist() == [21.9375, 20.9375, 0, 0, 0, 0]


def test_dense_keypoints_equal_a_loop_over_cells():
    people = InstanceData.cat(
        [
            person([16, 16, 80, 100], [[30, 30], [40, 90], [70, 20]], [2, 0, 1]),
            person([40, 30, 90, 90], [[50, 40], [60, 80], [80, 60]], [2, 2, 2]),
        ]
    )
    encoder = build(keypoint_target='dense')
    targets = encoder.encode([people], [(32, 32)], (128, 128))
    dense, weight = targets.dense_keypoints
    gaussians = encoder.gaussians.per_object(
        torch.stack((targets.index % 32, targets.index // 32), -1),
        targets.size,
        targets.mask,
        (32, 32),
    )[0]
    want, want_weight = torch.zeros(6, 32, 32), torch.zeros(6, 32, 32)
    highest = torch.zeros(32, 32)
    for row in range(2):
        for k in range(3):
            if not targets.keypoint_mask[0, row, k]:
                continue
            for y, x in (gaussians[row] > 0).nonzero().tolist():
                height = gaussians[row, y, x]
                old = want_weight[2 * k, y, x]
                want_weight[2 * k : 2 * k + 2, y, x] = max(old, height.float())
                if height >= highest[y, x].double():
                    position = people.keypoints[row, k] / 4
                    want[2 * k : 2 * k + 2, y, x] = position - torch.tensor([x, y])
        highest = torch.maximum(highest, gaussians[row].float())
    torch.testing.assert_close(dense[0], want, rtol=0, atol=1e-5)
    torch.testing.assert_close(weight[0], want_weight)
    assert (want_weight > 0).any()


def test_snapping_equals_a_loop_over_candidates():
    generator = torch.Generator().manual_seed(0)
    keypoints = 20 * torch.rand((2, 7, 3, 2), generator=generator)
    center, half = 20 * torch.rand((2, 7, 2), generator=generator), 6
    boxes = torch.cat((center - half, center + half), -1)
    candidates = 20 * torch.rand((2, 3, 20, 2), generator=generator)
    valid = torch.rand((2, 3, 20), generator=generator) > 0.3
    have = snap_keypoints(keypoints, boxes, candidates, valid, 0.3)
    snapped = 0
    for b, p, k in torch.cartesian_prod(*map(torch.arange, (2, 7, 3))).tolist():
        want = keypoints[b, p, k]
        distances = [
            (float((candidates[b, k, n] - want).norm()), n) for n in range(20) if valid[b, k, n]
        ]
        if distances:
            distance, n = min(distances)
            x, y = candidates[b, k, n].tolist()
            x1, y1, x2, y2 = boxes[b, p].tolist()
            if x1 <= x <= x2 and y1 <= y <= y2 and distance <= 0.3 * max(x2 - x1, y2 - y1):
                want, snapped = candidates[b, k, n], snapped + 1
        assert torch.equal(have[b, p, k], want)
    assert 5 < snapped < 35


def test_snapping_does_not_try_the_second_nearest():
    keypoints, boxes = torch.tensor([[[[5.0, 5.0]]]]), torch.tensor([[[0.0, 0.0, 5.5, 10.0]]])
    candidates = torch.tensor([[[[6.0, 5.0], [4.0, 6.0]]]])  # the nearer one is outside
    both = torch.tensor([[[True, True]]])
    assert snap_keypoints(keypoints, boxes, candidates, both, 0.3).flatten().tolist() == [5, 5]
    second = torch.tensor([[[False, True]]])
    assert snap_keypoints(keypoints, boxes, candidates, second, 0.3).flatten().tolist() == [4, 6]
    none = torch.tensor([[[False, False]]])
    assert snap_keypoints(keypoints, boxes, candidates, none, 0.3).flatten().tolist() == [5, 5]


def test_unknown_choices_raise_an_error():
    with pytest.raises(ValueError, match="keypoint_target='all' is unknown"):
        build(keypoint_target='all')
    with pytest.raises(ValueError, match="keypoint_activation='tanh' is unknown"):
        build(keypoint_activation='tanh')


def test_missing_keypoints_raise_an_error():
    image = person([20, 20, 60, 70], [[30, 30]] * 3, [1, 1, 1])
    with pytest.raises(ValueError, match='set num_keypoints'):
        build(num_keypoints=17).encode([image], [(32, 32)], (128, 128))
    image.pop('keypoints_visible')
    with pytest.raises(ValueError, match='has no keypoints'):
        build().encode([image], [(32, 32)], (128, 128))
