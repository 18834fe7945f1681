"""Data preprocessor for pairs of frames."""

from __future__ import annotations

from typing import Any

from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.models.utils.misc import samplelist_boxtype2tensor

from mmdet_losses.registry import MODELS


@MODELS.register_module()
class PairDataPreprocessor(DetDataPreprocessor):
    """MMDetection's ``DetDataPreprocessor`` for images and their previous frames.

    If the data contain ``previous``, the images and their previous frames are normalised and
    padded to the same size. The result then contains ``previous`` (B, 3, h, w) and ``inputs``.
    Data without ``previous`` are processed as by ``DetDataPreprocessor``.

    Args:
        *args, **kwargs: arguments of ``DetDataPreprocessor`` except ``batch_augments``.

    Raises:
        ValueError: ``batch_augments`` is not None.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.batch_augments is not None:
            raise ValueError(
                f'{type(self).__name__} cannot use batch_augments: they change the images but not '
                'the previous frames; leave them out.'
            )

    def forward(self, data: dict, training: bool = False) -> dict:
        """See the class."""
        if 'previous' not in data:
            return super().forward(data, training)
        images, samples = list(data['inputs']), data['data_samples']
        both = {'inputs': [*images, *data['previous']], 'data_samples': samples}
        both = super().forward(both, training)
        if self.boxtype2tensor:
            samplelist_boxtype2tensor([sample.previous for sample in both['data_samples']])
        inputs, previous = both['inputs'].split(len(images))
        return {'inputs': inputs, 'previous': previous, 'data_samples': both['data_samples']}
