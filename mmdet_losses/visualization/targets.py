"""What an encoder makes of a picture, drawn."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from torch import Tensor

from mmdet_losses.metrics.oracle import Encoded, Perfect, lost
from mmdet_losses.visualization.sheets import (
    as_picture,
    corner_pairs,
    heat_maps,
    target_sheet,
)


def draw_targets(
    encoded: Encoded, perfect: Perfect, classes: Sequence[str]
) -> tuple[Figure, Tensor]:
    """The sheet of the first picture of a batch: truth, targets, and what these decode to.

    For example, of the first training picture of a config::

        perfect = Perfect(MODELS.build(cfg.model))
        encoded = perfect(pseudo_collate([dataset[0]]))
        sheet, gone = draw_targets(encoded, perfect, dataset.metainfo['classes'])
        sheet.savefig('targets.png')

    Args:
        encoded: of ``perfect``, which :class:`~mmdet_losses.metrics.oracle.Perfect` made of a
            detector.
        classes: names, by label.

    Returns:
        The sheet, and (n,) bool: the objects that no target stands for.
    """
    truth, said = encoded.samples[0].gt_instances, encoded.said[0]
    said = said[said.scores > 0.3]
    gone = lost(truth, said)
    picture = as_picture(encoded.inputs[0], perfect.model.data_preprocessor)
    size = picture.shape[:2]
    boxes = perfect.encoder.positive_boxes(encoded.targets, encoded.feat_sizes, size)
    sheet = target_sheet(
        picture,
        truth,
        gone.numpy(),
        dict(heat_maps(encoded.targets)),
        boxes.cpu().numpy(),
        said,
        classes,
        pairs=corner_pairs(encoded.targets, size),
    )
    return sheet, gone
