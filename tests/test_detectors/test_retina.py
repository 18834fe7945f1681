"""RetinaNet equals MMDetection's RetinaHead with the same options."""

import pytest
import torch
from mmdet.models.dense_heads import RetinaHead
from mmdet.structures.bbox import bbox_overlaps
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from mmdet_losses.core import postprocess
from mmdet_losses.detectors.anchor import (
    RetinaNetLoss,
    RetinaNetOutputs,
    RetinaNetTargetEncoder,
)
from tests.detector_cases import meta

SIZE = (160, 256)
STRIDES = (8, 16, 32, 64, 128)
FEATS = ((20, 32), (10, 16), (5, 8), (3, 4), (2, 2))


@pytest.fixture(name='head', scope='module')
def _head():
    return retina_head()


def retina_head(assigner=None, anchors=None, coder=None):
    """MMDetection's head, with changes of its options."""
    return RetinaHead(
        num_classes=4,
        in_channels=8,
        feat_channels=8,
        stacked_convs=1,
        anchor_generator=dict(
            type='AnchorGenerator',
            octave_base_scale=4,
            scales_per_octave=3,
            ratios=[0.5, 1.0, 2.0],
            strides=list(STRIDES),
            **(anchors or {}),
        ),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder', **(coder or {})),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type='L1Loss', loss_weight=1.0),
        train_cfg=ConfigDict(
            assigner=dict(
                type='MaxIoUAssigner',
                pos_iou_thr=0.5,
                neg_iou_thr=0.4,
                **{'min_pos_iou': 0, 'ignore_iof_thr': -1, **(assigner or {})},
            ),
            sampler=dict(type='PseudoSampler'),
            allowed_border=-1,
            pos_weight=-1,
            debug=False,
        ),
        test_cfg=ConfigDict(
            nms_pre=200,
            min_bbox_size=0,
            score_thr=0.3,
            nms=dict(type='nms', iou_threshold=0.5),
            max_per_img=50,
        ),
    )


def random_objects(generator, counts):
    found = []
    for count in counts:
        low = torch.rand(count, 2, generator=generator) * torch.tensor([180.0, 100.0])
        size = 6 + torch.rand(count, 2, generator=generator) ** 2 * torch.tensor([200.0, 120.0])
        high = torch.minimum(low + size, torch.tensor([256.0, 160.0]))
        labels = torch.randint(4, (count,), generator=generator)
        found.append(InstanceData(bboxes=torch.cat((low, high), 1), labels=labels))
    return found


def outputs_of(generator, batch, scale=1.0):
    cls = [scale * torch.randn(batch, 36, *size, generator=generator) - 2 for size in FEATS]
    box = [0.3 * torch.randn(batch, 36, *size, generator=generator) for size in FEATS]
    return [tuple(each.requires_grad_() for each in maps) for maps in (cls, box)]


@pytest.mark.parametrize('counts', [(3, 7), (0, 4), (0, 0)])
def test_loss_and_gradient_equal_retina_head(head, counts):
    generator = torch.Generator().manual_seed(sum(counts))
    ground_truth = random_objects(generator, counts)
    cls, box = outputs_of(generator, len(counts))
    metas = [dict(meta(SIZE), pad_shape=SIZE) for _ in counts]
    theirs = head.loss_by_feat(list(cls), list(box), ground_truth, metas)
    targets = RetinaNetTargetEncoder(4, STRIDES).encode(ground_truth, FEATS, SIZE)
    ours = RetinaNetLoss()(RetinaNetOutputs(cls, box), targets)
    for name, key in (('loss_cls', 'loss_cls'), ('loss_box', 'loss_bbox')):
        want = sum(theirs[key])
        torch.testing.assert_close(ours[name], want, rtol=2e-6, atol=1e-6)
        leaves = cls if name == 'loss_cls' else box
        have_grads = torch.autograd.grad(ours[name], leaves, retain_graph=True)
        want_grads = torch.autograd.grad(want, leaves, retain_graph=True, allow_unused=True)
        for have, expected in zip(have_grads, want_grads, strict=True):
            expected = torch.zeros_like(have) if expected is None else expected
            torch.testing.assert_close(have, expected, rtol=1e-5, atol=1e-7)


