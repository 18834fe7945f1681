"""Terms of boxes get the decoded boxes, terms of deltas the deltas; any other term raises."""

import pytest
import torch
from mmdet.structures.bbox import bbox_overlaps
from torch import nn
from torch.utils._pytree import tree_map

from mmdet_losses.ops import flatten_levels
from mmdet_losses.registry import MODELS, TASK_UTILS
from tests.cases import DETECTORS
from tests.detector_cases import IMG_SIZE, instances

MMDET = ('IoULoss', 'GIoULoss', 'DIoULoss', 'CIoULoss', 'EIoULoss', 'SIoULoss')
OURS = [dict(type='BoxIoULoss', mode=mode) for mode in ('iou', 'giou', 'diou', 'ciou')]
TERMS = [*OURS, *(dict(type=f'mmdet.{name}') for name in MMDET), dict(type='BoundedIoULoss')]
ARGUMENT = {
    'SSD': 'loss_box',
    'RetinaNet': 'loss_box',
    'ScaledYOLOV4': 'loss_box',
    'CenterNetPoints': 'loss_size',
    'CenterNetPose': 'loss_size',
    'CenterTrack': 'loss_size',
}


def setting(stem, **criterion):
    """Criterion, random outputs that require gradients, targets and encoder of two images."""
    case = DETECTORS[stem]
    torch.manual_seed(3)
    predictor, encoder = MODELS.build(case.predictor), TASK_UTILS.build(case.encoder)
    with torch.no_grad():
        outputs = predictor(tuple(torch.randn(2, *shape) for shape in case.feats))
    outputs = tree_map(lambda x: x.clone().requires_grad_(), outputs)
    generator = torch.Generator().manual_seed(7)
    gt = [instances(case, count, generator) for count in (2, 1)]
    targets = encoder.encode(gt, encoder.feat_sizes(outputs), IMG_SIZE)
    return MODELS.build({**case.criterion, **criterion}), outputs, targets, encoder, gt


def pairs_of_anchors(outputs, targets, encoder, gt):
    """Decoded boxes of the positives and the objects they overlap most."""
    deltas, (anchors, scale, _) = flatten_levels(outputs.box, 4), targets.code
    pred, goal = [], []
    own = targets.code.decode(targets.box).detach()
    for image, objects in enumerate(gt):
        for anchor in targets.mask[image].nonzero().flatten().tolist():
            nearest = bbox_overlaps(own[image, anchor][None], objects.bboxes).argmax()
            center = (
                anchors[anchor, :2] + deltas[image, anchor, :2] * scale[0] * anchors[anchor, 2:]
            )
            size = anchors[anchor, 2:] * (deltas[image, anchor, 2:] * scale[-1]).exp()
            pred.append(torch.cat((center - size / 2, center + size / 2)))
            goal.append(objects.bboxes[nearest])
    return torch.stack(pred), torch.stack(goal), max(len(pred), 1)


def pairs_of_centers(outputs, targets, encoder, gt):
    """Boxes in cells at the centres of the objects, and the objects' own."""
    height, width = targets.heatmap.shape[-2:]
    scale = torch.tensor([width / IMG_SIZE[1], height / IMG_SIZE[0]]).repeat(2)
    pred, goal = [], []
    for image, objects in enumerate(gt):
        for box in objects.bboxes * scale:
            x, y = ((box[:2] + box[2:]) / 2).long().tolist()
            center = torch.tensor([x, y]) + outputs.offset[image, :, y, x]
            size = outputs.size[image, :, y, x]
            pred.append(torch.cat((center - size / 2, center + size / 2)))
            goal.append(box)
    return torch.stack(pred), torch.stack(goal), len(pred) + 1e-4


