"""Bad input prints one message; unusable boxes are dropped, counted and reported."""

import json
import shutil

import pytest

from mmdet_losses import engine
from tools import train as tool


@pytest.fixture(name='data')
def _data(tools, tmp_path):
    """A copy of the small data set, which a test can change."""
    return shutil.copytree(tools.folder / 'data', tmp_path / 'data')


@pytest.fixture(name='train')
def _train(tools, tmp_path, data, capsys):
    """Function that trains in this process; returns exit code, standard error and log."""

    def call(*options):
        args = tool.parse_args(
            [str(tools.config), '--work-dir', str(tmp_path / 'work'), '--cfg-options',
             'train_cfg.max_epochs=1', f'train_dataloader.dataset.data_root={data}', *options]
        )  # fmt: skip
        code = 0
        try:
            engine.run_tool(tool.train, args)
        except SystemExit as exit_error:
            code = exit_error.code
        logs = (tmp_path / 'work').glob('*/*.log')
        return code, capsys.readouterr().err, ''.join(path.read_text() for path in logs)

    return call


def edit(data, change):
    path = data / 'train.json'
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def add_boxes(*boxes, category=1):
    def change(content):
        for i, box in enumerate(boxes):
            ids = dict(id=100 + i, image_id=0, category_id=category)
            content['annotations'].append(ids | dict(bbox=box, area=9, iscrowd=0))

    return change


CRITERION = 'model.bbox_head.criterion.loss_heatmap'


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (
            [f'{CRITERION}.type=PenaltyReducedFocalLos'],
            ["type='PenaltyReducedFocalLos'", 'did you mean PenaltyReducedFocalLoss', 'custom_imp'],
        ),
        (
            [f'{CRITERION}.type=PenaltyReducedFocalLoss', f'{CRITERION}.alfa=2'],
            ["argument 'alfa'", 'did you mean alpha', 'its arguments are alpha, '],
        ),
        (
            ['train_dataloader.dataset.metainfo.classes=(cat,two)'],
            ['train.json', 'one, two', 'not cat', 'set metainfo=dict(classes='],
        ),
        (
            ['train_dataloader.dataset.metainfo.classes=(two,one)'],
            ['train.json', 'in the order one, two', 'classes=two, one', "the file's order"],
        ),
        (
            ['train_dataloader.dataset.ann_file=absent.json'],
            ['data/absent.json does not exist', 'train_dataloader.dataset'],
        ),
        (
            ['train_dataloader.dataset.data_prefix.img=absent/'],
            ['data/absent/', 'does not exist', 'data_prefix'],
        ),
        (
            ['model.bbox_head.predictor.in_channels=8'],
            ['CenterNetPointsPredictor (model.bbox_head.predictor in the config) expects 8',
             'its input has 16', 'in_channels to 16'],
        ),
        (
            ['model.bbox_head.predictor.num_classes=1', 'model.bbox_head.encoder.num_classes=1'],
            ['has 2 classes, but the head has num_classes=1', 'set num_classes=2'],
        ),
        (['model.bbox_head.encoder.convention=foo'], ["'foo' is unknown", 'choose']),
        (['model.bbox_head.criterion.normalizer=foo'], ["'foo'", 'choose']),
    ],
    ids=['loss', 'argument', 'classes', 'order', 'annotations', 'prefix', 'channels', 'head',
         'convention', 'normalizer'],
)  # fmt: skip
def test_a_wrong_config_prints_one_message(train, options, words):
    code, error, _ = train(*options)
    assert code == 1
    assert error.startswith('error: ') and error.count('\n') == 1
    for word in words:
        assert word in error


@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize('content', [b'', b'not an image', None], ids=['empty', 'text', 'absent'])
def test_an_unreadable_image_is_named(train, data, content, workers):
    path = data / 'images/3.png'
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    code, error, _ = train(f'train_dataloader.num_workers={workers}')
    assert code == 1
    assert error.count('error: ') == 1 and error.count('\n') == 1
    assert str(path) in error
    assert ('does not exist' if content is None else 'replace the file') in error


def test_a_truncated_image_is_named(train, data):
    path = data / 'images/3.png'
    path.write_bytes(path.read_bytes()[:40])  # the header is there, the pixels are not
    code, error, _ = train()
    assert code == 1
    assert f'image {path} cannot be read' in error and error.count('\n') == 1


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        ('{"images": [{"id"', 'is not JSON'),
        ('{"images": []}', "has no 'categories'"),
        ('[]', 'does not match its data set type'),
    ],
)
def test_a_broken_annotation_file_is_named(train, data, content, words):
    (data / 'train.json').write_text(content)
    code, error, _ = train()
    assert code == 1
    assert f'annotation file {data}/train.json {words}' in error and error.count('\n') == 1


@pytest.mark.parametrize('box', [[1, 2, 3], None, [1, 2, 3, '4']])
def test_a_box_that_is_not_four_numbers_is_named(train, data, box):
    edit(data, add_boxes(box))
    code, error, _ = train()
    assert code == 1
    assert f'annotation 100 in {data}/train.json has the bbox {box}, which' in error
    assert error.count('\n') == 1


def test_training_data_without_objects_raise(train, data):
    edit(data, lambda content: content.update(annotations=[]))
    code, error, _ = train()
    assert code == 1
    assert 'none of 0 annotations is a usable object' in error and error.count('\n') == 1


@pytest.mark.short_training
def test_bad_boxes_are_dropped_counted_and_reported_once(train, data):
    nan = float('nan')
    edit(data, add_boxes([nan, 2, 9, 9], [5, 5, -3, 4], [5, 5, 0, 4], [5, 5, 4, 0], [70, 5, 4, 4]))
    edit(data, add_boxes([5, 5, 9, 9], category=7))
    edit(data, lambda content: content['annotations'][-1].update(id=200))
    code, error, log = train()
    assert code == 0 and 'error' not in error
    assert log.count('boxes are not used') == 1
    assert (
        '6 of 22 boxes are not used: 1 not finite (the first: annotation 100 in 0.png), 1 inve'
        in log
    )
    assert '2 smaller than a pixel' in log and '1 outside the image' in log
    assert '1 of an unknown category' in log


@pytest.mark.short_training
def test_images_without_objects_are_counted(train):
    code, _, log = train('train_dataloader.dataset.ann_file=half.json')
    assert code == 0
    assert log.count('4 of 8 training images have no objects.') == 1
