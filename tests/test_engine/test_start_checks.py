"""Checks at the start of a tool: settings, output paths, checkpoints and schedules."""

import json
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.evaluation import CocoMetric
from mmengine.config import Config
from torch import nn

from mmdet_losses.engine.box_sizes import Resizing, input_resizing
from mmdet_losses.engine.cli import check_config_path, check_keys, read_config
from mmdet_losses.engine.fit import check_checkpoint
from mmdet_losses.engine.outputs import check_file, check_folder
from mmdet_losses.engine.processes import UsageError
from mmdet_losses.engine.resume import schedule_note
from mmdet_losses.engine.tta import add_tta
from tools.oracle_map import annotations_first


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ("_base_ = 'absent.py'", r'mine.py needs .*absent.py, which does not exist; correct'),
        ('x = 1\ny = (', r'mine.py does not load \(SyntaxError line 2: .*\); correct it'),
        ('x = y', r"mine.py does not load \(NameError: name 'y' is not defined\); correct it"),
    ],
)
def test_a_config_that_does_not_load_is_one_message(text, message, tmp_path):
    (tmp_path / 'mine.py').write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        read_config(str(tmp_path / 'mine.py'))
    assert '\n' not in str(caught.value)


def test_a_mistyped_setting_of_the_config_is_an_error():
    with pytest.raises(UsageError, match=r"'optim_warpper', which nothing .* 'optim_wrapper'"):
        check_keys(Config(dict(optim_warpper=dict(lr=1))), {})
    check_keys(Config(dict(ssd_train_pipeline=[], max_epochs=3)), {})


def test_a_mistyped_option_of_the_command_line_is_an_error():
    cfg = Config(dict(model={}, dataset_type='a'))
    with pytest.raises(UsageError, match=r"modle.bbox_head: .* no 'modle'; did you mean 'model'"):
        check_keys(cfg, {'modle.bbox_head': 1})
    check_keys(cfg, {'model.new': 1, 'dataset_type': 'b', 'load_from': 'c', 'randomness.seed': 1})


def test_an_output_folder_is_created_and_tried(tmp_path):
    check_folder(tmp_path / 'a' / 'b', '--out')
    assert list((tmp_path / 'a').iterdir()) == [tmp_path / 'a' / 'b']
    assert not list((tmp_path / 'a' / 'b').iterdir())


@pytest.mark.parametrize('inside', ['', '/deeper/still'])
def test_a_file_in_place_of_the_folder_is_named(tmp_path, inside):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UsageError, match=rf'--work-dir is .*, but {tmp_path}/file is a file'):
        check_folder(f'{tmp_path}/file{inside}', '--work-dir')


def test_an_unwritable_folder_is_an_error():
    with pytest.raises(UsageError, match='--out is /proc/new, where no file can be written'):
        check_folder('/proc/new', '--out')
    with pytest.raises(UsageError, match='--out is /proc/new, where no file can be written'):
        check_file('/proc/new/a.pkl', '--out')


def test_a_full_disk_is_an_error(tmp_path, monkeypatch):
    usage = namedtuple('usage', 'total used free')(2**30, 2**30 - 2**20, 2**20)
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage)
    with pytest.raises(UsageError, match='where only 1 MiB are free: free some space'):
        check_folder(tmp_path, '--work-dir')


def test_a_folder_in_place_of_the_output_file_is_an_error(tmp_path):
    with pytest.raises(UsageError, match='which is a folder: give the path of a file'):
        check_file(tmp_path, '--out')


@pytest.mark.parametrize(
    ('layer', 'words'),
    [
        (nn.Linear(2, 4), r'2 of another shape \(weight, \.\.\.\)\. The number of classes may'),
        (nn.Linear(2, 3, bias=False), r'1 missing \(bias, \.\.\.\)'),
        (nn.PReLU(), 'does not fit'),
        (nn.Sequential(nn.Linear(2, 3)), 'has no layer of a.py'),
    ],
    ids=['classes', 'missing', 'other', 'none'],
)
def test_the_checkpoint_of_another_detector_is_an_error(tmp_path, layer, words):
    torch.save(dict(state_dict=layer.state_dict()), tmp_path / 'a.pth')
    with pytest.raises(UsageError, match=words):
        check_checkpoint(str(tmp_path / 'a.pth'), nn.Linear(2, 3), 'a.py')


def test_the_checkpoint_of_the_same_detector_passes_without_a_message(tmp_path, capsys):
    torch.save(dict(state_dict=nn.Linear(2, 3).state_dict()), tmp_path / 'a.pth')
    check_checkpoint(str(tmp_path / 'a.pth'), nn.DataParallel(nn.Linear(2, 3)), 'a.py')
    assert capsys.readouterr() == ('', '')


