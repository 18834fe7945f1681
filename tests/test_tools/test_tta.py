"""Results of flipped and scaled views are merged in one image by the NMS of the detector."""

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config, ConfigDict
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from mmdet_losses import engine
from mmdet_losses.core.tta import WITHOUT_AUGMENTATION
from mmdet_losses.engine.tta import add_tta
from mmdet_losses.registry import MODELS

NMS = dict(type='darknet_nms', iou_threshold=0.45, kind='diou', beta=0.6)


def view(boxes, scores, flip):
    meta = dict(ori_shape=(50, 100), flip=flip, flip_direction='horizontal' if flip else None)
    sample = DetDataSample(metainfo=meta)
    boxes = torch.tensor(boxes).view(-1, 4)
    labels = torch.zeros(len(boxes), dtype=torch.long)
    sample.pred_instances = InstanceData(bboxes=boxes, scores=torch.tensor(scores), labels=labels)
    return sample


class Detector(BaseModel):
    def forward(self, inputs, data_samples=None, mode='tensor'):
        raise AssertionError('the views are given')


def merged(views, kind='PostprocessTTAModel', **tta_cfg):
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(dict(type=kind, module=Detector(), tta_cfg=ConfigDict(tta_cfg)))
    return model.merge_preds([views])[0].pred_instances


def test_flipped_boxes_are_flipped_back_before_nms():
    upright = view([[10.0, 10, 30, 30]], [0.6], flip=False)
    mirrored = view([[70.0, 10, 90, 30], [0.0, 0, 20, 20]], [0.9, 0.5], flip=True)
    found = merged([upright, mirrored], nms=NMS, max_per_img=10)
    assert found.bboxes.tolist() == [[10, 10, 30, 30], [80, 0, 100, 20]]
    assert found.scores.tolist() == pytest.approx([0.9, 0.5])


def test_overlapping_boxes_of_the_views_are_averaged():
    upright = view([[10.0, 10, 30, 30]], [0.6], flip=False)
    mirrored = view([[71.0, 10, 91, 30], [0.0, 0, 20, 20]], [0.3, 0.5], flip=True)
    options = dict(kind='AveragedBoxesTTAModel', iou_threshold=0.5, score_thr=0.01)
    found = merged([upright, mirrored], **options, max_per_img=10)
    x = (10 * 0.6 + 9 * 0.3) / 0.9
    torch.testing.assert_close(found.bboxes, torch.tensor([[x, 10, x + 20, 30], [80, 0, 100, 20]]))
    assert found.scores.tolist() == pytest.approx([0.45, 0.25])


def test_views_without_boxes_and_a_limit_of_results():
    empty, two = view([], [], flip=True), view([[1.0, 1, 9, 9], [40.0, 9, 60, 20]], [0.3, 0.4], 0)
    assert len(merged([empty, empty.clone()], nms=NMS, max_per_img=5)) == 0
    assert merged([empty, two], nms=NMS, max_per_img=1).scores.tolist() == pytest.approx([0.4])


def config(name, nms):
    steps = [dict(type='LoadImageFromFile'), dict(type='PackDetInputs')]
    loader = dict(dataset=dict(pipeline=steps))
    return Config(dict(model=dict(type=name, test_cfg=dict(nms=nms)), test_dataloader=loader))


@pytest.mark.parametrize(
    ('nms', 'kind'),
    [
        (NMS, 'PostprocessTTAModel'),
        (dict(type='official_soft_nms'), 'PostprocessTTAModel'),
        (dict(type='nms', iou_threshold=0.5), 'DetTTAModel'),
        (None, 'DetTTAModel'),
    ],
)
def test_the_nms_decides_the_merging_model(nms, kind):
    cfg = config('SingleStageDetector', nms)
    add_tta(cfg)
    assert cfg.model.type == kind


@pytest.mark.parametrize('name', WITHOUT_AUGMENTATION)
def test_detectors_without_augmentation_raise(name):
    with pytest.raises(engine.UsageError, match=f'^{name} has no test-time augmentation, because'):
        add_tta(config(f'mmdet_losses.{name}', NMS))
