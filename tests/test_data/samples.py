"""Results of a pipeline for the tests of transforms."""

import numpy as np
from mmdet.structures.bbox import HorizontalBoxes


def ramp(height, width):
    """An image without two equal pixels nearby: blue falls, green follows y, red follows x."""
    ys, xs = np.mgrid[:height, :width]
    channels = [
        (7 * ys + 5 * xs) % 256,
        ys * 255 // max(height - 1, 1),
        xs * 255 // max(width - 1, 1),
    ]
    return np.stack(channels, -1).astype(np.uint8)


def item(boxes, size=(60, 80), ignored=None, image=None):
    """What ``LoadImageFromFile`` and ``LoadAnnotations`` hand to a transform."""
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    image = ramp(*size) if image is None else image
    return dict(
        img=image,
        img_shape=image.shape[:2],
        img_path='image.png',
        gt_bboxes=HorizontalBoxes(boxes),
        gt_bboxes_labels=np.arange(len(boxes)),
        gt_ignore_flags=np.zeros(len(boxes), bool)
        if ignored is None
        else np.asarray(ignored, bool),
    )


def boxes_of(results):
    """(n, 4) boxes of results."""
    return results['gt_bboxes'].tensor.numpy()
