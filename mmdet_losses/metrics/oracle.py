"""Upper limit of an encoding: ground truth through encoder and decoder, without a network."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet_losses.core import Size, encode_batch, postprocess
from mmdet_losses.core.head import EncodedDenseHead, input_size
from mmdet_losses.ops import cell_xy

MIN_SCORE = 0.3
"""Decoded boxes with this score or less do not count."""


class Encoded(NamedTuple):
    """A batch with its targets and the boxes that they decode to."""

    inputs: Tensor
    """(B, 3, h, w) network input."""
    samples: list[DetDataSample]
    targets: NamedTuple
    feat_sizes: list[Size]
    """(H, W) of the feature maps that the targets belong to."""
    decoded: list[InstanceData]
    """Decoded outputs of a perfect network, before NMS; input pixels."""


class Perfect:
    """A detector whose network is replaced by its encoder's ``ideal_outputs``.

    Args:
        model: a detector with an :class:`~mmdet_losses.core.head.EncodedDenseHead`. Its network
            runs once per input size, to get the sizes of its feature maps.

    Raises:
        TypeError: the detector has another head.
    """

    def __init__(self, model: nn.Module) -> None:
        head = getattr(model, 'bbox_head', None)
        if not isinstance(head, EncodedDenseHead):
            raise TypeError(
                f'the head of this detector is {type(head).__name__}, which has no target encoder; '
                'use a config with an EncodedDenseHead.'
            )
        self.model: Any = model.eval()
        self.encoder = head.encoder
        self._feat_sizes: dict[tuple[int, ...], list[Size]] = {}

    @property
    def test_cfg(self) -> dict:
        """Test settings of the detector's head."""
        return self.model.bbox_head.test_cfg

    @torch.no_grad()
    def __call__(self, batch: dict[str, Any]) -> Encoded:
        """Encode a batch of the data loader, with ``gt_instances`` in input pixels."""
        data = self.model.data_preprocessor(batch, False)
        inputs, samples = data['inputs'], data['data_samples']
        images = inputs if isinstance(inputs, Tensor) else next(iter(inputs.values()))
        size = input_size([sample.metainfo for sample in samples])
        shape = tuple(images.shape[-2:])
        if shape not in self._feat_sizes:
            outputs = self.encoder.outputs_type(*self.model(**data, mode='tensor'))
            self._feat_sizes[shape] = self.encoder.feat_sizes(outputs)
        for sample in samples:
            sample.gt_instances = with_tensor_boxes(sample.gt_instances)
        gt_instances = [sample.gt_instances for sample in samples]
        ignored = [sample.get('ignored_instances') for sample in samples]
        sizes = self._feat_sizes[shape]
        targets = encode_batch(self.encoder, gt_instances, sizes, size, ignored)
        decoded = self.encoder.decode(self._outputs(data, targets), size)
        return Encoded(images, samples, targets, self._feat_sizes[shape], decoded)

    def _outputs(self, data: dict[str, Any], targets: NamedTuple) -> Any:
        """The outputs that are decoded."""
        return self.encoder.ideal_outputs(targets)

    def results(self, encoded: Encoded, rescale: bool = True) -> list[DetDataSample]:
        """Copies of the samples with ``pred_instances``, as ``model.test_step`` returns them.

        With ``rescale`` all boxes are in pixels of the original image. This includes
        ``gt_instances`` and ``ignored_instances``, because test pipelines and metrics use original
        pixels.

        Raises:
            KeyError: the samples lack ``scale_factor`` with ``rescale``.
        """
        results = [sample.clone() for sample in encoded.samples]
        for sample, decoded in zip(results, encoded.decoded, strict=True):
            meta = sample.metainfo
            sample.pred_instances = postprocess(decoded, meta, self.test_cfg, rescale)
            for name in ('gt_instances', 'ignored_instances'):
                if name in sample:
                    instances = with_tensor_boxes(sample.get(name))
                    instances.bboxes = moved(instances.bboxes, meta, rescale)
                    sample.set_field(instances, name, dtype=InstanceData)
        return results


