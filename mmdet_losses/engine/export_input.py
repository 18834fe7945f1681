"""Input of an exported detector: the test pipeline of a config as numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from mmengine.config import Config
from numpy.typing import NDArray
from torch import Tensor, nn

from mmdet_losses.core import Size
from mmdet_losses.data.scaled_yolov4 import GRAY
from mmdet_losses.engine.data_config import first_leaf
from mmdet_losses.engine.processes import UsageError


class Geometry(NamedTuple):
    """Place of an image in the network input."""

    fit: Size | None
    """(h, w) into which the image is scaled; None: it keeps its size, so the input has any."""
    canvas: Size | None = None
    """(h, w) of the input; None: ``fit``, padded to the divisor of the data preprocessor."""
    keep_ratio: bool = True
    centered: bool = True
    """In the middle of the input instead of its top left corner."""
    fill: float | None = None
    """Pixel value around the image; None: the padding of the data preprocessor."""


def _resize(step: Any) -> Geometry:
    scale = step.get('scale')
    if scale is None:
        return Geometry(None, centered=False)
    width, height = (scale, scale) if isinstance(scale, int) else scale
    return Geometry((height, width), keep_ratio=step.get('keep_ratio', False), centered=False)


def _center_affine(step: Any) -> Geometry:
    if step.get('mode', 'fix') == 'keep':
        return Geometry(None, fill=0.0)
    width, height = step.get('size', (512, 512))
    return Geometry((width, width), (height, width), fill=0.0)  # the longer side becomes the width


def _scaled_yolov4(step: Any) -> Geometry:
    size, stride = step.get('size', 640), step.get('stride', 32)
    side = math.ceil(size / stride + 0.5) * stride
    return Geometry((size, size), (side, side), fill=float(GRAY))


GEOMETRIES: dict[str, Callable[[Any], Geometry]] = {
    'CenterAffine': _center_affine,
    'CornerCanvas': lambda step: Geometry(None, fill=0.0),
    'DarknetLetterBox': lambda step: Geometry(tuple(step['size'])[::-1], fill=127.5),
    'DarknetResize': lambda step: Geometry(tuple(step['size'])[::-1], keep_ratio=False),
    'Resize': _resize,
    'ScaledYOLOv4LetterBox': _scaled_yolov4,
}
"""Steps of a test pipeline that place the image in the input."""


def describe_input(cfg: Config, model: nn.Module, size: Size | None = None) -> dict[str, Any]:
    """Preprocessing of a detector with an input of a fixed size.

    The image is scaled into ``fit`` (h, w), placed in an input of ``size`` (h, w) that is filled
    with ``fill``, and normalised. ``fill``, ``mean`` and ``std`` are pixel values (0 to 255) in the
    given ``channel_order``.

    Args:
        cfg: with the test pipeline.
        model: with the data preprocessor.
        size: (h, w) of the input, instead of that of the pipeline.

    Raises:
        UsageError: the pipeline keeps the size of every image, and no size is given.
    """
    preprocessor: Any = model.data_preprocessor
    mean, std = [0.0] * 3, [1.0] * 3
    if getattr(preprocessor, '_enable_normalize', False):
        mean, std = (
            getattr(preprocessor, name).flatten().expand(3).tolist() for name in ('mean', 'std')
        )
    padding = float(getattr(preprocessor, 'pad_value', 0))
    names = list(_steps(first_leaf(cfg.test_dataloader.dataset).pipeline))
    found = [GEOMETRIES[name](step) for name, step in names if name in GEOMETRIES]
    rule = found[-1] if found else Geometry(None, centered=False)
    own = getattr(model, 'input_size', None)  # of Saccade's crops
    if own is not None:
        rule = Geometry(tuple(own), tuple(own), fill=0.0)
    if size is not None:
        rule = rule._replace(fit=size, canvas=size)
    if rule.fit is None:
        raise UsageError(
            f'the test pipeline of {cfg.filename} keeps the size of every image; give the size of '
            'the input with --size HEIGHT WIDTH.'
        )
    divisor = getattr(preprocessor, 'pad_size_divisor', 1)
    canvas = rule.canvas or tuple(math.ceil(side / divisor) * divisor for side in rule.fit)
    swapped = bool(getattr(preprocessor, '_channel_conversion', False))
    fill = [m + padding * s for m, s in zip(mean, std, strict=True)]
    return dict(
        size=list(canvas),
        channel_order='RGB' if swapped else 'BGR',
        mean=mean,
        std=std,
        fit=list(rule.fit),
        keep_ratio=rule.keep_ratio,
        place='center' if rule.centered else 'top_left',
        fill=fill if rule.fill is None else [rule.fill] * 3,
    )


def _steps(steps: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """Type names and configs of the steps of a pipeline and of the steps inside them."""
    for step in steps:
        yield str(step['type']).rpartition('.')[2], step
        yield from _steps(step.get('transforms') or ())


def prepare_image(image: NDArray[np.uint8], rule: dict[str, Any]) -> Tensor:
    """A B, G, R image as normalised input (3, h, w), by the rule of :func:`describe_input`."""
    high, wide = image.shape[:2]
    (h, w), fit = rule['size'], rule['fit']
    sy, sx = fit[0] / high, fit[1] / wide
    if rule['keep_ratio']:
        sy = sx = min(sy, sx)
    left, top = 0, 0
    if rule['place'] == 'center':
        left, top = round((w - sx * wide) / 2), round((h - sy * high) / 2)
    pixels = image[..., ::-1] if rule['channel_order'] == 'RGB' else image
    matrix = np.array([[sx, 0, left + sx / 2 - 0.5], [0, sy, top + sy / 2 - 0.5]])
    pixels = cv2.warpAffine(pixels.astype(np.float32), matrix, (w, h), borderValue=rule['fill'])
    normal = (pixels - np.float32(rule['mean'])) / np.float32(rule['std'])
    return torch.from_numpy(np.ascontiguousarray(normal.transpose(2, 0, 1)))


def random_images(count: int, rule: dict[str, Any], seed: int = 0) -> Tensor:
    """Normalised inputs (count, 3, h, w) of images with coarse random colours."""
    rng = np.random.default_rng(seed)
    height, width = rule['size']
    coarse = rng.integers(0, 256, (count, max(height // 8, 1), max(width // 8, 1), 3), np.uint8)
    images = [cv2.resize(each, (width, height), interpolation=cv2.INTER_CUBIC) for each in coarse]
    exact = {**rule, 'fit': rule['size']}
    return torch.stack([prepare_image(image, exact) for image in images])
