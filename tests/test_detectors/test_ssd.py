"""SSD against slow loops and MMDetection's head, and the effect of its options."""

import pytest
import torch
import torch.nn.functional as F
from mmdet.models.dense_heads import SSDHead
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from mmdet_losses.detectors.anchor import MultiBoxLoss, SSDLoss, SSDOutputs, SSDTargetEncoder
from mmdet_losses.ops import cell_major_rank, pairwise_iou
from mmdet_losses.registry import MODELS
from tests.detector_cases import meta

SIZE = (96, 160)
FEATS = ((12, 10), (6, 5))


def encoder(**changes):
    options = dict(
        min_sizes=(24, 60), max_sizes=(60, 110), strides=None, aspect_ratios=((2,), (2, 3))
    )
    return SSDTargetEncoder(3, **{**options, **changes})


def objects(*boxes, labels=None):
    labels = range(len(boxes)) if labels is None else labels
    return InstanceData(
        bboxes=torch.tensor(boxes).view(-1, 4), labels=torch.tensor(list(labels), dtype=torch.long)
    )


def test_matching_equals_a_slow_loop():
    generator = torch.Generator().manual_seed(2)
    low = torch.rand(9, 2, generator=generator) * torch.tensor([100.0, 50.0])
    size = 8 + 60 * torch.rand(9, 2, generator=generator)
    found = InstanceData(
        bboxes=torch.cat((low, low + size), 1), labels=torch.randint(3, (9,), generator=generator)
    )
    targets = encoder().encode([found], FEATS, SIZE)
    priors = torch.cat([level.xyxy() for level in encoder().priors(FEATS, SIZE)])
    iou = pairwise_iou(found.bboxes / torch.tensor([160.0, 96.0, 160.0, 96.0]), priors)
    owner = iou.argmax(0)
    best = iou.amax(0)
    for each in range(len(found)):
        prior = int(iou[each].argmax())
        owner[prior], best[prior] = each, 2.0
    want = torch.where(best >= 0.5, found.labels[owner], 3)
    assert torch.equal(targets.labels[0], want)
    assert 9 < targets.num_pos < 200


def test_of_two_objects_with_one_best_prior_the_later_gets_it():
    box = [20.0, 20.0, 40.0, 41.0]
    targets = encoder(positive_iou=0.99).encode([objects(box, box, labels=(1, 2))], FEATS, SIZE)
    assert targets.labels[targets.mask].tolist() == [2]


def test_priors_equal_a_slow_loop_like_caffes_layer():
    """Several sizes per level, a level without maximum, no tall boxes, another offset."""
    options = dict(
        min_sizes=((24, 30), 60), max_sizes=((60, 70), None), flip=False, offset=0.25,
        strides=None, clip='corners',
    )  # fmt: skip
    have = encoder(**options).priors(FEATS, SIZE)
    for level, (height, width), small, large, ratios in zip(
        have, FEATS, ((24, 30), (60,)), ((60, 70), ()), ((2,), (2, 3)), strict=True
    ):
        want = []
        for row in range(height):
            for column in range(width):
                x, y = (column + 0.25) * 160 / width, (row + 0.25) * 96 / height
                for index, size in enumerate(small):
                    sides = [(size, size)]
                    if large:
                        sides.append(((size * large[index]) ** 0.5,) * 2)
                    sides += [(size * ratio**0.5, size / ratio**0.5) for ratio in ratios]
                    for w, h in sides:
                        edges = x - w / 2, y - h / 2, x + w / 2, y + h / 2
                        box = [edge / side for edge, side in zip(edges, (160, 96) * 2, strict=True)]
                        want.append([min(max(edge, 0), 1) for edge in box])
        want = torch.tensor(want).unflatten(0, (height * width, -1)).transpose(0, 1).flatten(0, 1)
        torch.testing.assert_close(level.xyxy(), want, rtol=0, atol=1e-6)


def test_sizes_of_a_level_must_match():
    with pytest.raises(ValueError, match='A level has 2 min_sizes but 1 max_sizes'):
        encoder(min_sizes=((24, 30), 60))


def crowd_of_objects():
    generator = torch.Generator().manual_seed(2)
    low = torch.rand(12, 2, generator=generator) * torch.tensor([100.0, 50.0])
    size = 8 + 40 * torch.rand(12, 2, generator=generator)
    boxes = torch.cat((low, low + size), 1)
    boxes[5] = boxes[3] + 0.1  # two objects with one best prior
    return InstanceData(bboxes=boxes, labels=torch.arange(12) % 3)


