"""Contract of every detector's encoder, criterion and predictor."""

import copy
import math

import pytest
import torch
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData
from torch.utils._pytree import tree_flatten, tree_map

from mmdet_losses.registry import MODELS, TASK_UTILS
from tests.case_inputs import NoHostCopies
from tests.cases import DETECTORS
from tests.detector_cases import IMG_SIZE, instances

pytestmark = pytest.mark.parametrize('stem', sorted(DETECTORS))

DIRTY = torch.tensor(
    [
        [math.nan, 5.0, 40.0, 40.0],
        [30.0, 30.0, 30.0, 50.0],
        [60.0, 50.0, 20.0, 80.0],
        [-90.0, -80.0, -40.0, -30.0],
        [10.0, 10.0, math.inf, 60.0],
        [400.0, 500.0, 460.0, 580.0],
        [-1e9, -1e9, 1e9, 1e9],
        [10.0, 10.0, 1e9, 60.0],
        [-3e38, 10.0, 3e38, 60.0],
    ]
)


@pytest.fixture(name='case')
def _case(stem):
    return DETECTORS[stem]


@pytest.fixture(name='generator')
def _generator():
    return torch.Generator().manual_seed(7)


def predict(case, generator, batch):
    """A new predictor, its outputs, and its encoder."""
    torch.manual_seed(3)
    predictor = MODELS.build(case.predictor)
    feats = tuple(torch.randn(batch, *shape, generator=generator) for shape in case.feats)
    return predictor, predictor(feats), TASK_UTILS.build(case.encoder)


def encode(case, ground_truth, generator):
    _, outputs, encoder = predict(case, generator, len(ground_truth))
    return encoder, encoder.encode(ground_truth, encoder.feat_sizes(outputs), IMG_SIZE)


def tensors(tree) -> list[torch.Tensor]:
    return [leaf for leaf in tree_flatten(tree)[0] if isinstance(leaf, torch.Tensor)]


@pytest.mark.parametrize('counts', [(3, 1), (0, 2), (0, 0), (1, 0)])
def test_round_trip(case, generator, counts):
    ground_truth = [instances(case, count, generator) for count in counts]
    encoder, targets = encode(case, ground_truth, generator)
    decoded = encoder.decode(encoder.ideal_outputs(targets), IMG_SIZE)
    for gt, found in zip(ground_truth, decoded, strict=True):
        found = found[found.scores > 0.5]
        assert len(found) >= len(gt)
        for box, label in zip(gt.bboxes, gt.labels, strict=True):
            same = found[found.labels == label]
            assert bbox_overlaps(box[None], same.bboxes).max() >= case.round_trip
        if len(gt) == 0:
            assert len(found) == 0
        else:  # no detection far from every object
            assert bbox_overlaps(found.bboxes, gt.bboxes).amax(1).min() > 0.5


def test_targets_are_finite(case, generator):
    _, targets = encode(case, [instances(case, 3, generator)], generator)
    assert all(each.isfinite().all() for each in tensors(targets) if each.is_floating_point())


def test_ground_truth_is_not_modified(case, generator):
    ground_truth = [instances(case, 3, generator), instances(case, 0, generator)]
    before = copy.deepcopy(ground_truth)
    encode(case, ground_truth, generator)
    for now, then in zip(ground_truth, before, strict=True):
        for name, value in then.items():
            torch.testing.assert_close(now[name], value, rtol=0, atol=0)


def test_dirty_boxes_are_dropped_and_counted(case, generator):
    clean, dirty = instances(case, 2, generator), instances(case, 2, generator)
    extra = InstanceData(bboxes=DIRTY, labels=torch.zeros(len(DIRTY), dtype=torch.long))
    wrong_label = InstanceData(bboxes=clean.bboxes[:1], labels=torch.tensor([case.num_classes]))
    for more in (extra, wrong_label):
        case.enrich(more, generator)
    dirty = InstanceData.cat([dirty, extra, wrong_label])
    criterion = MODELS.build(case.criterion)
    _, outputs, encoder = predict(case, generator, 1)
    sizes = encoder.feat_sizes(outputs)
    clean_targets = encoder.encode([clean], sizes, IMG_SIZE)
    dirty_targets = encoder.encode([dirty], sizes, IMG_SIZE)
    assert encoder.statistics(dirty_targets)['num_dropped'] == len(DIRTY) + 1
    assert encoder.statistics(clean_targets)['num_dropped'] == 0
    want, have = criterion(outputs, clean_targets), criterion(outputs, dirty_targets)
    for name, value in want.items():
        torch.testing.assert_close(have[name], value)


