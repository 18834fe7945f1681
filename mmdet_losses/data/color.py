"""Colour augmentation of the keypoint detectors: jitter, then lighting along principal axes."""
# ruff: noqa: NPY002 (MMEngine seeds the global generator of every worker)

from __future__ import annotations

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from mmdet_losses.data.pixels import by_planes, in_memory_order
from mmdet_losses.registry import TRANSFORMS

# Principal components of ImageNet's colours (Krizhevsky et al., 2012), pixels in [0, 1]: one
# row per channel B, G, R, one column per component.
EIGENVALUES = np.array([0.2141788, 0.01817699, 0.00341571])
EIGENVECTORS = np.array(
    [
        [-0.58752847, -0.69563484, 0.41340352],
        [-0.5832747, 0.00994535, -0.81221408],
        [-0.56089297, 0.71832671, 0.41158938],
    ]
)
GRAY = np.array([0.114, 0.587, 0.299, 0])
"""Grey value of B, G, R, 1."""


@TRANSFORMS.register_module()
class ColorJitterLighting(BaseTransform):
    r"""Brightness, contrast and saturation in random order, then PCA lighting.

    This is the colour augmentation of the official CornerNet, CornerNet-Lite and CenterNet codes.
    MMDetection's ``PhotoMetricDistortion`` is SSD's: it has other ranges, changes the hue and has
    no lighting.

    Each of the three steps blends the image :math:`I` with a second image :math:`P`,
    :math:`\alpha I + (1 - \alpha) P` with :math:`\alpha \sim U(1 - v, 1 + v)`. :math:`P` is black
    (brightness), the mean grey value of the unchanged image (contrast), or the unchanged image in
    grey (saturation). Lighting adds :math:`E (\lambda \odot a)`, :math:`a \sim N(0, s^2)`, to every
    pixel.

    Required and modified key: ``img``, BGR in [0, 255]. The result is float32 and not clipped.

    Args:
        variance: v.
        lighting: s; 0 disables lighting.
    """

    def __init__(self, variance: float = 0.4, lighting: float = 0.1) -> None:
        self.variance, self.lighting = variance, lighting

    def transform(self, results: dict) -> dict:
        """See the class."""
        image = in_memory_order(results['img'])
        mean = GRAY @ cv2.mean(image)
        # All steps are linear, so one matrix on (B, G, R, 1) does them together.
        matrix = np.eye(3, 4)
        for partner in np.random.permutation(3):
            alpha = 1 + np.random.uniform(-self.variance, self.variance)
            matrix *= alpha
            if partner == 1:
                matrix += (1 - alpha) * GRAY
            elif partner == 2:
                matrix[:, 3] += (1 - alpha) * mean
        shift = EIGENVECTORS @ (EIGENVALUES * np.random.normal(scale=self.lighting, size=3))
        matrix[:, 3] += 255 * shift
        results['img'] = by_planes(cv2.transform(image.astype(np.float32), matrix))
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(variance={self.variance}, lighting={self.lighting})'
