"""The centre family against numbers of the official codes: all golden files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tools.parity.center import CHECKS
from tools.parity.golden_file import GoldenFile

GOLDEN = Path(__file__).parents[1] / 'golden' / 'center'
FILES = sorted(GOLDEN.glob('*.npz'))


def check_of(path: Path):
    """The check with the longest matching prefix of the file name."""
    return CHECKS[max((name for name in CHECKS if path.stem.startswith(name)), key=len)]


def test_every_check_has_a_file():
    used = {check_of(path) for path in FILES}
    assert used == set(CHECKS.values())


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_golden(path):
    rows = check_of(path)(path)
    assert rows
    assert not [row for row in rows if not row.ok]


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_a_wrong_array_fails(path, tmp_path):
    """An error of 1 % in any floating output fails its check."""
    with np.load(path) as arrays:
        content = dict(arrays)
    checked = {row.quantity for row in check_of(path)(path)}
    outputs = [key for key in content if key in checked and content[key].dtype.kind == 'f']
    assert outputs
    for key in outputs[:: max(1, len(outputs) // 4)]:
        changed = tmp_path / path.name
        np.savez(changed, **{**content, key: content[key] * np.float32(1.01) + np.float32(1e-3)})
        assert [row for row in check_of(path)(changed) if not row.ok], key


def test_an_array_that_no_check_reads_fails(tmp_path):
    np.savez(tmp_path / 'new.npz', known=np.zeros(2), unknown=np.zeros(2))
    golden = GoldenFile(tmp_path / 'new.npz')
    golden.compare('known', np.zeros(2))
    assert [row.ok for row in golden.finish()] == [True, False]
