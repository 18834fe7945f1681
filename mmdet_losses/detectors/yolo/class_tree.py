"""Tree of classes with a softmax over the children of every class, as in YOLO9000."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class ClassTree:
    r"""A hierarchy of classes: a score is a product of conditional probabilities up to the top.

    .. math::

        P(c) = \prod_{a \in \{c\} \cup ancestors(c)}
               \mathrm{softmax}_{siblings(a)}(x)_a

    Args:
        parents: number of the parent of each class, -1 at the top. As in darknet's file, a parent
            is before its children, and the children of a class follow each other.

    Raises:
        ValueError: another order.

    Reference:
        Redmon and Farhadi, *YOLO9000*, 2017, section 4.
    """

    def __init__(self, parents: Sequence[int]) -> None:
        groups: list[list[int]] = []
        depth: list[int] = []
        for number, parent in enumerate(parents):
            if not -1 <= parent < number:
                raise ValueError(
                    f'The parent of class {number} is {parent}; give parents before their children.'
                )
            if not number or parent != parents[number - 1]:
                groups.append([])
            groups[-1].append(number)
            depth.append(0 if parent < 0 else depth[parent] + 1)
        heads = [parents[group[0]] for group in groups]
        if not parents or len(set(heads)) < len(heads):
            raise ValueError(
                'The children of one class do not follow each other; order them as in a file of '
                'darknet.'
            )
        self.parents, self.depth, self.levels = list(parents), depth, max(depth)
        self.group = [number for number, group in enumerate(groups) for _ in group]
        self._tables: dict[tuple[str, torch.device], Tensor] = {}
        longest = max(map(len, groups))
        self.members = [[*group, *[len(parents)] * (longest - len(group))] for group in groups]
        """Classes of every group, filled up with the number of classes."""

    def __len__(self) -> int:
        return len(self.parents)

    def _table(self, name: str, like: Tensor) -> Tensor:
        """A list as int64 tensor, one copy per device."""
        key = name, like.device
        if key not in self._tables:
            self._tables[key] = torch.tensor(getattr(self, name), device=like.device)
        return self._tables[key]

    def _up(self, values: Tensor, top: float) -> Tensor:
        """Values (..., C) of the parents; ``top`` at the top."""
        padded = torch.cat((values, torch.full_like(values[..., :1], top)), -1)
        return padded[..., self._table('parents', values)]  # -1 is the last entry

    def _groups(self, values: Tensor) -> Tensor:
        """Values (..., C) by group, (..., G, S), filled up with -inf."""
        padded = torch.cat((values, torch.full_like(values[..., :1], -torch.inf)), -1)
        return padded[..., self._table('members', values)]

    def log_probabilities(self, logits: Tensor) -> Tensor:
        """log P of every class from logits, (..., C)."""
        group = self._table('group', logits)
        own = logits - self._groups(logits).logsumexp(-1)[..., group]
        total = own
        for _ in range(self.levels):
            total = own + self._up(total, 0.0)
        return total

    def deepest(self, logs: Tensor, threshold: float) -> Tensor:
        """The class (...) at the end of the path of most probable children, from log P (..., C).

        The path ends where P is no longer above ``threshold``, but has at least one class.
        """
        group = self._table('group', logs)
        path = best = logs == self._groups(logs).amax(-1)[..., group]
        for _ in range(self.levels):
            path = best & (self._up(path.float(), 1.0) > 0)
        level = self._table('depth', logs)
        kept = path & ((logs.exp() > threshold) | (level == 0))
        return torch.where(kept, level + 1, 0).argmax(-1)

    def with_ancestors(self, own: Tensor) -> Tensor:
        """Classes (..., C) bool and all their ancestors."""
        parents = self._table('parents', own) % (len(self) + 1)
        for _ in range(self.levels):
            counts = own.new_zeros((*own.shape[:-1], len(self) + 1), dtype=torch.float32)
            own = own | (counts.index_add(-1, parents, own.float())[..., :-1] > 0)
        return own


def parse_tree(text: str) -> list[int]:
    """Parents of the classes in darknet's file: a name and a number per line.

    Raises:
        ValueError: a line without a number.
    """
    rows = [line.split() for line in text.splitlines() if line.strip()]
    return [int(row[1]) if len(row) > 1 else -1 for row in rows]