class RunsCode:
    def __reduce__(self):
        return print, ('code runs',)


def test_a_checkpoint_with_code_is_not_executed(tmp_path, capsys):
    torch.save(dict(state_dict=RunsCode()), tmp_path / 'a.pth')
    with pytest.raises(UsageError, match='does not load as plain tensors'):
        check_checkpoint(str(tmp_path / 'a.pth'), nn.Linear(2, 3), 'a.py')
    assert 'code runs' not in capsys.readouterr().out


def schedule(epochs):
    cosine = dict(type='CosineAnnealingLR', T_max=epochs)
    return Config(dict(train_cfg=dict(max_epochs=epochs), param_scheduler=[cosine]))


def test_resuming_with_another_schedule_prints_a_note(tmp_path):
    path = str(tmp_path / 'epoch_2.pth')
    torch.save(dict(meta=dict(cfg=schedule(5).pretty_text)), path)
    assert schedule_note(path, schedule(5)) is None
    note = schedule_note(path, schedule(10))
    assert 'trained for 5 epochs, with another schedule than the config (10 epochs)' in note
    torch.save(dict(meta=dict(cfg='raise SystemExit')), path)  # parsed, never executed
    assert schedule_note(path, schedule(10)) is None


def concatenated():
    steps = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(64, 32)),
             dict(type='LoadAnnotations'), dict(type='PackDetInputs')]  # fmt: skip
    inner = [dict(type='CocoDataset', pipeline=list(steps)) for _ in range(2)]
    return Config(
        dict(
            model=dict(type='SingleStageDetector'),
            test_dataloader=dict(dataset=dict(type='ConcatDataset', datasets=inner)),
        )
    )


def test_tools_accept_concatenated_test_data():
    cfg = concatenated()
    assert input_resizing(cfg) == Resizing(64.0, 32.0, False)
    for dataset in annotations_first(cfg.test_dataloader).dataset.datasets:
        assert [step.type for step in dataset.pipeline][:2] == [
            'LoadImageFromFile',
            'LoadAnnotations',
        ]
    cfg = concatenated()
    add_tta(cfg)
    for dataset in cfg.test_dataloader.dataset.datasets:
        assert dataset.pipeline[-1].type == 'TestTimeAug'


def coco_metric(tmp_path, annotation):
    box = dict(image_id=1, category_id=1, bbox=[10, 12, 30, 20])
    content = dict(images=[dict(id=1, height=60, width=100)], annotations=[box | annotation])
    content['categories'] = [dict(id=1, name='cat')]
    (tmp_path / 'a.json').write_text(json.dumps(content))
    metric = CocoMetric(str(tmp_path / 'a.json'))
    metric.dataset_meta = dict(classes=('cat',))
    return metric


def result(boxes):
    boxes = np.array(boxes, float).reshape(-1, 4)
    fields = dict(bboxes=boxes, scores=np.ones(len(boxes)), labels=np.zeros(len(boxes), int))
    return [(dict(img_id=1, width=100, height=60), dict(img_id=1, **fields))]


@pytest.mark.parametrize(
    'annotation', [dict(id=0), dict(id=5, iscrowd=None), dict(id=0, iscrowd=0, area=600)]
)
def test_incomplete_annotations_are_evaluated(tmp_path, annotation):
    metric = coco_metric(tmp_path, annotation)
    assert metric.compute_metrics(result([10, 12, 40, 32]))['bbox_mAP'] == pytest.approx(1)


def test_a_test_without_predictions_has_ap_0(tmp_path):
    found = coco_metric(tmp_path, dict(id=1)).compute_metrics(result([]))
    assert found['bbox_mAP'] == found['bbox_mAP_50'] == found['bbox_mAP_l'] == 0


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('ssd_digits', '; did you mean {configs}/ssd/ssd_digits.py?'),
        ('ssd_digits.py', '; did you mean {configs}/ssd/ssd_digits.py?'),
        ('configs/sdd/sdd_digits.py', 'did you mean {configs}/ssd/ssd_digits.py or'),
        ('nothing.py', 'config file nothing.py not found (from {here}).'),
        ('.', 'config . is a folder; give a file, for example own.py.'),
        ('yolov4-tiny.cfg', 'yolov4-tiny.cfg is a file of darknet, not a config; tools/import_'),
    ],
)
def test_a_wrong_path_of_a_config_is_named_with_similar_ones(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'own.py').touch()
    configs = Path(__file__).resolve().parents[2] / 'configs'
    with pytest.raises(UsageError) as error:
        check_config_path(name)
    assert message.format(configs=configs, here=tmp_path) in str(error.value)
