"""Golden files: their cases, what was compared, what was not and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.ops import Splats
from tools.parity.rows import Array, Row, compare, compare_rows, failed, failure, numbers

EXACT = 1e-6
"""Tolerance of float32 results that follow the same formula: eight steps of float32."""


INPUT = 'inputs of the official code'


class Case:
    """The arrays of one case of a golden file.

    Every array ends up compared, used as an input, or listed with the reason why it is neither;
    any other array is a failed row of the table.
    """

    def __init__(self, file: GoldenFile, name: str, keys: dict[str, str]) -> None:
        self.file, self.name, self.keys = file, name, keys
        """``keys``: name of an array in the case -> name in the file."""

    def __contains__(self, key: str) -> bool:
        return key in self.keys

    def array(self, key: str) -> np.ndarray:
        """An array, which counts as an input unless it is compared too."""
        self.file.inputs.setdefault(self.keys[key], key)
        return self.file.arrays[self.keys[key]]

    __getitem__ = array

    def names(self, pattern: str) -> list[str]:
        """Names of the arrays that fit a pattern, in alphabetical order."""
        return sorted(key for key in self.keys if fnmatch(key, pattern))

    def number(self, key: str, default: float | None = None) -> Any:
        """A scalar; a float32 is read as the shortest decimal number (0.3, not 0.300000012)."""
        if key not in self and default is not None:
            return default
        value = self.array(key)[()]
        return float(str(value)) if value.dtype.kind == 'f' else int(value)

    def flag(self, key: str) -> bool:
        """A switch; False if absent."""
        return key in self and bool(self.array(key))

    def options(self, pattern: str, *names: str) -> dict[str, float]:
        """Numbers by name; ``{}`` of the pattern is the name."""
        return {name: self.number(pattern.format(name)) for name in names}

    def decimals(self, key: str) -> list[float]:
        """A row of numbers, each read as by :meth:`number`."""
        return [float(str(value)) for value in self.array(key)]

    def size(self, key: str) -> tuple[int, ...]:
        """A row of integers."""
        return tuple(int(value) for value in self.array(key))

    def tensor(self, key: str, dtype: torch.dtype | None = None, grad: bool = False) -> Tensor:
        """A copy as a tensor, of another type or with gradients if asked."""
        return torch.from_numpy(np.array(self.array(key))).to(dtype).requires_grad_(grad)

    def leaf(self, key: str, dtype: torch.dtype = torch.float32) -> Tensor:
        """A copy as a tensor with gradients."""
        return self.tensor(key, dtype, grad=True)

    def compare(
        self,
        key: str,
        got: Array | Callable[[], Array],
        tol: float = 0.0,
        each: float = 0.0,
        atol: float | np.ndarray = 0.0,
        want: np.ndarray | None = None,
        where: np.ndarray | None = None,
        empty: str = '',
    ) -> None:
        """Compare an array if the file has it, see :func:`tools.parity.rows.compare`.

        Args:
            got: our value, or a function that computes it; its errors fail this array only.
            want: golden value that was computed from the array; the array itself if absent.
            where: mask of the entries to compare, for both sides.
            empty: reason why the array may be empty; then ours must be empty too.
        """
        if key not in self.keys:
            return
        self.file.compared.add(self.keys[key])
        try:
            value = got() if callable(got) else got
            want = self.file.arrays[self.keys[key]] if want is None else want
            if where is not None:
                value, want = np.asarray(value)[where], want[where]
            if empty and not want.size and not numbers(value).size:
                self._note(key, empty)
                return
            self.add(compare(self.file.name, self.label(key), value, want, tol, each, atol))
        except Exception as error:
            self.add(failure(self.file.name, error, self.label(key)))

    def table(self, values: Mapping[str, Any], tol: float = EXACT, **limits: Any) -> None:
        """Compare an array with each value: floats within ``tol``, other types exactly.

        A value can be ``(value, tol)`` if its tolerance is its own.
        """
        for key, value in values.items():
            value, own = value if isinstance(value, tuple) else (value, tol)
            plain = value.detach() if isinstance(value, Tensor) else value
            exact = np.asarray(plain).dtype.kind != 'f'
            kept = {k: v for k, v in limits.items() if k == 'where' or not exact}
            self.compare(key, value, 0.0 if exact else own, **kept)

    def compare_rows(
        self,
        keys: str,
        got: Array,
        want: Array | None = None,
        tol: float | Sequence[float] = 0.0,
        ties: bool = False,
        empty: str = '',
    ) -> None:
        """Compare rows as sets, see :func:`tools.parity.rows.compare_rows`.

        Args:
            keys: the arrays that the golden rows come from, with commas.
            want: golden rows; the array itself if absent.
            tol: largest difference of a column, in units of its largest golden value.
            empty: reason why there may be no rows; then there must be none of ours.
        """
        names = [key.split('[')[0] for key in keys.split(', ')]
        self.file.compared |= {self.keys[name] for name in names}
        rows = numbers(self.file.arrays[self.keys[keys]] if want is None else want)
        if empty and not len(rows) and not len(got):
            self._note(names[0], empty)
            return
        finite = np.where(np.isfinite(rows), np.abs(rows), 0)
        allowed = np.asarray(tol) * finite.reshape(-1, rows.shape[-1]).max(0, initial=0.0)
        self.add(compare_rows(self.file.name, self.label(keys), got, rows, allowed, ties))

    def _note(self, key: str, reason: str) -> None:
        self.file.empty.setdefault(self.keys[key], reason)

    def skip(self, reason: str, *patterns: str) -> None:
        """List the arrays that fit a pattern as not compared."""
        for pattern in patterns:
            for key in self.names(pattern):
                if self.keys[key] not in self.file.compared:
                    self.file.skipped.setdefault(self.keys[key], reason)

    def add(self, row: Row) -> None:
        """Add a row to the table."""
        self.file.rows.append(row)

    def label(self, quantity: str) -> str:
        """The case and the quantity."""
        return f'{self.name} {quantity}' if self.name else quantity

    def instances(self, boxes: str = 'gt_boxes', count: str = 'num_gt') -> list[InstanceData]:
        """The ground truth without its padding."""
        block = zip(
            self.tensor(boxes), self.tensor('gt_labels'), self.array(count).tolist(), strict=True
        )
        return [InstanceData(bboxes=box[:n], labels=label[:n]) for box, label, n in block]

    def img_size(self) -> tuple[int, int]:
        """(h, w) of the network input."""
        if 'input_wh' in self:
            width, height = self.size('input_wh')
            return height, width
        return (int(self.array('image_size')),) * 2


class GoldenFile:
    """A golden file as its cases, and the rows of the table."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as file:
            self.arrays = {key: file[key] for key in file.files}
        self.path, self.name = path, path.stem
        self.rows: list[Row] = []
        self.compared: set[str] = set()
        self.skipped: dict[str, str] = {}
        """Name of an array -> why it is not compared; ``empty``: why it may be empty."""
        self.empty: dict[str, str] = {}
        self.inputs: dict[str, str] = {}
        """Name in the file -> name in the case."""

    def __iter__(self) -> Iterator[Case]:
        """One case without a name where all arrays belong to the file."""
        shared = {key: key for key in self.arrays if '__' not in key}
        names = list(dict.fromkeys(key.split('__')[0] for key in self.arrays if '__' in key))
        for name in names or ['']:
            mark = f'{name}__'
            own = {k.split('__', 1)[1]: k for k in self.arrays if k.startswith(mark)}
            yield Case(self, name, {**shared, **own})

    def finish(self) -> list[Row]:
        """All rows: comparisons, arrays that no check used, and what is not compared and why."""
        known = self.compared | set(self.skipped) | set(self.inputs)
        missed = [key for key in self.arrays if key not in known]
        unused = [failed(self.name, f'{key}: not checked') for key in missed]
        reasons: dict[str, list[str]] = {}
        for key, reason in (self.skipped | self.empty).items():
            reasons.setdefault(reason, []).append(key)
        inputs = [name for key, name in self.inputs.items() if key not in self.compared]
        reasons.setdefault(INPUT, []).extend(dict.fromkeys(inputs))
        notes = [
            Row(self.name, ', '.join(names), 0, 0, '', True, 0, reason)
            for reason, names in reasons.items()
            if names
        ]
        return self.rows + unused + notes


Check = Callable[[Case], None]


def splats_of(heatmap: Tensor) -> Splats:
    """The same map as position and value pairs."""
    flat = heatmap.reshape(-1)
    index = flat.nonzero()[:, 0]
    return Splats(index, flat[index], tuple(heatmap.shape))


def columns(instances: InstanceData, *fields: str) -> Tensor:
    """Fields of instances as the columns of one array (N, F)."""
    values = (instances[name] for name in fields)
    return torch.cat([x.flatten(1) if x.dim() > 1 else x[:, None] for x in values], 1).double()


def counts(mask: Tensor) -> dict[str, Tensor]:
    """Fields of every target type that follow from the mask."""
    return {'mask': mask, 'num_pos': mask.sum().float(), 'num_dropped': torch.zeros(())}


def run(check: Check, path: Path) -> list[Row]:
    """The rows of a file; an error in one case leaves the other cases as they are.

    The arrays that a failed case did not reach are failed rows.
    """
    golden = GoldenFile(path)
    for case in golden:
        try:
            check(case)
        except Exception as error:
            case.add(failure(golden.name, error, case.name))
    return golden.finish()
