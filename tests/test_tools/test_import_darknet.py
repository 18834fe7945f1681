"""import_darknet.py and export_darknet.py: cfg and weights to config and checkpoint, and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmdet_losses import engine
from mmdet_losses.detectors.yolo.darknet_cfg import CfgError, read_cfg_text
from mmdet_losses.detectors.yolo.darknet_config_text import DataPaths, config_text
from mmdet_losses.detectors.yolo.darknet_export import export_cfg
from mmdet_losses.detectors.yolo.darknet_files import layers_in_order
from mmdet_losses.detectors.yolo.darknet_import import annotation_names, import_cfg
from mmdet_losses.registry import MODELS
from tests.darknet_cfgs import (
    ALEXEYAB,
    CFGS,
    CSP,
    DETECTION,
    GAUSSIAN,
    REDMON,
    REGION,
    SOME_COUNTERS,
)
from tools import export_darknet, import_darknet, predict, test, train

NAMES = ('one', 'two')
CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


@pytest.fixture(autouse=True)
def _scope():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def as_config(text, **options) -> Config:
    imported = import_cfg(text, names=NAMES, **options)
    return Config.fromstring(config_text(imported, 'small.cfg', NAMES, DataPaths()), '.py')


def parts(text):
    """What the import makes of a cfg, with the code that the text suggests."""
    return import_cfg(text, names=NAMES).parts


def write_files(folder, text):
    """A cfg, its weights in darknet's order and the names of its classes."""
    (folder / 'small.cfg').write_text(text)
    (folder / 'small.names').write_text('one\ntwo\n\n')
    network = MODELS.build(as_config(text).model.backbone)
    holder = torch.nn.ModuleDict(dict(backbone=network))
    state = holder.state_dict()
    keys = [key for layer in layers_in_order(holder, ('backbone',)) for key in layer.keys]
    values = np.random.default_rng(0).uniform(0.1, 0.9, sum(state[key].numel() for key in keys))
    header = np.array([0, 2, 5, 0, 0], '<i4').tobytes()
    (folder / 'small.weights').write_bytes(header + values.astype('<f4').tobytes())
    return values.astype(np.float32)


def run_import(folder, *extra):
    files = [str(folder / f'small.{end}') for end in ('cfg', 'weights', 'names')]
    out = str(folder / 'out')
    return import_darknet.main([*files[:2], '--names', files[2], '--out', out, *extra])


def test_an_imported_detector_trains_tests_and_predicts(tools, tmp_path, capsys):
    write_files(tmp_path, ALEXEYAB)
    data = ['--data-root', f'{tools.folder}/data/', '--train-ann', 'train.json', '--val-ann']
    data += ['train.json', '--train-images', 'images/', '--val-images', 'images/']
    assert run_import(tmp_path, *data) == 0
    assert "2 detection layers, 2 classes, rules of AlexeyAB's" in capsys.readouterr().out
    config, checkpoint = (str(tmp_path / 'out' / f'small.{end}') for end in ('py', 'pth'))
    small = ['train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False']
    small += ['val_dataloader.num_workers=0', 'val_dataloader.persistent_workers=False']
    small += ['test_dataloader.num_workers=0', 'test_dataloader.persistent_workers=False']
    small += ['train_cfg.max_iters=1', 'train_cfg.val_interval=1', 'custom_hooks=[]']
    small += ['param_scheduler.0.steps=[]', 'param_scheduler.0.scales=[]']
    work = ['--work-dir', str(tmp_path / 'work'), '--cfg-options', *small]
    engine.run_tool(train.train, train.parse_args([config, *work, f'load_from={checkpoint}']))
    assert (tmp_path / 'work' / 'iter_1.pth').is_file()
    engine.run_tool(test.test, test.parse_args([config, checkpoint, *work]))
    image = str(next(tools.folder.glob('data/images/*.png')))
    arguments = [config, checkpoint, image, '--out', str(tmp_path / 'shown')]
    engine.run_tool(predict.work, predict.parse_args(arguments))
    assert list((tmp_path / 'shown').glob('*.png'))