def test_boxes_at_the_border_have_targets(case, generator):
    height, width = IMG_SIZE
    edge = InstanceData(
        bboxes=torch.tensor(
            [[width - 40.0, height - 30.0, width, height], [-5.0, -9.0, width + 9.0, height + 7.0]]
        ),
        labels=torch.tensor([0, 1]),
    )
    case.enrich(edge, generator)
    encoder, targets = encode(case, [edge], generator)
    decoded = encoder.decode(encoder.ideal_outputs(targets), IMG_SIZE)
    assert encoder.statistics(targets)['num_pos'] > 0
    assert decoded[0].bboxes.isfinite().all()


@pytest.mark.parametrize('counts', [(3, 2), (0, 2), (0, 0)])
def test_loss_reaches_every_parameter(case, generator, counts):
    predictor, outputs, encoder = predict(case, generator, len(counts))
    ground_truth = [instances(case, count, generator) for count in counts]
    targets = encoder.encode(ground_truth, encoder.feat_sizes(outputs), IMG_SIZE)
    losses = MODELS.build(case.criterion)(outputs, targets)
    assert losses and all(name.startswith('loss_') for name in losses)
    assert all(value.isfinite() and value.dim() == 0 for value in losses.values())
    sum(losses.values()).backward()
    for name, parameter in predictor.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_loss_names_do_not_depend_on_the_objects(case, generator):
    keys = []
    for counts in ((2, 3), (0, 1), (0, 0)):
        _, outputs, encoder = predict(case, generator, 2)
        ground_truth = [instances(case, count, generator) for count in counts]
        targets = encoder.encode(ground_truth, encoder.feat_sizes(outputs), IMG_SIZE)
        keys.append([*MODELS.build(case.criterion)(outputs, targets), *encoder.statistics(targets)])
    assert keys[0] == keys[1] == keys[2]


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('scale', [1.0, 12.0])
def test_half_precision_outputs_give_finite_losses(case, generator, dtype, scale):
    _, outputs, encoder = predict(case, generator, 2)
    ground_truth = [instances(case, count, generator) for count in (3, 0)]
    targets = encoder.encode(ground_truth, encoder.feat_sizes(outputs), IMG_SIZE)
    half = tree_map(
        lambda x: (
            (torch.randn(x.shape, generator=generator).sign() * scale).to(dtype).requires_grad_()
        ),
        outputs,
    )
    losses = MODELS.build(case.criterion)(half, targets)
    assert all(value.isfinite() and value.dtype == torch.float32 for value in losses.values())
    sum(losses.values()).backward()
    assert all(each.grad.isfinite().all() for each in tensors(half))


def test_encode_and_loss_do_not_synchronise(case, generator):
    """encode, loss and backward on meta tensors, which have no values.

    Reading a value, mixing devices and copying a tensor from the host raise an error here.
    """
    _, outputs, encoder = predict(case, generator, 2)
    criterion = MODELS.build(case.criterion).to('meta')
    ground_truth = [instances(case, count, generator, device='meta') for count in (3, 1)]
    outputs = tree_map(lambda x: x.detach().to('meta').requires_grad_(), outputs)
    with NoHostCopies():
        targets = encoder.encode(ground_truth, encoder.feat_sizes(outputs), IMG_SIZE)
        losses = criterion(outputs, targets)
        sum(losses.values()).backward()
    assert all(value.device.type == 'meta' for value in losses.values())
    assert all(each.device.type == 'meta' for each in tensors(targets))
    assert all(each.grad is not None for each in tensors(outputs))


@pytest.mark.parametrize('topk', [1, 7, 100_000])
def test_any_number_of_detections(case, generator, topk):
    if not hasattr(TASK_UTILS.build(case.encoder), 'topk'):
        pytest.skip('this encoder decodes every cell')
    _, outputs, _ = predict(case, generator, 1)
    encoder = TASK_UTILS.build({**case.encoder, 'topk': topk})
    decoded = encoder.decode(outputs, IMG_SIZE)[0]
    assert len(decoded.bboxes) == len(decoded.scores) == len(decoded.labels)


def test_positive_boxes_belong_to_objects_of_the_first_image(case, generator):
    both = [instances(case, 2, generator), instances(case, 3, generator)]
    empty = [instances(case, 0, generator), instances(case, 3, generator)]
    _, outputs, encoder = predict(case, generator, 2)
    sizes = encoder.feat_sizes(outputs)
    found = encoder.positive_boxes(encoder.encode(both, sizes, IMG_SIZE), sizes, IMG_SIZE)
    none = encoder.positive_boxes(encoder.encode(empty, sizes, IMG_SIZE), sizes, IMG_SIZE)
    assert none.shape == (0, 4) and found.shape[1:] == (4,)
    if len(found):
        overlap = bbox_overlaps(found, both[0].bboxes)
        assert overlap.amax(1).min() > 0 and overlap.amax(0).min() > 0
