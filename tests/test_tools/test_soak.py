"""The long training: the memory rule, and a short form."""

import pytest

from tools import soak


def test_growth_is_measured_after_the_first_tenth():
    assert soak.growth([100] * 20) == 0
    assert soak.growth([50, 100, *[100] * 17, 104]) == pytest.approx(0.04)
    assert soak.growth([100, 90]) == pytest.approx(-0.1)
    assert soak.growth([100]) == 0


@pytest.mark.short_training
def test_a_short_form_runs(capsys):
    """The limit is wide: the first steps still allocate. The long form is `make soak`."""
    assert soak.main(['--steps', '20', '--every', '1', '--limit', '0.3']) == 0
    text = capsys.readouterr().out
    assert text.count('step ') == 20 and 'centernet_points_digits: 20 steps, resident' in text
