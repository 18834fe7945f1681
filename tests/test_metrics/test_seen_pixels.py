"""Share of the image pixels that were processed."""

import pytest

from mmdet_losses.metrics import SeenPixels


def test_result_is_the_means_and_their_ratio():
    metric = SeenPixels()
    metric.process(None, [dict(seen_pixels=100, image_pixels=400)])
    metric.process(None, [dict(seen_pixels=300, image_pixels=400)])
    assert metric.evaluate(2) == {
        'pixels/seen': 200.0, 'pixels/image': 400.0, 'pixels/seen_share': 0.5,
    }  # fmt: skip


def test_samples_without_the_counts_raise_an_error():
    with pytest.raises(KeyError, match='needs a detector that counts pixels'):
        SeenPixels().process(None, [dict(img_id=1)])
