"""The tools with CenterTrack: training and test, also in two processes, and drawn tracks."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from mmdet_losses.visualization.tracks import draw_tracks, identity_colour
from tools import track_demo
from tools.datasets.videos import make_videos
from tools.kitti_to_coco import CLASSES, convert

ROOT = track_demo.ROOT
CONFIG = """
_base_ = {base!r}
data_root = {data!r}
train_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False,
                        dataset=dict(data_root=data_root))
val_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False,
                      dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=1)
model = dict(test_cfg=dict(score_thr=0.05), tracker=dict(new_score=0.05))
default_hooks = dict(logger=dict(interval=1))
"""


@pytest.fixture(scope='module', name='short')
def _short(tools, tmp_path_factory):
    """The videos config, trained for one epoch on two videos of six frames."""
    folder = tmp_path_factory.mktemp('short')
    size = dict(size=(64, 96), scale=(16, 24), objects=(2, 3), frames=6)
    data = make_videos(folder / 'videos', train=2, val=3, **size)
    config = folder / 'centertrack_short.py'
    base = str(ROOT / 'configs' / 'centertrack' / 'centertrack_videos.py')
    config.write_text(CONFIG.format(base=base, data=f'{data}/'))
    result = tools.run('train.py', config, '--work-dir', folder / 'work')
    assert result.status == 0, result.text[-3000:]
    checkpoint = folder / 'work' / 'epoch_1.pth'
    return SimpleNamespace(folder=folder, data=data, config=config, checkpoint=checkpoint)


def metrics(work_dir):
    return json.loads(sorted(work_dir.glob('*/*.json'))[-1].read_text())


@pytest.mark.short_training
def test_training_logs_every_term_and_both_metrics(short):
    path = next((short.folder / 'work').glob('*/vis_data/scalars.json'))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    steps = [line for line in lines if 'loss' in line]
    assert len(steps) == 3  # 12 frames by 4
    assert all(line['num_pos'] > 0 for line in steps)
    terms = {f'loss_{name}' for name in ('heatmap', 'size', 'offset', 'tracking', 'ltrb_amodal')}
    assert terms < set(steps[0])
    assert {'mot/mota', 'mot/idf1', 'mot_still/mota', 'mot_still/idf1'} < set(lines[-1])
    state = torch.load(short.checkpoint, weights_only=True)['state_dict']
    assert not [key for key in state if 'tracker' in key or 'memory' in key]


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason='tests the path without a GPU')
def test_two_processes_and_one_process_test_equally(tools, short):
    arguments = [short.config, short.checkpoint]
    one = tools.run('test.py', *arguments, '--work-dir', short.folder / 'one')
    assert one.status == 0, one.text[-3000:]
    two = tools.run(
        'dist_test.sh', *arguments, 2, '--work-dir', short.folder / 'two', PORT=tools.free_port()
    )
    assert two.status == 0, two.text[-3000:]
    have, want = metrics(short.folder / 'two'), metrics(short.folder / 'one')
    names = [key for key in want if key.startswith('mot')]
    assert len(names) == 18
    assert want['mot/false_positives'] + want['mot/misses'] > 0
    assert all(have[key] == pytest.approx(want[key], abs=1e-6) for key in names)


def run(*arguments):
    args = track_demo.parse_args([str(argument) for argument in arguments])
    track_demo.engine.run_tool(track_demo.demo, args)


def test_tracks_are_drawn_as_image_and_video(short, tmp_path, capsys):
    rows, video, again = tmp_path / 'a.png', tmp_path / 'b.avi', tmp_path / 'c.png'
    run(short.config, short.checkpoint, '--out', rows, '--columns', 3, '--start', 1)
    assert '5 frames in' in capsys.readouterr().out
    assert cv2.imread(str(rows)).shape == (2 * (2 * 64 + 4), 3 * (2 * 96 + 4), 3)
    frames = short.data / 'val' / 'val-001' / 'img1'
    run(short.config, short.checkpoint, '--out', video, '--video', frames)
    run(short.config, short.checkpoint, '--out', again, '--video', video, '--factor', 1)
    assert '6 frames in' in capsys.readouterr().out
    assert cv2.imread(str(again)).shape == (2 * 64 + 4, 6 * (2 * 96 + 4), 3)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (
            ['--out', 'tracks.gif'],
            r'--out is tracks.gif; give a .png file or a video \(.mp4',
        ),
        (['--video', 'nowhere'], '--video nowhere has no frames; give a video file, or a folder'),
        (['--index', 9], r'--index is 9; give 0 to 2 \(videos'),
        (['--start', 50], '--start is 50, but the video has 6 frames'),
    ],
)
def test_a_usage_error_prints_one_message(short, arguments, message, capsys, tmp_path):
    with pytest.raises(SystemExit):
        out = [] if '--out' in arguments else ['--out', tmp_path / 'x.png']
        run(short.config, short.checkpoint, *arguments, *out)
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert re.search(message, error)


def test_identities_have_distinct_colours():
    colours = [np.array(identity_colour(i), float) for i in range(24)]
    gaps = [np.abs(a - b).max() for i, a in enumerate(colours) for b in colours[:i]]
    assert min(gaps) > 25
    image = np.zeros((40, 60, 3), np.uint8)
    trails = {}
    for x in (10, 20):
        shown = draw_tracks(image, [[x, 10, x + 10, 20]], [3], trails, factor=2)
    assert trails[3] == [(30.0, 30.0), (50.0, 30.0)]
    assert shown.shape == (80, 120, 3)
    assert shown[30, 35].any()  # between both centres
    assert not image.any()


@pytest.fixture(name='kitti')
def _kitti(tmp_path):
    """Two videos of five and four frames."""
    label = '{frame} {identity} {name} 0 0 -1 10.0 20.0 30.5 40.0 -1 -1 -1 -1 -1 -1 -1\n'
    for video, count in (('0000', 5), ('0001', 4)):
        folder = tmp_path / 'data_tracking_image_2/training/image_02' / video
        folder.mkdir(parents=True)
        lines = ''
        for frame in range(count):
            cv2.imwrite(str(folder / f'{frame:06d}.png'), np.zeros((48, 64, 3), np.uint8))
            lines += label.format(frame=frame, identity=0, name='Car')
            lines += label.format(frame=frame, identity=-1, name='DontCare')
        (tmp_path / 'label_02').mkdir(exist_ok=True)
        (tmp_path / 'label_02' / f'{video}.txt').write_text(lines)
    return tmp_path


def test_kitti_is_converted_to_videos(kitti):
    from mmdet_losses.registry import DATASETS

    paths = convert(kitti)
    lengths = []
    for path in paths:
        dataset = DATASETS.build(
            dict(
                type='IdentityVideoDataset', ann_file=str(path), data_prefix=dict(img='x'),
                metainfo=dict(classes=('Pedestrian', 'Car', 'Cyclist')),
                ignored=dict(Van='Car', DontCare=None),
            )
        )  # fmt: skip
        videos = [dataset.get_data_info(i) for i in range(len(dataset))]
        lengths.append([video['video_length'] for video in videos])
        first = videos[0]['images'][0]
        assert [each['bbox_label'] for each in first['instances']] == [1, -1]
        assert first['instances'][0]['bbox'] == [10, 20, 30.5, 40]
        assert dataset.remarks == []
    assert lengths == [[5, 4], [2, 2], [3, 2]]
    assert CLASSES[1] == 'Car'


def test_wrong_kitti_labels_and_folders_raise(kitti):
    (kitti / 'label_02' / '0001.txt').write_text('0 1 Tank 0 0 0 1 2 3 4\n')
    with pytest.raises(ValueError, match=r'line 1 of .*0001.txt is not a label of KITTI tracking'):
        convert(kitti)
    with pytest.raises(FileNotFoundError, match='has no data_tracking_image_2/training/image_02/'):
        convert(kitti / 'annotations')
