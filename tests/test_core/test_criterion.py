"""Criteria with terms of MMDetection."""

import pytest
import torch

from mmdet_losses.registry import MODELS, TASK_UTILS
from tests.cases import DETECTORS
from tests.detector_cases import IMG_SIZE, instances

HEATMAPS = [
    stem
    for stem, case in sorted(DETECTORS.items())
    if hasattr(MODELS.build(case.criterion), 'loss_heatmap')
]


@pytest.mark.parametrize('stem', HEATMAPS)
@pytest.mark.parametrize('counts', [(3, 1), (0, 0)])
def test_mmdetections_focal_loss_equals_ours(stem, counts):
    case, generator = DETECTORS[stem], torch.Generator().manual_seed(7)
    torch.manual_seed(3)
    predictor, encoder = MODELS.build(case.predictor), TASK_UTILS.build(case.encoder)
    outputs = predictor(tuple(10 * torch.randn(2, *shape) for shape in case.feats))
    gt_instances = [instances(case, count, generator) for count in counts]
    targets = encoder.encode(gt_instances, encoder.feat_sizes(outputs), IMG_SIZE)
    ours, mmdets = (
        MODELS.build({**case.criterion, 'loss_heatmap': term})(outputs, targets)
        for term in (
            {'type': 'PenaltyReducedFocalLoss', 'clamp': 1e-4},
            {'type': 'mmdet.GaussianFocalLoss'},
        )
    )
    torch.testing.assert_close(mmdets, ours, rtol=1e-4, atol=1e-6)


def test_heatmap_criteria_are_found():
    assert {'CenterNetPoints', 'CornerNet', 'CenterTrack'} <= set(HEATMAPS)
