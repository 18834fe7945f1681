"""Options of the YOLO criteria and encoders: class counters and maps, boxes, wrong arguments."""

import math

import pytest
import torch
from mmengine.structures import InstanceData

from mmdet_losses.detectors.yolo import (
    ScaledYOLOV4Loss,
    ScaledYOLOV4TargetEncoder,
    YOLOV1TargetEncoder,
    YOLOV3Loss,
    YOLOV3Outputs,
    YOLOV3TargetEncoder,
    YOLOV4Loss,
)
from tests.test_detectors.test_yolo_losses import ANCHORS, BOXES, SIZE, H, W, raw_map, three_images


def test_class_counters_weigh_the_rare_classes():
    # raised to 1, the largest over each, at most the bound of the map
    criterion = YOLOV4Loss(class_counters=[0, 3, 30], max_delta=(5.0, 50.0))
    for index, want in enumerate([[5, 5, 1], [30, 10, 1]]):
        assert criterion._multipliers(criterion.options_of(index, 2)).tolist() == want
    criterion = YOLOV4Loss(class_counters=[0, 3, 30], counted=(False, True))
    multipliers = [criterion._multipliers(criterion.options_of(index, 2)) for index in range(2)]
    assert (multipliers[0], multipliers[1].tolist()) == (None, [5, 5, 1])
    criterion = YOLOV4Loss(class_counters=[0, 3], max_delta=5.0)
    assert criterion._multipliers(criterion.options_of(0, 3)).tolist() == [3, 1]
    criterion = YOLOV4Loss(class_counters=[0, 3], max_delta=None)
    assert criterion._multipliers(criterion.options_of(0, 3)).tolist() == [3, 1]


def test_a_class_map_renames_the_labels_of_the_data():
    labels = torch.tensor([4, 1, 0])
    found = InstanceData(bboxes=BOXES[:3], labels=labels)
    for code, kept in (('redmon', [2, 0, 1]), ('alexeyab', [0, 1])):
        encoder = YOLOV3TargetEncoder(3, ANCHORS, class_map=[1, 0, 2, 2, 2], code=code)
        targets = encoder.encode([found], [(H, W)], SIZE)
        assert targets.labels[targets.mask].tolist() == kept
        assert targets.num_dropped == 3 - len(kept)


def test_a_box_centred_on_the_origin_is_dropped_as_in_darknet():
    boxes = torch.tensor([[-20.0, -30.0, 20.0, 30.0], [-20.0, -29.0, 20.0, 30.0]])
    found = InstanceData(bboxes=boxes, labels=torch.tensor([1, 1]))
    for encoder in (YOLOV1TargetEncoder(3), YOLOV3TargetEncoder(3, ANCHORS)):
        targets = encoder.encode([found], [(H, W)], SIZE)
        assert (targets.num_pos, targets.num_dropped) == (1, 1)


def test_the_smallest_box_depends_on_the_code():
    found = InstanceData(bboxes=torch.tensor([[10.0, 9.0, 10.5, 50.0]]), labels=torch.tensor([1]))
    for code, kept in (('redmon', 1), ('alexeyab', 0)):
        targets = YOLOV3TargetEncoder(3, ANCHORS, code=code).encode([found], [(H, W)], SIZE)
        assert targets.mask.sum() == kept


def test_invalid_arguments_raise():
    with pytest.raises(ValueError, match="box='l1' is unknown"):
        YOLOV3Loss(box='l1')
    for side in (-4, 0, math.nan, math.inf):
        with pytest.raises(ValueError, match=rf'anchor \(10, {side}\) has the entry {side}'):
            YOLOV3TargetEncoder(3, [[(10, side)]])
    for wrong in ([], [[]], [(10, 13), (16, 30)], [[(10, 13, 16)]]):
        with pytest.raises(ValueError, match='is not a list of anchors per map'):
            YOLOV3TargetEncoder(3, wrong)
    with pytest.raises(ValueError, match="box='giou' is not part of convention='summary'"):
        YOLOV4Loss(box='giou', convention='summary')
    with pytest.raises(ValueError, match='does not support objectness_smooth'):
        YOLOV4Loss(truth_threshold=0.9, objectness_smooth=(False, True, True))
    with pytest.raises(ValueError, match='set box_gain=0 to leave the box term out'):
        ScaledYOLOV4Loss(loss_box={'type': 'BoxIoULoss', 'mode': 'ciou', 'loss_weight': 0.0})
    with pytest.raises(ValueError, match='scale_xy has 2 entries but anchors has 1; give'):
        YOLOV3TargetEncoder(3, ANCHORS, scale_xy=(1.0, 1.1))
    with pytest.raises(ValueError, match='which is not 2 anchors'):
        YOLOV3TargetEncoder(4, ANCHORS).decode(YOLOV3Outputs((raw_map(),)), SIZE)


def test_a_list_of_options_needs_one_value_per_map():
    gt_instances = three_images()
    targets = YOLOV3TargetEncoder(3, ANCHORS).encode(gt_instances, [(H, W)], SIZE)
    with pytest.raises(ValueError, match='1 maps but obj_normalizer has 2 entries'):
        YOLOV4Loss(obj_normalizer=(1.0, 0.4))(YOLOV3Outputs((raw_map(),)), targets)


@pytest.mark.parametrize('encoder', [YOLOV3TargetEncoder, ScaledYOLOV4TargetEncoder])
def test_maps_for_other_anchors_raise_before_training(encoder):
    outputs = encoder.outputs_type((raw_map(),))
    assert encoder(3, ANCHORS).feat_sizes(outputs) == [(H, W)]
    with pytest.raises(ValueError, match='which is not 3 anchors'):
        encoder(3, [[*ANCHORS[0], (7, 7)]]).feat_sizes(outputs)