def overlaps_of(found):
    """(n, P) IoU of the objects with every prior, which are fractions of the image."""
    priors = torch.cat([level.xyxy() for level in encoder().priors(FEATS, SIZE)])
    return pairwise_iou(found.bboxes / torch.tensor([160.0, 96.0, 160.0, 96.0]), priors)


def test_bipartite_matching_equals_a_slow_loop():
    found, own = crowd_of_objects(), encoder(matching='bipartite')
    both = own.encode([found, found[:2]], FEATS, SIZE)
    iou = overlaps_of(found)
    rank = cell_major_rank(both.shapes, iou.device).tolist()
    order = sorted(range(len(rank)), key=rank.__getitem__)
    owner, pool = {}, set(range(len(found)))
    while pool:
        pairs = ((float(iou[i, p]), p, i) for p in order if p not in owner for i in sorted(pool))
        overlap, prior, item = max(pairs, key=lambda pair: pair[0])
        if overlap <= 1e-6:
            break
        owner[prior] = item
        pool.remove(item)
    for prior in order:
        if prior not in owner and iou[:, prior].max() >= 0.5:
            owner[prior] = int(iou[:, prior].argmax())
    want = torch.full((len(rank),), 3)
    for prior, item in owner.items():
        want[prior] = found.labels[item]
    assert not pool
    assert torch.equal(both.labels[0], want)
    assert not torch.equal(encoder().encode([found], FEATS, SIZE).box[0], both.box[0])
    assert torch.equal(both.labels[1], own.encode([found[:2]], FEATS, SIZE).labels[0])


def random_maps(depth, batch=2):
    generator = torch.Generator().manual_seed(depth)
    return tuple(
        torch.randn(batch, depth * anchors, *size, generator=generator)
        for anchors, size in zip((4, 6), FEATS, strict=True)
    )


def by_prior(maps, depth):
    """(B, P, depth) values of maps, in the order of the targets."""
    return torch.cat([m.unflatten(1, (-1, depth)).movedim(2, -1).flatten(1, 3) for m in maps], 1)


def test_priors_beyond_the_image_are_ignored_with_ignore_cross_boundary():
    found = objects((0.0, 0.0, 24.0, 20.0), (60.0, 30.0, 100.0, 70.0))
    plain = encoder(clip=False)
    boxes = torch.cat([level.xyxy() for level in plain.priors(FEATS, SIZE)])
    outside = ((boxes < 0) | (boxes > 1)).any(1)
    targets = encoder(clip=False, ignore_cross_boundary=True).encode([found], FEATS, SIZE)
    assert (targets.counted[0] == ~outside).all() and 0 < outside.sum() < len(outside)
    before = plain.encode([found], FEATS, SIZE)
    assert (before.mask[0] & outside).any() and before.counted is None
    assert targets.mask.any() and not (targets.mask[0] & outside).any()


@pytest.mark.parametrize('matching', ['forced', 'bipartite'])
def test_an_object_gets_no_prior_elsewhere_if_all_of_its_priors_are_hidden(matching):
    found = objects((20.0, 20.0, 44.0, 44.0), (110.0, 50.0, 134.0, 74.0))
    region = InstanceData(bboxes=torch.tensor([[0.0, 0.0, 80.0, 90.0]]))
    options = dict(matching=matching, ignore_iof_thr=0.1)
    targets = encoder(**options).encode([found], FEATS, SIZE, [region])
    assert set(targets.labels[targets.mask].tolist()) == {1}
    assert targets.box[targets.mask].abs().max() < 10


def test_priors_of_a_high_iou_are_no_negatives_with_negative_iou():
    found = crowd_of_objects()
    targets = encoder(negative_iou=0.3).encode([found], FEATS, SIZE)
    assert encoder().encode([found], FEATS, SIZE).counted is None
    want = targets.mask[0] | (overlaps_of(found).amax(0) < 0.3)
    assert torch.equal(targets.counted[0], want)
    assert (~targets.counted).sum() > 10
    maps = [each.requires_grad_() for each in random_maps(4, 1)]
    SSDLoss()(SSDOutputs(tuple(maps), random_maps(4, 1)), targets)['loss_cls'].backward()
    moved = by_prior([each.grad for each in maps], 4).abs().sum(-1)
    assert (moved[~targets.counted] == 0).all() and (moved[targets.mask] > 0).all()


