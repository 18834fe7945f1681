"""What an encoding can say at best: ground truth through encoder and decoder, without a network."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet_losses.core import Size, postprocess
from mmdet_losses.core.head import EncodedDenseHead, input_size


class Encoded(NamedTuple):
    """A batch as a detector's encoder sees it."""

    inputs: Tensor
    """(B, 3, h, w) network input."""
    samples: list[DetDataSample]
    targets: NamedTuple
    feat_sizes: list[Size]
    """(H, W) of the maps that the targets belong to."""
    said: list[InstanceData]
    """What a perfect network's outputs decode to, before suppression; input pixels."""


class Perfect:
    """A detector whose network is replaced by its encoder's ``ideal_outputs``.

    Args:
        model: a detector with an :class:`~mmdet_losses.core.head.EncodedDenseHead`; its network
            runs once for every input size, to learn the sizes of its maps.

    Raises:
        TypeError: the detector's head is another one.
    """

    def __init__(self, model: nn.Module) -> None:
        head = getattr(model, 'bbox_head', None)
        if not isinstance(head, EncodedDenseHead):
            raise TypeError(
                f'the head of this detector is {type(head).__name__}, which has no target encoder '
                'to look at; name a config with an EncodedDenseHead.'
            )
        self.model, self.encoder = model.eval(), head.encoder
        self._feat_sizes: dict[tuple[int, ...], list[Size]] = {}

    @property
    def test_cfg(self) -> dict:
        """Of the detector."""
        return self.model.bbox_head.test_cfg

    @torch.no_grad()
    def __call__(self, batch: dict[str, Any]) -> Encoded:
        """A batch of the data loader, its samples with ``gt_instances`` in input pixels."""
        data = self.model.data_preprocessor(batch, False)
        inputs, samples = data['inputs'], data['data_samples']
        shown = inputs if isinstance(inputs, Tensor) else next(iter(inputs.values()))
        size = input_size([sample.metainfo for sample in samples])
        shape = tuple(shown.shape[-2:])
        if shape not in self._feat_sizes:
            outputs = self.encoder.outputs_type(*self.model(**data, mode='tensor'))
            self._feat_sizes[shape] = self.encoder.feat_sizes(outputs)
        for sample in samples:
            sample.gt_instances = plain(sample.gt_instances)
        truth = [sample.gt_instances for sample in samples]
        targets = self.encoder.encode(truth, self._feat_sizes[shape], size)
        said = self.encoder.decode(self.encoder.ideal_outputs(targets), size)
        return Encoded(shown, samples, targets, self._feat_sizes[shape], said)

    def results(self, encoded: Encoded, rescale: bool = True) -> list[DetDataSample]:
        """Copies of the samples with ``pred_instances``, as ``model.test_step`` returns them.

        With ``rescale`` all boxes are in pixels of the original picture, those of
        ``gt_instances`` and ``ignored_instances`` too: there a test pipeline leaves them, and
        there a metric that takes its truth from the sample reads them.

        Raises:
            KeyError: the samples lack ``scale_factor`` with ``rescale``.
        """
        results = [sample.clone() for sample in encoded.samples]
        for sample, said in zip(results, encoded.said, strict=True):
            meta = sample.metainfo
            sample.pred_instances = postprocess(said, meta, self.test_cfg, rescale)
            for name in ('gt_instances', 'ignored_instances'):
                if name in sample:
                    truth = plain(sample.get(name))
                    truth.bboxes = moved(truth.bboxes, meta, rescale)
                    sample.set_field(truth, name, dtype=InstanceData)
        return results


def plain(instances: InstanceData) -> InstanceData:
    """The instances with ``bboxes`` as a tensor, whatever MMDetection wrapped them in."""
    boxes = instances.bboxes
    if not isinstance(boxes, Tensor):
        instances = instances[:]
        instances.bboxes = boxes.tensor
    return instances


def moved(boxes: Tensor, img_meta: dict, rescale: bool) -> Tensor:
    """Boxes (n, 4) of the network's input, in the pixels and order of a detector's results."""
    scores = boxes.new_ones(len(boxes))
    instances = InstanceData(bboxes=boxes, scores=scores)
    return postprocess(instances, img_meta, {}, rescale).bboxes


def lost(truth: InstanceData, said: InstanceData, min_iou: float = 0.5) -> Tensor:
    """(n,) bool, the objects that no decoded box of their class stands for.

    Every decoded box stands for one object at most: where two objects share a cell and one
    target, one of them is lost.

    Args:
        truth: ``bboxes`` (n, 4), ``labels`` (n,).
        said: ``bboxes`` (m, 4), ``labels`` (m,), ``scores`` (m,), in the same pixels; scores of
            0.3 and less say nothing.
        min_iou: least overlap of a box that stands for an object.
    """
    said = said[said.scores > 0.3]
    overlaps = bbox_overlaps(truth.bboxes.float(), said.bboxes.float())
    overlaps = torch.where(truth.labels[:, None] == said.labels[None], overlaps, 0)
    missing = torch.ones(len(truth), dtype=torch.bool)
    while overlaps.numel() and overlaps.max() >= min_iou:
        row, column = divmod(int(overlaps.argmax()), overlaps.shape[1])
        missing[row] = False
        overlaps[row], overlaps[:, column] = 0, 0
    return missing
