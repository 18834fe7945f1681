"""Check of arguments with a fixed set of values."""

import pytest

from mmdet_losses.ops import check_choice


def test_an_allowed_value_passes():
    assert check_choice('mode', 'fix', ('fix', 'keep')) is None
    assert check_choice('arch', 'p5', {'p5': 1, 'p6': 2}) is None


@pytest.mark.parametrize(
    'value, allowed, message',
    [
        ('crop', ('fix',), "mode='crop' is unknown; choose 'fix'."),
        ('crop', ('fix', 'keep'), "mode='crop' is unknown; choose 'fix' or 'keep'."),
        (None, {'a': 1, 'b': 2, 'c': 3}, "mode=None is unknown; choose 'a', 'b' or 'c'."),
        ([], ('fix', 'keep'), "mode=[] is unknown; choose 'fix' or 'keep'."),
    ],
)
def test_another_value_raises_with_the_choices(value, allowed, message):
    with pytest.raises(ValueError) as error:
        check_choice('mode', value, allowed)
    assert str(error.value) == message
