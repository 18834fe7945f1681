"""Data sets whose transforms combine several images."""

import numpy as np
import pytest
from mmdet.registry import TRANSFORMS
from mmengine.dataset import BaseDataset

from mmdet_losses.data.clean import DataError
from mmdet_losses.data.mixed_dataset import MixedImageDataset


class Numbers(BaseDataset):
    """Ten items that hold their index."""

    def load_data_list(self):
        return [dict(number=i, img_path=f'{i}.png') for i in range(10)]


class Mix:
    def __init__(self, indices):
        self.indices = indices

    def get_indexes(self, dataset):
        assert len(dataset) == 10
        return self.indices

    def __call__(self, results):
        results['seen'] = [each['number'] for each in results['mix_results']]
        return results


class Discard:
    def __call__(self, results):
        return None


@pytest.fixture(name='build')
def _build():
    def build(*transforms):
        made = MixedImageDataset(Numbers(), pipeline=[])
        made.pipeline = list(transforms)
        made.pipeline_types = [type(each).__name__ for each in transforms]
        return made

    return build


def test_transforms_get_the_images_that_they_ask_for(build):
    item = build(Mix([3, 3, 7]), Mix(5), Mix([]))[2]
    assert item['number'] == 2
    assert item['seen'] == []
    assert 'mix_results' not in item
    assert build(Mix([3, 3, 7]))[2]['seen'] == [3, 3, 7]
    assert build(Mix(5))[0]['seen'] == [5]


def test_an_index_may_carry_the_input_size(build):
    assert build()[(4, (320, 320))]['input_size'] == (320, 320)
    assert build()[(4, (320, 320))]['number'] == 4
    assert 'input_size' not in build()[4]


def test_a_transform_that_discards_an_image_is_named(build):
    with pytest.raises(DataError, match=r'Discard returned None for 3\.png: .*keep_empty=False'):
        build(Discard())[3]


def test_skipped_transforms_are_skipped(build):
    dataset = build(Discard())
    dataset.update_skip_type_keys(['Discard'])
    assert dataset[3]['number'] == 3


def test_items_do_not_share_memory(build):
    dataset = build()
    dataset[1]['number'] = 99
    assert dataset[1]['number'] == 1


def test_it_is_built_from_a_config():
    made = MixedImageDataset(Numbers(), pipeline=[dict(type='RandomFlip', prob=0.0)])
    assert isinstance(made.pipeline[0], TRANSFORMS.get('RandomFlip'))
    assert len(made) == 10
    assert np.isscalar(made.get_data_info(0)['number'])
