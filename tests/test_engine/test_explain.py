"""Errors are known in every shape in which they come; others stay what they are.

How a whole training ends on them is in ``test_tools/test_bad_input.py``.
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


def test_unknown_errors_stay_unknown():
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
def test_close_names_are_offered(which, name, close):
    said = explain(raised(lambda: which.build(dict(type=name))))
    assert f"type='{name}'" in said
    assert close in re.search('did you mean (.*?)[?]', said).group(1).split(' or ')


def test_a_name_like_no_other_is_only_named():
    said = explain(raised(lambda: MODELS.build(dict(type='Qqqqqqqq'))))
    assert 'did you mean' not in said and 'custom_imports' in said


def test_unknown_argument_of_something_else_stays_unknown():
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
        (DataError('the sentence itself.'), 'the sentence itself.'),
        (FileNotFoundError(2, 'No such file or directory', 'd/7.jpg'), 'picture d/7.jpg is listed'),
        (AssertionError('failed to load image: d/7.jpg'), 'picture d/7.jpg cannot be read'),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize('workers', [0, 1])
def test_errors_of_worker_processes(error, words, workers):
    passed_on = raised(lambda: list(DataLoader(Failing(error), num_workers=workers)))
    assert workers == 0 or 'Original Traceback' in str(passed_on)
    assert explain(passed_on).startswith(words)


def test_an_error_behind_another_is_found():
    def work():
        try:
            raise AssertionError('failed to load image: d/7.jpg')
        except AssertionError as error:
            raise RuntimeError('something general') from error

    assert 'd/7.jpg cannot be read' in explain(raised(work))


def dataset_config(root):
    return dict(data_root=f'{root}/', ann_file='notes/a.json', data_prefix=dict(img='pics/'))


@pytest.mark.parametrize('wrap', [lambda d: d, lambda d: dict(dataset=dict(datasets=[{}, d]))])
def test_the_empty_picture_is_looked_for(tmp_path, wrap):
    (tmp_path / 'notes').mkdir()
    (tmp_path / 'pics').mkdir()
    for name, content in (('a.png', b'full'), ('b.png', b'')):
        (tmp_path / 'pics' / name).write_bytes(content)
    images = [dict(file_name=name) for name in ('a.png', 'b.png')]
    (tmp_path / 'notes/a.json').write_text(json.dumps(dict(images=images)))
    cfg = dict(train_dataloader=dict(dataset=wrap(dataset_config(tmp_path))))
    error = RuntimeError("(-215:Assertion failed) !buf.empty() in function 'imdecode_'")
    assert f'picture {tmp_path}/pics/b.png cannot be read' in explain(error, cfg)
    assert 'picture of the data set cannot be read' in explain(error)
    (tmp_path / 'notes/a.json').unlink()
    assert 'picture of the data set cannot be read' in explain(error, cfg)


def test_missing_annotations_name_the_setting(tmp_path):
    path = f'{tmp_path}/notes/a.json'
    cfg = dict(val_dataloader=dict(dataset=dict(dataset=dataset_config(tmp_path))))
    said = explain(raised(Path(path).read_text), cfg)
    assert said.startswith(f'annotation file {path} does not exist: get the data')
    assert 'val_dataloader.dataset.dataset' in said
    assert explain(raised(Path(path).read_text)) is None
    evaluator = dict(type='CocoMetric', ann_file='data/digits/absent.json')
    digits = dict(test_evaluator=evaluator, made_by=dict(tool='make_digits'))
    assert 'make_digits.py' in explain(raised(Path('data/digits/absent.json').read_text), digits)


def test_missing_weights_name_the_setting(tmp_path):
    weights = str(tmp_path / 'absent.pth')
    error = raised(lambda: load_checkpoint(nn.Linear(1, 1), weights))
    said = explain(error)
    assert said.startswith(f'checkpoint {weights}, which load_from or an init_cfg names, does not')


@pytest.mark.parametrize(
    ('address', 'failure', 'said'),
    [
        ('https://host.invalid/weights.pth', URLError('no network'), 'urlopen error no network'),
        ('torchvision://resnet50', ModuleNotFoundError('No torchvision'), 'No torchvision'),
    ],
)
def test_weights_out_of_reach_name_the_setting(monkeypatch, address, failure, said):
    def fail(*_, **__):
        raise failure

    monkeypatch.setattr('mmengine.runner.checkpoint.load_url', fail)
    monkeypatch.setattr('mmengine.runner.checkpoint.get_torchvision_models', fail)
    sentence = explain(raised(lambda: load_checkpoint(nn.Linear(1, 1), address)))
    assert sentence.startswith(f'weights {address}, which load_from or an init_cfg names, cannot')
    assert said in sentence
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


def test_a_missing_data_prefix_is_not_blamed_on_the_annotations(tmp_path):
    truth = dict(images=[dict(id=1, file_name='a.png')], annotations=[], categories=[])
    (tmp_path / 'a.json').write_text(json.dumps(truth))
    error = raised(lambda: CocoDataset(ann_file=str(tmp_path / 'a.json')))
    assert error.args == ('img',)
    assert explain(error) is None
    error = raised(lambda: CocoDataset(ann_file=str(tmp_path / 'a.json'), data_prefix=dict(img='')))
    assert explain(error).startswith(f"annotation file {tmp_path}/a.json lacks 'height'")


def test_a_listed_xml_that_is_not_there_is_named(tmp_path):
    (tmp_path / 'list.txt').write_text('7\n')
    prefix = dict(sub_data_root=str(tmp_path))

    def build():
        VOCDataset(data_root=str(tmp_path), ann_file='list.txt', data_prefix=prefix)

    said = explain(raised(build))
    assert said.startswith(f'annotation file {tmp_path}/Annotations/7.xml does not exist, but ')
    (tmp_path / 'Annotations').mkdir()
    (tmp_path / 'JPEGImages').mkdir()
    (tmp_path / 'Annotations' / '7.xml').write_text('<annotation>')
    assert f'{tmp_path}/Annotations/7.xml is not in the format of its data' in explain(
        raised(build)
    )


class Picky(Dataset):
    """Raises what this package says about a value that it cannot use."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return greedy_nms(*torch.zeros(3, 0, 4), iou_threshold=0.5, kind='foo')


@pytest.mark.parametrize('workers', [0, 1])
def test_what_this_package_raises_is_its_own_sentence(workers):
    passed_on = raised(lambda: list(DataLoader(Picky(), num_workers=workers)))
    assert explain(passed_on) == "kind='foo' is unknown; choose 'iou' or 'diou'."


def test_a_slip_inside_this_package_shows_its_traceback():
    assert explain(raised(lambda: greedy_nms(None, None, None, 0.5))) is None
    assert explain(raised(lambda: greedy_nms(torch.zeros(2, 4), torch.zeros(2), 'ab', 0.5))) is None
