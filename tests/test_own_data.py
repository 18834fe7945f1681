"""The config lines of docs/own_data.md work with every config that the page lists."""

import re
from pathlib import Path

import pytest
from mmengine.config import Config

from tools.datasets.small_configs import small_configs

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / 'docs' / 'own_data.md').read_text()
LINES, WRAPPED, LISTED = re.findall(r'```python\n(.*?)```', PAGE, re.DOTALL)[:3]
OTHER_FORMATS = ('centernet_pose', 'centertrack')
CONFIGS = [
    path
    for path in (*small_configs().values(), *sorted((ROOT / 'configs').glob('*/*_coco.py')))
    if path.parent.name not in OTHER_FORMATS
]
REPEATED = sorted(
    path for path in ROOT.glob('configs/bccd/*.py') if not path.stem.startswith('mmdet')
)


def wraps(path):
    """Whether the page lists this config as one that mixes or repeats images."""
    mixes = re.match('ssd|yolov[234]|scaled_yolov4', path.parent.name)
    repeats = path.parent.name == 'bccd' or path.stem == 'cornernet_saccade_digits'
    return repeats or (mixes and path.stem.endswith('_coco'))


def values(node, key):
    if isinstance(node, dict):
        own = [node[key]] if key in node else []
        return own + [each for child in node.values() for each in values(child, key)]
    if isinstance(node, (list, tuple)):
        return [each for child in node for each in values(child, key)]
    return []


@pytest.mark.parametrize('path', [*CONFIGS, *REPEATED], ids=lambda path: path.stem)
def test_the_lines_reach_data_sets_evaluators_and_head(path, tmp_path):
    lines = re.sub("_base_ = '.*'", f'_base_ = {str(path)!r}', LINES)
    if wraps(path):
        lines += WRAPPED
    if path.stem == 'cornernet_saccade_digits':
        lines = re.sub('val_evaluator = .*\n', '', lines) + LISTED
    (tmp_path / 'mine.py').write_text(lines)
    cfg = Config.fromfile(tmp_path / 'mine.py')
    for loader, file in (('train', 'train.json'), ('val', 'val.json'), ('test', 'val.json')):
        dataset = cfg[f'{loader}_dataloader'].dataset
        assert values(dataset, 'ann_file') == [file]
        assert values(dataset, 'data_root') == ['data/mine/']
        assert values(dataset, 'metainfo') == [dict(classes=('cat', 'dog'))]
        while dataset.type in ('MixedImageDataset', 'RepeatDataset'):
            dataset = dataset.dataset
        assert dataset.type == 'CocoDataset'
        assert dataset.ann_file == file
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        assert values(evaluator, 'ann_file') == ['data/mine/val.json']
        assert values(evaluator, 'type') == ['CocoMetric']
    assert set(values(cfg.model.bbox_head, 'num_classes')) == {2}


def test_the_page_names_the_configs_of_this_test():
    base = re.search("_base_ = '(.*)'", LINES).group(1)
    assert ROOT / base in CONFIGS
    assert len([path for path in CONFIGS if wraps(path)]) > 10
    assert all(f'`configs/{name}`' in PAGE for name in OTHER_FORMATS)
