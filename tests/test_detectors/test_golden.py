"""Every golden file of the official codes against this package."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tools.check_parity import check_of, file_checks, shorten
from tools.parity import darknet_training
from tools.parity.golden import Case, run
from tools.parity.rows import Row, compare, compare_rows

GOLDEN = Path(__file__).parents[1] / 'golden'
FILES = sorted(path for name in ('anchor', 'center', 'corner') for path in GOLDEN.glob(f'{name}/*'))
FILES = [path for path in FILES if path.suffix == '.npz']
CHECKS = file_checks()


@cache
def rows_of(path: Path) -> list[Row]:
    check = check_of(path.stem, CHECKS)
    assert check is not None, f'no check for {path.name}'
    return run(check, path)


def test_the_files_are_complete():
    assert len(FILES) == 63


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_equals_the_official_code(path):
    rows = rows_of(path)
    assert [row for row in rows if not row.reason]
    assert [row for row in rows if not row.ok] == []


@pytest.mark.parametrize('path', FILES[::4], ids=lambda path: path.stem)
def test_a_wrong_array_fails(path, tmp_path):
    """An error of 0.1 % in a compared array fails its check."""
    with np.load(path) as arrays:
        content = dict(arrays)
    compared = {key for row in rows_of(path) if not row.reason for key in row.arrays()}
    outputs = [key for key in content if key in compared and content[key].dtype.kind == 'f']
    outputs = [key for key in outputs if np.abs(content[key]).max(initial=0) > 1e-3]
    assert outputs
    key = outputs[len(outputs) // 2]
    np.savez(tmp_path / path.name, **{**content, key: content[key] * np.float32(1.001)})
    assert [row for row in rows_of(tmp_path / path.name) if not row.ok], key


def save(folder: Path, **arrays: np.ndarray) -> Path:
    path = folder / 'new.npz'
    np.savez(path, **arrays)
    return path


def test_an_array_that_no_check_uses_fails(tmp_path):
    path = save(tmp_path, a__x=np.ones(2), b__x=np.ones(2), b__y=np.ones(2), note=np.ones(1))

    def check(case: Case) -> None:
        case.skip('a note', 'note')
        case.compare('x', np.ones(2))

    rows = run(check, path)
    assert [row.quantity for row in rows if not row.ok] == ['b__y: not checked']
    assert [row.quantity for row in rows if row.reason] == ['note']


def test_an_error_leaves_the_other_arrays_and_cases(tmp_path):
    path = save(tmp_path, a__x=np.ones(2), a__y=np.ones(2), b__x=np.ones(2), b__y=np.ones(2))

    def broken() -> float:
        raise ValueError('no value')

    def check(case: Case) -> None:
        case.compare('x', broken if case.name == 'a' else np.ones(2))
        if case.name == 'b':
            raise ValueError('no case')
        case.compare('y', np.ones(2))

    rows = run(check, path)
    assert [row.quantity for row in rows if row.ok] == ['a y', 'b x']
    assert len([row for row in rows if not row.ok]) == 3  # x of a, the error of b, y of b


def test_an_empty_array_fails_unless_a_reason_is_given(tmp_path):
    path = save(tmp_path, x=np.ones((0, 2)), y=np.ones((0, 2)))

    def check(case: Case) -> None:
        case.compare('x', np.ones((0, 2)))
        case.compare('y', np.ones((0, 2)), empty='no rows')

    rows = run(check, path)
    assert [row.quantity for row in rows if not row.ok] == ['x: empty']
    assert [row.reason for row in rows if row.reason] == ['no rows']


def test_one_nan_among_the_parameters_of_darknet_fails(tmp_path, monkeypatch):
    path = save(tmp_path, snapshots=np.array([1]))
    monkeypatch.setattr(darknet_training, '_errors', lambda *_: iter([0.1, np.nan, 0.2]))
    rows = run(lambda case: darknet_training._compare_parameters(case, None), path)
    compared = [row for row in rows if not row.reason]
    assert len(compared) == 5 and not any(row.ok for row in compared)


def test_tolerances_are_relative_to_the_largest_value():
    want = np.array([100.0, 1.0])
    step = np.array([0, 1e-5])
    assert compare('', '', want + step, want, tol=1e-6).ok
    assert not compare('', '', want + 20 * step, want, tol=1e-6).ok
    assert not compare('', '', want + step, want, each=1e-6).ok
    assert compare('', '', np.array([np.inf, np.nan]), np.array([np.inf, np.nan])).ok
    assert not compare('', '', np.array([np.nan, 1]), np.array([1.0, 1]), tol=1e-6).ok


def test_rows_compare_as_sets_of_distinct_rows():
    want = np.array([[1.0, 2], [3, 4], [3, 4]])
    assert compare_rows('', '', want[[2, 0, 1]], want, [0, 0]).ok
    assert not compare_rows('', '', want[[0, 0, 1]], want, [0, 0]).ok
    assert not compare_rows('', '', want[:2], want, [0, 0]).ok
    assert compare_rows('', '', want, want[:2], [0, 0], ties=True).ok
    nothing = np.where(want == 2, np.nan, want)
    assert not compare_rows('', '', nothing, want, [1, 1]).ok
    assert not compare_rows('', '', want, nothing, [1, 1]).ok
    assert compare_rows('', '', nothing, nothing, [0, 0]).ok


def test_many_arrays_of_a_case_are_listed_as_one():
    names = [f'chain__it{step}' for step in range(9)]
    assert shorten(', '.join([*names, 'labels'])) == 'chain__* (9), labels'
    assert shorten('a__b, c') == 'a__b, c'