@pytest.mark.parametrize('name', CFGS)
def test_export_and_import_give_the_same_detector(name, tmp_path):
    values = write_files(tmp_path, CFGS[name])
    assert run_import(tmp_path) == 0
    config, checkpoint = (str(tmp_path / 'out' / f'small.{end}') for end in ('py', 'pth'))
    assert export_darknet.main([config, checkpoint, '--out', str(tmp_path / 'back')]) == 0
    written = np.fromfile(tmp_path / 'back.weights', '<f4', offset=20)
    np.testing.assert_array_equal(written, values)
    assert (tmp_path / 'back.names').read_text() == 'one\ntwo\n'
    code = import_cfg(CFGS[name]).code
    again = import_cfg((tmp_path / 'back.cfg').read_text(), code, NAMES)
    assert again.parts == import_cfg(CFGS[name], code, NAMES).parts


@pytest.mark.parametrize('name', CFGS)
def test_the_written_config_has_the_imported_parts(name):
    config = as_config(CFGS[name])
    want = import_cfg(CFGS[name], names=NAMES).parts
    for key in ('model', 'train_pipeline', 'test_pipeline', 'optim_wrapper', 'param_scheduler'):
        assert config[key] == want[key]
    assert config.train_dataloader.get('batch_sampler') == want.get('batch_sampler')


def test_the_options_of_yolo_layers_reach_encoder_criterion_and_test():
    model = parts(ALEXEYAB)['model']
    head = model['bbox_head']
    assert head['encoder'] == dict(
        type='YOLOV4TargetEncoder',
        num_classes=2,
        code='alexeyab',
        max_objects=50,
        anchors=[[(16, 24), (40, 30)], [(8, 8), (16, 24)]],
        all_anchors=[(8, 8), (16, 24), (40, 30)],
        masks=[(1, 2), (0, 1)],
        scale_xy=1.05,
        iou_threshold=0.213,
        squared=False,
    )
    assert head['criterion'] == dict(
        type='YOLOV4Loss',
        code='alexeyab',
        ignore_threshold=0.6,
        truth_threshold=1,
        normalizer='images',
        box='ciou',
        gradient='darknet',
        iou_normalizer=0.07,
        obj_normalizer=0.4,
        cls_normalizer=0.5,
        max_delta=5,
        label_smoothing=0.1,
        objectness_smooth=False,
        focal=True,
        class_counters=[10, 20],
    )
    assert model['test_cfg']['nms']['kind'] == 'diou'


def test_some_of_the_yolo_layers_can_have_class_counters():
    criterion = parts(SOME_COUNTERS)['model']['bbox_head']['criterion']
    assert (criterion['class_counters'], criterion['counted']) == ([10, 20], (False, True))


def test_a_gaussian_layer_is_a_detector_of_its_own():
    head = parts(GAUSSIAN)['model']['bbox_head']
    assert head['predictor'] == dict(
        type='DarknetPredictor', detector='gaussian_yolo', num_classes=2
    )
    assert (head['encoder']['type'], head['encoder']['point']) == (
        'GaussianYOLOTargetEncoder',
        'left_top',
    )
    criterion = head['criterion']
    assert (criterion['type'], criterion['box']) == ('GaussianYOLOLoss', 'giou')
    assert (criterion['uc_normalizer'], criterion['iou_normalizer']) == (0.5, 0.5)
    model = MODELS.build(as_config(GAUSSIAN).model)
    outputs = model(torch.rand(1, 3, 64, 64), mode='tensor')
    assert [each.shape[1] for each in outputs.levels] == [21]
    assert [each.shape[1] for each in outputs.sigmas] == [12]


