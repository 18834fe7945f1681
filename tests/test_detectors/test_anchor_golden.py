"""The anchor and grid families against golden numbers of the official codes."""

from pathlib import Path

import numpy as np
import pytest

from tools.parity.anchor import CHECKS
from tools.parity.golden import complete
from tools.parity.rows import compare

FILES = sorted((Path(__file__).parents[1] / 'golden' / 'anchor').glob('*.npz'))


def test_there_are_golden_files():
    assert len(FILES) >= 15


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_equals_the_official_code(path):
    check = CHECKS[max((key for key in CHECKS if path.stem.startswith(key)), key=len)]
    rows = check(path)
    assert rows
    assert [row for row in rows if not row.ok] == []


def test_an_array_that_nobody_reads_fails(tmp_path):
    arrays = {'a__known': np.ones(2), 'b__known': np.ones(2), 'b__other': np.ones(2)}
    np.savez(tmp_path / 'new.npz', shared=np.ones(1), noted=np.ones(1), **arrays)

    def look(golden):
        rows = []
        for case in golden:
            case.skip('no*')
            rows.append(compare(golden.name, 'known', case['known'], np.ones(2)))
        return rows

    failed = [row.quantity for row in complete(look)(tmp_path / 'new.npz') if not row.ok]
    assert sorted(failed) == ['b__other: not checked', 'shared: not checked']
