"""Checkpoints of the papers' own code, renamed into ours: strict, by rules.

A family keeps its rules beside its networks (``detectors/<family>/checkpoints.py``) as a
``KeyMap`` and offers them as ``Family`` entries of a table ``FAMILIES``. The engine here applies
them: every key of the source is claimed, every key of the target is filled once, every shape is
equal, and what is left out is listed with its reason. Anything else is an error that lists the
keys.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

_COUNTER = r'num_batches_tracked$'
_COUNTER_REASON = 'a counter that no forward pass reads; counting restarts at zero'


class KeyMap(NamedTuple):
    """Rules from source names to target names; patterns are regular expressions.

    A source key is claimed by the first entry of ``claims`` that matches at its start, which
    rewrites that start; then every entry of ``inner`` rewrites the rest wherever it occurs.
    """

    claims: Sequence[tuple[str, str]]
    """(pattern, replacement), first match wins."""
    inner: Sequence[tuple[str, str]] = ()
    """(pattern, replacement), all applied in order."""
    ignored: Sequence[tuple[str, str]] = ()
    """(pattern, reason) of source keys that the network does not need."""
    folded: Sequence[tuple[str, str]] = ()
    """(pattern of a target-side convolution bias, name of the running mean behind it): where our
    layer has no bias before a norm, subtracting it from the mean is the same function."""
    class_layers: str = r'$^'
    """Pattern of target keys whose shape depends on the number of classes."""

    def rename(self, key: str) -> str | None:
        """Target name of a source key; None where no rule claims it."""
        for pattern, replacement in self.claims:
            if match := re.match(pattern, key):
                key = match.expand(replacement) + key[match.end() :]
                for inner, by in self.inner:
                    key = re.sub(inner, by, key)
                return key
        return None


class Conversion(NamedTuple):
    """A converted checkpoint and what was left out on the way."""

    state_dict: dict[str, Tensor]
    ignored: dict[str, str]
    """Source key -> reason."""
    class_layers: list[str]
    """Target keys left out because the number of classes differs (only where allowed)."""
    missing: list[str]
    """Target keys that a file of the first layers does not reach (only where allowed)."""


class CheckpointMismatch(ValueError):
    """The file and the network do not fit; the message lists every key that does not."""


def convert(
    source: Mapping[str, Tensor],
    target: Mapping[str, Tensor],
    key_map: KeyMap,
    allow_class_layers: bool = False,
    partial: bool = False,
) -> Conversion:
    """Rename ``source`` into the names of ``target``.

    Args:
        source: the official state dict.
        target: ``state_dict()`` of our network; only names and shapes are read.
        key_map: the family's rules.
        allow_class_layers: leave out layers whose shape differs with the number of classes.
        partial: leave out what nothing in the source fills.

    Raises:
        CheckpointMismatch: missing, unexpected, doubly filled or shape-changed keys.
    """
    wanted = {key for key in target if not re.search(_COUNTER, key)}
    claimed = _claim(source, key_map)
    _fold(claimed, wanted, key_map)
    result: dict[str, Tensor] = {}
    class_layers, changed = [], []
    for key, (name, tensor) in claimed.renamed.items():
        if key not in wanted:
            claimed.unexpected.append(f'{name} (as {key})')
        elif tensor.shape == target[key].shape:
            result[key] = tensor.to(target[key].dtype)
        elif allow_class_layers and re.search(key_map.class_layers, key):
            class_layers.append(key)
        else:
            changed.append(f'{name} {list(tensor.shape)} (as {key} {list(target[key].shape)})')
    missing = [key for key in target if key in wanted and key not in claimed.renamed]
    _raise_on(
        {
            'missing (nothing in the file fills them)': [] if partial else missing,
            'unexpected (no rule or no layer takes them)': claimed.unexpected,
            'shape-changed': changed,
            'colliding (two keys of the file for one of ours)': claimed.collisions,
        }
    )
    for key in target.keys() - wanted:
        if re.sub(_COUNTER, 'running_mean', key) in result:
            result[key] = torch.zeros_like(target[key], device='cpu')
    state = {key: result[key] for key in target if key in result}
    return Conversion(state, claimed.ignored, class_layers, missing)


class _Claimed(NamedTuple):
    renamed: dict[str, tuple[str, Tensor]]
    """Target key -> (source key, tensor)."""
    ignored: dict[str, str]
    unexpected: list[str]
    collisions: list[str]


def _claim(source: Mapping[str, Tensor], key_map: KeyMap) -> _Claimed:
    claimed = _Claimed({}, {}, [], [])
    ignores = [*key_map.ignored, (_COUNTER, _COUNTER_REASON)]
    for name, tensor in source.items():
        reasons = [reason for pattern, reason in ignores if re.search(pattern, name)]
        if reasons:
            claimed.ignored[name] = reasons[0]
        elif (key := key_map.rename(name)) is None:
            claimed.unexpected.append(name)
        elif key in claimed.renamed:
            claimed.collisions.append(f'{claimed.renamed[key][0]} and {name} (both as {key})')
        else:
            claimed.renamed[key] = (name, tensor)
    return claimed


def _fold(claimed: _Claimed, wanted: set[str], key_map: KeyMap) -> None:
    """Move biases that have no place into the running means behind them, in ``renamed``."""
    renamed = claimed.renamed
    for key in [key for key in renamed if key not in wanted]:
        for pattern, replacement in key_map.folded:
            match = re.fullmatch(pattern, key)
            mean = match.expand(replacement) if match else None
            if mean in renamed and renamed[mean][1].shape == renamed[key][1].shape:
                _, bias = renamed.pop(key)
                renamed[mean] = (renamed[mean][0], renamed[mean][1] - bias)
                break


def _raise_on(problems: Mapping[str, list[str]]) -> None:
    lines = ['The checkpoint does not fit the network.']
    for title, keys in problems.items():
        if keys:
            lines += [f'{len(keys)} {title}:', *(f'  {key}' for key in keys)]
    if len(lines) > 1:
        raise CheckpointMismatch('\n'.join(lines))


def assemble(backbone: nn.Module, predictor: nn.Module, neck: nn.Module | None = None) -> nn.Module:
    """A container whose children are named as in a full detector."""
    parts = dict(backbone=backbone, bbox_head=nn.ModuleDict(dict(predictor=predictor)))
    return nn.ModuleDict(parts if neck is None else dict(parts, neck=neck))


def read_checkpoint(path: Path | str) -> dict[str, Tensor]:
    """The state dict in a file: bare, or under ``state_dict`` or ``model``; ``module.`` removed.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds something other than tensors by name.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'There is no checkpoint at {path}; check the path.')
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f'{path} does not load as plain tensors ({said}); save its state_dict alone with the '
            'code that wrote it, then convert that.'
        ) from error
    return strip_module(_unwrap(content, path))


