"""YOLOv1's criterion against a slow loop, and what the options of YOLOv1 and YOLOv2 change."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmdet_losses.detectors.yolo import (
    YOLOV1Loss,
    YOLOV1Outputs,
    YOLOV1TargetEncoder,
    YOLOV2Loss,
    YOLOV2Outputs,
    YOLOV2TargetEncoder,
)
from tests.test_detectors.test_yolo_losses import (
    ANCHORS,
    BOXES,
    SIZE,
    H,
    W,
    objects,
    overlap,
    raw_map,
    three_images,
)


@pytest.fixture(name='gt_instances')
def _gt_instances():
    return three_images()


def test_yolov2_counts_images_for_its_warm_up(gt_instances):
    x = raw_map(5)
    targets = YOLOV2TargetEncoder(3, ANCHORS).encode(gt_instances, [(H, W)], SIZE)
    criterion = YOLOV2Loss(warmup_images=6)
    costs = [criterion(YOLOV2Outputs((x,)), targets)['loss_wh'].item() for _ in range(3)]
    assert criterion.seen == 9
    raw = x.detach().unflatten(1, (2, 8))
    level = targets.levels[0]
    free = torch.ones(3, 2, H * W, dtype=torch.bool)
    image, anchor, slot = level.positive.nonzero(as_tuple=True)
    free[image, anchor, level.index[image, slot]] = False
    prior = 0.01 * (raw[:, :, 2:4].flatten(3).square().sum(2) * free).sum() / 2
    assert costs[0] - costs[1] == pytest.approx(float(prior), rel=1e-5)
    assert costs[1] == costs[2]
    criterion.eval()(YOLOV2Outputs((x,)), targets)
    assert criterion.seen == 9


def test_yolov2_continues_the_count_of_a_checkpoint_and_loads_files_without_one(gt_instances):
    criterion = YOLOV2Loss()
    targets = YOLOV2TargetEncoder(3, ANCHORS).encode(gt_instances, [(H, W)], SIZE)
    criterion(YOLOV2Outputs((raw_map(5),)), targets)
    head = nn.ModuleDict(dict(criterion=YOLOV2Loss()))
    head.load_state_dict({'criterion.seen': criterion.state_dict()['seen']})
    assert head['criterion'].seen == 3
    head.load_state_dict({})  # strictly
    assert head['criterion'].seen == 3
    with pytest.raises(RuntimeError, match='Unexpected key'):
        head.load_state_dict({'criterion.other': torch.zeros(())})


@pytest.mark.parametrize('options', [{'softmax': False}, {'background': True}])
def test_yolov2_decodes_what_its_options_train(options, gt_instances):
    encoder = YOLOV2TargetEncoder(3, ANCHORS, **options)
    targets = encoder.encode(gt_instances, [(H, W)], SIZE)
    ideal = encoder.ideal_outputs(targets)
    losses = YOLOV2Loss(**options, rescore=False).eval()(ideal, targets)
    for name in ('loss_obj', 'loss_noobj'):
        assert losses[name] < 0.01
    found = encoder.decode(ideal, SIZE)[2]
    found = found[found.scores > 0.9]
    order = found.labels.argsort()
    torch.testing.assert_close(found.bboxes[order], BOXES[1:3], rtol=1e-4, atol=1e-3)
    assert found.labels[order].tolist() == [0, 1]


def test_yolov2_background_and_sigmoid_classes_need_the_code_that_has_them():
    for options in ({'softmax': False}, {'background': True}):
        with pytest.raises(ValueError, match="do not exist in code='alexeyab'"):
            YOLOV2Loss(code='alexeyab', **options)


def slow_v1(outputs, gt_instances, summary):
    cls, conf, box = outputs
    total = 0
    for b, rows in enumerate(objects(gt_instances)):
        owner = {}
        for goal, label in rows:
            owner.setdefault((int(goal[1] * H), int(goal[0] * W)), (goal, label))
        for i in range(H):
            for j in range(W):
                responsible, reached = None, 1.0
                if (i, j) in owner:
                    goal, label = owner[i, j]
                    inside = (goal[0] * W - j, goal[1] * H - i)
                    place = (inside[0] / W, inside[1] / H, *goal[2:])
                    boxes = [box[b, a, :, i, j].tolist() for a in range(2)]
                    boxes = [(x / W, y / H, w * w, h * h) for x, y, w, h in boxes]
                    ious = [overlap(each, place) for each in boxes]
                    far = [math.dist(each, place) for each in boxes]
                    responsible = ious.index(max(ious)) if max(ious) > 0 else far.index(min(far))
                    reached = 1.0 if summary else ious[responsible]
                    wanted = torch.tensor([*inside, *(math.sqrt(s) for s in goal[2:])])
                    total = total + 5 * (box[b, responsible, :, i, j] - wanted).square().sum()
                    own = F.one_hot(torch.tensor(label), 3)
                    total = total + (cls[b, :, i, j] - own).square().sum()
                for a in range(2):
                    if a == responsible:
                        total = total + (conf[b, a, i, j] - reached) ** 2
                    else:
                        total = total + 0.5 * conf[b, a, i, j] ** 2
    return total if summary else total / 2


@pytest.mark.parametrize('convention', ['summary', 'darknet'])
def test_yolov1_equals_a_slow_loop(gt_instances, convention):
    generator = torch.Generator().manual_seed(6)
    shapes = ((3, 3, H, W), (3, 2, H, W), (3, 2, 4, H, W))
    maps = [
        (0.6 * torch.rand(shape, generator=generator, dtype=torch.float64)).requires_grad_()
        for shape in shapes
    ]
    outputs = YOLOV1Outputs(*maps)
    targets = YOLOV1TargetEncoder(3).encode(gt_instances, [(H, W)], SIZE)
    got = sum(YOLOV1Loss(convention=convention)(outputs, targets).values())
    want = slow_v1(outputs, gt_instances, convention == 'summary')
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
    pairs = zip(torch.autograd.grad(got, maps), torch.autograd.grad(want, maps), strict=True)
    for have, expected in pairs:
        torch.testing.assert_close(have, expected, rtol=1e-4, atol=1e-5)


def v1_outputs(seed):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((3, 3, H, W), (3, 2, H, W), (3, 2, 4, H, W))
    return YOLOV1Outputs(*(torch.rand(shape, generator=generator) for shape in shapes))


def test_yolov1_forced_chooses_the_box_by_the_size_of_the_object(gt_instances):
    targets = YOLOV1TargetEncoder(3).encode(gt_instances, [(H, W)], SIZE)
    chosen, _ = YOLOV1Loss(forced=True)._responsible(v1_outputs(7).box, targets)
    small = targets.box[:, 2] * targets.box[:, 3] < 0.1
    assert torch.equal(chosen[:, 1], targets.mask & small)
    assert torch.equal(chosen[:, 0], targets.mask & ~small)
    assert chosen[:, 0].any() and chosen[:, 1].any()


def test_yolov1_random_draws_the_box_for_the_first_images(gt_instances):
    targets = YOLOV1TargetEncoder(3).encode(gt_instances * 20, [(H, W)], SIZE)
    outputs = YOLOV1Outputs(*(each.repeat(20, *[1] * (each.dim() - 1)) for each in v1_outputs(8)))
    criterion = YOLOV1Loss(random=True)
    plain, _ = YOLOV1Loss()._responsible(outputs.box, targets)
    drawn, _ = criterion._responsible(outputs.box, targets)
    assert 0.3 < drawn[:, 0].sum() / targets.mask.sum() < 0.7
    assert torch.equal(drawn.sum(1), targets.mask.long())
    criterion(outputs, targets)
    assert criterion.seen == 60
    criterion.seen += 64_000
    assert torch.equal(criterion._responsible(outputs.box, targets)[0], plain)
