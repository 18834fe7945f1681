"""The figures data set: joints where the figure is, true flags, the same bytes again."""

import hashlib
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from mmdet_losses.data import CocoKeypointDataset
from tests.processes import run_command
from tools import figures
from tools import make_figures as module
from tools.drawn_data import load_textures
from tools.make_figures import Options, draw_picture, make_figures

SMALL = dict(train=6, val=4, size=(96, 128), scale=(40, 70), objects=(1, 3))
FLAT = [np.full((400, 400, 3), 128, np.uint8)]


@pytest.fixture(name='made', scope='module')
def _made(tmp_path_factory):
    return make_figures(tmp_path_factory.mktemp('figures') / 'set', **SMALL)


def fingerprint(root):
    files = sorted(path for path in root.rglob('*') if path.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def scenes(count, textures=FLAT, **options):
    """(picture, annotations) of several seeds."""
    options = Options(**{'empty_fraction': 0, **options})
    return [draw_picture(np.random.default_rng(i), options, textures) for i in range(count)]


def joints_of(note):
    return np.array(note['keypoints'], float).reshape(-1, 3)


def test_coco_reads_it(made):
    for split, count in (('train', 6), ('val', 4)):
        coco = COCO(str(made / 'annotations' / f'{split}.json'))
        [category] = coco.loadCats(coco.getCatIds())
        assert category['name'] == 'person' and len(category['keypoints']) == 17
        assert len(coco.imgs) == count == len(list((made / split).glob('*.jpg')))
        for note in coco.anns.values():
            x, y, w, h = note['bbox']
            assert 0 <= x < x + w <= 128 and 0 <= y < y + h <= 96 and 0 < note['area'] < w * h
            joints = joints_of(note)
            assert note['num_keypoints'] == (joints[:, 2] > 0).sum()
            assert (joints[joints[:, 2] == 0] == 0).all()
    assert cv2.imread(str(made / 'sheet.png')) is not None


def test_joints_and_bones_are_those_of_the_data_set_class():
    known = CocoKeypointDataset.METAINFO
    assert known['keypoints'] == figures.JOINTS
    assert set(map(frozenset, known['skeleton'])) == set(map(frozenset, figures.BONES))
    for left, right in known['flip_pairs']:
        assert figures.JOINTS[left] == figures.JOINTS[right].replace('right', 'left')


def test_visible_joints_lie_on_what_was_drawn():
    """On a flat ground a joint's surroundings differ from it; far from any box nothing does."""
    for picture, notes in scenes(15, size=(160, 160), hidden_fraction=0):
        changed = np.abs(picture.astype(int) - 128).max(-1) > 0
        boxed = np.zeros_like(changed)
        for note in notes:
            x, y, w, h = note['bbox']
            boxed[max(y - 1, 0) : y + h + 1, max(x - 1, 0) : x + w + 1] = True  # a soft edge
            for x, y, flag in joints_of(note):
                x, y = round(x), round(y)
                if flag == 2:
                    assert changed[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].any()
        assert not (changed & ~boxed).any()


def test_boxes_are_tight_around_a_lone_figure():
    for picture, [note] in scenes(15, size=(160, 160), objects=(1, 1), hidden_fraction=0):
        changed = np.abs(picture.astype(int) - 128).max(-1) > 0
        ys, xs = np.nonzero(changed)
        x, y, w, h = note['bbox']
        found = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        assert np.abs(found - [x, y, x + w, y + h]).max() <= 1
        assert note['area'] == pytest.approx(changed.sum(), rel=0.15)


def test_all_three_flags_occur_and_hidden_joints_need_something_before_them():
    flags = {part: np.zeros(3, int) for part in (0, 1)}
    for part in flags:
        options = dict(size=(160, 160), hidden_fraction=part, objects=(1, 1))
        for _, notes in scenes(40, load_textures()['val'], **options):
            for note in notes:
                flags[part] += np.bincount(joints_of(note)[:, 2].astype(int), minlength=3)
    assert flags[0][1] == 0 and flags[0][0] > 0 < flags[0][2]
    assert flags[1][1] >= 10 and flags[1][0] > 0 < flags[1][2]


def test_a_figure_that_turns_away_shows_no_face_and_has_its_left_on_the_left():
    for seed in range(40):
        pose = figures.draw_pose(np.random.default_rng(seed))
        along = pose.joints[6] - pose.joints[5]  # left shoulder to right shoulder
        assert (along[0] < 0) == pose.facing
    size = dict(size=(200, 200), scale=(60, 80), objects=(1, 1), hidden_fraction=0)
    for _, [note] in scenes(40, **size):
        joints = joints_of(note)
        if joints[[3, 4, 5, 6], 2].min() > 0:
            facing = joints[6, 0] < joints[5, 0]
            assert joints[1:3, 2].max() == (2 if facing else 0)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(made, tmp_path):
    again = make_figures(tmp_path / 'again', **SMALL)
    assert fingerprint(again) == fingerprint(made)
    other = make_figures(tmp_path / 'other', seed=1, **SMALL)
    pictures = {name: code for name, code in fingerprint(made).items() if name.endswith('.jpg')}
    assert not fingerprint(other).items() & pictures.items()


def test_the_same_call_returns_at_once_and_other_parameters_are_refused(made, capsys):
    before = fingerprint(made)
    assert make_figures(made, **SMALL) == made
    assert 'already holds this data set' in capsys.readouterr().out
    with pytest.raises(FileExistsError, match=r'hidden_fraction=0.2 instead of 0.5.*remove'):
        make_figures(made, hidden_fraction=0.5, **SMALL)
    with pytest.raises(FileExistsError, match='is not a figures data set'):
        make_figures(made / 'train')
    assert fingerprint(made) == before


def test_empty_fraction(tmp_path):
    root = make_figures(tmp_path / 'set', empty_fraction=1, **SMALL)
    assert json.loads((root / 'annotations/train.json').read_text())['annotations'] == []


@pytest.mark.parametrize(
    'wrong',
    [
        dict(train=0), dict(size=(8, 160)), dict(objects=(0, 3)), dict(scale=(4, 9)),
        dict(scale=(20, 200)), dict(empty_fraction=1.5), dict(max_overlap=-1),
        dict(hidden_fraction=2), dict(seed=-1),
    ],
    ids=str,
)  # fmt: skip
def test_bad_options_name_the_option_and_the_cure(wrong, tmp_path):
    with pytest.raises(ValueError, match=rf'make_figures cannot use .*{next(iter(wrong))}=.*give '):
        make_figures(tmp_path / 'set', **wrong)
    assert not (tmp_path / 'set').exists()


def test_command_line(tmp_path):
    command = [sys.executable, str(Path(module.__file__)), '--out', 'set', '--train', '2']
    more = ['--val', '2', '--size', '64', '96', '--scale', '40', '60']
    done = run_command([*command, *more], cwd=tmp_path)
    assert done.returncode == 0 and 'val: 2 of 2 pictures' in done.stdout, done.stderr
    assert cv2.imread(str(tmp_path / 'set/train/000000.jpg')).shape == (64, 96, 3)
