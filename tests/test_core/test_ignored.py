"""Ignored regions against obvious loops."""

import pytest
import torch
from mmengine.structures import InstanceData

from mmdet_losses.core import counted_cells, encode_batch, pad_ignored, weigh_cells
from mmdet_losses.ops import Extents, GridAnchors, Splats

IMG_SIZE, FEAT_SIZE = (40, 64), (5, 8)


def region(*boxes, labels=None):
    fields = {} if labels is None else {'labels': torch.tensor(labels)}
    return InstanceData(bboxes=torch.tensor(boxes, dtype=torch.float32), **fields)


@pytest.mark.parametrize('classes', [3, None])
def test_cells_are_those_that_a_box_touches(classes):
    given = region([9.0, 3.0, 30.0, 17.0], [50.0, 20.0, 99.0, 99.0], labels=[1, -1])
    regions = pad_ignored([None, given, region([0.0, 0.0, 8.0, 8.0], labels=[-4])], IMG_SIZE)
    want = torch.zeros(3, classes or 1, *FEAT_SIZE, dtype=torch.bool)
    for image, label, x1, y1, x2, y2 in (
        (1, 1, 1, 0, 3, 2),
        (1, None, 6, 2, 7, 4),
        (2, 2, 0, 0, 1, 1),
    ):
        channel = slice(None) if label is None or classes is None else label
        want[image, channel, y1 : y2 + 1, x1 : x2 + 1] = True
    assert torch.equal(regions.cells(FEAT_SIZE, IMG_SIZE, classes), want)


def test_a_heatmap_counts_outside_the_regions_and_near_objects():
    dense = torch.zeros(1, 2, *FEAT_SIZE)
    dense[0, 0, 1:3, 1:3], dense[0, 0, 1, 1] = 0.5, 1.0
    index = dense.flatten().nonzero().squeeze(1)
    padding = torch.zeros(2, dtype=torch.long)
    listed = Splats(
        torch.cat((index, padding)),
        torch.cat((dense.flatten()[index], padding.float())),
        tuple(dense.shape),
    )
    regions = pad_ignored([region([0.0, 0.0, 31.0, 39.0], labels=[0])], IMG_SIZE)
    for heatmap in (listed, Splats(None, dense, tuple(dense.shape))):
        counted = counted_cells(heatmap, regions, IMG_SIZE)
        assert counted[0, 1].all() and counted[0, 0, :, 4:].all()
        assert torch.equal(counted[0, 0, :, :4], dense[0, 0, :, :4] > 0)
        assert not counted_cells(heatmap, regions, IMG_SIZE, by_class=False)[0, 1, :, :4].any()
        assert counted_cells(heatmap, None, IMG_SIZE) is None


@pytest.mark.parametrize('threshold', [0.0, 0.5, 0.95])
def test_an_anchor_is_covered_by_its_largest_share_in_one_region(threshold):
    center_x, center_y = torch.arange(8) * 8.0 + 4, torch.arange(5) * 8.0 + 4
    sizes = torch.tensor([[6.0, 10.0], [20.0, 12.0]])
    anchors = GridAnchors(
        Extents.around(center_x.expand(2, -1), sizes[:, :1].expand(-1, 8)),
        Extents.around(center_y.expand(2, -1), sizes[:, 1:].expand(-1, 5)),
    )
    boxes = [[3.0, 3.0, 30.0, 21.0], [20.0, 10.0, 50.0, 40.0]]
    regions = pad_ignored([region(*boxes), None], IMG_SIZE)
    want = []
    for x1, y1, x2, y2 in anchors.xyxy().tolist():
        shares = [
            max(0, min(x2, b[2]) - max(x1, b[0]))
            * max(0, min(y2, b[3]) - max(y1, b[1]))
            / ((x2 - x1) * (y2 - y1))
            for b in boxes
        ]
        want.append(max(shares) > threshold)
    have = regions.covered(anchors, threshold, (1, 1))
    assert have[0].tolist() == want and any(want) and not all(want)
    assert not have[1].any()


def test_an_encoder_without_the_argument_gets_no_regions():
    class Old:
        def encode(self, gt_instances, feat_sizes, img_size):
            return gt_instances, feat_sizes, img_size

    assert encode_batch(Old(), [], [FEAT_SIZE], IMG_SIZE, [None]) == ([], [FEAT_SIZE], IMG_SIZE)


def test_cells_of_objects_have_their_largest_weight():
    weights = torch.tensor([[2.0, 3.0, 0.5, 9.0]])
    channel, index = torch.tensor([[0, 0, 1, 1]]), torch.tensor([[5, 5, 7, 8]])
    mask = torch.tensor([[True, True, True, False]])
    counted = torch.ones(1, 2, 3, 4, dtype=torch.bool)
    counted[0, 1, 1, 3] = counted[0, 0, 0, 0] = False
    found = weigh_cells(counted, weights, channel, index, mask, counted.shape)
    want = torch.ones(1, 2, 3, 4)
    want[0, 0, 1, 1], want[0, 1, 1, 3], want[0, 0, 0, 0] = 3, 0, 0
    torch.testing.assert_close(found, want)
    assert weigh_cells(counted, None, channel, index, mask, counted.shape) is counted
