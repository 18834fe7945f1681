"""Videos data set: the files, their equality with the drawn frames, and equal files per seed."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import pytest

from tools.datasets.video_files import MIN_VISIBILITY
from tools.datasets.videos import Options, draw_path, make_videos
from tools.make_videos import parse_args

SMALL = dict(train=3, val=2, frames=12, size=(96, 128), scale=(20, 28), leave=0.4)


@pytest.fixture(scope='module', name='made')
def _made(tmp_path_factory):
    return make_videos(tmp_path_factory.mktemp('made') / 'videos', **SMALL)


def annotations(root, split='train'):
    return json.loads((root / 'annotations' / f'{split}.json').read_text())


def digest(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob('*') if path.is_file())
    return {
        str(path.relative_to(root)): hashlib.md5(path.read_bytes()).hexdigest() for path in files
    }


def test_the_layout_is_that_of_mot_challenge(made):
    for split, count in (('train', 3), ('val', 2)):
        videos = sorted((made / split).iterdir())
        assert [video.name for video in videos] == [f'{split}-{i + 1:03d}' for i in range(count)]
        for video in videos:
            frames = sorted(path.name for path in (video / 'img1').iterdir())
            assert frames == [f'{i + 1:06d}.jpg' for i in range(12)]
            assert cv2.imread(str(video / 'img1' / frames[0])).shape == (96, 128, 3)
            info = dict(
                line.split('=') for line in (video / 'seqinfo.ini').read_text().splitlines()[1:]
            )
            assert (info['name'], info['seqLength']) == (video.name, '12')
            assert (info['imWidth'], info['imHeight']) == ('128', '96')
    assert (made / 'sheet.png').is_file()


def test_the_json_and_gt_files_are_equal(made):
    content = annotations(made)
    images = {image['id']: image for image in content['images']}
    videos = {video['id']: video['name'] for video in content['videos']}
    rows_of_video = defaultdict(list)
    for annotation in content['annotations']:
        image = images[annotation['image_id']]
        row = [
            image['frame_id'] + 1,
            *annotation['bbox'],
            annotation['mot_conf'],
            annotation['visibility'],
        ]
        rows_of_video[videos[image['video_id']]].append((annotation['instance_id'], row))
    for name, rows in rows_of_video.items():
        text = (made / 'train' / name / 'gt' / 'gt.txt').read_text().splitlines()
        gt = [[float(value) for value in line.split(',')] for line in text]
        assert all(row[7] == 1 for row in gt)
        first = min(number for number, _ in rows)  # json identities count through the videos
        ours = sorted([row[0], number - first, *row[1:]] for number, row in rows)
        first = min(row[1] for row in gt)
        theirs = sorted([row[0], row[1] - first, *row[2:7], row[8]] for row in gt)
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_identities_are_unique_and_visible_objects_count(made):
    content = annotations(made)
    owner = {}
    images = {image['id']: image['video_id'] for image in content['images']}
    for annotation in content['annotations']:
        video = images[annotation['image_id']]
        assert owner.setdefault(annotation['instance_id'], video) == video
        assert 0 < annotation['visibility'] <= 1
        assert annotation['mot_conf'] == (annotation['visibility'] >= MIN_VISIBILITY)
    pairs = [
        (annotation['image_id'], annotation['instance_id']) for annotation in content['annotations']
    ]
    assert len(set(pairs)) == len(pairs)


def test_boxes_contain_all_changes(made):
    """Every difference of two frames, except for JPEG noise, is inside a box of one of them."""
    content = annotations(made, 'val')
    boxes = defaultdict(list)
    for annotation in content['annotations']:
        boxes[annotation['image_id']].append(annotation['bbox'])
    for one, two in zip(content['images'][:11], content['images'][1:12], strict=True):
        images = [
            cv2.imread(str(made / 'val' / each['file_name'])).astype(int) for each in (one, two)
        ]
        changed = np.abs(images[0] - images[1]).max(-1) > 60
        for x, y, w, h in boxes[one['id']] + boxes[two['id']]:
            x1, y1 = int(max(x - 3, 0)), int(max(y - 3, 0))
            changed[y1 : int(max(y + h + 3, 0)), x1 : int(max(x + w + 3, 0))] = False
        assert not changed.any()


def test_paths_stop_leave_the_image_and_return():
    options = Options(frames=200, leave=0.2)
    side, seen = 30, defaultdict(int)
    for seed in range(8):
        path = draw_path(np.random.default_rng(seed), options, side)
        assert path.shape == (200, 2)
        steps = np.hypot(*np.diff(path, axis=0).T)
        assert steps.max() < 1.6 * options.speed[1]
        seen['stops'] += int((steps == 0).sum())
        seen['fast'] += int((steps > 12).sum())
        outside = ((path < -side / 2) | (path > 160 + side / 2)).any(1)
        seen['leaves'] += int((outside[1:] & ~outside[:-1]).sum())
        seen['returns'] += int((~outside[1:] & outside[:-1]).sum())
    assert seen['stops'] > 50
    assert seen['fast'] > 200
    assert seen['leaves'] > 10
    assert seen['returns'] > 10


def test_one_seed_gives_equal_files(made, tmp_path):
    again = make_videos(tmp_path / 'again', **SMALL)
    assert digest(again) == digest(made)
    more = make_videos(tmp_path / 'more', **{**SMALL, 'train': 4})
    gt = Path('train/train-002/gt/gt.txt')
    assert (more / gt).read_text() == (made / gt).read_text()
    other = make_videos(tmp_path / 'other', **SMALL, seed=1)
    assert (other / gt).read_text() != (made / gt).read_text()


def test_nothing_is_overwritten(made, capsys):
    assert make_videos(made, **SMALL) == made
    assert 'already holds this data set' in capsys.readouterr().out
    with pytest.raises(FileExistsError, match='was made with frames=12 instead of 5; remove'):
        make_videos(made, **{**SMALL, 'frames': 5})


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(train=0), 'train=0 and val=10: give at least one video each'),
        (dict(frames=0), 'frames=0: give at least 1'),
        (dict(objects=(3, 2)), r'objects=\(3, 2\): give two numbers'),
        (dict(speed=(0, 5)), r'speed=\(0, 5\): give pixels per frame, 0 < MIN <= MAX'),
        (dict(scale=(20, 90)), 'MAX <= half the shorter side'),
        (dict(leave=1.5), 'give probabilities from 0 to 1'),
    ],
)
def test_options_out_of_range_raise(options, message, tmp_path):
    with pytest.raises(ValueError, match=f'make_videos cannot use .*{message}'):
        make_videos(tmp_path / 'none', **options)
    assert not (tmp_path / 'none').exists()


def test_the_command_line_has_the_options():
    parsed = vars(parse_args(['--out', 'x', '--speed', '2', '9', '--frames', '7']))
    assert parsed.pop('out') == Path('x')
    assert Options(**parsed) == Options(speed=(2.0, 9.0), frames=7)