def test_the_options_of_net_reach_pipeline_and_schedule():
    imported = parts(ALEXEYAB)
    mosaic = imported['train_pipeline'][0]
    assert mosaic['type'] == 'DarknetMosaic'
    assert (mosaic['jitter'], mosaic['resize'], mosaic['hue']) == (0.3, 1.5, 0.1)
    assert imported['batch_size'] == 2
    assert imported['optim_wrapper']['accumulative_counts'] == 2
    assert imported['train_cfg']['max_iters'] == 400
    assert imported['param_scheduler'][0]['steps'] == [100, 150]
    assert imported['custom_hooks'][0]['alpha'] == 0.9998
    redmon = parts(REDMON)
    assert [step['type'] for step in redmon['train_pipeline'][:3]] == [
        'RedmonPlace',
        'RandomFlip',
        'RedmonColors',
    ]
    assert redmon['batch_sampler'] == dict(type='DrawnSizeBatchSampler', code='redmon', interval=20)
    assert redmon['test_pipeline'][1]['type'] == 'DarknetLetterBox'
    assert parts(CSP)['test_pipeline'][1]['type'] == 'DarknetLetterBox'
    assert parts(ALEXEYAB)['test_pipeline'][1]['type'] == 'DarknetResize'


def test_the_sigmoid_before_new_coords_is_part_of_the_encoder():
    model = parts(CSP)['model']
    assert model['backbone']['layers'][3]['activation'] == 'linear'
    assert model['bbox_head']['encoder']['squared']


def test_region_anchors_are_pixels():
    encoder = parts(REGION)['model']['bbox_head']['encoder']
    assert encoder['anchors'] == [[(17.28, 19.04), (54.72, 70.56)]]


def test_stopbackward_freezes_the_layers_up_to_it():
    frozen = parts(REDMON.replace('size=2\nstride=2\n', 'size=2\nstride=2\nstopbackward=1\n'))
    assert frozen['model']['backbone']['frozen_stages'] == 2
    later = parts(REDMON.replace('size=2\nstride=2\n', 'size=2\nstride=2\nstopbackward=800\n'))
    assert later['custom_hooks'] == [dict(type='UnfreezeHook', iteration=1600)]


def test_values_are_read_as_in_darknet():
    assert parts(REDMON.replace('layers=-3', 'layers=-3 ### three before')) == parts(REDMON)
    assert parts(REDMON.replace('width=64', 'width=64  # pixels\nwidth=32')) == parts(REDMON)
    assert parts(REDMON.replace('width=64', '\twidth = 6 4 ; pixels')) == parts(REDMON)
    assert parts(REDMON.replace('[net]', '[network]').rstrip('\n')) == parts(REDMON)


def test_a_cfg_of_windows_is_read(tmp_path):
    path = tmp_path / 'small.cfg'
    comment = '# 测试\n'.encode('gbk')
    path.write_bytes(b'\xef\xbb\xbf' + comment + REDMON.replace('\n', '\r\n').encode())
    assert parts(read_cfg_text(path)) == parts(REDMON)


