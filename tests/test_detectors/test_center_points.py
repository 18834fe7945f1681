"""CenterNetPoints: encoding against loops and MMDetection, round trips."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.models.dense_heads import CenterNetHead
from mmengine.structures import InstanceData

from mmdet_losses.detectors.center.centers import GaussianRule
from mmdet_losses.detectors.center.contracts import CenterNetPointsOutputs
from mmdet_losses.ops import Splats, gaussian_radius, largest_radius
from mmdet_losses.ops.gaussian import _draw_windows, _list_windows, _pad_windows, _Windows
from mmdet_losses.registry import MODELS, TASK_UTILS
from tests.detector_cases import IMG_SIZE


def build(num_classes: int = 3, **options):
    return TASK_UTILS.build(
        {'type': 'CenterNetPointsTargetEncoder', 'num_classes': num_classes, **options}
    )


def gt_of(boxes: list, labels: list) -> InstanceData:
    return InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        labels=torch.tensor(labels).long(),
    )


def random_gt(seed: int, count: int, img_size, num_classes: int = 3) -> InstanceData:
    """Boxes of all sizes, some across the border."""
    generator = torch.Generator().manual_seed(seed)
    size = torch.tensor([img_size[1], img_size[0]])
    center = torch.rand((count, 2), generator=generator) * size
    half = torch.rand((count, 2), generator=generator) ** 2 * size / 2 + 0.5
    labels = torch.randint(num_classes, (count,), generator=generator)
    return InstanceData(bboxes=torch.cat((center - half, center + half), 1), labels=labels)


def slow_heatmap(image: InstanceData, feat_size, img_size, num_classes: int) -> torch.Tensor:
    """The official heatmap, one object and one cell at a time."""
    heatmap = torch.zeros(num_classes, *feat_size, dtype=torch.float64)
    limits = feat_size[1] - 1, feat_size[0] - 1
    scale = feat_size[1] / img_size[1], feat_size[0] / img_size[0]
    for box, label in zip(image.bboxes, image.labels, strict=True):
        x1, x2 = (min(max(float(box[i] * scale[0]), 0), limits[0]) for i in (0, 2))
        y1, y2 = (min(max(float(box[i] * scale[1]), 0), limits[1]) for i in (1, 3))
        if x2 <= x1 or y2 <= y1:
            continue
        h, w = math.ceil(y2 - y1), math.ceil(x2 - x1)
        total, area = h + w, h * w
        roots = [
            (total + math.sqrt(total**2 - 4 * area * 0.3 / 1.7)) / 2,
            (2 * total + math.sqrt(4 * total**2 - 16 * 0.3 * area)) / 2,
            (-1.4 * total + math.sqrt(1.96 * total**2 + 16 * 0.7 * 0.3 * area)) / 2,
        ]
        radius = max(0, int(min(roots)))
        x, y = int((x1 + x2) / 2), int((y1 + y2) / 2)
        for row in range(max(y - radius, 0), min(y + radius, limits[1]) + 1):
            for column in range(max(x - radius, 0), min(x + radius, limits[0]) + 1):
                distance = (row - y) ** 2 + (column - x) ** 2
                value = math.exp(-distance / (2 * ((2 * radius + 1) / 6) ** 2))
                heatmap[label, row, column] = max(float(heatmap[label, row, column]), value)
    return heatmap


@pytest.mark.parametrize('feat_size', [(24, 40), (24, 20), (48, 40)])
def test_heatmap_equals_a_loop_over_cells(feat_size):
    images = [random_gt(seed, count, IMG_SIZE) for seed, count in ((0, 9), (1, 0), (2, 1))]
    targets = build().encode(images, [feat_size], IMG_SIZE)
    want = torch.stack([slow_heatmap(each, feat_size, IMG_SIZE, 3) for each in images])
    torch.testing.assert_close(targets.heatmap.dense().double(), want, rtol=0, atol=1e-6)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_the_heatmap_is_1_only_at_the_centres(dtype):
    images = [random_gt(seed, 40, IMG_SIZE) for seed in range(3)]
    targets = build(max_objects=40).encode(images, [(24, 20)], IMG_SIZE)
    heatmap = targets.heatmap.dense()
    want = torch.zeros_like(heatmap, dtype=torch.bool)
    for image, row in targets.mask.nonzero().tolist():
        want[image, targets.labels[image, row]].view(-1)[targets.index[image, row]] = True
    assert torch.equal(heatmap == 1, want)
    assert (heatmap.to(dtype)[want] == 1).all()
    assert targets.index.max() < 24 * 20 and targets.num_pos == targets.mask.sum()


@pytest.mark.parametrize(
    'height, width, fixed3, fixed7, legacy3, legacy7',
    [
        (4, 4, 0.90, 0.33, 1.98, 1.09),
        (10, 10, 2.26, 0.82, 4.95, 2.73),
        (20, 40, 5.78, 2.15, 13.56, 7.36),
        (64, 64, 14.47, 5.23, 31.71, 17.49),
        (100, 30, 9.45, 3.67, 24.57, 12.93),
    ],
)
def test_radii_equal_the_published_table(height, width, fixed3, fixed7, legacy3, legacy7):
    want = {('fixed', 0.3): fixed3, ('fixed', 0.7): fixed7}
    want |= {('legacy', 0.3): legacy3, ('legacy', 0.7): legacy7}
    size = torch.tensor(height), torch.tensor(width)
    for (mode, overlap), radius in want.items():
        assert float(gaussian_radius(*size, overlap, mode)) == pytest.approx(radius, abs=0.0051)


def test_the_default_radius_is_the_official_one():
    box, size = [[0, 0, 256, 256]], [(100, 100)]
    for options, radius in (
        ({}, 17),
        ({'convention': 'mmdet'}, 14),
        ({'radius': {'mode': 'fixed', 'min_overlap': 0.7}}, 5),
    ):
        heatmap = build(1, **options).encode([gt_of(box, [0])], size, (400, 400)).heatmap.dense()
        assert int((heatmap[0, 0].amax(0) > 0).sum()) == 2 * radius + 1


def test_boxes_are_clipped_to_the_last_cell_before_encoding():
    targets = build().encode(
        [gt_of([[0, 0, 160, 96], [157, 20, 160, 50], [-40, 10, 20, 30]], [0, 1, 2])],
        [(24, 40)],
        IMG_SIZE,
    )
    assert targets.mask.tolist() == [[True, False, True]]  # the second is empty
    assert targets.size[0].tolist() == [[39, 23], [0, 0], [5, 5]]
    assert targets.index[0].tolist() == [11 * 40 + 19, 0, 5 * 40 + 2]
    assert targets.offset[0].tolist() == [[0.5, 0.5], [0, 0], [0.5, 0]]
    assert targets.num_dropped == 1


def test_the_mmdet_convention_equals_mmdetection():
    images = [random_gt(seed, 6, (128, 128)) for seed in range(4)]
    for image in images:  # MMDetection indexes beyond the map if a centre is outside
        image.bboxes.clamp_(0, 127)
    head = CenterNetHead(in_channels=4, feat_channels=4, num_classes=3)
    boxes, labels = [i.bboxes for i in images], [i.labels for i in images]
    want, _ = head.get_targets(boxes, labels, (4, 3, 32, 32), (128, 128))
    targets = build(convention='mmdet').encode(images, [(32, 32)], (128, 128))
    torch.testing.assert_close(
        targets.heatmap.dense(), want['center_heatmap_target'], rtol=0, atol=1e-6
    )
    sizes = want['wh_target'].flatten(2).gather(2, targets.index[:, None].expand(-1, 2, -1))
    last = last_of_each_cell(targets)
    torch.testing.assert_close(targets.size[last], sizes.transpose(1, 2)[last])


def last_of_each_cell(targets) -> torch.Tensor:
    """(B, M) rows that are the last one of their cell."""
    keep = targets.mask.clone()
    for image in range(len(keep)):
        for row in range(keep.shape[1]):
            later = targets.index[image, row + 1 :][targets.mask[image, row + 1 :]]
            keep[image, row] &= bool((later != targets.index[image, row]).all())
    return keep


@st.composite
def scenes(draw):
    """Boxes in different cells, at strides that differ in x and y."""
    stride_x, stride_y = draw(st.sampled_from([(4, 8), (8, 4), (4, 4), (16, 4)]))
    count = draw(st.integers(0, 5))
    places = draw(st.permutations(range(12)))[:count]
    boxes = []
    for place in places:
        x, y = 40 * (place % 4) + 20, 40 * (place // 4) + 20
        dx, dy = (draw(st.floats(-3, 3, width=32)) for _ in range(2))
        w, h = (draw(st.floats(4, 24, width=32)) for _ in range(2))
        boxes.append([x + dx - w / 2, y + dy - h / 2, x + dx + w / 2, y + dy + h / 2])
    labels = [draw(st.integers(0, 2)) for _ in boxes]
    return gt_of(boxes, labels), (136 // stride_y, 176 // stride_x)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(scenes(), st.sampled_from(['object', 'class', 'dense']))
def test_round_trip(scene, size_target):
    image, feat_size = scene
    encoder = build(size_target=size_target)
    targets = encoder.encode([image], [feat_size], (136, 176))
    (found,) = encoder.decode(encoder.ideal_outputs(targets), (136, 176))
    found = found[found.scores > 0.999]
    assert len(found) == len(image) == int(targets.num_pos)
    order = [(found.bboxes - box).abs().amax(1).argmin() for box in image.bboxes]
    if order:
        order = torch.stack(order)
        torch.testing.assert_close(found.bboxes[order], image.bboxes, rtol=0, atol=1e-3)
        assert torch.equal(found.labels[order], image.labels)


def test_with_too_many_objects_the_first_ones_are_kept():
    image = random_gt(3, 9, IMG_SIZE)
    few = build(max_objects=4).encode([image], [(24, 40)], IMG_SIZE)
    all_of_four = build().encode([image[:4]], [(24, 40)], IMG_SIZE)
    assert torch.equal(few.index, all_of_four.index)
    assert torch.equal(few.heatmap.dense(), all_of_four.heatmap.dense())


def test_padded_and_listed_windows_give_the_same_map():
    """Windows are listed on the CPU and padded on other devices."""
    image = random_gt(5, 30, IMG_SIZE)
    targets = build(max_objects=30).encode([image, image[:3]], [(24, 40)], IMG_SIZE)
    xy = torch.stack((targets.index % 40, targets.index // 40), -1)
    radius = gaussian_radius(*targets.size.ceil().unbind(-1)[::-1]).floor()
    windows = _Windows(xy, radius, (2 * radius + 1) / 6, targets.labels, targets.mask)
    arguments = windows, (3, 24, 40)
    drawn = _draw_windows(*arguments)
    assert drawn.count_nonzero() > 500
    for index, value in (
        _list_windows(*arguments),
        _pad_windows(*arguments, largest_radius(24, 40)),
    ):
        assert (index[value > 0].unique(return_counts=True)[1] == 1).all()
        dense = Splats(index, value, drawn.shape).dense()
        torch.testing.assert_close(dense, drawn, rtol=0, atol=1e-6)


@pytest.mark.parametrize('objects, drawn', [(1, False), (40, True)])
def test_on_other_devices_a_map_with_many_objects_is_drawn(objects, drawn):
    """Padded windows of many objects need more memory than the map."""
    encoder = build(max_objects=40)
    gt = random_gt(5, objects, IMG_SIZE)
    index, value, shape = encoder.encode([gt.to('meta')], [(96, 160)], IMG_SIZE).heatmap
    assert (index is None) == drawn
    assert value.numel() <= math.prod(shape)
    assert drawn or index.numel() <= math.prod(shape) / 8


@pytest.mark.parametrize('classes', [3, 80])
def test_a_compiled_draw_gives_the_same_map(classes):
    """Drawn (few classes) or padded; one box is larger than the map."""
    xy = torch.tensor([[[20, 12], [3, 4], [39, 0]]])
    size = torch.tensor([[[90.0, 80], [7, 9], [2, 3]]])
    labels, mask = torch.tensor([[0, 0, 2]]), torch.tensor([[True, True, False]])
    gaussians = GaussianRule({'mode': 'fixed', 'min_overlap': 0.3})
    torch._dynamo.reset()
    draw = torch.compile(gaussians.draw, backend='eager', fullgraph=True)
    have = draw(xy, gaussians.radii(size), labels, mask, (classes, 24, 40))
    want = gaussians.draw(xy, gaussians.radii(size), labels, mask, (classes, 24, 40))
    assert have.is_dense == (classes == 3) and not want.is_dense
    torch.testing.assert_close(have.dense(), want.dense(), rtol=0, atol=1e-6)


def test_objects_beyond_max_objects_count_as_dropped():
    image = random_gt(3, 9, IMG_SIZE)
    targets = build(max_objects=4).encode([image, image[:2]], [(24, 40)], IMG_SIZE)
    assert float(targets.num_pos) == 6 and float(targets.num_dropped) == 5


def test_dense_sizes_have_the_same_loss_with_either_l1():
    gt = random_gt(3, 6, IMG_SIZE)
    targets = build(size_target='dense').encode([gt], [(24, 40)], IMG_SIZE)
    size, weight = targets.dense_size
    pred = torch.randn(size.shape, generator=torch.Generator().manual_seed(1))
    outputs = CenterNetPointsOutputs(torch.zeros(1, 3, 24, 40), pred, None)
    want = (weight * (pred - size).abs()).sum() / (weight.sum() + 1e-4)
    for name in ('MaskedL1Loss', 'MaskedWeightedL1Loss'):
        criterion = MODELS.build({'type': 'CenterNetPointsLoss', 'loss_size': {'type': name}})
        torch.testing.assert_close(criterion(outputs, targets)['loss_size'], want)


@pytest.mark.parametrize(
    'options, message',
    [
        ({'convention': 'coco'}, "convention='coco' is unknown"),
        ({'size_target': 'box'}, "size_target='box' is unknown"),
    ],
)
def test_unknown_choices_raise_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_an_unknown_normalizer_raises_an_error():
    with pytest.raises(ValueError, match="normalizer='images' is unknown"):
        MODELS.build({'type': 'CenterNetPointsLoss', 'normalizer': 'images'})