@pytest.mark.parametrize('term', ['SigmoidFocalLoss', 'mmdet.CrossEntropyLoss', 'mmdet.FocalLoss'])
def test_sigmoid_classes(term):
    """No background channel; the cost is that of one-hot targets over all priors."""
    found, own = crowd_of_objects(), encoder(use_sigmoid=True)
    targets = own.encode([found, found[:0]], FEATS, SIZE)
    outputs = SSDOutputs(random_maps(3), random_maps(4))
    criterion = SSDLoss(loss_cls=dict(type=term, use_sigmoid=True))
    logits = by_prior(outputs.cls, 3)
    one_hot = F.one_hot(targets.labels, 4)[..., :3].float()
    cost = F.binary_cross_entropy_with_logits(logits, one_hot, reduction='none')
    if 'Focal' in term:
        score = logits.sigmoid()
        right = one_hot * score + (1 - one_hot) * (1 - score)
        cost = cost * (one_hot * 0.25 + (1 - one_hot) * 0.75) * (1 - right) ** 2
    have = criterion(outputs, targets)['loss_cls']
    torch.testing.assert_close(have, cost.sum() / targets.mask.sum(), rtol=1e-5, atol=1e-5)
    weights = [0.0, 2.0, 0.5]
    weighted = SSDLoss(loss_cls=dict(type=term, use_sigmoid=True), class_weight=weights)
    want = (cost * torch.tensor(weights)).sum() / targets.mask.sum()
    have = weighted(outputs, targets)['loss_cls']
    torch.testing.assert_close(have, want, rtol=1e-5, atol=1e-5)
    decoded = own.decode(own.ideal_outputs(targets), SIZE)
    assert len(decoded[1]) == 0 and len(decoded[0]) >= 12
    found = encoder(use_sigmoid=True, score_thr=0.0, topk=5).decode(outputs, SIZE)[0]
    want = logits[0].sigmoid().topk(5, 0).values.flatten().sort().values
    torch.testing.assert_close(found.scores.sort().values, want)
    with pytest.raises(ValueError, match='use_sigmoid is False in loss_cls but True in the enc'):
        SSDLoss()(outputs, targets)


def test_the_predictor_of_sigmoid_classes_has_no_background():
    config = dict(type='SSDPredictor', num_classes=3, in_channels=(8,), num_anchors=(4,))
    predictor = MODELS.build({**config, 'background': False})
    assert predictor((torch.zeros(1, 8, 2, 2),)).cls[0].shape[1] == 12


@pytest.mark.parametrize(
    ('normalizer', 'divisor'), [('images', 2), ('anchors', 2 * 660), ('nothing', 1)]
)
def test_normalizers_of_caffe(normalizer, divisor):
    targets = encoder().encode([crowd_of_objects(), objects()], FEATS, SIZE)
    outputs = SSDOutputs(random_maps(4), random_maps(4))
    have = SSDLoss(normalizer=normalizer)(outputs, targets)
    plain = SSDLoss(normalizer='positives')(outputs, targets)
    assert targets.labels.shape == (2, 660)
    for name in have:
        torch.testing.assert_close(have[name] * divisor, plain[name] * targets.mask.sum())


def test_clipping_moves_centres_and_cuts_sizes():
    clipped, free = (
        torch.cat([level.cxcywh() for level in encoder(clip=clip).priors(FEATS, SIZE)])
        for clip in (True, False)
    )
    assert free.max() > 1
    torch.testing.assert_close(clipped, free.clamp(0, 1))


def mmdet_head():
    return SSDHead(
        num_classes=3,
        in_channels=(8, 8),
        anchor_generator=dict(
            type='SSDAnchorGenerator',
            scale_major=False,
            input_size=96,
            strides=[8, 16],
            ratios=[[2], [2, 3]],
            min_sizes=[24, 60],
            max_sizes=[60, 110],
        ),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_stds=[0.1, 0.1, 0.2, 0.2]),
        train_cfg=ConfigDict(
            assigner=dict(
                type='MaxIoUAssigner',
                pos_iou_thr=0.5,
                neg_iou_thr=0.5,
                min_pos_iou=0.0,
                ignore_iof_thr=-1,
                gt_max_assign_all=False,
            ),
            sampler=dict(type='PseudoSampler'),
            smoothl1_beta=1.0,
            allowed_border=-1,
            pos_weight=-1,
            neg_pos_ratio=3,
            debug=False,
        ),
    )


