"""Explanations of known errors, from the main process and from workers.

``test_tools/test_bad_input.py`` tests them in a whole training.
"""

import json
import re
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from mmdet.datasets import CocoDataset, VOCDataset
from mmengine.runner import load_checkpoint
from torch import nn
from torch.utils.data import DataLoader, Dataset

from mmdet_losses.data.clean import DataError
from mmdet_losses.engine.explain import explain
from mmdet_losses.ops.nms import greedy_nms
from mmdet_losses.registry import MODELS, TASK_UTILS, TRANSFORMS


def raised(work):
    try:
        work()
    except Exception as error:
        return error
    raise AssertionError('nothing was raised')


def test_unknown_errors_have_no_explanation():
    for error in (ZeroDivisionError('x'), KeyError('x'), RuntimeError(), FileNotFoundError('y')):
        assert explain(error) is None
    assert explain(raised(Path('absent.pth').read_text)) is None


@pytest.mark.parametrize(
    ('which', 'name', 'close'),
    [
        (MODELS, 'MaskedL1Los', 'MaskedL1Loss'),
        (MODELS, 'mmdet_losses.MaskedL1Los', 'MaskedL1Loss'),
        (MODELS, 'ResNett', 'ResNet'),
        (MODELS, 'Conv2dd', 'Conv2d'),  # a name of MMEngine's root registry
        (TASK_UTILS, 'CenterNetPointsEncoder', 'CenterNetPointsTargetEncoder'),
        (TRANSFORMS, 'CheckAnnotation', 'CheckAnnotations'),
    ],
)
def test_similar_names_are_suggested(which, name, close):
    message = explain(raised(lambda: which.build(dict(type=name))))
    assert f"type='{name}'" in message
    assert close in re.search('did you mean (.*?)[?]', message).group(1).split(' or ')


def test_a_name_without_similar_names_is_named():
    message = explain(raised(lambda: MODELS.build(dict(type='Qqqqqqqq'))))
    assert 'did you mean' not in message and 'custom_imports' in message


def test_an_unknown_argument_of_another_class_has_no_explanation():
    assert explain(raised(lambda: DataLoader([], nonsense=1))) is None


class Failing(Dataset):
    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise self.error


