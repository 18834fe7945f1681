"""Recipes augment like the official codes.

``tools/check_augmentation.py --all DIR`` compares 2,000 draws of every recipe; here are fewer.
"""

import copy
import functools
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope

from mmdet_losses.data import DataError
from tools import check_augmentation
from tools.augmentation.distance import compare, ks_distance
from tools.augmentation.hard_images import KINDS, SIZES, SmallData, draw_hard_images
from tools.augmentation.layout import read_draws, read_scene, write_draws
from tools.augmentation.recipes import RECIPES, recipe_of
from tools.augmentation.record import Recorder

GOLDEN = Path(__file__).resolve().parents[1] / 'golden' / 'augment'
NAMES = sorted(path.stem for path in GOLDEN.glob('*.npz'))
DRAWS = {'centertrack_mot17': 60, 'centertrack_crowdhuman': 80, 'scaled_yolov4_finetune': 100}
# Recipes with the pipeline of another one: file to draw on, and what the file has differently.
SAME = {
    'centernet_triplet': ('cornernet', []),
    'cornernet_squeeze': ('cornernet', []),
    'ctdet_coco': ('ctdet_pascal', ['input (512, 512) -> (384, 384)']),
    'centertrack_kitti': (
        'centertrack_mot17',
        ['CenterTrackTargetEncoder: lost_rate 0.2 -> 0.4', 'input (1280, 384) -> (960, 544)'],
    ),
    'yolov3': ('yolov2', []),
    'scaled_yolov4': (
        'scaled_yolov4_finetune',
        ['ScaledYOLOv4Mosaic: mixup 0.0 -> 0.2', 'ScaledYOLOv4Mosaic: scale 0.5 -> 0.8'],
    ),
}


@pytest.fixture(autouse=True)
def _scope():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


@functools.cache
def config_of(name):
    return Config.fromfile(recipe_of(name))


def recorder(name, on=None):
    return Recorder(copy.deepcopy(config_of(name)), read_scene(GOLDEN / f'{on or name}.npz'))


def differing(name, ours):
    tests = compare(read_draws(GOLDEN / f'{name}.npz'), ours, permutations=0)
    assert len(tests) > 60
    return [f'{test.name}: {test.distance:.2f} ({test.text})' for test in tests if test.differs]


@pytest.mark.parametrize('name', NAMES)
def test_a_recipe_augments_like_the_official_code(name):
    own = recorder(name)
    ours = own.draws(DRAWS.get(name, 120))
    assert set(ours) >= set(read_draws(GOLDEN / f'{name}.npz'))
    assert not differing(name, ours)
    # yolov4-csp.cfg trains at 512; P5 ends with these hyper-parameters at 896
    sizes = {'yolov4_csp': '(512, 512)', 'scaled_yolov4_finetune': '(896, 896)'}
    changed = [f'input {sizes[name]} -> (640, 640)'] if name in sizes else []
    assert own.changes == changed


@pytest.mark.parametrize('name', SAME)
def test_a_recipe_without_a_file_here_has_the_pipeline_of_one_with_a_file(name):
    on, changes = SAME[name]
    one, other = recorder(name, on), recorder(on)
    assert sorted(one.changes) == changes
    first, second = one.draws(2), other.draws(2)
    assert first.keys() == second.keys()
    for key in first:
        np.testing.assert_array_equal(first[key], second[key], err_msg=key)


def test_every_file_of_the_official_draws_has_a_recipe_and_a_test():
    assert {*NAMES, *SAME} == set(RECIPES) - {'ctdet', 'ssd'}
    assert all(recipe_of(name).is_file() for name in [*RECIPES, 'yolov4_csp_other_seed'])
    with pytest.raises(KeyError, match='faster_rcnn belongs to no recipe'):
        recipe_of('faster_rcnn')


@pytest.mark.parametrize(
    ('step', 'mistake', 'expected'),
    [
        ('RandomFlip', dict(prob=0.0), 'flip[0] = 1'),
        ('SSDAugmentation', dict(code='caffe', size=(300, 300)), 'probe_rgb'),
    ],
)
def test_a_mistake_in_the_pipeline_is_found(step, mistake, expected):
    cfg = copy.deepcopy(config_of('ssd300'))
    [found] = [each for each in cfg.train_dataloader.dataset.pipeline if each.type == step]
    found.update(mistake)
    rows = differing('ssd300', Recorder(cfg, read_scene(GOLDEN / 'ssd300.npz')).draws(200))
    assert any(expected in row for row in rows)