@pytest.mark.parametrize('term', TERMS, ids=lambda term: term.get('mode', term['type']))
@pytest.mark.parametrize('stem', ['SSD', 'RetinaNet', 'CenterNetPoints', 'CenterTrack'])
def test_a_term_of_boxes_gets_the_decoded_boxes(stem, term):
    name = ARGUMENT[stem]
    criterion, outputs, targets, encoder, gt = setting(stem, **{name: term})
    pairs = pairs_of_anchors if name == 'loss_box' else pairs_of_centers
    if name == 'loss_size':  # sizes near 1, so that the boxes are not empty
        outputs = outputs._replace(size=(outputs.size + 2).detach().requires_grad_())
    leaf = outputs.box if name == 'loss_box' else (outputs.size, outputs.offset)
    have = criterion(outputs, targets)[name]
    pred, goal, divisor = pairs(outputs, targets, encoder, gt)
    want = MODELS.build(term)(pred, goal, avg_factor=divisor)
    torch.testing.assert_close(have, want, rtol=1e-3, atol=1e-5)
    grads = [torch.autograd.grad(each, leaf, retain_graph=True) for each in (have, want)]
    for mine, obvious in zip(*grads, strict=True):
        torch.testing.assert_close(mine, obvious, rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize('stem', ARGUMENT)
def test_a_perfect_network_has_no_box_loss(stem):
    name = ARGUMENT[stem]
    for mode in ('giou', 'ciou'):
        criterion, _, targets, encoder, _ = setting(
            stem, **{name: dict(type='BoxIoULoss', mode=mode)}
        )
        assert criterion(encoder.ideal_outputs(targets), targets)[name].abs() < 2e-4


@pytest.mark.parametrize('name', ['loss_ltrb', 'loss_ltrb_amodal'])
def test_edges_of_centertrack_are_boxes(name):
    criterion, outputs, targets, _, gt = setting('CenterTrack', **{name: OURS[1]})
    have = criterion(outputs, targets)[name]
    rows = [
        (getattr(outputs, name[5:])[image, :, y, x], getattr(targets, name[5:])[image, slot])
        for image in range(2)
        for slot in range(len(gt[image]))
        for y, x in [divmod(int(targets.index[image, slot]), targets.heatmap.shape[-1])]
    ]
    pred, goal = (torch.stack(each) for each in zip(*rows, strict=True))
    torch.testing.assert_close(have, MODELS.build(OURS[1])(pred, goal, avg_factor=len(pred) + 1e-4))


@pytest.mark.parametrize('term', TERMS, ids=lambda term: term.get('mode', term['type']))
def test_scaled_yolov4_takes_every_term_of_boxes(term):
    criterion, outputs, targets, *_ = setting('ScaledYOLOV4', loss_box=term)
    losses = criterion(outputs, targets)
    assert all(value.isfinite() for value in losses.values())
    sum(losses.values()).backward()
    assert all(level.grid is not None for level in targets.levels)
    assert all(each.grad.isfinite().all() for each in outputs.levels)
    if term['type'] == 'mmdet.GIoULoss':
        ours = setting('ScaledYOLOV4', loss_box=OURS[1])[0](outputs, targets)
        for key, value in losses.items():
            torch.testing.assert_close(value, ours[key], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('stem', ['SSD', 'RetinaNet', 'CenterNetPoints', 'CenterTrack'])
@pytest.mark.parametrize('term', ['L1Loss', 'SmoothL1Loss'])
def test_mmdetections_terms_of_deltas_equal_the_masked_ones(stem, term):
    name = ARGUMENT[stem]
    masked = dict(type='MaskedL1Loss' if term == 'L1Loss' else 'MaskedSmoothL1Loss')
    values = []
    for config in (dict(type=f'mmdet.{term}'), masked):
        criterion, outputs, targets, *_ = setting(stem, **{name: config})
        values.append(criterion(outputs, targets)[name])
    torch.testing.assert_close(*values)


@pytest.mark.parametrize(
    ('stem', 'name'),
    [
        ('CornerNet', 'loss_offset'),
        ('CenterNetPoints', 'loss_offset'),
        ('CenterNetPose', 'loss_keypoints'),
        ('CenterTrack', 'loss_tracking'),
    ],
)
def test_a_term_of_boxes_in_the_place_of_deltas_raises(stem, name):
    with pytest.raises(ValueError, match=f'{name} is GIoULoss, which compares boxes'):
        MODELS.build({**DETECTORS[stem].criterion, name: dict(type='mmdet.GIoULoss')})


def test_terms_without_a_kind_raise():
    for term in (dict(type='mmdet.FocalLoss'), nn.Identity()):
        with pytest.raises(ValueError, match='which does not declare what it compares; choose'):
            MODELS.build(dict(type='RetinaNetLoss', loss_box=term))
    with pytest.raises(ValueError, match='loss_box is MaskedL1Loss, which compares deltas, but'):
        MODELS.build(dict(type='ScaledYOLOV4Loss', loss_box=dict(type='MaskedL1Loss')))


def test_boxes_with_dense_sizes_raise():
    criterion, outputs, targets, encoder, gt = setting('CenterNetPoints', loss_size=OURS[0])
    encoder.size_target = 'dense'
    targets = encoder.encode(gt, encoder.feat_sizes(outputs), IMG_SIZE)
    with pytest.raises(ValueError, match="size_target='dense' gives sizes without centres"):
        criterion(outputs, targets)
