"""Export of a trained detector, network and decoding, to ONNX or ``torch.export``."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from numpy.typing import NDArray
from torch import Tensor, nn

from mmdet_losses.core import Detections, EncodedDenseHead, Size
from mmdet_losses.core.checkpoint import read_checkpoint
from mmdet_losses.engine.fit import check_fit
from mmdet_losses.engine.processes import UsageError
from mmdet_losses.ops import padded_nms
from mmdet_losses.registry import MODELS

TOLERANCE = 1e-4
"""Largest difference between PyTorch and the exported detector: of a score, and of a coordinate in
units of the longer side of the input."""
OPSET = 19
"""The first one with deformable convolution."""
BATCH_SIZES = (1, 3)
"""Of the check; the example of the export has two images."""
NMS_TYPES = ('nms', 'darknet_nms')
NMS_OPTIONS = ('type', 'iou_threshold', 'kind', 'beta', 'class_agnostic', 'split_thr')
"""NMS that an exported detector may contain; ``split_thr`` changes the speed alone."""


def load_detector(cfg: Config, checkpoint: str) -> nn.Module:
    """The detector of a config in evaluation mode, with all layers from a checkpoint file.

    The file is read without running code from it.

    Raises:
        UsageError: the file is missing, is damaged or does not fit, or the head has no encoder.
    """
    if not Path(checkpoint).is_file():
        raise UsageError(f'checkpoint {checkpoint} not found (from {Path.cwd()}).')
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg.model)
    head = getattr(model, 'bbox_head', None)
    if not isinstance(head, EncodedDenseHead):
        raise UsageError(
            f'bbox_head of {cfg.filename} is {type(head).__name__}; only detectors with '
            'EncodedDenseHead can be exported.'
        )
    try:
        state = read_checkpoint(checkpoint)
    except ValueError as error:
        raise UsageError(str(error)) from error
    check_fit(state, model.state_dict(), checkpoint, str(cfg.filename))
    model.load_state_dict(state)
    return model.eval()


class ExportedDetector(nn.Module):
    """Network, decoding and optionally NMS of a detector: images to detections of a fixed size.

    Args:
        model: detector whose head is an ``EncodedDenseHead``.
        size: (h, w) of the input.
        limit: largest number of detections per image; with ``nms`` before NMS.
        nms: apply score threshold, NMS and ``max_per_img`` of ``test_cfg``.

    Shape:
        normalised images (B, 3, h, w), and the further inputs that ``input_channels`` of the
        detector names, to boxes (B, K, 4) xyxy in pixels of the input, scores (B, K) and labels
        (B, K). A score of 0 marks padding.

    Raises:
        UsageError: ``nms`` with a type of NMS that cannot be exported.
    """

    def __init__(self, model: Any, size: Size, limit: int = 1000, nms: bool = False) -> None:
        super().__init__()
        self.model, self.size, self.limit = model, size, limit
        self.test_cfg = ConfigDict(model.bbox_head.test_cfg) if nms else None
        self.channels = dict(getattr(model, 'input_channels', {'image': 3}))
        options = (self.test_cfg or {}).get('nms') or {}
        if options and options['type'] not in NMS_TYPES:
            raise UsageError(
                f'--nms cannot export {options["type"]} of test_cfg, only '
                f'{" and ".join(NMS_TYPES)}; export without --nms, or change test_cfg.nms.'
            )
        if unknown := set(options) - set(NMS_OPTIONS):
            raise UsageError(
                f'--nms cannot export the option {", ".join(sorted(unknown))} of test_cfg.nms; '
                'remove it, or export without --nms.'
            )
        self.eval()

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """See Shape."""
        head = self.model.bbox_head
        outputs = head.encoder.outputs_type(*head(self.model.extract_feat(*inputs)))
        found = head.encoder.decode_tensors(outputs, self.size, self.limit)
        return tuple(found if self.test_cfg is None else select_detections(found, self.test_cfg))

    def example(self, images: Tensor, seed: int = 0) -> tuple[Tensor, ...]:
        """Inputs for normalised images (B, 3, h, w); the further inputs are random."""
        generator = torch.Generator().manual_seed(seed)
        others = [
            torch.rand(len(images), channels, *self.size, generator=generator)
            for name, channels in self.channels.items()
            if name != 'image'
        ]
        return (images, *others)


def select_detections(found: Detections, test_cfg: ConfigDict) -> Detections:
    """Score threshold, NMS and limit of ``test_cfg`` on tensors of a fixed size."""
    boxes, scores, labels = found
    mask = scores > test_cfg.get('score_thr', 0.0)
    options = dict(test_cfg.get('nms') or {})
    if options:
        classes = torch.zeros_like(labels) if options.get('class_agnostic', False) else labels
        rules = {key: options[key] for key in ('kind', 'beta') if key in options}
        mask = padded_nms(boxes, classes, mask, options['iou_threshold'], **rules)
    limit = test_cfg.get('max_per_img', -1)
    limit = boxes.shape[1] if limit < 0 else min(limit, boxes.shape[1])
    scores, order = torch.where(mask, scores, 0).topk(limit)
    rows = order[..., None].expand(-1, -1, 4)
    return Detections(boxes.gather(1, rows), scores, labels.gather(1, order))


def require(*modules: str) -> None:
    """Raise a ``UsageError`` if a module of the extra ``export`` is not installed."""
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise UsageError(
            f'{", ".join(missing)} not installed; run: pip install "mmdet_losses[export]" '
            f'(or pip install {" ".join(missing)}).'
        )


@torch.no_grad()
def export_onnx(
    detector: ExportedDetector, inputs: tuple[Tensor, ...], metadata: dict[str, str], simplify: bool
) -> bytes:
    """The detector as an ONNX model with a dynamic batch.

    Args:
        detector: to export.
        inputs: an example batch.
        metadata: strings for ``metadata_props``.
        simplify: fold constants and remove needless operators.
    """
    require('onnx', *(['onnxscript'] if simplify else []))
    import onnx

    detector(*inputs)  # makes the tables of anchors, which become constants of the graph
    file = io.BytesIO()
    with _export_rules(), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of the tracer: the check finds what it warns of
        torch.onnx.export(
            detector,
            inputs,
            file,  # type: ignore[arg-type]  # the tracer also takes a file in memory
            dynamo=False,  # a tenth of the time, and loops of TorchScript
            opset_version=OPSET,
            input_names=list(detector.channels),
            output_names=list(Detections._fields),
            dynamic_axes={name: {0: 'batch'} for name in (*detector.channels, *Detections._fields)},
        )
    model = onnx.load_from_string(file.getvalue())
    if simplify:
        from onnxscript import optimizer

        model = optimizer.optimize(model)
    for node in model.graph.node:
        if node.op_type == 'Loop':  # of NMS: the exporter writes the batch of the example
            for output in node.attribute[0].g.output:
                output.type.tensor_type.ClearField('shape')
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    return model.SerializeToString()


@contextmanager
def _export_rules() -> Iterator[None]:
    """Rules for operators that the exporter does not know.

    A stable sort is ``TopK``, which is stable by its specification. MMCV's modulated deformable
    convolution is ``DeformConv``.
    """
    from mmcv.ops.modulated_deform_conv import ModulatedDeformConv2dFunction as Deformable
    from torch.onnx import symbolic_helper

    def sort(g: Any, x: Any, *args: Any) -> Any:
        """Node of a stable sort of all values along a dimension."""
        dim, descending = (symbolic_helper._get_const(each, 'i', 'sort') for each in args[-2:])
        size = g.op('Shape', x, start_i=dim, end_i=dim + 1)
        return g.op('TopK', x, size, axis_i=dim, largest_i=int(descending), outputs=2)

    def deformable(
        g: Any, x: Any, offset: Any, mask: Any, weight: Any, bias: Any,
        stride: Any, padding: Any, dilation: Any, groups: int, deform_groups: int,
    ) -> Any:  # fmt: skip
        """Node of MMCV's modulated deformable convolution; it needs a bias."""
        if bias is None or symbolic_helper._is_none(bias):
            bias = g.op('Constant', value_t=torch.zeros(weight.type().sizes()[0]))
        return g.op(
            'DeformConv', x, weight, offset, bias, mask,
            strides_i=stride, pads_i=[*padding, *padding], dilations_i=dilation,
            group_i=groups, offset_group_i=deform_groups,
        )  # fmt: skip

    before = Deformable.symbolic
    torch.onnx.register_custom_op_symbolic('aten::sort', sort, OPSET)
    Deformable.symbolic = staticmethod(deformable)
    try:
        yield
    finally:
        Deformable.symbolic = before
        torch.onnx.unregister_custom_op_symbolic('aten::sort', OPSET)


