"""Encoders of the corner family: round trips, a slow reference, edge cases."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.structures import InstanceData
from torch.utils._pytree import tree_map

from mmdet_losses.detectors.corner import (
    CenterNetTripletTargetEncoder,
    CornerNetOutputs,
    CornerNetSaccadeTargetEncoder,
    CornerNetTargetEncoder,
    Keypoint,
)
from mmdet_losses.ops import gaussian_radius

SIZE, IMG = (24, 40), (95, 120)
ATTENTIONS = [(6, 8), (12, 15), (24, 30)]
CLASSES = 3


def gt_of(*boxes, labels=None, **fields):
    labels = range(len(boxes)) if labels is None else labels
    return InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor([label % CLASSES for label in labels], dtype=torch.long),
        **fields,
    )


def encoder_of(kind, **options):
    return kind(CLASSES, **options), [SIZE, *ATTENTIONS] if 'Saccade' in kind.__name__ else [SIZE]


@st.composite
def separate_boxes(draw):
    """Boxes in the image, 20 pixels or larger, with corners in different cells."""
    boxes, taken = [], set()
    for _ in range(draw(st.integers(0, 6))):
        x1, y1 = draw(st.floats(4, 80, width=32)), draw(st.floats(5, 60, width=32))
        width, height = draw(st.floats(20, 34, width=32)), draw(st.floats(20, 28, width=32))
        box = x1, y1, x1 + width, y1 + height
        cells = {
            (corner, int(box[corner] * SIZE[1] / IMG[1]), int(box[corner + 1] * SIZE[0] / IMG[0]))
            for corner in (0, 2)
        }
        center = (box[0] + box[2]) / 2 * SIZE[1] / IMG[1], (box[1] + box[3]) / 2 * SIZE[0] / IMG[0]
        cells.add(('center', int(center[0]), int(center[1])))
        if not cells & taken:
            taken |= cells
            boxes.append(box)
    return boxes


@pytest.mark.parametrize(
    'kind',
    [CornerNetTargetEncoder, CenterNetTripletTargetEncoder, CornerNetSaccadeTargetEncoder],
)
@settings(max_examples=25, deadline=None)
@given(images=st.lists(separate_boxes(), min_size=1, max_size=2))
def test_decoding_ideal_outputs_gives_the_boxes(kind, images):
    # Radius 0: with overlapping Gaussians of one class, one can hide the peak of the other.
    encoder, sizes = encoder_of(kind, radius=0, topk=40)
    ground_truth = [gt_of(*boxes) for boxes in images]
    targets = encoder.encode(ground_truth, sizes, IMG)
    found = encoder.decode(encoder.ideal_outputs(targets), IMG)
    for want, have in zip(ground_truth, found, strict=True):
        have = have[have.scores > 0.9]
        assert len(have) == len(want)
        order = (have.bboxes[None] - want.bboxes[:, None]).abs().amax(-1)
        order = order + 1e3 * (have.labels[None] != want.labels[:, None])
        assert order.numel() == 0 or order.amin(1).max() < 1e-3


def slow_heatmap(boxes, labels, corner, overlap, mode, spread):
    """One cell at a time."""
    heatmap = torch.zeros(CLASSES, *SIZE)
    sx, sy = SIZE[1] / IMG[1], SIZE[0] / IMG[0]
    for (x1, y1, x2, y2), label in zip(boxes, labels, strict=True):
        w, h = math.ceil((x2 - x1) * sx), math.ceil((y2 - y1) * sy)
        r = int(gaussian_radius(torch.tensor(h), torch.tensor(w), overlap, mode))
        point = {'tl': (x1, y1), 'br': (x2, y2), 'center': ((x1 + x2) / 2, (y1 + y2) / 2)}[corner]
        cx, cy = int(point[0] * sx), int(point[1] * sy)
        sigma = (2 * r + 1) / spread
        for y in range(max(0, cy - r), min(SIZE[0], cy + r + 1)):
            for x in range(max(0, cx - r), min(SIZE[1], cx + r + 1)):
                value = math.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * sigma**2))
                heatmap[label, y, x] = max(float(heatmap[label, y, x]), value)
    return heatmap


@pytest.mark.parametrize(
    ('kind', 'overlap', 'mode'),
    [(CornerNetTargetEncoder, 0.3, 'fixed'), (CenterNetTripletTargetEncoder, 0.7, 'legacy')],
)
def test_heatmaps_equal_a_loop_over_cells(kind, overlap, mode):
    boxes = [(3.0, 4.0, 100.0, 80.0), (20.0, 10.0, 60.0, 90.0), (50.0, 7.0, 118.0, 50.0)]
    labels = [0, 0, 2]
    encoder, sizes = encoder_of(kind)
    targets = encoder.encode([gt_of(*boxes, labels=labels)], sizes, IMG)
    keypoints = {'tl': targets.tl, 'br': targets.br}
    if kind is CenterNetTripletTargetEncoder:
        keypoints['center'] = targets.center
    for name, keypoint in keypoints.items():
        want = slow_heatmap(boxes, labels, name, overlap, mode, 5 if name == 'center' else 6)
        have = keypoint.heatmap.dense()[0]
        torch.testing.assert_close(have, want, rtol=0, atol=1e-6)


def test_cells_and_offsets_use_the_ratio_of_each_axis():
    encoder, sizes = encoder_of(CornerNetTargetEncoder)
    targets = encoder.encode([gt_of((10.0, 20.0, 100.0, 90.0))], sizes, IMG)
    x, y = 10 * 40 / 120, 20 * 24 / 95
    assert targets.tl.index.tolist() == [[int(y) * 40 + int(x)]]
    torch.testing.assert_close(targets.tl.offset[0, 0], torch.tensor([x % 1, y % 1]))


def test_boxes_are_clipped_to_the_last_pixel():
    encoder, sizes = encoder_of(CornerNetTargetEncoder)
    outside = encoder.encode([gt_of((-50.0, -9.0, 900.0, 700.0))], sizes, IMG)
    clipped = encoder.encode([gt_of((0.0, 0.0, 119.0, 94.0))], sizes, IMG)
    torch.testing.assert_close(outside.br.index, clipped.br.index)
    torch.testing.assert_close(outside.br.offset, clipped.br.offset)
    torch.testing.assert_close(outside.tl.heatmap.dense(), clipped.tl.heatmap.dense())


def test_with_too_many_objects_the_first_usable_ones_are_kept():
    boxes = [(5.0, 5.0, 5.0, 50.0)] + [(4.0 + 3 * i, 4.0, 60.0 + 3 * i, 60.0) for i in range(6)]
    encoder, sizes = encoder_of(CornerNetTargetEncoder, max_objects=4)
    targets = encoder.encode([gt_of(*boxes)], sizes, IMG)
    assert targets.mask.tolist() == [[False] + [True] * 4 + [False] * 2]
    assert targets.num_pos == 4
    assert targets.num_dropped == 3
    only = encoder.encode([gt_of(*boxes[1:5], labels=range(1, 5))], sizes, IMG)
    torch.testing.assert_close(targets.br.heatmap.dense(), only.br.heatmap.dense())


def test_saccade_masks_objects_that_are_mostly_outside_the_crop():
    encoder, sizes = encoder_of(CornerNetSaccadeTargetEncoder)
    half = (30.0, 20.0, 70.0, 60.0)
    visible = encoder.encode([gt_of(half, visibility=torch.tensor([0.51]))], sizes, IMG)
    hidden = encoder.encode([gt_of(half, visibility=torch.tensor([0.5]))], sizes, IMG)
    assert visible.mask.all()
    assert visible.tl.valid.all()
    assert not hidden.mask.any()
    assert hidden.tl.heatmap.dense().max() == 0
    window = visible.tl.heatmap.dense() > 0
    torch.testing.assert_close(hidden.tl.valid, ~window)
    torch.testing.assert_close(hidden.attentions[1].dense(), visible.attentions[1].dense())
    assert hidden.num_dropped == 0


def test_saccade_computes_the_visibility_of_boxes_that_are_not_clipped():
    encoder, sizes = encoder_of(CornerNetSaccadeTargetEncoder)
    boxes = [(-20.0, 10.0, 60.0, 70.0), (-70.0, 10.0, 60.0, 70.0)]
    targets = encoder.encode([gt_of(*boxes)], sizes, IMG)
    assert targets.mask.tolist() == [[True, False]]


@pytest.mark.parametrize(
    ('side', 'maps'), [(31.0, [2]), (32.0, [1, 2]), (33.0, [1]), (96.0, [0, 1]), (97.0, [0])]
)
def test_saccade_attention_ranges_include_both_ends(side, maps):
    encoder, sizes = encoder_of(CornerNetSaccadeTargetEncoder)
    targets = encoder.encode([gt_of((8.0, 10.0, 8.0 + side, 50.0 - 12))], sizes, IMG)
    counts = [int(each.dense().sum()) for each in targets.attentions]
    assert [scale for scale, count in enumerate(counts) if count] == maps


def test_saccade_raises_for_a_wrong_number_of_maps():
    encoder, _ = encoder_of(CornerNetSaccadeTargetEncoder)
    with pytest.raises(ValueError, match='needs 4'):
        encoder.encode([gt_of()], [SIZE], IMG)


def pair_outputs(tl, br, embeddings=(0.0, 0.0), offset=0.0):
    """Two corners with high scores at (x, y) cells of a 6 x 8 map."""
    heatmap, embedding, offset_map = torch.full((1, 1, 6, 8), -20.0), *torch.zeros(2, 1, 2, 6, 8)
    corner = Keypoint(heatmap, embedding[:, :1], offset_map)
    maps = tree_map(torch.clone, CornerNetOutputs(corner, corner))
    maps.tl.heatmap[0, 0, tl[1], tl[0]] = maps.br.heatmap[0, 0, br[1], br[0]] = 5.0
    maps.tl.embedding[0, 0, tl[1], tl[0]] = embeddings[0]
    maps.br.embedding[0, 0, br[1], br[0]] = embeddings[1]
    maps.br.offset[0, 0, br[1], br[0]] = offset
    return maps


@pytest.mark.parametrize(
    ('kwargs', 'found'),
    [
        ({'tl': (1, 1), 'br': (4, 4)}, 1),
        ({'tl': (4, 4), 'br': (4, 4)}, 1),  # an empty box is kept, as in the official code
        ({'tl': (4, 4), 'br': (4, 4), 'offset': -0.25}, 0),
        ({'tl': (1, 1), 'br': (4, 4), 'embeddings': (0.0, 0.5)}, 1),
        ({'tl': (1, 1), 'br': (4, 4), 'embeddings': (0.0, 0.51)}, 0),
        ({'tl': (1, 1), 'br': (4, 4), 'embeddings': (math.nan, 0.0)}, 0),
    ],
)
def test_which_corners_make_a_pair(kwargs, found):
    encoder = CornerNetTargetEncoder(1)
    [instances] = encoder.decode(pair_outputs(**kwargs), (24, 32))
    assert (instances.scores > 0.5).sum() == found


@pytest.mark.parametrize(
    ('tl', 'br', 'found'), [((0, 1), (4, 4), 0), ((1, 1), (7, 4), 0), ((1, 1), (6, 4), 1)]
)
def test_no_border_drops_pairs_in_the_first_and_last_cells(tl, br, found):
    encoder = CornerNetTargetEncoder(1, no_border=True)
    [instances] = encoder.decode(pair_outputs(tl, br), (24, 32))
    assert (instances.scores > 0.5).sum() == found
