"""Criteria with terms of MMDetection."""

import pytest
import torch
from torch import nn

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


@pytest.mark.parametrize(
    ('criterion', 'name', 'term', 'words'),
    [
        ('CenterNetPointsLoss', 'loss_heatmap', 'mmdet.MSELoss', 'MSELoss, which does not take'),
        ('CenterNetPointsLoss', 'loss_heatmap', 'MaskedL1Loss', 'choose PenaltyReducedFocalLoss'),
        ('CenterTrackLoss', 'loss_keypoint_heatmap', 'mmdet.FocalLoss', 'not take heatmaps'),
        ('CornerNetLoss', 'loss_embedding', 'mmdet.AssociativeEmbeddingLoss', 'PullPushLoss'),
        ('CornerNetSaccadeLoss', 'loss_attention', 'mmdet.L1Loss', 'loss_attention is L1Loss'),
        ('RetinaNetLoss', 'loss_cls', 'mmdet.FocalLoss', 'choose SigmoidFocalLoss'),
        ('RetinaNetLoss', 'loss_cls', 'HardNegativeCrossEntropyLoss', 'not take classes'),
        ('SSDLoss', 'loss_cls', 'mmdet.CrossEntropyLoss', 'choose HardNegativeCrossEntropyLoss'),
        ('SSDLoss', 'loss_cls', 'mmdet.MSELoss', 'loss_cls is MSELoss'),
    ],
)
def test_a_term_of_something_else_raises_when_it_is_built(criterion, name, term, words):
    with pytest.raises(ValueError, match=words):
        MODELS.build({'type': criterion, name: dict(type=term)})


def test_terms_of_other_packages_are_accepted():
    class OwnLoss(nn.Module):
        """A loss of a user."""

    assert MODELS.build(dict(type='RetinaNetLoss', loss_cls=OwnLoss())).loss_cls is not None
    for term in (dict(type='mmdet.FocalLoss'), dict(type='SigmoidFocalLoss')):
        MODELS.build(dict(type='SSDLoss', loss_cls=term))