def test_a_folder_of_cfgs_is_checked(tmp_path, capsys):
    (tmp_path / 'old').mkdir()
    (tmp_path / 'small.cfg').write_text(REDMON)
    (tmp_path / 'old' / 'crop.cfg').write_text(DETECTION.replace('[dropout]', '[crop]\n[dropout]'))
    assert import_darknet.main(['--check', str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith('old/crop.cfg: [crop] (layer 4), line ')
    assert lines[1] == (
        'small.cfg: 10 layers, 2 detection layers, 2 classes, 944 numbers in a weights file'
    )
    assert lines[2:] == ['2 cfgs: 1 imported and built, 1 not']
    (tmp_path / 'old' / 'crop.cfg').unlink()
    assert import_darknet.main(['--check', str(tmp_path)]) == 0
    with pytest.raises(SystemExit):
        import_darknet.main([str(tmp_path / 'small.cfg')])
    assert 'or --check FOLDER' in capsys.readouterr().err


def test_options_that_darknet_does_not_read_are_notes():
    imported = import_cfg(REDMON.replace('random=1', 'uc_normalizer=1'))
    assert len(imported.notes) == 2
    assert 'option uc_normalizer=1, line' in imported.notes[0]


def test_anchors_that_the_list_lacks_are_darknets():
    short = import_cfg(REDMON.replace('num=3', 'num=4'))
    encoder = short.parts['model']['bbox_head']['encoder']
    assert encoder['all_anchors'][3] == (0.5, 0.5)
    assert '6 numbers are given for 4 anchors; the missing ones are 0.5' in short.notes[0]
    more = import_cfg(REDMON.replace('num=3', 'num=2'))
    assert more.parts['model']['bbox_head']['encoder']['all_anchors'][2] == (40, 30)
    assert 'num is only 2' in more.notes[0]


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (REDMON.replace('policy=steps', 'policy=sgdr'), r'\[net\], option policy=sgdr, line 14'),
        (REDMON.replace('hue=.1', 'adam=1'), r'\[net\], option adam=1, line 10: this option'),
        (REDMON.replace('width=64', 'width=wide'), r'option width=wide, line 4: .* an integer'),
        (REDMON.replace('width=64', ''), r'\[net\], line 1: width is missing'),
        (REDMON.replace('width=64', 'width=0'), r'option width=0, line 4: .* at least 1'),
        (
            REDMON.replace('size=3\nstride=2\npad=1', 'size=99\nstride=2\npad=0', 1),
            r'line \d+: the output would be 4x-17x-17 .* enlarge width',
        ),
        (REDMON.replace('layers=-3', 'layers=-3\ngroups=2\ngroup_id=2'), r'below groups=2'),
        (REDMON.replace('hue=.1', 'hue=nan'), r'option hue=nan, line 10: .* a number'),
        (REDMON.replace('hue=.1', 'hue=blue'), r'option hue=blue, line 10: .* a number'),
        (REDMON.replace('scales=.1,.1', 'scales=.1'), r'option scales=\.1, line 16: give one'),
        (REDMON.replace('classes=2', 'classes=3', 1), r'option classes=2, .* differs'),
        (REDMON.replace('mask=1,2', 'mask=1,7'), r'option mask=1,7, .* only 3 anchors'),
        (REDMON.replace('filters=14', 'filters=15', 1), r'has 15 outputs, .* reads 14'),
        (REDMON.replace('layers=-3', 'layers=-3,0'), r'option layers=-3,0, .* do not fit'),
        (REDMON.replace('random=1', 'map=no.map'), r'option map=no\.map, .* no such file'),
        (REDMON.replace('random=1', 'embedding_layer=3'), r'embedding_layer=3, .* not supported'),
        (ALEXEYAB.replace('iou_loss=ciou', 'iou_loss=eiou'), r'iou_loss=eiou, .* choose mse'),
        (ALEXEYAB.replace('greedynms', 'cornersnms'), r'nms_kind=cornersnms, line .* choose'),
        (ALEXEYAB.replace('subdivisions=2', 'subdivisions=3'), r'subdivisions=3, .* divisor'),
        (CSP.replace('logistic', 'linear'), r'activation=linear, .* needs activation=logistic'),
        (REGION.replace('coords=4', 'coords=5'), r'\[region\] .* option coords=5, .* set coords=4'),
        (REGION.replace('random=1', 'tree=a.tree'), r'option tree=a\.tree, .* no such file'),
        (GAUSSIAN.replace('left_top', 'corner'), r'yolo_point=corner, .* choose one of center'),
        (GAUSSIAN.replace('filters=33', 'filters=21'), r'has 21 outputs, .* reads 33'),
        (DETECTION.replace('num=2', 'num=3'), r'has 108 outputs, .* reads 153'),
        (DETECTION + REGION.partition('[reorg]')[2], r'line \d+'),
        (REDMON.replace('mask=1,2', f'mask={"1," * 99}7'), r'option mask=1,1,[1,]*\.\.\., line'),
        (
            REDMON.partition('[yolo]')[0] + '[softmax]\n',
            r'no \[yolo\], \[region\] or \[detection\]',
        ),
    ],
)
def test_what_the_config_cannot_express_is_one_message_with_the_line(text, message):
    with pytest.raises(CfgError, match=message) as caught:
        import_cfg(text)
    assert '\n' not in str(caught.value)


