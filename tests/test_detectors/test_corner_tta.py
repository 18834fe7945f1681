"""Test-time augmentation of the corner family: the official test on its own maps; geometry."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.datasets.transforms import Resize
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import nn
from torch.utils._pytree import tree_map

from mmdet_losses.data.canvas import CornerCanvas
from mmdet_losses.detectors.corner import (
    CenterNetTripletOutputs,
    CenterNetTripletTargetEncoder,
    CornerNetOutputs,
    CornerNetTargetEncoder,
    CornerNetTTAModel,
)
from mmdet_losses.detectors.corner.tta import view_of
from mmdet_losses.detectors.corner.views import InputView
from tools.parity.corner_decode import pairing_options, read_outputs
from tools.parity.golden import GoldenFile

GOLDEN = Path(__file__).parents[1] / 'golden' / 'corner'
FAMILIES = {
    'cornernet': (CornerNetTargetEncoder, CornerNetOutputs),
    'squeeze': (CornerNetTargetEncoder, CornerNetOutputs),
    'centernet': (CenterNetTripletTargetEncoder, CenterNetTripletOutputs),
}


class Replayed(nn.Module):
    """A detector that returns given outputs, one view after the other."""

    def __init__(self, encoder, outputs, test_cfg):
        super().__init__()
        self.bbox_head = SimpleNamespace(encoder=encoder, test_cfg=test_cfg)
        self.outputs = iter(outputs)

    def data_preprocessor(self, data, training):
        for inputs, sample in zip(data['inputs'], data['data_samples'], strict=True):
            sample.set_metainfo(dict(batch_input_shape=tuple(inputs.shape[-2:])))
        return data

    def forward(self, inputs, data_samples, mode):
        assert mode == 'tensor'
        return next(self.outputs)

    def test_step(self, data):
        raise AssertionError('NMS is not applied to single views')


@pytest.mark.parametrize('name', FAMILIES)
def test_equals_the_official_test(name):
    [golden] = GoldenFile(GOLDEN / f'decode_{name}_full.npz')
    encoder_type, outputs_type = FAMILIES[name]
    encoder = encoder_type(golden.number('num_classes'), **pairing_options(golden))
    image = np.zeros((*golden.array('image_size').tolist(), 3), np.uint8)
    data, outputs = dict(inputs=[], data_samples=[]), []
    for place, scale in enumerate(golden.array('test_scales').tolist()):
        both = read_outputs(golden, f'in_scale{place}_', outputs_type)
        for flipped in range(len(both.tl.heatmap)):
            results = CornerCanvas(round(scale, 6))(dict(img=image))
            sample = DetDataSample(metainfo={**results, 'flip': bool(flipped)})
            data['inputs'].append([torch.from_numpy(results['img']).permute(2, 0, 1)])
            data['data_samples'].append([sample])
            view = slice(flipped, flipped + 1)
            outputs.append(tree_map(lambda maps, view=view: maps[view], both))
    exponent = float(golden.array('weight_exp')) if bool(golden.array('merge_bbox')) else None
    nms = dict(
        type='official_soft_nms',
        iou_threshold=float(golden.array('nms_threshold')),
        merge_exponent=exponent,
        max_num=golden.number('max_per_image'),
    )
    module = Replayed(encoder, outputs, dict(score_thr=0.0, nms=nms))
    [sample] = CornerNetTTAModel(module).test_step(data)
    found = sample.pred_instances
    wanted = np.concatenate(
        (golden.array('final_rows')[:, :5], golden.array('final_labels')[:, None]), 1
    )
    rows = torch.cat((found.bboxes, found.scores[:, None], found.labels[:, None]), 1).numpy()
    assert len(rows) == len(wanted) >= 9
    for row in wanted:  # a set: the order of equal scores is not defined
        distance = np.abs(rows - row)
        assert (distance[:, :4].max(1) + 100 * distance[:, 4:].max(1)).min() < 2e-4


def test_a_padded_mirrored_view_is_mirrored_about_the_image():
    """Batches are padded on the right, after the flip."""
    meta = dict(img_shape=(60, 100), scale_factor=(0.5, 0.5), batch_input_shape=(64, 128))
    boxes = torch.tensor([[5.0, 2.0, 10.0, 8.0]])  # cells of stride 4, in the mirrored image
    found = view_of(dict(meta, flip=True)).to_image(boxes, (16, 32))
    assert found.tolist() == [[2 * (100 - 40), 16.0, 2 * (100 - 20), 64.0]]
    assert view_of(meta).to_image(boxes, (16, 32)).tolist() == [[40.0, 16.0, 80.0, 64.0]]


def test_boxes_of_an_image_with_a_new_aspect_ratio_return_to_the_old_one():
    results = dict(img=np.zeros((480, 640, 3), np.uint8), img_shape=(480, 640))
    meta = Resize((512, 512), keep_ratio=False)(results)
    assert meta['scale_factor'] == (0.8, 512 / 480)
    view = view_of(dict(meta, batch_input_shape=(512, 512)))
    whole = view.to_image(torch.tensor([[0.0, 0, 128, 128], [32, 96, 64, 112]]), (128, 128))
    torch.testing.assert_close(whole, torch.tensor([[0.0, 0, 640, 480], [160, 360, 320, 420]]))
    torch.testing.assert_close(
        view.from_resized(torch.tensor([[512.0, 256]])), torch.tensor([[640.0, 240]])
    )


def test_centres_are_rescaled_like_the_corners():
    """A triplet's centre confirms its corners in an image that was resized to twice its height."""
    encoder = CenterNetTripletTargetEncoder(1)
    view = InputView((64, 64), scale=(1.0, 2.0))
    gt = InstanceData(bboxes=torch.tensor([[8.0, 12, 40, 52]]), labels=torch.zeros(1).long())
    ideal = encoder.ideal_outputs(encoder.encode([gt], [(16, 16)], (64, 64)))
    [found] = encoder.decode_views([ideal], [view])
    assert found.bboxes[found.scores.argmax()].tolist() == [8, 6, 40, 26]
    assert found.scores.max() > 0.9  # a pair without its centre has two thirds


def test_metas_without_scale_factor_raise():
    with pytest.raises(KeyError, match='scale_factor is missing'):
        view_of(dict(img_shape=(60, 100)))
