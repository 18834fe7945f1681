"""``--cfg-options data_root=DIR`` changes data sets and evaluators, also inside wrappers."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmdet_losses import engine

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
PLAIN, WRAPPED, LISTS = (
    'centernet_points/centernet_points_digits.py',
    'bccd/mmdet_cornernet_bccd.py',
    'centertrack/centertrack_videos.py',
)


def strings(node):
    if isinstance(node, dict):
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        return [each for child in node for each in strings(child)]
    return [node] if isinstance(node, str) else []


@pytest.mark.parametrize('root', ['/far/away', '/far/away/'])
@pytest.mark.parametrize('name', [PLAIN, WRAPPED, LISTS])
def test_every_path_changes(name, root):
    cfg, before = (Config.fromfile(CONFIGS / name) for _ in range(2))
    engine.merge_options(cfg, {'data_root': root, 'train_dataloader.batch_size': 3})
    assert cfg.train_dataloader.batch_size == 3
    for key in engine.DATA_KEYS:
        old, new = strings(before[key]), strings(cfg[key])
        assert [each.replace(before.data_root, '/far/away/') for each in old] == new
    assert cfg.val_dataloader != before.val_dataloader
    assert Config.fromstring(cfg.pretty_text, '.py').to_dict() == cfg.to_dict()


def test_a_new_root_inside_the_old_one_is_added_once():
    cfg = Config(dict(data_root='data', train_dataloader=dict(dataset=dict(data_root='data/'))))
    engine.merge_options(cfg, dict(data_root='data/mine'))
    assert cfg.train_dataloader.dataset.data_root == 'data/mine/'


@pytest.mark.parametrize('own', [{}, dict(data_root='data/dig')])
def test_the_root_that_all_data_sets_share_is_replaced(own):
    """The documented config of own data inherits another `data_root` from its base."""
    loader = dict(dataset=dict(data_root='data/mine/'))
    evaluator = dict(ann_file='data/mine/val.json')
    cfg = Config(
        dict(train_dataloader=loader, val_dataloader=loader, val_evaluator=evaluator, **own)
    )
    engine.merge_options(cfg, dict(data_root='/far'))
    assert cfg.train_dataloader.dataset.data_root == cfg.val_dataloader.dataset.data_root == '/far/'
    assert cfg.val_evaluator.ann_file == '/far/val.json'


def test_a_root_that_changes_nothing_raises():
    one, two = (dict(dataset=dict(data_root=f'data/{name}/')) for name in ('one', 'two'))
    cfg = Config(dict(train_dataloader=one, val_dataloader=two, data_root='data/digits'))
    with pytest.raises(engine.UsageError, match='data_root=/far has no effect, because no data'):
        engine.merge_options(cfg, dict(data_root='/far'))
