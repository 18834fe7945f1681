"""Test-time augmentation of the centre family: mirrored views and several scales."""

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import nn

from mmdet_losses.detectors.center import CenterNetTTAModel
from mmdet_losses.detectors.center.tta import average_mirrored
from mmdet_losses.registry import MODELS, TASK_UTILS, TRANSFORMS

PAIRS = ((1, 2),)
POINTS = dict(type='CenterNetPointsTargetEncoder', num_classes=2)
POSE = dict(type='CenterNetPoseTargetEncoder', num_keypoints=3)


def person(mirrored=False, width=160):
    """Two persons in 96 x 160 pixels, boxes in whole cells; mirroring moves cell x to 39 - x."""
    boxes = torch.tensor([[20.0, 12, 60, 76], [92, 20, 132, 84]])
    points = torch.tensor([[[40.0, 20], [52, 40], [28, 44]], [[112.0, 24], [120, 50], [96, 47]]])
    flags = torch.tensor([[2, 1, 2], [2, 2, 0]])
    if mirrored:
        last = width - 4.0  # first pixel of the last cell
        boxes = torch.stack((last - boxes[:, 2], boxes[:, 1], last - boxes[:, 0], boxes[:, 3]), 1)
        points = torch.stack((last - points[..., 0], points[..., 1]), -1)[:, [0, 2, 1]]
        flags = flags[:, [0, 2, 1]]
    labels = torch.tensor([0, 0])
    return InstanceData(bboxes=boxes, labels=labels, keypoints=points, keypoints_visible=flags)


def ideal(encoder, **kind):
    return encoder.ideal_outputs(encoder.encode([person(**kind)], [(24, 40)], (96, 160)))


@pytest.mark.parametrize('config', [POINTS, POSE], ids=['points', 'pose'])
def test_averaging_with_the_mirror_image_changes_nothing(config):
    """Ideal outputs of the mirrored scene, mirrored back, equal those of the scene."""
    encoder = TASK_UTILS.build(config)
    upright, mirrored = ideal(encoder), ideal(encoder, mirrored=True)
    both = average_mirrored(upright, mirrored, PAIRS)
    for field in both._fields:
        have, want = getattr(both, field), getattr(upright, field)
        if field.endswith('heatmap'):
            have, want = have.sigmoid(), want.sigmoid()
        if field != 'earlier':
            torch.testing.assert_close(have, want, atol=1e-4, rtol=0, msg=field)


def test_without_flip_pairs_left_and_right_are_mixed():
    encoder = TASK_UTILS.build(POSE)
    upright, mirrored = ideal(encoder), ideal(encoder, mirrored=True)
    both = average_mirrored(upright, mirrored)
    assert (both.keypoints - upright.keypoints).abs().max() > 1


def test_scores_sizes_and_displacements_are_averaged_but_not_offsets():
    generator = torch.Generator().manual_seed(0)
    fields = TASK_UTILS.build(POSE).outputs_type._fields[:-1]
    channels = dict(heatmap=1, size=2, keypoints=6, offset=2, keypoint_heatmap=3, keypoint_offset=2)
    one, other = (
        TASK_UTILS.build(POSE).outputs_type(
            **{name: torch.randn(1, channels[name], 5, 7, generator=generator) for name in fields}
        )
        for _ in range(2)
    )
    both = average_mirrored(one, other, PAIRS)
    mean = (one.heatmap[0, 0, 2, 1].sigmoid() + other.heatmap[0, 0, 2, 5].sigmoid()) / 2
    torch.testing.assert_close(both.heatmap[0, 0, 2, 1].sigmoid(), mean)
    mean = (
        one.keypoint_heatmap[0, 1, 3, 0].sigmoid() + other.keypoint_heatmap[0, 2, 3, 6].sigmoid()
    ) / 2
    torch.testing.assert_close(both.keypoint_heatmap[0, 1, 3, 0].sigmoid(), mean)
    assert both.size[0, 1, 4, 2] == (one.size[0, 1, 4, 2] + other.size[0, 1, 4, 4]) / 2
    x, y = one.keypoints[0, 2:4, 1, 3], other.keypoints[0, 4:6, 1, 3]
    torch.testing.assert_close(both.keypoints[0, 2:4, 1, 3], (x + y * torch.tensor([-1, 1])) / 2)
    assert both.offset is one.offset and both.keypoint_offset is one.keypoint_offset
    raw = average_mirrored(one, other, PAIRS, raw_keypoints=True).keypoint_heatmap[0, 1, 3, 0]
    assert raw == (one.keypoint_heatmap[0, 1, 3, 0] + other.keypoint_heatmap[0, 2, 3, 6]) / 2