@pytest.mark.parametrize(
    ('error', 'words'),
    [
        (DataError('the message.'), 'the message.'),
        (FileNotFoundError(2, 'No such file or directory', 'd/7.jpg'), 'image d/7.jpg is listed'),
        (AssertionError('failed to load image: d/7.jpg'), 'image d/7.jpg cannot be read'),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize('workers', [0, 1])
def test_errors_from_worker_processes_are_explained(error, words, workers):
    passed_on = raised(lambda: list(DataLoader(Failing(error), num_workers=workers)))
    assert workers == 0 or 'Original Traceback' in str(passed_on)
    assert explain(passed_on).startswith(words)


def test_the_cause_of_an_error_is_explained():
    def work():
        try:
            raise AssertionError('failed to load image: d/7.jpg')
        except AssertionError as error:
            raise RuntimeError('something general') from error

    assert 'd/7.jpg cannot be read' in explain(raised(work))


def dataset_config(root):
    return dict(data_root=f'{root}/', ann_file='annotations/a.json', data_prefix=dict(img='pics/'))


@pytest.mark.parametrize('wrap', [lambda d: d, lambda d: dict(dataset=dict(datasets=[{}, d]))])
def test_the_empty_image_file_is_found(tmp_path, wrap):
    (tmp_path / 'annotations').mkdir()
    (tmp_path / 'pics').mkdir()
    for name, content in (('a.png', b'full'), ('b.png', b'')):
        (tmp_path / 'pics' / name).write_bytes(content)
    images = [dict(file_name=name) for name in ('a.png', 'b.png')]
    (tmp_path / 'annotations/a.json').write_text(json.dumps(dict(images=images)))
    cfg = dict(train_dataloader=dict(dataset=wrap(dataset_config(tmp_path))))
    error = RuntimeError("(-215:Assertion failed) !buf.empty() in function 'imdecode_'")
    assert f'image {tmp_path}/pics/b.png cannot be read' in explain(error, cfg)
    assert 'image of the data set cannot be read' in explain(error)
    (tmp_path / 'annotations/a.json').unlink()
    assert 'image of the data set cannot be read' in explain(error, cfg)


def test_missing_annotations_name_the_config_key(tmp_path):
    path = f'{tmp_path}/annotations/a.json'
    cfg = dict(val_dataloader=dict(dataset=dict(dataset=dataset_config(tmp_path))))
    message = explain(raised(Path(path).read_text), cfg)
    assert message.startswith(f'annotation file {path} does not exist: get the data')
    assert 'val_dataloader.dataset.dataset' in message
    assert explain(raised(Path(path).read_text)) is None
    evaluator = dict(type='CocoMetric', ann_file='data/digits/absent.json')
    digits = dict(test_evaluator=evaluator, made_by=dict(tool='make_digits'))
    assert 'make_digits.py' in explain(raised(Path('data/digits/absent.json').read_text), digits)


def test_missing_weights_name_the_config_keys(tmp_path):
    weights = str(tmp_path / 'absent.pth')
    error = raised(lambda: load_checkpoint(nn.Linear(1, 1), weights))
    message = explain(error)
    assert message.startswith(f'checkpoint {weights} of load_from or an init_cfg does not exist')


@pytest.mark.parametrize(
    ('address', 'failure', 'reason'),
    [
        ('https://host.invalid/weights.pth', URLError('no network'), 'urlopen error no network'),
        ('torchvision://resnet50', ModuleNotFoundError('No torchvision'), 'No torchvision'),
    ],
)
def test_a_failed_download_names_the_config_keys(monkeypatch, address, failure, reason):
    def fail(*_, **__):
        raise failure

    monkeypatch.setattr('mmengine.runner.checkpoint.load_url', fail)
    monkeypatch.setattr('mmengine.runner.checkpoint.get_torchvision_models', fail)
    message = explain(raised(lambda: load_checkpoint(nn.Linear(1, 1), address)))
    assert message.startswith(f'weights {address} of load_from or an init_cfg cannot be downloaded')
    assert reason in message
    assert explain(failure.with_traceback(None)) is None


class Neck(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.convolution = nn.Conv2d(channels, 4, 3)

    def forward(self, feats):
        return self.convolution(feats)


def test_the_innermost_configured_layer_is_named():
    error = raised(lambda: nn.Sequential(Neck(8))(torch.zeros(1, 3, 9, 9)))
    cfg = dict(model=dict(type='Sequential', necks=[dict(type='x.Neck', channels=8)]))
    assert explain(error, cfg).startswith('Neck (model.necks[0] in the config) expects 8 channels')
    assert explain(error).startswith('a layer of the model expects 8 channels')


def test_a_missing_data_prefix_has_no_explanation(tmp_path):
    content = dict(images=[dict(id=1, file_name='a.png')], annotations=[], categories=[])
    (tmp_path / 'a.json').write_text(json.dumps(content))
    error = raised(lambda: CocoDataset(ann_file=str(tmp_path / 'a.json')))
    assert error.args == ('img',)
    assert explain(error) is None
    error = raised(lambda: CocoDataset(ann_file=str(tmp_path / 'a.json'), data_prefix=dict(img='')))
    assert explain(error).startswith(f"annotation file {tmp_path}/a.json has no 'height'")


def test_a_missing_xml_file_is_named(tmp_path):
    (tmp_path / 'list.txt').write_text('7\n')
    prefix = dict(sub_data_root=str(tmp_path))

    def build():
        VOCDataset(data_root=str(tmp_path), ann_file='list.txt', data_prefix=prefix)

    message = explain(raised(build))
    assert message.startswith(f'annotation file {tmp_path}/Annotations/7.xml does not exist, but ')
    (tmp_path / 'Annotations').mkdir()
    (tmp_path / 'JPEGImages').mkdir()
    (tmp_path / 'Annotations' / '7.xml').write_text('<annotation>')
    assert f'{tmp_path}/Annotations/7.xml does not match its data set' in explain(raised(build))


class Picky(Dataset):
    """Raises an error of this package about a wrong argument."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return greedy_nms(*torch.zeros(3, 0, 4), iou_threshold=0.5, kind='foo')


@pytest.mark.parametrize('workers', [0, 1])
def test_an_error_of_this_package_is_its_own_message(workers):
    passed_on = raised(lambda: list(DataLoader(Picky(), num_workers=workers)))
    assert explain(passed_on) == "kind='foo' is unknown; choose 'iou' or 'diou'."


def test_a_defect_of_this_package_has_no_explanation():
    assert explain(raised(lambda: greedy_nms(None, None, None, 0.5))) is None
    assert explain(raised(lambda: greedy_nms(torch.zeros(2, 4), torch.zeros(2), 'ab', 0.5))) is None
