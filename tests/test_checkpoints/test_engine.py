"""The conversion engine on small key lists."""

from __future__ import annotations

import pytest
import torch

from mmdet_losses.core.checkpoint import (
    CheckpointMismatch,
    KeyMap,
    convert,
    read_checkpoint,
)

RULES = KeyMap(
    claims=((r'stem\.', 'backbone.'), (r'head\.(\d+)\.', r'bbox_head.heads.\1.')),
    inner=((r'\.bn1\.', '.norm.'),),
    ignored=((r'^fc\.', 'the ImageNet classifier'),),
    folded=((r'(backbone)\.conv\.bias', r'\1.norm.running_mean'),),
    class_layers=r'^bbox_head\.heads\.0\.',
)


def source() -> dict[str, torch.Tensor]:
    return {
        'stem.conv.weight': torch.ones(2, 3),
        'stem.bn1.running_mean': torch.ones(2),
        'stem.bn1.num_batches_tracked': torch.tensor(7),
        'head.0.weight': torch.ones(5, 2),
        'fc.weight': torch.ones(9),
    }


def target() -> dict[str, torch.Tensor]:
    return {
        'backbone.conv.weight': torch.zeros(2, 3),
        'backbone.norm.running_mean': torch.zeros(2),
        'backbone.norm.num_batches_tracked': torch.tensor(0),
        'bbox_head.heads.0.weight': torch.zeros(5, 2),
    }


def test_names_values_and_reasons_are_correct():
    result = convert(source(), target(), RULES)
    assert list(result.state_dict) == list(target())
    assert (result.state_dict['backbone.conv.weight'] == 1).all()
    assert result.state_dict['backbone.norm.num_batches_tracked'] == 0
    assert result.ignored['fc.weight'] == 'the ImageNet classifier'
    assert set(result.ignored) == {'fc.weight', 'stem.bn1.num_batches_tracked'}


def test_counters_may_be_missing_on_either_side():
    without = {key: value for key, value in source().items() if 'num_batches' not in key}
    assert list(convert(without, target(), RULES).state_dict) == list(target())
    bare = {key: value for key, value in target().items() if 'num_batches' not in key}
    assert list(convert(source(), bare, RULES).state_dict) == list(bare)


def test_tensors_get_the_dtype_of_the_network():
    halves = {key: value.half() for key, value in source().items()}
    converted = convert(halves, target(), RULES).state_dict
    assert {key: value.dtype for key, value in converted.items()} == {
        key: value.dtype for key, value in target().items()
    }


def test_a_bias_before_a_norm_moves_into_its_mean():
    given = source() | {'stem.conv.bias': torch.tensor([0.5, -2.0])}
    untouched = {key: value.clone() for key, value in given.items()}
    result = convert(given, target(), RULES).state_dict
    assert result['backbone.norm.running_mean'].tolist() == [0.5, 3.0]
    assert all(torch.equal(given[key], untouched[key]) for key in given)


def break_missing(given, wanted):
    del given['stem.conv.weight']


def break_unclaimed(given, wanted):
    given['tail.weight'] = torch.ones(1)


def break_unexpected(given, wanted):
    given['stem.extra'] = torch.ones(1)


def break_shape(given, wanted):
    given['stem.conv.weight'] = torch.ones(3, 2)


def break_collision(given, wanted):
    given['stem.norm.running_mean'] = torch.ones(2)
    given['stem.bn1.running_mean'] = torch.ones(2)


def break_orphan_bias(given, wanted):
    given['stem.conv.bias'] = torch.ones(3)


@pytest.mark.parametrize(
    ('break_it', 'message'),
    [
        (break_missing, r'1 missing[^:]*:\n  backbone\.conv\.weight'),
        (break_unclaimed, r'1 unexpected[^:]*:\n  tail\.weight'),
        (break_unexpected, r'unexpected[^:]*:\n  stem\.extra \(as backbone\.extra\)'),
        (break_shape, r'of another shape:\n  stem\.conv\.weight \[3, 2\] \(as [\w.]+ \[2, 3\]\)'),
        (break_collision, r'filled twice[^:]*:\n  stem\.bn1\.running_mean and stem\.norm'),
        (break_orphan_bias, r'unexpected[^:]*:\n  stem\.conv\.bias'),
    ],
    ids=lambda value: getattr(value, '__name__', ''),
)
@pytest.mark.parametrize('allow', [False, True], ids=['strict', 'class_layers_allowed'])
def test_keys_that_do_not_fit_are_listed(break_it, message, allow):
    given, wanted = source(), target()
    break_it(given, wanted)
    with pytest.raises(CheckpointMismatch, match=message):
        convert(given, wanted, RULES, allow_class_layers=allow)


def test_another_number_of_classes_only_where_allowed():
    wanted = target() | {'bbox_head.heads.0.weight': torch.zeros(3, 2)}
    with pytest.raises(CheckpointMismatch, match=r'head\.0\.weight \[5, 2\]'):
        convert(source(), wanted, RULES)
    result = convert(source(), wanted, RULES, allow_class_layers=True)
    assert result.class_layers == ['bbox_head.heads.0.weight']
    assert 'bbox_head.heads.0.weight' not in result.state_dict


@pytest.mark.parametrize(
    'wrap',
    [
        lambda state: state,
        lambda state: {'epoch': 3, 'state_dict': state, 'optimizer': {'lr': 0.1}},
        lambda state: {'model': state},
        lambda state: {f'module.{key}': value for key, value in state.items()},
        lambda state: {'state_dict': {f'module.{key}': value for key, value in state.items()}},
    ],
    ids=['bare', 'state_dict', 'model', 'module', 'module_in_state_dict'],
)
@pytest.mark.parametrize('zipped', [True, False], ids=['zip', 'legacy'])
def test_wrappers_are_removed(tmp_path, wrap, zipped):
    path = tmp_path / 'file.pkl'
    torch.save(wrap(source()), path, _use_new_zipfile_serialization=zipped)
    read = read_checkpoint(path)
    assert list(read) == list(source())
    assert all(torch.equal(read[key], value) for key, value in source().items())


class Untrusted:
    """A class that plain loading rejects."""


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ({'state_dict': {}}, 'contains no named tensors'),
        ([torch.ones(1)], 'contains no named tensors'),
        ({'epoch': 3}, 'contains no named tensors'),
        ({0: torch.ones(1)}, 'contains no named tensors'),
        (Untrusted(), 'does not load as plain tensors'),
        (None, 'does not load as plain tensors'),
    ],
    ids=['empty', 'list', 'numbers', 'number_as_key', 'pickled_class', 'no_checkpoint'],
)
def test_other_files_raise_one_message(tmp_path, content, message):
    path = tmp_path / 'file.pth'
    if content is None:
        path.write_bytes(b'not a checkpoint at all')
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match=message) as caught:
        read_checkpoint(path)
    assert '\n' not in str(caught.value)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'checkpoint .*absent\.pth does not exist'):
        read_checkpoint(tmp_path / 'absent.pth')
