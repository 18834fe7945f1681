"""The corner family against numbers of the official codes: losses, gradients, targets, decoding."""

from pathlib import Path

import pytest

from tools.parity.corner import CHECKS

FILES = sorted((Path(__file__).parents[1] / 'golden' / 'corner').glob('*.npz'))


def test_every_file_is_here():
    assert len(FILES) == 29


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_official_numbers(path):
    check = CHECKS[max((key for key in CHECKS if path.stem.startswith(key)), key=len)]
    rows = check(path)
    assert rows
    assert [row for row in rows if not row.ok] == []
