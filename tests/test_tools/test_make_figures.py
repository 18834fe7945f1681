"""Figures data set: keypoints on the figure, correct visibility, equal files."""

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
from tools import make_figures as tool
from tools.datasets.drawing import load_textures
from tools.datasets.figure_drawing import BONES, KEYPOINTS, draw_pose
from tools.datasets.figures import Options, draw_image, make_figures

SMALL = dict(train=6, val=4, size=(96, 128), scale=(40, 70), objects=(1, 3))
FLAT = [np.full((400, 400, 3), 128, np.uint8)]


@pytest.fixture(name='made', scope='module')
def _made(tmp_path_factory):
    return make_figures(tmp_path_factory.mktemp('figures') / 'set', **SMALL)


def fingerprint(root):
    files = sorted(path for path in root.rglob('*') if path.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def scenes(count, textures=FLAT, **options):
    """(image, annotations) of several seeds."""
    options = Options(**{'empty_fraction': 0, **options})
    return [draw_image(np.random.default_rng(i), options, textures) for i in range(count)]


def keypoints_of(annotation):
    return np.array(annotation['keypoints'], float).reshape(-1, 3)


def test_coco_reads_the_files(made):
    for split, count in (('train', 6), ('val', 4)):
        coco = COCO(str(made / 'annotations' / f'{split}.json'))
        [category] = coco.loadCats(coco.getCatIds())
        assert category['name'] == 'person' and len(category['keypoints']) == 17
        assert len(coco.imgs) == count == len(list((made / split).glob('*.jpg')))
        for annotation in coco.anns.values():
            x, y, w, h = annotation['bbox']
            assert 0 <= x < x + w <= 128 and 0 <= y < y + h <= 96 and 0 < annotation['area'] < w * h
            points = keypoints_of(annotation)
            assert annotation['num_keypoints'] == (points[:, 2] > 0).sum()
            assert (points[points[:, 2] == 0] == 0).all()
    assert cv2.imread(str(made / 'sheet.png')) is not None


def test_keypoints_and_bones_are_those_of_the_data_set_class():
    known = CocoKeypointDataset.METAINFO
    assert known['keypoints'] == KEYPOINTS
    assert set(map(frozenset, known['skeleton'])) == set(map(frozenset, BONES))
    for left, right in known['flip_pairs']:
        assert KEYPOINTS[left] == KEYPOINTS[right].replace('right', 'left')


def test_visible_keypoints_are_on_the_figure():
    """The background differs near every visible keypoint, and nowhere outside the boxes."""
    for image, annotations in scenes(15, size=(160, 160), hidden_fraction=0):
        changed = np.abs(image.astype(int) - 128).max(-1) > 0
        boxed = np.zeros_like(changed)
        for annotation in annotations:
            x, y, w, h = annotation['bbox']
            boxed[max(y - 1, 0) : y + h + 1, max(x - 1, 0) : x + w + 1] = True  # the edges are soft
            for x, y, flag in keypoints_of(annotation):
                x, y = round(x), round(y)
                if flag == 2:
                    assert changed[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].any()
        assert not (changed & ~boxed).any()


def test_the_box_of_a_single_figure_is_tight():
    for image, [annotation] in scenes(15, size=(160, 160), objects=(1, 1), hidden_fraction=0):
        changed = np.abs(image.astype(int) - 128).max(-1) > 0
        ys, xs = np.nonzero(changed)
        x, y, w, h = annotation['bbox']
        found = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        assert np.abs(found - [x, y, x + w, y + h]).max() <= 1
        assert annotation['area'] == pytest.approx(changed.sum(), rel=0.15)


def test_all_visibility_flags_occur_and_only_patches_hide_keypoints():
    flags = {part: np.zeros(3, int) for part in (0, 1)}
    for part in flags:
        options = dict(size=(160, 160), hidden_fraction=part, objects=(1, 1))
        for _, annotations in scenes(40, load_textures()['val'], **options):
            for annotation in annotations:
                flags[part] += np.bincount(keypoints_of(annotation)[:, 2].astype(int), minlength=3)
    assert flags[0][1] == 0 and flags[0][0] > 0 < flags[0][2]
    assert flags[1][1] >= 10 and flags[1][0] > 0 < flags[1][2]


def test_a_figure_from_behind_has_no_face_and_its_left_side_on_the_left():
    for seed in range(40):
        pose = draw_pose(np.random.default_rng(seed))
        along = pose.keypoints[6] - pose.keypoints[5]  # left shoulder to right shoulder
        assert (along[0] < 0) == pose.facing
    size = dict(size=(200, 200), scale=(60, 80), objects=(1, 1), hidden_fraction=0)
    for _, [annotation] in scenes(40, **size):
        points = keypoints_of(annotation)
        if points[[3, 4, 5, 6], 2].min() > 0:
            facing = points[6, 0] < points[5, 0]
            assert points[1:3, 2].max() == (2 if facing else 0)


def test_equal_seeds_give_equal_files_and_other_seeds_do_not(made, tmp_path):
    again = make_figures(tmp_path / 'again', **SMALL)
    assert fingerprint(again) == fingerprint(made)
    other = make_figures(tmp_path / 'other', seed=1, **SMALL)
    images = {name: code for name, code in fingerprint(made).items() if name.endswith('.jpg')}
    assert not fingerprint(other).items() & images.items()


def test_a_repeated_call_changes_nothing_and_other_options_raise(made, capsys):
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
def test_a_wrong_option_raises_with_the_allowed_values(wrong, tmp_path):
    with pytest.raises(ValueError, match=rf'make_figures cannot use .*{next(iter(wrong))}=.*give '):
        make_figures(tmp_path / 'set', **wrong)
    assert not (tmp_path / 'set').exists()


def test_command_line(tmp_path):
    command = [sys.executable, str(Path(tool.__file__)), '--out', 'set', '--train', '2']
    more = ['--val', '2', '--size', '64', '96', '--scale', '40', '60']
    done = run_command([*command, *more], cwd=tmp_path)
    assert done.returncode == 0 and 'val: 2 of 2 images' in done.stdout, done.stderr
    assert cv2.imread(str(tmp_path / 'set/train/000000.jpg')).shape == (64, 96, 3)
