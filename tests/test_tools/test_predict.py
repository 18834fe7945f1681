"""predict.py: images, patterns and videos in; images, videos, crops and JSON out."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from mmdet_losses import engine
from mmdet_losses.engine import media, progress
from mmdet_losses.engine.predictor import Predictor
from mmdet_losses.registry import MODELS
from mmdet_losses.visualization.predictions import MIN_SIDE, VideoFile, draw_predictions
from tools import predict

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


def save_untrained(config, path):
    """Write a checkpoint of the config with initial weights, and without meta data.

    Sizes are positive: without an area in the image, a box is dropped.
    """
    with DefaultScope.overwrite_default_scope('mmdet'):
        torch.manual_seed(0)
        model = MODELS.build(Config.fromfile(config).model)
    state = model.state_dict()
    for name, value in state.items():
        if re.search(r'predictor\.size\..*2\.bias$', name):
            value.fill_(4.0)
    torch.save(dict(state_dict=state), path)
    return path


@pytest.fixture(name='checkpoint', scope='module')
def _checkpoint(tools, tmp_path_factory):
    return save_untrained(tools.config, tmp_path_factory.mktemp('untrained') / 'untrained.pth')


@pytest.fixture(name='images')
def _images(tmp_path):
    """Three images of different sizes."""
    folder = tmp_path / 'images'
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, size in (('a.png', (64, 64)), ('b.jpg', (40, 96)), ('c.png', (120, 80))):
        cv2.imwrite(str(folder / name), rng.integers(0, 255, (*size, 3), dtype=np.uint8))
    return folder


def run(*arguments):
    engine.run_tool(predict.work, predict.parse_args([str(argument) for argument in arguments]))


def failed(capsys, *arguments):
    """The message of a usage error."""
    with pytest.raises(SystemExit):
        run(*arguments)
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def read_json(folder):
    return json.loads((folder / 'predictions.json').read_text())


def test_a_folder_of_images(tools, checkpoint, images, tmp_path, capsys):
    out = tmp_path / 'out'
    run(tools.config, checkpoint, images, '--out', out, '--json', '--score', 0, '--crop')
    names = ['a.png', 'b.jpg', 'c.png']
    assert sorted(path.name for path in out.glob('*.*g')) == names
    content = read_json(out)
    assert content['classes'] == ['one', 'two']  # from the config: the checkpoint has no meta data
    assert [each['file'] for each in content['images']] == names
    assert [(each['width'], each['height']) for each in content['images']] == [
        (64, 64), (96, 40), (80, 120),
    ]  # fmt: skip
    count = 0
    for each in content['images']:
        for found in each['objects']:
            x1, y1, x2, y2 = found['bbox']
            assert 0 <= x1 <= x2 <= each['width'] and 0 <= y1 <= y2 <= each['height']
            assert found['class'] == content['classes'][found['label']]
            count += 1
    assert count > 0
    text = capsys.readouterr().out
    assert f'3 images, {count} objects (' in text and 'images per second' in text
    for path in (out, out / 'predictions.json'):
        assert f'results: {path}' in text


def test_drawn_images_are_enlarged_and_keep_their_shape(tools, checkpoint, images, tmp_path):
    run(tools.config, checkpoint, images / 'b.jpg', '--out', tmp_path, '--score', 0)
    assert cv2.imread(str(tmp_path / 'b.jpg')).shape == (40 * 5, 96 * 5, 3)


def test_a_pattern_keeps_the_folders(tools, checkpoint, images, tmp_path):
    (images / 'inner').mkdir()
    (images / 'a.png').rename(images / 'inner' / 'a.png')
    run(tools.config, checkpoint, f'{images}/**/*.png', '--out', tmp_path / 'out')
    found = sorted(str(p.relative_to(tmp_path / 'out')) for p in (tmp_path / 'out').rglob('*.png'))
    assert found == ['c.png', 'inner/a.png']


def test_classes_and_score_select(tools, checkpoint, images, tmp_path, capsys):
    arguments = (tools.config, checkpoint, images, '--out', tmp_path, '--json', '--no-images')
    run(*arguments, '--score', 0)
    everything = [each for image in read_json(tmp_path)['images'] for each in image['objects']]
    run(*arguments, '--score', 0, '--classes', 'two')
    two = [each for image in read_json(tmp_path)['images'] for each in image['objects']]
    assert two == [each for each in everything if each['class'] == 'two']
    run(*arguments, '--score', 0.999)
    assert not any(image['objects'] for image in read_json(tmp_path)['images'])
    assert not list(tmp_path.glob('*.png'))
    capsys.readouterr()
    message = failed(capsys, *arguments, '--classes', 'three')
    assert '--classes three: the detector has no such class; choose from one, two.' in message
    message = failed(capsys, *arguments, '--classes', 'tow')
    assert message.endswith('no such class; did you mean two?')


@pytest.mark.parametrize(
    ('option', 'value', 'message'),
    [
        ('--score', '1.5', 'argument --score: 1.5 is not between 0 and 1'),
        ('--score', 'high', "argument --score: invalid share value: 'high'"),
        ('--batch-size', '0', 'argument --batch-size: 0 is not 1 or more'),
        ('--frames', '0', 'argument --frames: 0 is not 1 or more'),
    ],
)
def test_a_number_outside_its_range_prints_one_message(option, value, message, capsys):
    with pytest.raises(SystemExit):
        predict.parse_args(['config.py', 'weights.pth', 'images', option, value])
    assert capsys.readouterr().err.rstrip().endswith(message)


def test_results_never_replace_the_source(images, tmp_path, capsys):
    with pytest.raises(engine.UsageError, match=r'would replace .*a\.png; choose another folder'):
        predict.check_results(media.open_media(str(images)), images)
    video = tmp_path / 'a.mp4'
    video.touch()
    source = SimpleNamespace(path=video, name='a')
    with pytest.raises(engine.UsageError, match='would replace'):
        predict.check_results(source, tmp_path)
    predict.check_results(source, tmp_path / 'out')
    with pytest.raises(SystemExit):
        predict.parse_args(['config.py', 'a.pth', 'images', '--out', 'a.jpg'])
    assert '--out is a.jpg; give the name of a folder' in capsys.readouterr().err


def test_a_device_that_does_not_exist_is_named():
    with pytest.raises(
        engine.UsageError, match=r'--device cuda:99 cannot be used \(.*\); choose cpu or'
    ):
        predict.check_device('cuda:99')


def test_a_file_that_is_not_an_image_is_skipped_and_counted(
    tools, checkpoint, images, tmp_path, capsys
):
    (images / 'broken.png').write_bytes(b'not an image')
    run(tools.config, checkpoint, images, '--out', tmp_path / 'out')
    text = capsys.readouterr().out
    assert '3 images' in text and 'files that cannot be read: 1 (the first: ' in text
    alone = failed(capsys, tools.config, checkpoint, images / 'broken.png', '--out', tmp_path)
    assert 'broken.png is no image that OpenCV can read' in alone


def test_a_video_becomes_a_video(tools, checkpoint, tmp_path, capsys):
    source = VideoFile(tmp_path / 'source.mp4', fps=5)
    for i in range(4):
        source.write(np.full((48, 64, 3), 40 * i, np.uint8))
    source.close()
    out = tmp_path / 'out'
    run(tools.config, checkpoint, tmp_path / 'source.mp4', '--out', out, '--json', '--frames', 3)
    frames = list(media.open_media(str(out / 'source.mp4')))
    assert [frame.image.shape for frame in frames] == [(48 * 8, 64 * 8, 3)] * 3
    assert media.open_media(str(out / 'source.mp4')).fps == 5
    assert [each['frame'] for each in read_json(out)['images']] == [0, 1, 2]
    assert '3 frames, ' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('config', 'key'),
    [
        ('centernet_pose/centernet_pose_figures', 'keypoints'),
        ('centertrack/centertrack_videos', 'track'),
        ('cornernet_saccade/cornernet_saccade_digits', None),
        ('yolov4/yolov4_digits', None),
    ],
)
def test_every_kind_of_detector(config, key, images, tmp_path):
    path = CONFIGS / f'{config}.py'
    checkpoint = save_untrained(path, tmp_path / 'untrained.pth')
    options = ['model.test_cfg.score_thr=0']
    if key == 'track':
        options.append('model.tracker.new_score=0')
    run(
        path, checkpoint, images, '--out', tmp_path / 'out', '--json', '--score', 0,
        '--cfg-options', *options,
    )  # fmt: skip
    objects = [each for image in read_json(tmp_path / 'out')['images'] for each in image['objects']]
    assert len(list((tmp_path / 'out').glob('*.*g'))) == 3
    if key is not None:
        assert objects and all(key in each for each in objects)
    if key == 'keypoints':
        assert all(len(each['keypoints']) == 17 for each in objects)


def test_a_folder_without_own_images_stands_for_its_subfolders(images, tmp_path):
    (tmp_path / 'nested').mkdir()
    images.rename(tmp_path / 'nested' / 'inner')
    (tmp_path / 'nested' / 'notes.txt').write_text('text')
    outer = media.open_media(str(tmp_path / 'nested'))
    inner = media.open_media(str(tmp_path / 'nested' / 'inner'))
    assert outer.total == inner.total > 0
    assert [frame.name for frame in outer] == [f'inner/{frame.name}' for frame in inner]
    (tmp_path / 'nested' / 'sheet.png').touch()  # import_data.py and make_digits.py write it
    assert media.open_media(str(tmp_path / 'nested')).total == inner.total


@pytest.mark.parametrize(
    ('source', 'message'),
    [
        ('empty', 'folder empty has no images ('),
        ('absent.png', 'absent.png not found (from '),
        ('*.bmp', 'pattern *.bmp matches no file (from '),
        ('notes.txt', '.mpeg); the order is CONFIG CHECKPOINT SOURCE.'),
        ('broken.mp4', 'OpenCV cannot read the video broken.mp4'),
        ('webcam:x', "camera 'x' is not a number"),
    ],
)
def test_a_source_without_images_prints_one_message(
    tools, checkpoint, tmp_path, monkeypatch, capsys, source, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'notes.txt').write_text('text')
    (tmp_path / 'broken.mp4').write_bytes(b'no video')
    assert message in failed(capsys, tools.config, checkpoint, source)
    assert not (tmp_path / 'predictions').exists()


def test_checkpoints_that_do_not_fit_print_one_message(tools, checkpoint, images, tmp_path, capsys):
    absent = failed(capsys, tools.config, 'absent.pth', images, '--out', tmp_path)
    assert 'checkpoint absent.pth not found' in absent
    folder = failed(capsys, tools.config, tmp_path, images, '--out', tmp_path)
    assert 'is a folder; give one of its .pth files' in folder
    (tmp_path / 'a.weights').write_bytes(b'\0' * 64)
    darknet = failed(capsys, tools.config, tmp_path / 'a.weights', images, '--out', tmp_path)
    assert 'a.weights is a file of darknet, not a checkpoint; convert the weights' in darknet
    other = failed(capsys, CONFIGS / 'ssd/ssd_digits.py', checkpoint, images, '--out', tmp_path)
    assert f'checkpoint {checkpoint} does not fit' in other or 'has no layer of' in other
    classes = ['model.bbox_head.predictor.num_classes=3', 'model.bbox_head.encoder.num_classes=3']
    message = failed(
        capsys, tools.config, checkpoint, images, '--out', tmp_path, '--cfg-options', *classes
    )
    assert 'of another shape' in message and 'The number of classes may differ.' in message


def test_show_without_windows_prints_one_message(
    tools, checkpoint, images, tmp_path, monkeypatch, capsys
):
    def imshow(*_):
        raise cv2.error('The function is not implemented')

    monkeypatch.setattr(cv2, 'imshow', imshow)
    message = failed(capsys, tools.config, checkpoint, images, '--out', tmp_path, '--show')
    assert '--show needs a display and an OpenCV with windows' in message


def test_class_names_of_the_checkpoint_come_first(tools, checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    content['meta'] = dict(dataset_meta=dict(CLASSES=('left', 'right')))
    torch.save(content, tmp_path / 'named.pth')
    predictor = Predictor(Config.fromfile(tools.config), str(tmp_path / 'named.pth'), 'cpu')
    assert predictor.classes == ('left', 'right')


def test_labels_stay_inside_the_image_and_the_image_is_not_changed():
    image = np.zeros((MIN_SIDE, MIN_SIDE, 3), np.uint8)
    corners = [[0.0, 0, 20, 20], [MIN_SIDE - 20.0, MIN_SIDE - 20, MIN_SIDE, MIN_SIDE]]
    for box in corners:
        found = InstanceData(
            bboxes=torch.tensor([box]), labels=torch.tensor([0]), scores=torch.tensor([0.5])
        )
        drawn = draw_predictions(image, found, dict(classes=['a long name of a class']))
        filled = (drawn.max(-1) > 0).sum()
        middle = np.array([[200.0, 200, 220, 220]])
        found.bboxes = torch.tensor(middle)
        inside = draw_predictions(image, found, dict(classes=['a long name of a class']))
        assert filled >= 0.8 * (inside.max(-1) > 0).sum()  # the label is complete
    assert not image.any()


@pytest.mark.parametrize('extra', [{'keypoints': [[[90, 90], [390, 400]]]}, {'instances_id': [7]}])
def test_lines_grow_with_the_image(extra):
    shares = []
    for factor in (1, 5):
        image = np.zeros((MIN_SIDE * factor, MIN_SIDE * factor, 3), np.uint8)
        found = InstanceData(bboxes=torch.tensor([[80.0, 80.0, 400.0, 420.0]]) * factor)
        found.labels, found.scores = torch.tensor([0]), torch.tensor([0.5])
        for key, value in extra.items():
            found[key] = torch.tensor(value) * (factor if key == 'keypoints' else 1)
        meta = dict(classes=['a'], skeleton=[(0, 1)], flip_pairs=[])
        shares.append((draw_predictions(image, found, meta) > 0).any(-1).mean())
    assert 0.4 < shares[1] / shares[0] < 2  # lines of one width have 0.2


def test_progress_is_lines_outside_a_terminal(monkeypatch):
    monkeypatch.setattr(progress, 'LINE_INTERVAL', 0)
    monkeypatch.setattr(progress, 'FIRST_LINE', 0)
    stream = io.StringIO()
    assert list(progress.show_progress(iter('abc'), 3, 'images', stream)) == ['a', 'b', 'c']
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith('1 of 3 images, ') and 's left' in lines[0]
    assert lines[-1].startswith('3 of 3 images, ') and 's left' not in lines[-1]


def test_short_work_shows_no_lines():
    stream = io.StringIO()
    assert list(progress.show_progress([1, 2], None, 'images', stream)) == [1, 2]
    assert stream.getvalue() == ''


def test_printed_objects_are_grouped_by_box_in_darknets_order():
    boxes = torch.tensor([[0.0, 0, 9, 9], [5, 5, 8, 8], [0, 0, 9, 9], [1, 1, 2, 2], [3, 3, 4, 4]])
    found = InstanceData(
        bboxes=boxes,
        labels=torch.tensor([3, 1, 1, 2, 1]),
        scores=torch.tensor([0.56, 0.624, 0.52, 0.57, 0.59]),
    )
    classes = ('tree', 'car', 'dog', 'truck')
    lines = ['car 52 %', 'truck 56 %', 'dog 57 %', 'car 62 %', 'car 59 %']
    assert predict.object_lines(found, classes) == [f'  {line}' for line in lines]
    found.instances_id = torch.tensor([7, 8, 9, 10, 11])
    assert predict.object_lines(found, classes)[0] == '  car 52 %, track 9'


def test_objects_of_a_single_image_are_printed(tools, checkpoint, images, tmp_path, capsys):
    arguments = (tools.config, checkpoint)
    run(*arguments, images / 'b.jpg', '--out', tmp_path / 'out', '--score', 0, '--no-images')
    single = capsys.readouterr().out.splitlines()
    first = single.index('b.jpg:')
    assert re.fullmatch(r'  (one|two) \d+ %', single[first + 1])
    run(*arguments, images, '--out', tmp_path / 'out', '--score', 0, '--no-images')
    assert 'b.jpg:' not in capsys.readouterr().out
    run(*arguments, images, '--out', tmp_path / 'out', '--score', 0, '--no-images', '--print')
    assert {'a.png:', 'b.jpg:', 'c.png:'} <= set(capsys.readouterr().out.splitlines())


def test_jpeg_files_are_decoded_as_darknet_does_on_request(
    tools, checkpoint, images, tmp_path, monkeypatch
):
    read = []

    def record(path):
        read.append(path.name)
        return cv2.imread(str(path))

    monkeypatch.setattr(predict, 'read_darknet_image', record)
    arguments = (tools.config, checkpoint, images / 'b.jpg', '--out', tmp_path, '--no-images')
    run(*arguments)
    assert not read  # the config does not prepare its input as darknet does
    run(*arguments, '--decoder', 'darknet')
    assert read == ['b.jpg']
    cfg = Config.fromfile(tools.config)
    assert not Predictor(cfg, str(checkpoint), 'cpu').is_darknet
    cfg.test_dataloader.dataset.pipeline[1] = dict(type='DarknetResize', size=(64, 64))
    assert Predictor(cfg, str(checkpoint), 'cpu').is_darknet
