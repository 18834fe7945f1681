"""Every detector in MMDetection's dense head interface."""

import inspect

import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes

from mmdet_losses.registry import MODELS, TASK_UTILS
from tests.cases import DETECTORS
from tests.detector_cases import IMG_SIZE, instances, meta

pytestmark = pytest.mark.parametrize('stem', sorted(DETECTORS))


@pytest.fixture(name='head')
def _head(stem):
    case = DETECTORS[stem]
    torch.manual_seed(0)
    head = MODELS.build(
        {
            'type': 'mmdet_losses.EncodedDenseHead',
            'predictor': case.predictor,
            'encoder': case.encoder,
            'criterion': case.criterion,
            'test_cfg': {**case.test_cfg, 'score_thr': 0.001},
        }
    )
    head.init_weights()
    return head


@pytest.mark.parametrize('part', ['predictor', 'encoder'])
def test_different_numbers_of_classes_raise_an_error(stem, part):
    case = DETECTORS[stem]
    parts = {name: dict(getattr(case, name)) for name in ('predictor', 'encoder', 'criterion')}
    parts[part]['num_classes'] = 7
    message = r'num_classes is \d+ in the predictor but \d+ in the encoder; set both'
    with pytest.raises(ValueError, match=message):
        MODELS.build({'type': 'EncodedDenseHead', **parts})


def samples(case, counts, **metas) -> list[DetDataSample]:
    generator = torch.Generator().manual_seed(1)
    batch = []
    for count in counts:
        sample = DetDataSample(metainfo={**meta(), **metas})
        sample.gt_instances = instances(case, count, generator)
        batch.append(sample)
    return batch


def features(case, batch):
    generator = torch.Generator().manual_seed(2)
    return tuple(torch.randn(batch, *shape, generator=generator) for shape in case.feats)


@pytest.mark.parametrize('counts', [(3, 2), (0, 1), (0, 0)])
def test_losses_contain_the_number_of_objects(head, stem, counts):
    case = DETECTORS[stem]
    losses = head.loss(features(case, 2), samples(case, counts))
    assert losses['num_pos'].isfinite() and losses['num_dropped'] == 0
    assert (losses['num_pos'] > 0) == (sum(counts) > 0)
    sum(value for name, value in losses.items() if name.startswith('loss')).backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


def test_predictions_of_a_plain_pipeline_are_in_image_pixels(head, stem):
    """Resize and Pad set no ``border``; boxes are divided by the scale factor (T-17)."""
    case = DETECTORS[stem]
    feats = features(case, 1)
    head.eval()
    with torch.no_grad():
        input_pixels = head.predict(feats, samples(case, [0]), rescale=False)[0]
        halved = head.predict(feats, samples(case, [0], scale_factor=(0.5, 0.25)), rescale=True)[0]
    assert len(input_pixels) > 0
    scale = torch.tensor([2.0, 4.0, 2.0, 4.0])
    torch.testing.assert_close(halved.bboxes, input_pixels.bboxes * scale)
    torch.testing.assert_close(halved.scores, input_pixels.scores)


def test_boxes_are_moved_by_the_border(head, stem):
    case = DETECTORS[stem]
    feats = features(case, 1)
    head.eval()
    with torch.no_grad():
        plain = head.predict(feats, samples(case, [0]), rescale=False)[0]
        # MMDetection's RandomCenterCropPad: top, bottom, left, right edges of the image
        moved = head.predict(feats, samples(case, [0], border=[8, 80, 12, 140]), rescale=False)[0]
    torch.testing.assert_close(
        moved.bboxes, plain.bboxes - torch.tensor([12.0, 8.0, 12.0, 8.0]), rtol=1e-5, atol=1e-4
    )


def test_a_missing_input_size_raises_an_error(head, stem):
    case = DETECTORS[stem]
    bare = DetDataSample(metainfo={'ori_shape': IMG_SIZE})
    bare.gt_instances = samples(case, [1])[0].gt_instances
    with pytest.raises(KeyError, match='batch_input_shape is missing'):
        head.loss(features(case, 1), [bare])


