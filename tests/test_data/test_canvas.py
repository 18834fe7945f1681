"""The canvas equals the official one, and at scale 1 MMDetection's."""

import numpy as np
import pytest
from mmdet.datasets.transforms import RandomCenterCropPad

from mmdet_losses.data.canvas import CornerCanvas
from mmdet_losses.detectors.corner.tta import view_of
from mmdet_losses.detectors.corner.views import canvas_view


def random_image(height, width):
    return np.random.default_rng(0).integers(1, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize('size', [(100, 150), (127, 127), (128, 255), (90, 301)])
def test_equals_mmdetections_canvas_at_scale_one(size):
    image = random_image(*size)
    ours = CornerCanvas()(dict(img=image))
    theirs = RandomCenterCropPad(
        crop_size=None, ratios=None, border=None, mean=[0, 0, 0], std=[1, 1, 1], to_rgb=False,
        test_mode=True, test_pad_mode=('logical_or', 127),
    )(dict(img=image.astype(np.float32)))  # fmt: skip
    assert np.array_equal(ours['img'], theirs['img'])
    assert ours['img_shape'] == tuple(theirs['img_shape'])
    assert list(ours['border']) == list(theirs['border'])


@pytest.mark.parametrize('scale', [0.5, 1.0, 1.25, 1.8])
def test_the_metas_describe_the_official_view(scale):
    """``canvas_view`` is compared with the official test's numbers elsewhere."""
    results = CornerCanvas(scale)(dict(img=random_image(101, 150)))
    assert view_of(dict(results, flip=True)) == canvas_view((101, 150), scale, flipped=True)
    assert results['img'].shape[0] == int(101 * scale) | 127


def test_border_is_the_position_of_the_image():
    image = random_image(100, 151)
    results = CornerCanvas()(dict(img=image))
    top, bottom, left, right = results['border']
    shown = results['img'][top:bottom, left:right]
    assert np.array_equal(shown, image[: bottom - top, : right - left])
    assert results['img'].sum() == shown.sum()