class BrightBoxes(nn.Module):
    """A detector of bright rectangles: the ideal outputs of their boxes."""

    def __init__(self, encoder):
        super().__init__()
        self.bbox_head = nn.Module()
        self.bbox_head.encoder = TASK_UTILS.build(encoder)
        self.bbox_head.test_cfg = dict(score_thr=0.5, max_per_img=100)
        self.data_preprocessor = MODELS.build(dict(type='DetDataPreprocessor', pad_size_divisor=32))

    def test_step(self, data):
        raise AssertionError('the wrapper reads the outputs')

    def forward(self, inputs, data_samples, mode):
        encoder, objects = self.bbox_head.encoder, []
        size = tuple(inputs.shape[-2:])
        for image in inputs:
            rows, columns = torch.nonzero(image[0] > 127, as_tuple=True)
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            box = torch.tensor([[float(each) for each in box]])
            objects.append(InstanceData(bboxes=box, labels=torch.zeros(1, dtype=torch.long)))
        cells = (size[0] // 4, size[1] // 4)
        return encoder.ideal_outputs(encoder.encode(objects, [cells], size))


def views(scales, flips=(0.0, 1.0), size=(104, 170)):
    """A batch of one image with a bright rectangle, as TestTimeAug and collating give it."""
    image = np.zeros((*size, 3), np.uint8)
    image[24:72, 40:120] = 255
    keys = ('img_id', 'ori_shape', 'img_shape', 'scale_factor', 'flip', 'border')
    steps = dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='CenterAffine', mode='keep', scale=scale) for scale in scales],
            [dict(type='RandomFlip', prob=prob) for prob in flips],
            [dict(type='PackDetInputs', meta_keys=keys)],
        ],
    )
    with DefaultScope.overwrite_default_scope('mmdet'):
        made = TRANSFORMS.build(steps)(dict(img=image, img_id=1, ori_shape=size))
    return dict(
        inputs=[[each] for each in made['inputs']],
        data_samples=[[each] for each in made['data_samples']],
    )


@pytest.mark.parametrize('scales', [(1.0,), (0.5, 1.0, 1.25)])
def test_boxes_of_all_views_are_in_image_pixels(scales):
    nms = dict(type='official_soft_nms', stale_rows=False) if len(scales) > 1 else None
    cfg = dict(score_thr=0.3, nms=nms, max_per_img=20)
    model = CenterNetTTAModel(BrightBoxes(POINTS), tta_cfg=cfg)
    [sample] = model.test_step(views(scales))
    assert isinstance(sample, DetDataSample)
    best = sample.pred_instances[sample.pred_instances.scores.argmax()[None]]
    gt = torch.tensor([[40.0, 24, 120, 72]])
    torch.testing.assert_close(best.bboxes, gt, atol=2.5, rtol=0)
    sure = sample.pred_instances[sample.pred_instances.scores > 0.8]
    assert len(sure) == 1  # the same object at every scale


def test_the_default_is_the_test_cfg_of_the_detector():
    model = CenterNetTTAModel(BrightBoxes(POINTS))
    assert model.tta_cfg['max_per_img'] == 100
    [sample] = model.test_step(views((1.0,), flips=(0.0,)))
    assert len(sample.pred_instances) == 1


def test_unpaired_views_raise_an_error():
    model = CenterNetTTAModel(BrightBoxes(POINTS))
    with pytest.raises(ValueError, match='a mirrored view without the upright view'):
        model.test_step(views((1.0,), flips=(1.0,)))
    batch = views((1.0,))
    for [inputs], [sample] in zip(batch['inputs'], batch['data_samples'], strict=True):
        sample.set_metainfo(dict(img_shape=(inputs.shape[1] - 8, inputs.shape[2])))
    with pytest.raises(ValueError, match=r'was padded to .* after mirroring'):
        model.test_step(batch)
    batch = views((1.0,))
    for [sample] in batch['data_samples']:
        sample.set_metainfo({})
        sample.__dict__['_metainfo_fields'].discard('flip')
        del sample.__dict__['flip']
    with pytest.raises(KeyError, match='flip is missing in the image metas'):
        model.test_step(batch)