def strip_module(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the ``module.`` that parallel wrappers write before every key."""
    if all(key.startswith('module.') for key in state):
        return {key.removeprefix('module.'): value for key, value in state.items()}
    return dict(state)


def _unwrap(content: object, path: Path) -> dict[str, Tensor]:
    if isinstance(content, Mapping):
        for wrapper in ('state_dict', 'model'):
            if isinstance(content.get(wrapper), Mapping):
                content = content[wrapper]
                break
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(value, Tensor) for value in content.values())
    ):
        raise ValueError(
            f'{path} holds no tensors by name, neither bare nor under state_dict or model; save '
            'a state_dict.'
        )
    return dict(content)


class Family(NamedTuple):
    """One kind of published file: how to read it, what it becomes."""

    key_map: KeyMap
    build: Callable[..., nn.Module]
    """Makes our network by ``assemble``; its keyword arguments are the family's options."""
    read: Callable[[Path], dict[str, Tensor]] = read_checkpoint
    """{official key: tensor} of a file."""
    fill: Callable[[Path, nn.Module, bool], dict[str, Tensor]] | None = None
    """For files without names, instead of ``read``: {our key: tensor}, known from our network;
    the third argument is ``partial``."""

    def load(self, path: Path, network: nn.Module, partial: bool = False) -> dict[str, Tensor]:
        """The tensors of a file, as the rules expect them.

        Args:
            path: the official file.
            network: of ``build``.
            partial: the file may end before the network does.

        Raises:
            ValueError: ``partial`` for files that name their tensors.
        """
        if self.fill is not None:
            return self.fill(path, network, partial)
        if partial:
            raise ValueError(
                f'{path} is no darknet file of first layers, and --partial is for those; leave '
                'it out.'
            )
        return self.read(path)