def test_the_score_threshold_of_the_test_is_that_of_the_encoder(head, stem):
    """An encoder that drops low scores keeps every box that the test may return."""
    first = getattr(head.encoder, 'score_thr', None)
    if first is None:
        pytest.skip('this encoder drops no scores')
    assert first == head.test_cfg.score_thr == 0.001
    head.test_cfg.score_thr = 0.0005
    with pytest.raises(
        ValueError, match=r'score_thr is 0\.0005 in test_cfg but 0\.001 in the encod'
    ):
        head.eval().predict(features(DETECTORS[stem], 1), samples(DETECTORS[stem], [0]))


def test_a_threshold_below_that_of_the_encoder_raises_when_the_head_is_built(stem):
    case = DETECTORS[stem]
    parts = {name: dict(getattr(case, name)) for name in ('predictor', 'encoder', 'criterion')}
    parts['encoder']['score_thr'] = 0.01
    build = dict(type='EncodedDenseHead', **parts, test_cfg=dict(score_thr=0.001))
    accepted = 'score_thr' in inspect.signature(TASK_UTILS.get(case.encoder['type'])).parameters
    if not accepted:
        pytest.skip('this encoder drops no scores')
    with pytest.raises(
        ValueError, match=r'score_thr is 0\.001 in test_cfg but 0\.01 in the encoder'
    ):
        MODELS.build(build)
    parts['encoder'].pop('score_thr')
    assert MODELS.build(build).encoder.score_thr == 0.001


def losses_of(head, stem, change=lambda each: None, counts=(3, 2), kept=lambda each: each):
    """Losses of two images after a change of the ground truth."""
    case, generator = DETECTORS[stem], torch.Generator().manual_seed(1)
    torch.manual_seed(0)  # of dropout
    outputs = head(features(case, 2))
    objects = [instances(case, count, generator) for count in counts]
    for each in objects:
        change(each)
    return head.loss_by_feat(*outputs, [kept(each) for each in objects], [meta()] * 2, None)


@pytest.mark.parametrize('counts', [(3,), (3, 2, 1)])
def test_ground_truth_of_another_number_of_images_raises_an_error(head, stem, counts):
    with pytest.raises(ValueError, match=f'outputs have 2 images, but .* has {len(counts)}; give'):
        losses_of(head, stem, counts=counts)


def with_five_columns(each):
    each.bboxes = torch.cat((each.bboxes, each.bboxes[:, :1]), 1)


def with_one_hot_labels(each):
    each.labels = torch.nn.functional.one_hot(each.labels, 3)


@pytest.mark.parametrize('change', [with_five_columns, with_one_hot_labels])
def test_ground_truth_of_another_shape_raises_an_error(head, stem, change):
    with pytest.raises(
        ValueError, match=r'image 0 of the batch has bboxes of shape .*give \(n, 4\)'
    ):
        losses_of(head, stem, change)


def test_kinds_of_tensors_do_not_change_the_losses(head, stem):
    expected = losses_of(head, stem)
    for change in (
        lambda each: each.set_field(HorizontalBoxes(each.bboxes), 'bboxes'),
        lambda each: each.set_field(each.bboxes.double().requires_grad_(), 'bboxes'),
        lambda each: each.set_field(each.bboxes.half().t().contiguous().t(), 'bboxes'),
        lambda each: each.set_field(each.labels.to(torch.uint8), 'labels'),
        lambda each: each.set_field(each.labels.float(), 'labels'),
    ):
        torch.testing.assert_close(losses_of(head, stem, change), expected)


@pytest.mark.parametrize('label', [3, 2**40, 1.5, float('nan'), float('inf')])
def test_an_object_of_no_class_is_dropped(head, stem, label):
    def relabel(each):
        kind = torch.float64 if isinstance(label, float) else torch.int64
        each.labels = each.labels.to(kind)
        each.labels[1] = label

    found = losses_of(head, stem, relabel)
    kept = lambda each: each[torch.arange(len(each)) != 1]  # noqa: E731
    expected = losses_of(head, stem, kept=kept)
    expected.pop('num_dropped'), found.pop('num_dropped')
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
