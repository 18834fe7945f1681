"""browse_targets and oracle_map, as users call them."""

import json

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope

from mmdet_losses import engine
from mmdet_losses.registry import MODELS
from tools import browse_targets, oracle_map


@pytest.fixture(autouse=True)
def _scope():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def run(tool, *arguments):
    engine.run_tool(tool.work, tool.parse_args([str(argument) for argument in arguments]))


def test_sheets_of_the_chosen_images(tools, tmp_path, capsys):
    out = tmp_path / 'sheets'
    run(browse_targets, tools.config, '--index', 0, 3, '--out', out)
    assert {path.name for path in out.iterdir()} == {'000000.png', '000003.png'}
    assert 'objects have no target that decodes to them' in capsys.readouterr().out


def test_all_images_of_a_small_training_set_are_drawn(tools, tmp_path):
    few = 'train_dataloader.dataset.indices=3'
    run(browse_targets, tools.config, '--out', tmp_path, '--cfg-options', few)
    assert len(list(tmp_path.iterdir())) == 3


def test_an_index_outside_the_training_set_raises(tools, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(browse_targets, tools.config, '--index', 800, '--out', tmp_path)
    assert '--index 800 is outside the training set; give 0 to 7.' in capsys.readouterr().err


def test_the_limit_of_the_encoding_falls_with_the_number_of_boxes(tools, tmp_path, capsys):
    report = tmp_path / 'deep' / 'oracle.json'
    run(oracle_map, tools.config, '--json', report)
    fine = json.loads(report.read_text())
    assert fine['coco/bbox_mAP'] > 0.95
    assert fine['lost'] == 0 < fine['objects']
    assert 'coco/bbox_mAP: ' in capsys.readouterr().out
    run(oracle_map, tools.config, '--json', report, '--cfg-options', 'model.test_cfg.max_per_img=1')
    assert json.loads(report.read_text())['coco/bbox_mAP'] < fine['coco/bbox_mAP'] - 0.1


def test_each_branch_of_a_network_is_replaced_by_the_ground_truth(tools, tmp_path):
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(tools.config).model)
    checkpoint, report = tmp_path / 'random.pth', tmp_path / 'oracle.json'
    torch.save(model.state_dict(), checkpoint)
    few = 'test_dataloader.dataset.indices=2'
    run(oracle_map, tools.config, '--branches', checkpoint, '--json', report, '--cfg-options', few)
    found = json.loads(report.read_text())
    names = {name.partition('/')[0] for name in found}
    assert names == {'network', 'heatmap', 'size', 'offset'}
    assert all(0 <= found[f'{name}/coco/bbox_mAP_50'] <= 1 for name in names)
    assert found['network/coco/bbox_mAP_50'] < 0.1  # an untrained network


def test_gt_boxes_of_the_samples_is_in_the_pixels_of_the_results(tools, tmp_path):
    config, report = tools.folder / 'voc.py', tmp_path / 'oracle.json'
    config.write_text(
        "_base_ = 'small.py'\n"
        "test_evaluator = dict(_delete_=True, type='VOCMetric', metric='mAP', eval_mode='area')\n"
    )
    resized = 'test_dataloader.dataset.pipeline.1.scale=(160,160)'
    run(oracle_map, config, '--json', report, '--cfg-options', resized)
    assert json.loads(report.read_text())['pascal_voc/mAP'] > 0.99


def test_a_pipeline_without_annotations_raises():
    loader = ConfigDict(dataset=dict(pipeline=[dict(type='LoadImageFromFile')]))
    with pytest.raises(engine.UsageError, match='the validation pipeline loads no annotations'):
        oracle_map.annotations_first(loader)
