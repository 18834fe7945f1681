"""Golden files: their cases, and ground truth in MMDetection's form."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import torch
from mmengine.structures import InstanceData
from torch import Tensor

from tools.parity.rows import Row


class Case:
    """The arrays of one case of a file, and those of the whole file."""

    def __init__(self, name: str, arrays: dict[str, np.ndarray], read: set[str]) -> None:
        self.name, self.arrays, self.read = name, arrays, read

    def __contains__(self, key: str) -> bool:
        return key in self.arrays

    def __getitem__(self, key: str) -> np.ndarray:
        self.read |= {key, f'{self.name}__{key}'}
        return self.arrays[key]

    def skip(self, *patterns: str) -> None:
        """Mark arrays that need no check; the caller's comment gives the reason."""
        for key in self.arrays:
            if any(fnmatch(key, pattern) for pattern in patterns):
                self.read |= {key, f'{self.name}__{key}'}

    def label(self, quantity: str) -> str:
        """The case and the quantity."""
        return f'{self.name} {quantity}' if self.name else quantity

    def number(self, key: str) -> float:
        """A scalar."""
        return float(self[key])

    def tensor(self, key: str, dtype: torch.dtype | None = None) -> Tensor:
        """An array as a tensor of its own or the given type."""
        return torch.from_numpy(np.array(self[key])).to(dtype)

    def leaf(self, key: str, dtype: torch.dtype = torch.float32) -> Tensor:
        """An array as a tensor with gradients."""
        return self.tensor(key, dtype).requires_grad_()

    def instances(self, boxes: str = 'gt_boxes') -> list[InstanceData]:
        """The ground truth without its padding."""
        block = zip(
            self.tensor(boxes), self.tensor('gt_labels'), self['num_gt'].tolist(), strict=True
        )
        return [InstanceData(bboxes=box[:n], labels=label[:n]) for box, label, n in block]

    def instances_without(self, dropped: str) -> list[InstanceData]:
        """The ground truth without the boxes marked in the array ``dropped``."""
        masks = zip(self.instances(), self.tensor(dropped).bool(), strict=True)
        return [each[~mask[: len(each)]] for each, mask in masks]

    def img_size(self) -> tuple[int, int]:
        """(h, w) of the network input."""
        if 'input_wh' in self:
            width, height = self['input_wh'].tolist()
            return height, width
        return (int(self['image_size']),) * 2


class GoldenCases:
    """A golden file as its cases; arrays that no check reads become failed rows."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as file:
            self.arrays = {key: file[key] for key in file.files}
        self.path, self.name = path, path.stem
        self.read: set[str] = set()

    def __iter__(self) -> Iterator[Case]:
        """One case without a name where all arrays belong to the file."""
        shared = {key: value for key, value in self.arrays.items() if '__' not in key}
        names = list(dict.fromkeys(key.split('__')[0] for key in self.arrays if '__' in key))
        for name in names or ['']:
            mark = f'{name}__'
            own = {k.split('__', 1)[1]: v for k, v in self.arrays.items() if k.startswith(mark)}
            yield Case(name, {**shared, **own}, self.read)

    def unread(self) -> list[Row]:
        """A failed row for each array that no check read."""
        missed = [key for key in self.arrays if key not in self.read]
        return [Row(self.name, f'{key}: not checked', np.inf, np.inf, '', False) for key in missed]


def complete(check: Callable[[GoldenCases], list[Row]]) -> Callable[[Path], list[Row]]:
    """A check of a file from a check of its cases; every array must be read."""

    def whole(path: Path) -> list[Row]:
        golden = GoldenCases(path)
        return check(golden) + golden.unread()

    return whole