@torch.no_grad()
def export_program(
    detector: ExportedDetector, inputs: tuple[Tensor, ...], metadata: dict[str, str]
) -> bytes:
    """The detector as a saved ``torch.export`` program; the metadata are its extra files."""
    batch = torch.export.Dim('batch', min=1, max=1024)
    shapes = (tuple({0: batch} for _ in inputs),)
    program = torch.export.export(detector, inputs, dynamic_shapes=shapes, strict=False)
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={f'{k}.json': v for k, v in metadata.items()})
    return file.getvalue()


Runner = Callable[[Sequence[Tensor]], list[NDArray]]


def onnx_runner(content: bytes) -> Runner:
    """Boxes, scores and labels of an ONNX model in onnxruntime, on a CPU."""
    require('onnxruntime')
    import onnxruntime  # type: ignore[import-untyped]

    session = onnxruntime.InferenceSession(content, providers=['CPUExecutionProvider'])
    names = [each.name for each in session.get_inputs()]

    def run(inputs: Sequence[Tensor]) -> list[NDArray]:
        return session.run(None, dict(zip(names, (x.numpy() for x in inputs), strict=True)))

    return run


def program_runner(content: bytes) -> Runner:
    """Boxes, scores and labels of a saved ``torch.export`` program."""
    module = torch.export.load(io.BytesIO(content)).module()

    @torch.no_grad()
    def run(inputs: Sequence[Tensor]) -> list[NDArray]:
        return [each.numpy() for each in module(*inputs)]

    return run