def test_the_tool_prints_one_line_and_writes_nothing(tmp_path, capsys):
    write_files(tmp_path, REDMON)
    (tmp_path / 'small.names').write_text('one\n')
    assert run_import(tmp_path) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert 'the file of names has 1 classes' in line
    (tmp_path / 'small.names').write_text('one\ntwo\n')
    (tmp_path / 'small.weights').write_bytes(b'\0' * 24)
    assert run_import(tmp_path) == 1
    assert not list(tmp_path.glob('out/*'))


def test_files_in_the_wrong_order_and_names_that_are_no_text_are_named(tmp_path, capsys):
    binary = tmp_path / 'a.weights'
    binary.write_bytes(b'\xff\xd8\x00')
    cfg = tmp_path / 'a.cfg'
    for files, message in (
        ((binary, cfg, '--names', cfg), 'the order is FILE.cfg FILE.weights'),
        ((cfg, binary, '--names', binary), 'a.weights is no text; give a file with one class'),
    ):
        assert import_darknet.main([*map(str, files), '--out', str(tmp_path / 'out')]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith('error: ') and message in line


def test_darknets_names_become_those_of_the_annotations():
    names = ['motorbike', 'aeroplane', 'sofa', 'pottedplant', 'diningtable', 'tvmonitor']
    names += [f'c{i}' for i in range(74)]
    assert annotation_names(names)[:3] == ['motorcycle', 'airplane', 'couch']
    assert annotation_names(['sofa', 'x']) == ['sofa', 'x']


FLOATS = {  # detector_cfgs.json: what the official program stores after the header
    'yolov2/yolov2-tiny_8xb8-ms-155e_voc0712': (20, 15_867_885),
    'yolov2/yolov2-tiny_8xb8-ms-273e_coco': (80, 11_237_145),
    'yolov3/yolov3-tiny_8xb8-ms-416-273e_coco': (80, 8_858_734),
    'yolov3/yolov3-tiny-prn_8xb8-ms-416-273e_coco': (80, 4_939_758),
    'yolov3/yolov3-tiny-3l_8xb8-ms-608-109e_coco': (2, 9_009_967),
    'yolov4/yolov4-tiny_8xb8-416-273e_coco': (80, 6_062_814),
    'yolov4/yolov4-tiny-3l_8xb8-608-273e_coco': (80, 6_334_045),
}


@pytest.mark.parametrize('name', FLOATS)
def test_a_recipe_has_the_numbers_of_its_official_file(name):
    config = Config.fromfile(CONFIGS / f'{name}.py')
    config.model.backbone.num_classes, floats = FLOATS[name]
    with torch.device('meta'):
        network = torch.nn.ModuleDict(dict(backbone=MODELS.build(config.model.backbone)))
        state = network.state_dict()
    layers = layers_in_order(network, ('backbone',))
    assert sum(state[key].numel() for layer in layers for key in layer.keys) == floats


@pytest.mark.parametrize('name', FLOATS)
def test_a_recipe_equals_its_export(name):
    config = Config.fromfile(CONFIGS / f'{name}.py')
    with torch.device('meta'):
        network = MODELS.build(config.model.backbone)
    text = export_cfg(config, network)
    code = config.model.bbox_head.criterion.code
    imported = import_cfg(text, code)
    assert imported.parts['model']['backbone']['layers'] == network.table
    pipeline = config.train_dataloader.dataset.pipeline
    assert [step['type'] for step in imported.parts['train_pipeline']] == [
        step.type for step in pipeline
    ]
    assert imported.parts['param_scheduler'][0].get('steps', []) == config.param_scheduler[0].get(
        'steps', []
    )
    assert imported.parts['test_pipeline'] == config.test_dataloader.dataset.pipeline