class OneIdealBranch(Perfect):
    """A trained detector, with the ground truth in place of one branch of its network.

    Args:
        model: a detector with weights, whose outputs are one map per branch (centre detectors).
        branch: name of a field of the outputs; None keeps all outputs of the network.
    """

    def __init__(self, model: nn.Module, branch: str | None = None) -> None:
        super().__init__(model)
        self.branch = branch

    def branches(self) -> tuple[str, ...]:
        """Names of the branches that the ground truth can replace.

        Raises:
            TypeError: the outputs are not one map per branch.
        """
        names = tuple(name for name in self.encoder.outputs_type._fields if name != 'earlier')
        if 'heatmap' not in names:
            raise TypeError(
                f'{self.encoder.outputs_type.__name__} has no separate branches; use a centre '
                'detector.'
            )
        return names

    def _outputs(self, data: dict[str, Any], targets: NamedTuple) -> Any:
        outputs = self.encoder.outputs_type(*self.model(**data, mode='tensor'))
        if self.branch is None:
            return outputs
        return with_ideal_branch(outputs, super()._outputs(data, targets), targets, self.branch)


def with_ideal_branch(outputs: Any, ideal: Any, targets: Any, branch: str) -> Any:
    """Outputs with one branch of the ideal outputs; a branch that either lacks stays as it is.

    A heatmap is the ideal one. Every cell of another branch has the values of the nearest object,
    as in the official code of CenterNet, because the network's peaks are not exactly at centres.
    """
    value = getattr(ideal, branch)
    if value is None or getattr(outputs, branch) is None:
        return outputs
    if branch == 'keypoint_offset':
        mask = targets.keypoint_mask.flatten(1)
        value = nearest_object(value, targets.keypoint_index.flatten(1), mask)
    elif not branch.endswith('heatmap'):
        value = nearest_object(value, targets.index, targets.mask)
    return outputs._replace(**{branch: value})


def nearest_object(values: Tensor, index: Tensor, mask: Tensor) -> Tensor:
    """A map whose cells all have the values of the nearest object's cell.

    Shape:
        values: (B, D, H, W). index: (B, M) int64 cell of each object, y * W + x. mask: (B, M).

    Convention:
        Near is the sum of the distances along x and y; of equal distances the first object counts.
        An image without objects stays as it is.
    """
    width = values.shape[-1]
    flat = values.flatten(2).clone()
    cells = cell_xy(torch.arange(flat.shape[2], device=index.device), width).float()
    for image, own in enumerate(index[kept] for index, kept in zip(index, mask, strict=True)):
        if len(own):
            nearest = torch.cdist(cells, cell_xy(own, width).float(), p=1).argmin(1)
            flat[image] = flat[image][:, own[nearest]]
    return flat.view_as(values)


def with_tensor_boxes(instances: InstanceData) -> InstanceData:
    """The instances with ``bboxes`` as a tensor instead of MMDetection's box type."""
    boxes = instances.bboxes
    if not isinstance(boxes, Tensor):
        instances = instances[:]
        instances.bboxes = boxes.tensor
    return instances


def moved(boxes: Tensor, img_meta: dict, rescale: bool) -> Tensor:
    """Boxes (n, 4) in input pixels, converted to the pixels and order of a detector's results."""
    scores = boxes.new_ones(len(boxes))
    instances = InstanceData(bboxes=boxes, scores=scores)
    return postprocess(instances, img_meta, {}, rescale).bboxes


def lost(gt: InstanceData, decoded: InstanceData, min_iou: float = 0.5) -> Tensor:
    """(n,) bool, the objects that no decoded box of their class matches.

    A decoded box matches at most one object: if two objects share a cell and one target, one of
    them is lost.

    Args:
        gt: ``bboxes`` (n, 4), ``labels`` (n,).
        decoded: ``bboxes`` (m, 4), ``labels`` (m,), ``scores`` (m,), in the same pixels; boxes with
            a score of :data:`MIN_SCORE` or less are ignored.
        min_iou: lowest IoU of a match.
    """
    decoded = decoded[decoded.scores > MIN_SCORE]
    overlaps = bbox_overlaps(gt.bboxes.float(), decoded.bboxes.float())
    overlaps = torch.where(gt.labels[:, None] == decoded.labels[None], overlaps, 0)
    missing = torch.ones(len(gt), dtype=torch.bool)
    while overlaps.numel() and overlaps.max() >= min_iou:
        row, column = divmod(int(overlaps.argmax()), overlaps.shape[1])
        missing[row] = False
        overlaps[row], overlaps[:, column] = 0, 0
    return missing