class Difference(NamedTuple):
    """Largest difference between two sets of detections."""

    value: float
    """Of a score, or of a coordinate over the longer side of the input."""
    rows: int
    """Number of compared detections."""


def compare(have: Sequence[NDArray], want: Sequence[NDArray], size: Size) -> Difference:
    """Difference of two sets of boxes (B, K, 4), scores (B, K) and labels (B, K).

    Sorted scores are compared one by one. Each box is compared with the most similar box of the
    same class, because the order of almost equal scores may differ. Boxes whose score almost equals
    the last score of a full list are not compared: another one may be in the list.
    """
    worst = float(np.abs(have[1] - want[1]).max(initial=0))
    margin = 1e-6 + 2 * worst
    rows = 0
    for one, other in zip(zip(*have, strict=True), zip(*want, strict=True), strict=True):
        for (boxes, scores, labels), (boxes_b, scores_b, labels_b) in ((one, other), (other, one)):
            own = scores > (scores[-1] + margin if scores[-1] > 0 else 0)
            if not own.any():
                continue
            unit = np.maximum(np.abs(boxes_b), max(size))  # relative far outside of the image
            cost = (np.abs(boxes[own][:, None] - boxes_b) / unit).max(-1)
            cost = np.maximum(cost, np.abs(scores[own][:, None] - scores_b))
            cost[(labels[own][:, None] != labels_b) | (scores_b <= 0)] = np.inf
            worst = max(worst, float(cost.min(1).max()))
        rows += int(own.sum())
    return Difference(worst, rows)


@torch.no_grad()
def check(detector: ExportedDetector, run: Runner, images: Tensor) -> Difference:
    """Compare an exported detector with PyTorch on batches of :data:`BATCH_SIZES` images.

    Args:
        detector: in PyTorch.
        run: the exported one.
        images: (n, 3, h, w) normalised; they are repeated where a batch is larger.
    """
    worst, rows = 0.0, 0
    for seed, count in enumerate(BATCH_SIZES):
        index = torch.arange(count) % len(images)
        inputs = detector.example(images[index], seed)
        want = [each.numpy() for each in detector(*inputs)]
        have = run(inputs)
        if [each.shape for each in have] != [each.shape for each in want]:
            raise UsageError(
                f'the exported detector has outputs of shapes {[each.shape for each in have]}, '
                f'PyTorch {[each.shape for each in want]}.'
            )
        difference = compare(have, want, detector.size)
        worst, rows = max(worst, difference.value), rows + difference.rows
    return Difference(worst, rows)


def metadata_of(
    cfg: Config, detector: ExportedDetector, preprocessing: dict[str, Any], classes: Sequence[str]
) -> dict[str, str]:
    """Preprocessing, postprocessing and classes as JSON strings."""
    test_cfg = detector.model.bbox_head.test_cfg
    after = {
        'boxes': 'xyxy in pixels of the network input; a score of 0 marks padding',
        'nms_inside': detector.test_cfg is not None,
        'score_thr': test_cfg.get('score_thr', 0.0),
        'nms': test_cfg.get('nms'),
        'max_per_img': test_cfg.get('max_per_img', -1),
        'clip': test_cfg.get('clip', False),
    }
    parts = dict(
        preprocessing=preprocessing,
        postprocessing=after,
        classes=list(classes),
        config=Path(str(cfg.filename)).name,
    )
    return {key: json.dumps(value) for key, value in parts.items()}
