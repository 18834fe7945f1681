"""Anchors by k-means."""

import json

import pytest
import torch

from mmdet_losses.ops import shape_iou
from mmdet_losses.ops.anchor_kmeans import anchor_fit, kmeans_anchors
from tools import anchors as tool

GROUPS = torch.tensor([[10.0, 20.0], [40.0, 30.0], [80.0, 120.0]])


def boxes_around_groups(count=50, seed=0):
    generator = torch.Generator().manual_seed(seed)
    noise = 1 + 0.1 * (torch.rand(count, 3, 2, generator=generator) - 0.5)
    return (GROUPS * noise).flatten(0, 1)


@pytest.mark.parametrize('seed', range(4))
def test_anchors_are_the_means_of_the_groups(seed):
    sizes = boxes_around_groups()
    found = kmeans_anchors(sizes, 3, seed)
    torch.testing.assert_close(found.float(), GROUPS, rtol=0.03, atol=0)
    means = sizes.unflatten(0, (-1, 3)).mean(0)
    torch.testing.assert_close(found.float(), means)
    assert torch.equal(found, kmeans_anchors(sizes, 3, seed))


def test_more_anchors_fit_better():
    generator = torch.Generator().manual_seed(1)
    sizes = 5 + 100 * torch.rand(400, 2, generator=generator)
    fits = [anchor_fit(sizes, kmeans_anchors(sizes, count)) for count in (1, 3, 9)]
    assert fits[0].mean_iou < fits[1].mean_iou < fits[2].mean_iou
    best = shape_iou(sizes.double(), kmeans_anchors(sizes, 9)).amax(1)
    assert fits[2].mean_iou == pytest.approx(best.mean().item())
    assert fits[2].recall == pytest.approx((best >= 0.5).double().mean().item())


def test_fraction_of_boxes_within_a_ratio():
    sizes = torch.tensor([[10.0, 10.0], [39.0, 10.0], [41.0, 10.0], [10.0, 2.0]])
    assert anchor_fit(sizes, torch.tensor([[10.0, 10.0]])).in_ratio == 0.5


@pytest.mark.parametrize(
    ('sizes', 'count', 'message'),
    [
        ([[3.0, 4.0]] * 5, 2, '5 boxes of 1 different sizes are too few for 2 anchors'),
        ([[3.0, 4.0], [0.0, 4.0]], 1, 'a box has no positive width'),
        ([[3.0, 4.0]], 0, 'the number of anchors is 0'),
    ],
)
def test_impossible_requests_raise(sizes, count, message):
    with pytest.raises(ValueError, match=message):
        kmeans_anchors(torch.tensor(sizes), count)


@pytest.fixture(name='config')
def _config(tmp_path):
    """Config with four images of 200 x 100, resized to 100 x 50, and boxes of two sizes."""
    images = [dict(id=i, file_name=f'{i}.png', width=200, height=100) for i in range(4)]
    boxes = [(20, 40), (21, 40), (80, 40), (82, 40)]
    annotations = [
        dict(id=i + 1, image_id=i, category_id=1, bbox=[5, 5, w, h], area=w * h, iscrowd=0)
        for i, (w, h) in enumerate(boxes)
    ]
    crowd = dict(id=9, image_id=0, category_id=1, bbox=[0, 0, 9, 9], area=81, iscrowd=1)
    content = dict(
        images=images, annotations=[*annotations, crowd], categories=[dict(id=1, name='a')]
    )
    (tmp_path / 'annotations.json').write_text(json.dumps(content))
    path = tmp_path / 'config.py'
    path.write_text(f"""
leaf = dict(type='CocoDataset', data_root={str(tmp_path)!r}, ann_file='annotations.json',
            data_prefix=dict(img=''), metainfo=dict(classes=('a',)), pipeline=[])
train_dataloader = dict(dataset=dict(
    type='RepeatDataset', times=2, dataset=dict(type='ConcatDataset', datasets=[leaf, leaf])))
test_dataloader = dict(dataset=dict(pipeline=[
    dict(type='Resize', scale=(100, 100), keep_ratio=True)]))
model = dict(bbox_head=dict(encoder=dict(anchors=[[(10, 20)], [(41, 20)]])))
""")
    return path


def test_prints_anchors_of_the_training_set(config, capsys):
    assert tool.main([str(config), '--levels', '2', '--per-level', '1', '--digits', '2']) == 0
    text = capsys.readouterr().out
    assert 'anchors=[\n    [(10.25, 20.00)],\n    [(40.50, 20.00)],\n],' in text
    assert '# 8 boxes: mean best IoU 0.98' in text
    more = ['--levels', '2', '--per-level', '1', '--coarse-first', '--size', '200', '100']
    assert tool.main([str(config), *more]) == 0
    assert 'anchors=[\n    [(81, 40)],\n    [(20, 40)],\n],' in capsys.readouterr().out


def test_rates_the_anchors_of_the_config(config, capsys):
    assert tool.main([str(config), '--check']) == 0
    text = capsys.readouterr().out
    assert '[(41, 20)]' in text and '100.0% above 0.5, 100.0% within a factor of 4' in text


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--per-level', '2'], 'too few for 6 anchors'),
        (['--check', '--cfg-options', 'model.bbox_head.encoder.anchors=[[(3,-4)]]'],
         'anchor (3, -4) is not a positive width'),
        (['--cfg-options', 'test_dataloader.dataset.pipeline=[]'], 'give --size W H'),
    ],
)  # fmt: skip
def test_a_mistake_prints_one_message(config, capsys, options, message):
    assert tool.main([str(config), *options]) == 1
    *_, error = capsys.readouterr().err.splitlines()
    assert error.startswith('error: ') and message in error


def test_an_encoder_without_anchors_prints_one_message(config, capsys):
    config.write_text(config.read_text().replace('anchors=', 'type="SSDTargetEncoder", sizes='))
    assert tool.main([str(config), '--check']) == 1
    assert 'SSDTargetEncoder has no anchors' in capsys.readouterr().err


def test_missing_data_print_one_message(config, capsys):
    (config.parent / 'annotations.json').unlink()
    assert tool.main([str(config)]) == 1
    assert 'annotations.json' in capsys.readouterr().err
