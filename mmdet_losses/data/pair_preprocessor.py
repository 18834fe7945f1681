"""A batch of pairs on its way to the network."""

from __future__ import annotations

from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.models.utils.misc import samplelist_boxtype2tensor

from mmdet_losses.registry import MODELS


@MODELS.register_module()
class PairDataPreprocessor(DetDataPreprocessor):
    """MMDetection's ``DetDataPreprocessor``, for pictures and their previous ones alike.

    Where the data have ``previous``, both are normalised and padded to one size, and the result
    has ``previous`` (B, 3, h, w) beside ``inputs``. Without it this is ``DetDataPreprocessor``.

    Args:
        *args, **kwargs: of ``DetDataPreprocessor``; ``batch_augments`` know nothing of pairs.

    Raises:
        ValueError: ``batch_augments`` are given.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.batch_augments is not None:
            raise ValueError(
                f'{type(self).__name__} cannot use batch_augments: they would change the pictures '
                'and not their previous ones; leave them out.'
            )

    def forward(self, data: dict, training: bool = False) -> dict:
        """See the class."""
        if 'previous' not in data:
            return super().forward(data, training)
        pictures, samples = list(data['inputs']), data['data_samples']
        both = {'inputs': [*pictures, *data['previous']], 'data_samples': samples}
        both = super().forward(both, training)
        if self.boxtype2tensor:
            samplelist_boxtype2tensor([sample.previous for sample in both['data_samples']])
        inputs, previous = both['inputs'].split(len(pictures))
        return {'inputs': inputs, 'previous': previous, 'data_samples': both['data_samples']}
