"""Targets of an encoder, prepared for a sheet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from mmdet.structures.bbox import get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.core import Size
from mmdet_losses.metrics.oracle import MIN_SCORE, Encoded, Perfect, lost
from mmdet_losses.ops import Splats

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_targets(
    encoded: Encoded,
    perfect: Perfect,
    classes: Sequence[str],
    predicted: InstanceData | None = None,
) -> tuple[Figure, Tensor]:
    """Draw ground truth, targets and decoded targets of the first image of a batch.

    For the first training image of a config::

        perfect = Perfect(MODELS.build(cfg.model))
        encoded = perfect(pseudo_collate([dataset[0]]))
        sheet, missed = draw_targets(encoded, perfect, dataset.metainfo['classes'])
        sheet.savefig('targets.png')

    Args:
        encoded: the result of ``perfect(batch)``.
        perfect: the detector, as a :class:`~mmdet_losses.metrics.oracle.Perfect`.
        classes: name of each class, in the order of the labels.
        predicted: predictions in input pixels, drawn instead of the decoded targets.

    Returns:
        The figure, and a bool mask (n,) over the objects: True if no decoded target matches the
        object.
    """
    from mmdet_losses.visualization.sheets import SheetContent, target_sheet  # loads matplotlib

    gt, decoded = encoded.samples[0].gt_instances, encoded.decoded[0]
    missed = lost(gt, decoded)
    image = as_image(encoded.inputs[0], perfect.model.data_preprocessor)
    targets, size = encoded.targets, image.shape[:2]
    ignored = encoded.samples[0].get('ignored_instances')
    content = SheetContent(
        image=image,
        gt=gt.cpu(),
        missed=missed.cpu().numpy(),
        heatmaps=dict(heatmaps(targets)),
        anchors=perfect.encoder.positive_boxes(targets, encoded.feat_sizes, size).numpy(),
        results=(decoded[decoded.scores > MIN_SCORE] if predicted is None else predicted).cpu(),
        title='decoded' if predicted is None else 'predicted',
        pairs=corner_pairs(targets, size),
        ignored=np.zeros((0, 4)) if ignored is None else get_box_tensor(ignored.bboxes).numpy(),
    )
    return target_sheet(content, classes), missed


def corner_pairs(targets: Any, img_size: Size) -> np.ndarray | None:
    """(p, 2, 2) corners (x, y) of the first image's objects in pixels; None without corners."""
    if not hasattr(targets, 'tl'):
        return None
    height, width = targets.tl.heatmap.shape[-2:]
    stride, mask = torch.tensor([img_size[1] / width, img_size[0] / height]), targets.mask[0].cpu()
    points = []
    for corner in (targets.tl, targets.br):
        cell, offset = corner.index[0].cpu()[mask], corner.offset[0].cpu()[mask]
        points.append((torch.stack((cell % width, cell // width), -1) + offset) * stride)
    return torch.stack(points, 1).numpy()


def heatmaps(targets: Any, prefix: str = '') -> Iterator[tuple[str, np.ndarray]]:
    """(name, (C, H, W) map of the first image) of every heatmap among the targets."""
    for name, value in zip(targets._fields, targets, strict=True):
        label = prefix + name.replace('_', ' ')
        if isinstance(value, Splats):
            yield label, value.dense()[0].cpu().numpy()
        elif hasattr(value, '_fields'):
            yield from heatmaps(value, f'{label} ')
        elif isinstance(value, tuple):
            for level, each in enumerate(value):
                if isinstance(each, Splats):
                    yield f'{label} {level}', each.dense()[0].cpu().numpy()


def as_image(tensor: Tensor, preprocessor: Any) -> np.ndarray:
    """(h, w, 3) RGB uint8 of a normalised input (3, h, w)."""
    if getattr(preprocessor, '_enable_normalize', False):
        tensor = tensor * preprocessor.std + preprocessor.mean
    image = tensor.clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()
    keeps_bgr = not getattr(preprocessor, '_channel_conversion', False)
    return np.ascontiguousarray(image[..., ::-1] if keeps_bgr else image)
