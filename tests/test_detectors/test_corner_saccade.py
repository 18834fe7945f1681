"""CornerNet-Saccade in two passes: official numbers, crops, batches, training."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from mmdet_losses.detectors.corner import (
    CornerNetOutputs,
    CornerNetSaccadeOutputs,
    cornernet_saccade,
)
from mmdet_losses.registry import MODELS
from tools.parity.corner_decode import pairing_options, read_outputs
from tools.parity.golden import GoldenFile

GOLDEN = Path(__file__).parents[1] / 'golden' / 'corner'
MEAN, STD = [10.0, 20.0, 30.0], [2.0, 4.0, 5.0]


def detector(num_classes=3, encoder=None, **options):
    torch.manual_seed(0)
    shape = dict(stage_channels=(8, 8, 12, 12), stage_blocks=(1, 1, 1, 1), feat_channels=8)
    predictor = dict(
        type='CornerNetSaccadePredictor', in_channels=8, num_classes=num_classes, channels=8,
        pool_channels=8, attention_channels=(12, 8, 8),
    )  # fmt: skip
    head = dict(
        type='EncodedDenseHead',
        predictor=predictor,
        encoder=dict(
            type='CornerNetSaccadeTargetEncoder', num_classes=num_classes, **(encoder or {})
        ),
        criterion=dict(type='CornerNetSaccadeLoss'),
    )
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(
            dict(
                type='CornerNetSaccade',
                data_preprocessor=dict(type='DetDataPreprocessor', mean=MEAN, std=STD),
                backbone=dict(type='SaccadeHourglassNet', num_stacks=1, **shape),
                bbox_head=head,
                test_cfg=options.pop('test_cfg', dict(score_thr=0.0)),
                **options,
            )
        )
    return model.eval()


def batch(*sizes):
    generator = torch.Generator().manual_seed(0)
    inputs = [
        torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8) for size in sizes
    ]
    metas = [dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0)) for size in sizes]
    return dict(inputs=inputs, data_samples=[DetDataSample(metainfo=meta) for meta in metas])


def test_both_passes_equal_the_official_test(monkeypatch):
    [golden] = GoldenFile(GOLDEN / 'decode_saccade_full.npz')
    input_size = tuple(golden.array('input_size').tolist())
    model = detector(
        golden.number('num_classes'),
        encoder=pairing_options(golden),
        input_size=input_size,
        full_image_sides=golden.array('init_sizes').tolist(),
        attention_threshold=float(golden.array('att_threshold')),
        zooms=golden.array('att_scales').tolist(),
        max_crops=golden.number('att_max_crops'),
    )
    maps = golden.names('in_first_att_logits*')
    first = CornerNetSaccadeOutputs(
        *read_outputs(golden, 'in_first_', CornerNetOutputs)[:2],
        attentions=tuple(golden.tensor(key) for key in maps),
    )
    second = read_outputs(golden, 'in_second_', CornerNetOutputs)
    count = len(second.tl.heatmap)
    unused = tuple(each[:1].expand(count, -1, -1, -1) for each in first.attentions)
    second = CornerNetSaccadeOutputs(*second[:2], attentions=unused)
    outputs = iter([first, second])
    monkeypatch.setattr(model, '_forward', lambda crops: next(outputs))
    in_order = golden.tensor('second_locations_f64')
    original = cornernet_saccade.nms_locations

    def nms(locations, most):
        """Locations in the order of the stored maps: the order of equal scores is undefined."""
        ours = original(locations, most=most)
        assert torch.allclose(_sorted(ours), _sorted(in_order), atol=1e-4)
        return in_order

    monkeypatch.setattr(cornernet_saccade, 'nms_locations', nms)
    found, num_inputs = model.detect(torch.zeros(3, *golden.array('image_size').tolist()))
    assert num_inputs == 2 + len(in_order)
    wanted = np.concatenate(
        (golden.array('prenms_rows'), golden.array('prenms_labels')[:, None]), 1
    )
    assert len(found) == len(wanted) > 10
    fields = (found.scores, found.tl_scores, found.br_scores, found.labels)
    rows = torch.cat((found.bboxes, torch.stack(fields, 1)), 1)
    assert torch.allclose(_sorted(rows), _sorted(torch.from_numpy(wanted)), atol=1e-3)


def _sorted(rows):
    rows = rows.double()
    return rows[sorted(range(len(rows)), key=lambda i: rows[i].round(decimals=2).tolist())]


def test_crops_are_black_outside_the_image(monkeypatch):
    """Black before normalisation, as in training."""
    model, seen = detector(), []
    forward = model._forward
    monkeypatch.setattr(model, '_forward', lambda crops: seen.append(crops) or forward(crops))
    model.test_step(batch((60, 200)))
    black = -torch.tensor(MEAN) / torch.tensor(STD)
    assert seen[0].shape == (2, 3, 255, 255)
    assert torch.allclose(seen[0][:, :, 0, 0], black.expand(2, 3), atol=1e-5)
    assert torch.allclose(seen[0][:, :, -1, -1], black.expand(2, 3), atol=1e-5)
    assert seen[0][:, :, 127, 127].sub(black).abs().min() > 1e-3


def test_crops_are_limited_and_counted():
    model = detector(attention_threshold=0.0, max_crops=5, crops_per_batch=2)
    [small, large] = model.test_step(batch((200, 300), (300, 180)))
    for sample in (small, large):
        assert 2 * 255**2 <= sample.seen_pixels <= 7 * 255**2
    assert small.image_pixels == 200 * 300
    assert small.seen_pixels == 7 * 255**2  # an untrained map has peaks everywhere


class Passes:
    """A network without detections, whose attention maps have one peak at the middle."""

    def __init__(self, model, peaks):
        self.model, self.peaks, self.zooms = model, peaks, []

    def __call__(self, image, locations):
        self.zooms.append(locations[:, 2].tolist())
        maps = [torch.full((len(locations), 1, side, side), -9.0) for side in (16, 32, 64)]
        logit = self.peaks[len(self.zooms) - 1]
        for each in maps:
            each[:, :, each.shape[2] // 2, each.shape[3] // 2] = logit
        empty = InstanceData(
            bboxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0).long()
        )
        return empty, maps


@pytest.mark.parametrize(
    ('thresholds', 'peaks', 'passes'),
    [
        (0.3, (2, 2, 2), 2),
        ((0.3, 0.3), (2, 2, 2), 3),
        ((0.3, 0.9), (2, 2, 2), 2),  # sigmoid(2) is 0.88
        ((0.9, 0.3), (2, 2, 2), 1),
    ],
)
def test_every_pass_has_its_threshold(monkeypatch, thresholds, peaks, passes):
    """The zooms of a pass are those of the pass before times the zooms of the maps."""
    model = detector(attention_threshold=thresholds, full_image_sides=(255,), zooms=(1, 1.5, 2))
    network = Passes(model, peaks)
    monkeypatch.setattr(model, '_detect_crops', network)
    _, num_inputs = model.detect(torch.zeros(3, 255, 255))
    assert len(network.zooms) == passes
    assert num_inputs == sum(map(len, network.zooms))
    if passes > 1:
        assert sorted(network.zooms[1]) == [1, 1.5, 2]
    if passes > 2:  # from 1, 1.5 and 2 with the zooms 1.5 and 2; NMS drops near ones
        possible = [1.5, 2, 2.25, 3, 4]
        assert {round(zoom, 6) for zoom in network.zooms[2]} <= set(possible)
        assert network.zooms[2]


def test_max_crops_counts_the_crops_of_all_passes(monkeypatch):
    model = detector(attention_threshold=(0.3, 0.3), zooms=((1, 1.5, 2), (1, 2, 4)), max_crops=6)
    network = Passes(model, (2, 2, 2))
    monkeypatch.setattr(model, '_detect_crops', network)
    _, num_inputs = model.detect(torch.zeros(3, 255, 255))
    assert len(network.zooms) == 3
    assert num_inputs == 2 + 6


def test_zooms_of_another_number_of_passes_raise():
    with pytest.raises(ValueError, match='zooms has 1 passes but attention_threshold 2'):
        detector(attention_threshold=(0.3, 0.3), zooms=((1, 2, 4),))


PERMISSIVE = dict(ae_threshold=1e4, topk=50, num_dets=100, no_border=False)


def test_results_do_not_depend_on_the_batch_of_crops():
    alone, together = (
        detector(1, encoder=PERMISSIVE, attention_threshold=0.0, max_crops=6, crops_per_batch=n)
        for n in (1, 32)
    )
    for one, many in zip(
        alone.test_step(batch((150, 200))), together.test_step(batch((150, 200))), strict=True
    ):
        one, many = one.pred_instances, many.pred_instances
        assert len(one) == len(many) > 0
        assert torch.allclose(one.scores, many.scores, atol=1e-5)


def test_a_single_pass_keeps_low_scores():
    [sample] = detector(1, encoder=PERMISSIVE, max_crops=0).test_step(batch((150, 200)))
    assert sample.seen_pixels == 2 * 255**2
    assert len(sample.pred_instances)


@pytest.mark.parametrize('objects', [0, 2])
def test_training_on_crops_reaches_every_parameter(objects):
    model = detector().train()
    data = batch((255, 255), (255, 255))
    for sample in data['data_samples']:
        boxes = torch.tensor([[20.0, 20, 80, 90], [100, 120, 130, 200]])[:objects]
        labels = torch.tensor([0, 2])[:objects]
        sample.gt_instances = InstanceData(
            bboxes=boxes, labels=labels, visibility=torch.tensor([1.0, 0.4])[:objects]
        )
    prepared = model.data_preprocessor(data, True)
    losses = model(**prepared, mode='loss')
    assert losses['num_pos'] == objects  # two objects in each of two images, half of them visible
    total, _ = model.parse_losses(losses)
    total.backward()
    assert all(each.grad is not None for each in model.parameters())
