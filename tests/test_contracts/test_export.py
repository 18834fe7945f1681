"""Every detector as an exported program: decoding to tensors of a fixed size."""

import pytest
import torch
from mmengine.structures import InstanceData
from torch import nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from mmdet_losses.core import Detections, TargetEncoder
from mmdet_losses.registry import MODELS, TASK_UTILS
from tests.cases import DETECTORS
from tests.detector_cases import IMG_SIZE

EXPORTED = ('CenterNetTriplet', 'RetinaNet', 'YOLOV3')
"""One detector of each family; ``test_tools/test_export.py`` has a whole CenterNetPoints."""
ALL_BOXES = {
    'SSD': {'topk': None},  # its limit is per class
    'RetinaNet': {'topk': None},  # its limit is per level
    'CornerNet': {'ae_threshold': 1e3},
    'CenterNetTriplet': {'ae_threshold': 1e3},
    'CornerNetSaccade': {'ae_threshold': 1e3},
}
"""Options without which decoding drops boxes that tensor decoding returns, or finds none."""


class Head(nn.Module):
    """Predictor and tensor decoding."""

    def __init__(self, stem: str, limit: int) -> None:
        super().__init__()
        torch.manual_seed(3)
        case = DETECTORS[stem]
        self.predictor = MODELS.build(case.predictor).eval()
        self.encoder = TASK_UTILS.build({**case.encoder, **ALL_BOXES.get(stem, {})})
        self.limit = limit

    def forward(self, *feats: torch.Tensor) -> Detections:
        return self.encoder.decode_tensors(self.predictor(feats), IMG_SIZE, self.limit)


def features(stem: str, images: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(images)
    shapes = DETECTORS[stem].feats
    return tuple(4 * torch.randn(images, *shape, generator=generator) for shape in shapes)


def rows(scores: torch.Tensor, labels: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Detections (n, 6) in an order that does not depend on ties."""
    table = torch.cat((scores[:, None], labels[:, None].to(scores), boxes), 1).double()
    for column in reversed(range(6)):
        key = (table[:, column] * 1e4).round()
        table = table[key.argsort(stable=True, descending=column == 0)]
    return table


@torch.no_grad()
@pytest.mark.parametrize('stem', sorted(DETECTORS))
def test_tensors_hold_the_decoded_boxes(stem):
    head, feats = Head(stem, 10_000), features(stem, 2)
    found = head(*feats)
    decoded = head.encoder.decode(head.predictor(feats), IMG_SIZE)
    for boxes, scores, labels, want in zip(*found, decoded, strict=True):
        assert (scores.diff() <= 0).all() and labels.dtype == torch.int64
        here = scores > 0
        have = InstanceData(bboxes=boxes[here], scores=scores[here], labels=labels[here])
        assert len(have) == len(want) > 0
        tables = [rows(each.scores, each.labels, each.bboxes) for each in (have, want)]
        torch.testing.assert_close(*tables, rtol=1e-4, atol=1e-3)


class Decoder(nn.Module):
    """Tensor decoding of outputs that are given as a flat list."""

    def __init__(self, encoder: TargetEncoder, structure: TreeSpec) -> None:
        super().__init__()
        self.encoder, self.structure = encoder, structure

    def forward(self, *leaves: torch.Tensor | None) -> Detections:
        outputs = tree_unflatten(leaves, self.structure)
        return self.encoder.decode_tensors(outputs, IMG_SIZE, 20)


@torch.no_grad()
@pytest.mark.parametrize('stem', EXPORTED)
def test_exported_decoding_equals_the_encoder_for_any_batch(stem):
    head = Head(stem, 20)
    batch = torch.export.Dim('batch', min=1, max=64)
    leaves, structure = tree_flatten(head.predictor(features(stem, 2)))
    decoder = Decoder(head.encoder, structure)
    shapes = (tuple(None if leaf is None else {0: batch} for leaf in leaves),)
    program = torch.export.export(decoder, tuple(leaves), dynamic_shapes=shapes, strict=False)
    for images in (1, 3):
        leaves, _ = tree_flatten(head.predictor(features(stem, images)))
        for have, want in zip(program.module()(*leaves), decoder(*leaves), strict=True):
            assert len(have) == images and have.shape[1] <= 20
            torch.testing.assert_close(have, want, rtol=1e-4, atol=1e-4)
