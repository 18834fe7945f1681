"""The official numbers of images per GPU, one process per GPU."""

import itertools
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

import mmdet_losses.data.split_batch as split_batch

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
SPLITS = {
    'cornernet/cornernet_hg104_8xb6-500k_coco': (4, 5, 5, 5, 5, 5, 5, 5, 5, 5),
    'cornernet_squeeze/cornernet_squeeze_8xb7-500k_coco': (13, 14, 14, 14),
    'cornernet_saccade/cornernet_saccade_8xb6-500k_coco': (12, 12, 12, 12),
    'centernet_points/centernet_points_resdcn18_8xb14-140e_coco': (18, 32, 32, 32),
    'centernet_points/centernet_points_dla34_8xb16-230e_coco': (9, 17, 17, 17, 17, 17, 17, 17),
    'centernet_points/centernet_points_hg104_8xb3-50e_coco': (4, 5, 5, 5, 5),
    'centernet_points/centernet_points_resdcn18_4xb8-70e-512_voc0712': (32,),
    'centernet_points/centernet_points_dla34_4xb8-70e-512_voc0712': (16, 16),
    'centernet_pose/centernet_pose_dla34_8xb16-320e_coco': (9, 17, 17, 17, 17, 17, 17, 17),
    'centernet_pose/centernet_pose_hg104_8xb3-50e_coco': (4, 5, 5, 5, 5),
}


@pytest.fixture(name='process')
def _process(monkeypatch):
    """Function that makes the sampler of one of several processes."""

    def make(rank, sizes, images=11, seed=3, processes=None):
        monkeypatch.setattr(split_batch, 'get_dist_info', lambda: (rank, processes or len(sizes)))
        sampler = DefaultSampler(range(images), seed=seed)
        # what DefaultSampler stores on this process
        sampler.rank, sampler.world_size = rank, processes or len(sizes)
        return split_batch.SplitBatchSampler(sampler, batch_size=99, sizes=sizes)

    return make


def test_the_processes_divide_consecutive_images_of_the_shuffled_order(process):
    samplers = [process(rank, (1, 2, 2)) for rank in range(3)]
    order = list(DefaultSampler(range(11), seed=3))
    assert [len(each) for each in samplers] == [2, 2, 2]  # one image is left over
    first, second = zip(*map(list, samplers), strict=True)
    assert list(first) == [order[:1], order[1:3], order[3:5]]
    assert list(second) == [order[5:6], order[6:8], order[8:10]]


def test_every_epoch_has_another_order(process):
    sampler = process(0, (4,), images=8)
    first = list(sampler)
    sampler.sampler.set_epoch(1)
    second = list(sampler)
    assert first != second
    assert all(sorted(itertools.chain(*each)) == list(range(8)) for each in (first, second))


def test_wrong_settings_raise(process):
    with pytest.raises(
        ValueError, match=r'sizes=\(4, 5\) .* training of 8 processes; start 2 proc'
    ):
        process(0, (4, 5), processes=8)
    with pytest.raises(ValueError, match='one positive size per process'):
        process(0, (0,))
    with pytest.raises(TypeError, match='not of a InfiniteSampler'):
        split_batch.SplitBatchSampler(InfiniteSampler(range(4)), sizes=(4,))


@pytest.mark.parametrize(('name', 'sizes'), SPLITS.items(), ids=list(SPLITS))
def test_a_recipe_takes_the_official_split_with_one_line(name, sizes, tmp_path):
    child = tmp_path / 'child.py'
    child.write_text(
        f"_base_ = '{CONFIGS / name}.py'\n"
        'train_dataloader = dict(batch_sampler=dict(_delete_=True, **_base_.official_split))\n'
    )
    split = Config.fromfile(child).train_dataloader.batch_sampler
    assert dict(split) == dict(type='SplitBatchSampler', sizes=sizes)


def test_a_loader_of_the_runner_has_the_split():
    cfg = dict(
        dataset=list(range(9)), sampler=dict(type='DefaultSampler', shuffle=False),
        batch_sampler=dict(type='SplitBatchSampler', sizes=(4,)), batch_size=2,
        collate_fn=dict(type='default_collate'),
    )  # fmt: skip
    with DefaultScope.overwrite_default_scope('mmdet'):  # as in the recipes
        batches = [batch.tolist() for batch in Runner.build_dataloader(cfg)]
    assert batches == [[0, 1, 2, 3], [4, 5, 6, 7]]