STDS = (0.1, 0.2, 0.3, 0.4)
OPTIONS = {
    'min_pos_iou': (dict(min_pos_iou=0.3), dict(assigner=dict(min_pos_iou=0.3))),
    'match_low_quality': (
        dict(match_low_quality=False),
        dict(assigner=dict(match_low_quality=False)),
    ),
    'gt_max_assign_all': (
        dict(gt_max_assign_all=False),
        dict(assigner=dict(gt_max_assign_all=False)),
    ),
    'target_stds': (dict(target_stds=STDS), dict(coder=dict(target_stds=STDS))),
    'center_offset': (dict(center_offset=0.5), dict(anchors=dict(center_offset=0.5))),
    'ignore_iof_thr': (dict(ignore_iof_thr=0.4), dict(assigner=dict(ignore_iof_thr=0.4))),
}


@pytest.mark.parametrize('option', OPTIONS)
def test_options_equal_those_of_mmdetection(option):
    ours, theirs = OPTIONS[option]
    generator = torch.Generator().manual_seed(3)
    ground_truth = random_objects(generator, (5, 7))
    ground_truth[1].bboxes[0] = torch.tensor([50.0, 50.0, 57.0, 53.0])  # an IoU below 0.3
    regions = random_objects(generator, (2, 3))
    cls, box = outputs_of(generator, 2)
    metas = [dict(meta(SIZE), pad_shape=SIZE) for _ in range(2)]
    head = retina_head(**theirs)
    want = head.loss_by_feat(list(cls), list(box), ground_truth, metas, regions)
    ours = {'ignore_iof_thr': -1.0, **ours}
    encode = RetinaNetTargetEncoder(4, STRIDES, **ours).encode
    targets = encode(ground_truth, FEATS, SIZE, regions)
    plain = RetinaNetTargetEncoder(4, STRIDES, ignore_iof_thr=-1).encode(ground_truth, FEATS, SIZE)
    assert not torch.equal(targets.box, plain.box)
    have = RetinaNetLoss()(RetinaNetOutputs(cls, box), targets)
    torch.testing.assert_close(have['loss_cls'], sum(want['loss_cls']), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(have['loss_box'], sum(want['loss_bbox']), rtol=1e-5, atol=1e-6)


def test_detectrons_convention_equals_a_slow_loop():
    generator = torch.Generator().manual_seed(3)
    ground_truth = random_objects(generator, (5, 7, 0))
    ground_truth[1].bboxes[0] = torch.tensor([50.0, 50.0, 57.0, 53.0])
    encoder = RetinaNetTargetEncoder(4, STRIDES, convention='detectron')
    targets = encoder.encode(ground_truth, FEATS, SIZE)
    anchors = torch.cat([level.xyxy() for level in encoder.anchors(FEATS)])
    counts, reset = [], 0
    for image, objects in enumerate(ground_truth):
        labels = torch.full((len(anchors),), -1)
        claimed = torch.zeros(len(anchors), dtype=torch.bool)
        best = torch.zeros(len(anchors))
        if len(objects):
            iou = bbox_overlaps(anchors, objects.bboxes)
            best, owner = iou.max(1)
            claimed = (iou == iou.amax(0)).any(1) | (best >= 0.5)
            labels[claimed] = objects.labels[owner[claimed]]
            boxes = targets.code.decode(targets.box)[image]
            kept = claimed & (best >= 0.4)
            torch.testing.assert_close(boxes[kept], objects.bboxes[owner[kept]], atol=1e-3, rtol=0)
        reset += int((claimed & (best < 0.4)).sum())
        labels[best < 0.4] = 4
        counts.append(int(claimed.sum()))
        assert torch.equal(targets.counted[image], labels >= 0)
        assert torch.equal(targets.labels[image][labels >= 0], labels[labels >= 0])
    assert targets.counts.tolist() == counts and reset > 0
    outputs = RetinaNetOutputs(*outputs_of(generator, 3))
    mean = RetinaNetLoss(normalizer='positives_and_images')(outputs, targets)
    total = RetinaNetLoss(normalizer='nothing')(outputs, targets)
    for name, value in mean.items():
        torch.testing.assert_close(value, total[name] / (sum(counts) + 3))


def test_detectrons_convention_excludes_other_rules():
    with pytest.raises(ValueError, match='has its own rule for anchors below negative_iou'):
        RetinaNetTargetEncoder(4, convention='detectron', match_low_quality=False)
    with pytest.raises(ValueError, match='target_stds has the entry 0'):
        RetinaNetTargetEncoder(4, target_stds=(1.0, 1.0, 0.0, 1.0))


def test_boxes_equal_retina_head(head):
    outputs = outputs_of(torch.Generator().manual_seed(5), 1, scale=2.0)
    cls, box = ([each.detach() for each in maps] for maps in outputs)
    want = head.predict_by_feat(cls, box, batch_img_metas=[meta(SIZE)], rescale=False)[0]
    encoder = RetinaNetTargetEncoder(4, STRIDES, score_thr=0.3, topk=200)
    decoded = encoder.decode(RetinaNetOutputs(tuple(cls), tuple(box)), SIZE)[0]
    config = dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=50)
    got = postprocess(decoded, meta(SIZE), config)
    assert len(got) == len(want) > 10
    torch.testing.assert_close(got.bboxes, want.bboxes, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(got.scores, want.scores)
    assert torch.equal(got.labels, want.labels)


def test_thresholds_must_be_in_order():
    with pytest.raises(ValueError, match='an anchor cannot be both'):
        RetinaNetTargetEncoder(4, positive_iou=0.4, negative_iou=0.5)


def test_a_wrong_number_of_maps_raises():
    with pytest.raises(ValueError, match='5 entries; make them equal'):
        RetinaNetTargetEncoder(4, STRIDES).anchors(FEATS[:3])


def test_invalid_anchors_raise():
    with pytest.raises(ValueError, match='ratios has the entry -1'):
        RetinaNetTargetEncoder(3, ratios=(0.5, -1.0))
    with pytest.raises(ValueError, match='octave_base_scale has the entry 0'):
        RetinaNetTargetEncoder(3, octave_base_scale=0)


def test_maps_for_other_anchors_raise_before_training():
    outputs = RetinaNetOutputs((torch.zeros(1, 9, 4, 4),), (torch.zeros(1, 12, 4, 4),))
    encoder = RetinaNetTargetEncoder(3, strides=(8,), scales_per_octave=1)
    assert encoder.feat_sizes(outputs) == [(4, 4)]
    with pytest.raises(
        ValueError, match=r'Map 0 of the classes has 9 channels, .* not 9 anchors x 3'
    ):
        RetinaNetTargetEncoder(3, strides=(8,)).feat_sizes(outputs)


def test_positive_boxes_are_the_positive_anchors():
    encoder = RetinaNetTargetEncoder(4, STRIDES)
    found = InstanceData(bboxes=torch.tensor([[20.0, 20.0, 60.0, 61.0]]), labels=torch.tensor([2]))
    targets = encoder.encode([found], FEATS, SIZE)
    boxes = encoder.positive_boxes(targets, FEATS, SIZE)
    anchors = torch.cat([level.xyxy() for level in encoder.anchors(FEATS)])
    assert len(boxes) == targets.num_pos > 1
    torch.testing.assert_close(boxes, anchors[targets.labels[0] < 4])
