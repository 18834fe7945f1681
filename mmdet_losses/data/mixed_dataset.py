"""Data set whose transforms combine several images."""

from __future__ import annotations

from typing import Any

from mmdet.datasets import MultiImageMixDataset

from mmdet_losses.data.clean import DataError
from mmdet_losses.registry import DATASETS


@DATASETS.register_module()
class MixedImageDataset(MultiImageMixDataset):
    """MMDetection's ``MultiImageMixDataset``, with an input size per batch and no second tries.

    Transforms with a method ``get_indexes(dataset)`` find the images of these indices in
    ``mix_results``. An index (index, size) of
    :class:`~mmdet_losses.data.drawn_size.DrawnSizeBatchSampler` puts ``input_size`` into the
    results.

    ``MultiImageMixDataset`` repeats a transform that returns None, at most 15 times with the same
    images, and then stops the training. Here every image is used, with or without objects.

    Args:
        *args, **kwargs: of ``MultiImageMixDataset``.

    Raises:
        DataError: a transform returned None.
    """

    def __getitem__(self, index: int | tuple[int, tuple[int, int]]) -> Any:
        """The item of an index, or of an index and an input size (w, h)."""
        index, size = index if isinstance(index, tuple) else (index, None)
        results = self.dataset[index]
        if size is not None:
            results['input_size'] = size
        skipped = self._skip_type_keys or ()
        for transform, name in zip(self.pipeline, self.pipeline_types, strict=True):
            if name in skipped:
                continue
            if hasattr(transform, 'get_indexes'):
                indices = transform.get_indexes(self.dataset)
                indices = [indices] if isinstance(indices, int) else indices
                results['mix_results'] = [self.dataset[each] for each in indices]
            path = results.get('img_path')
            results = transform(results)
            if results is None:
                raise DataError(
                    f'{name} returned None for {path}: this data set trains on images without '
                    'objects; remove the transform, or for FilterAnnotations set keep_empty=False '
                    '(in MMDetection, True means that such images are discarded).'
                )
            if hasattr(transform, 'get_indexes'):
                results.pop('mix_results', None)
        return results
