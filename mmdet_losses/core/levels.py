"""Checks of a network's maps against the tables of an encoder."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor


def check_levels(found: int, expected: int, table: str) -> None:
    """Raise ``ValueError`` unless the network has as many maps as ``table`` has entries."""
    if found != expected:
        raise ValueError(
            f'The network returns {found} maps but {table} has {expected} entries; make them equal.'
        )


def check_channels(
    maps: Sequence[Tensor], anchors: Sequence[int], depth: int, what: str = 'output'
) -> None:
    """Raise ``ValueError`` unless maps (B, A * depth, H, W) have A anchors per cell."""
    for level, (each, count) in enumerate(zip(maps, anchors, strict=False)):
        if each.shape[1] != count * depth:
            raise ValueError(
                f'Map {level} of the {what} has {each.shape[1]} channels, which is not {count} '
                f'anchors x {depth}; give predictor and encoder the same anchors and classes.'
            )


def check_positive(name: str, values: Sequence[float]) -> None:
    """Raise ``ValueError`` unless all values are positive and finite."""
    for value in values:
        if not 0 < value < math.inf:
            raise ValueError(f'{name} has the entry {value}; give positive, finite numbers.')