def test_loss_equals_mmdetections_head_on_its_outputs():
    """With the same anchors (not clipped) and normalizer, MMDetection's outputs fit."""
    head = mmdet_head()
    generator = torch.Generator().manual_seed(4)
    feats = [torch.randn(2, 8, 12, 12, generator=generator), torch.randn(2, 8, 6, 6)]
    size, metas = (96, 96), [dict(meta((96, 96)), pad_shape=(96, 96)) for _ in range(2)]
    found = [
        objects([10.0, 9.0, 48.5, 50.25], [50.0, 20.0, 90.0, 86.5]),
        objects([20.5, 60.0, 44.0, 88.0]),
    ]
    outputs = SSDOutputs(*(tuple(maps) for maps in head(feats)))
    theirs = head.loss_by_feat(*outputs, found, metas)
    own = SSDTargetEncoder(
        3, (24, 60), (60, 110), strides=(8, 16), aspect_ratios=((2,), (2, 3)), clip=False
    )
    criterion = MultiBoxLoss(
        loss_cls=dict(type='HardNegativeCrossEntropyLoss', convention='mmdet'),
        normalizer='positives_and_empty_images',
    )
    ours = criterion(outputs, own.encode(found, [(12, 12), (6, 6)], size))
    torch.testing.assert_close(
        ours['loss_cls'], sum(theirs['loss_cls']).squeeze(), rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(ours['loss_box'], sum(theirs['loss_bbox']), rtol=1e-5, atol=1e-5)


def test_multibox_loss_is_an_alias():
    assert type(MODELS.build(dict(type='MultiBoxLoss'))) is SSDLoss


def test_an_image_without_objects_has_a_loss_with_min_neg():
    generator = torch.Generator().manual_seed(6)
    depths = (4, 6)
    maps = [
        [
            torch.randn(1, a * k, *size, generator=generator)
            for a, size in zip(depths, FEATS, strict=True)
        ]
        for k in (4, 4)
    ]
    outputs = SSDOutputs(*(tuple(each) for each in maps))
    targets = encoder().encode([objects()], FEATS, SIZE)
    assert SSDLoss()(outputs, targets)['loss_cls'] == 0
    criterion = SSDLoss(loss_cls=dict(type='HardNegativeCrossEntropyLoss', min_neg=7))
    logits = torch.cat([m.unflatten(1, (-1, 4)).movedim(2, -1).flatten(1, 3) for m in maps[0]], 1)
    cost = F.cross_entropy(logits[0], torch.full((logits.shape[1],), 3), reduction='none')
    torch.testing.assert_close(criterion(outputs, targets)['loss_cls'], cost.topk(7).values.sum())


def test_tables_must_have_one_length():
    with pytest.raises(ValueError, match='max_sizes has 1 entries but min_sizes 2'):
        encoder(max_sizes=(60,))
    with pytest.raises(ValueError, match='returns 1 maps'):
        encoder().priors(FEATS[:1], SIZE)


def test_invalid_priors_raise():
    for bad in (-2, 0, float('nan'), float('inf')):
        with pytest.raises(ValueError, match='aspect_ratios has the entry'):
            SSDTargetEncoder(2, aspect_ratios=((2,), (2, bad), (2, 3), (2, 3), (2,), (2,)))
        with pytest.raises(ValueError, match='min_sizes has the entry'):
            SSDTargetEncoder(2, min_sizes=(30, 60, bad, 162, 213, 264))


def test_maps_for_other_priors_raise_before_training():
    encoder = SSDTargetEncoder(2)
    cls = tuple(torch.zeros(1, 3 * count, 2, 2) for count in (4, 6, 6, 6, 4, 4))
    box = tuple(torch.zeros(1, 4 * count, 2, 2) for count in (4, 6, 6, 6, 4, 4))
    assert encoder.feat_sizes(SSDOutputs(cls, box)) == [(2, 2)] * 6
    with pytest.raises(
        ValueError, match=r'Map 1 of the boxes has 24 channels, .* not 4 anchors x 4'
    ):
        SSDTargetEncoder(2, aspect_ratios=((2,), (2,), (2, 3), (2, 3), (2,), (2,))).feat_sizes(
            SSDOutputs((cls[0], cls[0], *cls[2:]), box)
        )


def test_sizes_of_large_logits_are_finite():
    encoder = SSDTargetEncoder(2, score_thr=0)
    counts = (4, 6, 6, 6, 4, 4)
    cls = tuple(torch.randn(1, 3 * count, 2, 2) for count in counts)
    box = tuple(torch.full((1, 4 * count, 2, 2), 500.0) for count in counts)
    (found,) = encoder.decode(SSDOutputs(cls, box), (300, 300))
    assert len(found) == 2 * sum(counts) * 4
    assert found.bboxes.isfinite().all()


def test_positive_boxes_are_the_positive_priors():
    found = objects([20.0, 20.0, 60.0, 61.0], [70.0, 10.0, 150.0, 90.0])
    targets = encoder().encode([found], FEATS, SIZE)
    boxes = encoder().positive_boxes(targets, FEATS, SIZE)
    priors = torch.cat([level.xyxy() for level in encoder().priors(FEATS, SIZE)])
    scale = torch.tensor([160.0, 96.0, 160.0, 96.0])
    assert len(boxes) == targets.num_pos > 2
    torch.testing.assert_close(boxes, (priors * scale)[targets.labels[0] < 3])
