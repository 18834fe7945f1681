"""MMDetection's canvas and crop, without painting the canvas."""
# ruff: noqa: NPY002 (what the transforms draw from)

import copy

import numpy as np
import pytest
from mmdet.datasets.transforms import Expand, MinIoURandomCrop

from mmdet_losses.data.ssd_mmdet import ExpandCrop
from tests.test_data.samples import boxes_of, item

MEAN = (123.675, 116.28, 103.53)
BOXES = {'none': [], 'one': [[10, 10, 60, 50]], 'two': [[5, 5, 40, 40], [20, 10, 70, 55]]}


@pytest.mark.parametrize('kind', BOXES)
def test_image_and_boxes_equal_those_of_mmdetection(kind):
    ours = ExpandCrop(MEAN)
    theirs = Expand(MEAN), MinIoURandomCrop()
    sizes = set()
    for seed in range(25):
        results = item(BOXES[kind])
        wanted = copy.deepcopy(results)
        np.random.seed(seed)
        results = ours(results)
        np.random.seed(seed)
        for transform in theirs:
            wanted = transform(wanted)
        assert np.array_equal(results['img'], wanted['img'])
        assert results['img_shape'] == wanted['img_shape']
        assert np.allclose(boxes_of(results), boxes_of(wanted), atol=1e-4)
        for name in ('gt_bboxes_labels', 'gt_ignore_flags'):
            assert np.array_equal(results[name], wanted[name])
        sizes.add(results['img_shape'])
    assert len(sizes) > 10
