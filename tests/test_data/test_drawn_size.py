"""Every batch is loaded at a size of its own, the same in all workers and processes."""

from collections import Counter

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, DefaultSampler, InfiniteSampler
from mmengine.logging import MessageHub
from torch.utils.data import DataLoader

from mmdet_losses.data import drawn_size
from mmdet_losses.data.drawn_size import DrawnSizeBatchSampler
from mmdet_losses.data.mixed_dataset import MixedImageDataset


class Blank(BaseDataset):
    def load_data_list(self):
        return [dict(number=i) for i in range(23)]


class MakeImage:
    """An image of the drawn size, as the darknet transforms make it."""

    def __call__(self, results):
        width, height = results['input_size']
        return torch.zeros(height, width)


def sampler(size=23, seed=5, **options):
    return DrawnSizeBatchSampler(
        DefaultSampler(range(size), shuffle=True, seed=seed), batch_size=4, **options
    )


def sides(batches):
    return [{size for _, size in batch} for batch in batches]


def test_all_images_of_a_batch_have_one_size_and_all_indices_occur():
    batches = list(sampler())
    assert len(batches) == len(sampler()) == 6
    assert all(len(each) == 1 for each in sides(batches))
    assert sorted(index for batch in batches for index, _ in batch) == list(range(23))
    assert [len(batch) for batch in sampler(drop_last=True)] == [4] * 5


def test_the_size_changes_with_the_interval():
    drawn = sampler(interval=3)
    found = [drawn.side(number) for number in range(300)]
    assert all(len(set(found[i : i + 3])) == 1 for i in range(0, 300, 3))
    assert len(set(found)) == 10


def test_redmons_sizes_are_equally_likely():
    drawn = sampler()
    counts = Counter(drawn.side(10 * i) for i in range(5000))
    assert sorted(counts) == list(range(320, 609, 32))
    assert min(counts.values()) > 400
    assert max(counts.values()) < 600


def test_alexeyabs_sizes_follow_the_rule():
    drawn = sampler(code='alexeyab')
    found = np.array([drawn.side(10 * i) for i in range(5000)])
    assert found[0] == found.max() == 896
    assert found.min() == 480
    assert set(found) == set(range(480, 897, 32))
    assert (found == 608).mean() > (found == 576).mean()  # sizes from 608 on for v < 1 are 608
    assert (found > 608).mean() == pytest.approx(0.5, abs=0.03)


def test_alexeyabs_sizes_reach_as_far_as_random_tells():
    drawn = sampler(code='alexeyab', reach=1.1)
    assert {drawn.side(10 * i) for i in range(300)} == {576, 608, 640, 672, 704}


def test_the_size_depends_on_seed_and_number_alone():
    assert [sampler().side(i) for i in range(200)] == [sampler().side(i) for i in range(200)]
    assert [sampler().side(i) for i in range(200)] != [sampler(seed=6).side(i) for i in range(200)]


def test_processes_and_resumed_trainings_draw_the_same_sizes():
    """Ranks differ in their indices; a resumed training begins with a later epoch."""
    one, two = sampler(interval=2), sampler(interval=2)
    two.sampler.rank = 1
    assert sides(one) == sides(two)
    course = []
    for epoch in range(4):
        one.sampler.set_epoch(epoch)
        course += sides(one)
    two.sampler.set_epoch(3)
    assert sides(two) == course[18:]


def test_an_infinite_sampler_counts_on():
    drawn = DrawnSizeBatchSampler(InfiniteSampler(range(8), seed=5), batch_size=4, interval=1)
    batches = iter(drawn)
    found = [next(iter(next(batches)))[1][0] for _ in range(50)]
    assert found == [drawn.side(i) for i in range(50)]


@pytest.mark.parametrize(('code', 'last', 'size'), [('redmon', 200, 608), ('alexeyab', 100, 896)])
def test_the_last_iterations_have_one_size(code, last, size, monkeypatch):
    monkeypatch.setattr(drawn_size, 'training_length', lambda: 5000)
    drawn = sampler(code=code)
    assert {drawn.side(i) for i in range(5000 - last + 10, 5000)} == {size}
    assert len({drawn.side(i) for i in range(5000 - last - 100, 5000 - last)}) > 3


def test_the_length_is_that_of_the_runner():
    assert drawn_size.training_length() == float('inf')
    hub = MessageHub.get_instance('drawn_size')
    hub.update_info('max_iters', 70)
    assert drawn_size.training_length() == 70


def test_loader_workers_make_batches_of_one_size():
    dataset = MixedImageDataset(Blank(), pipeline=[])
    dataset.pipeline, dataset.pipeline_types = [MakeImage()], ['MakeImage']
    loader = DataLoader(
        dataset, batch_sampler=sampler(interval=2), num_workers=2, collate_fn=torch.stack
    )
    shapes = [tuple(batch.shape[1:]) for batch in loader]
    assert shapes == [(sampler(interval=2).side(i),) * 2 for i in range(6)]
    assert len(set(shapes)) > 1


def test_wrong_arguments_raise():
    with pytest.raises(ValueError, match="code='yolo' is unknown"):
        sampler(code='yolo')
    with pytest.raises(ValueError, match='interval is 0; give at least 1 batch'):
        sampler(interval=0)