def test_options_of_a_file_replace_those_of_the_recipe():
    scene = read_scene(GOLDEN / 'yolov4.npz')
    scene.about['cfg'].update(
        jitter=0.2, mosaic_bound=1, max_boxes=50, size='512, random=1: rand_scale(1.2)'
    )
    own = Recorder(copy.deepcopy(config_of('yolov4')), scene)
    assert sorted(own.changes) == [
        'DarknetMosaic: jitter 0.3 -> 0.2',
        'DarknetMosaic: max_objects 200 -> 50',
        'DarknetMosaic: mosaic_bound False -> 1',
    ]
    sides = {own.sampler.side(10 * number) for number in range(40)}
    assert 416 <= min(sides) <= max(sides) <= 672
    scene.about['cfg'].update(mosaic=0, letter_box=1, size='416')
    own = Recorder(copy.deepcopy(config_of('yolov4')), scene)
    assert own.changes[0] == 'DarknetMosaic -> DarknetJitter'
    row = own.draw()
    assert row['size'].tolist() == [416, 416]
    assert not row['mosaic']


def test_the_tool_compares_a_file_and_writes_its_draws(tmp_path, capsys):
    official = GOLDEN / 'ssd300.npz'
    config = str(recipe_of('ssd300'))
    arguments = [config, '--golden', str(official), '--draws', '100', '--out', str(tmp_path)]
    assert check_augmentation.main(arguments) == 0
    assert 'no difference' in capsys.readouterr().out
    draws = read_draws(tmp_path / 'ssd300.npz')
    assert len(draws['box']) == 100
    folder = tmp_path / 'moved'
    folder.mkdir()
    draws['box'][..., 0] += 0.5
    write_draws(folder / 'ssd300.npz', read_scene(official), draws)
    assert check_augmentation.main(['--all', str(folder), '--draws', '60']) == 1
    printed = capsys.readouterr().out
    assert printed.startswith('[1/1] ssd300: ')
    assert 'files with a difference: ssd300' in printed
    with pytest.raises(SystemExit):
        check_augmentation.parse_args(['--golden', str(official)])


def normal(count, seed, scale=1.0, shift=0.0):
    return dict(value=np.random.default_rng(seed).normal(shift, scale, (count, 2)))


@pytest.mark.parametrize(
    ('change', 'differs'),
    [
        ({}, False),
        (dict(shift=0.5), True),
        (dict(scale=1.5), True),
    ],
)
def test_the_comparison_finds_another_mean_and_another_spread(change, differs):
    rows = compare(normal(800, 1), normal(600, 2, **change))
    assert any(row.differs for row in rows) == differs


def test_the_comparison_finds_missing_boxes_and_correlations():
    one, two = normal(800, 1), normal(600, 2)
    two['value'][:200, 0] = np.nan
    assert [row.name for row in compare(one, two) if row.differs] == ['value[0] present']
    two = normal(600, 2)
    two['value'][:, 1] = 0.5 * two['value'][:, 0] + np.sqrt(0.75) * two['value'][:, 1]
    assert [row.name for row in compare(one, two) if row.differs] == ['correlations']


def test_rounding_of_one_value_is_no_flag():
    one, two = np.zeros((800, 2)), np.zeros((600, 2))
    one[:200, 0] = -5.9e-17
    assert not any(row.differs for row in compare({'pair_shift': one}, {'pair_shift': two}))
    one[:200, 0] = 1
    found = [row.name for row in compare({'flip': one}, {'flip': two}) if row.differs]
    assert found == ['flip[0] = 1']


def test_values_within_the_tolerance_are_equal():
    values = np.random.default_rng(0).choice([0.0, 1.0, 2.0], 500)
    assert ks_distance(values, values + 0.003, 0.004) == 0
    assert ks_distance(values, values + 0.005, 0.004) > 0.3


def test_a_pipeline_that_stops_is_found(monkeypatch, capsys):
    cfg = copy.deepcopy(config_of('ssd300'))
    outer = cfg.train_dataloader.dataset
    outer.pipeline.insert(0, ConfigDict(type='FilterAnnotations', keep_empty=True))
    with pytest.raises(DataError, match='FilterAnnotations returned None'):
        draw_hard_images(SmallData(cfg), 200)
    monkeypatch.setattr(check_augmentation.Config, 'fromfile', lambda _: cfg)
    assert check_augmentation.main(['ssd.py', '--hard-images', '--draws', '200']) == 1
    assert 'ssd: STOPPED: DataError: FilterAnnotations returned None' in capsys.readouterr().out


def test_hard_images_have_every_kind_at_every_size():
    data = SmallData(config_of('cornernet'))
    assert len(data.dataset) == len(KINDS) * len(SIZES)
    counts = [len(data.dataset.get_data_info(i)['instances']) for i in range(len(KINDS))]
    assert counts == [0, 1, 1, 1, 1, 1, 1, 6]
