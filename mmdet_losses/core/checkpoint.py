"""Conversion of official checkpoints to our parameter names, by strict rules.

A family defines its rules as a ``KeyMap`` in ``detectors/<family>/checkpoints.py`` and lists them
in a table ``FAMILIES`` of ``Family`` entries. :func:`convert` applies them: every source key
matches a rule, every target key gets one tensor of equal shape, and ignored keys are listed with a
reason. Anything else raises an error that lists the keys.
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
_COUNTER_REASON = 'a counter that the forward pass does not use; it restarts at zero'


class KeyMap(NamedTuple):
    """Rules that convert source names to target names; patterns are regular expressions.

    The first entry of ``claims`` that matches the start of a source key replaces that start. Then
    every entry of ``inner`` is replaced anywhere in the rest.
    """

    claims: Sequence[tuple[str, str]]
    """(pattern, replacement); the first match is used."""
    inner: Sequence[tuple[str, str]] = ()
    """(pattern, replacement), all applied in order."""
    ignored: Sequence[tuple[str, str]] = ()
    """(pattern, reason) of source keys that the network does not need."""
    folded: Sequence[tuple[str, str]] = ()
    """(pattern of a convolution bias, name of the running mean after it). If our layer has no bias
    before a norm, subtracting the bias from the running mean gives the same function."""
    class_layers: str = r'$^'
    """Pattern of target keys whose shape depends on the number of classes."""

    def rename(self, key: str) -> str | None:
        """Target name of a source key; None if no rule matches."""
        for pattern, replacement in self.claims:
            if match := re.match(pattern, key):
                key = match.expand(replacement) + key[match.end() :]
                for inner, by in self.inner:
                    key = re.sub(inner, by, key)
                return key
        return None


class Conversion(NamedTuple):
    """A converted checkpoint and the keys that were left out."""

    state_dict: dict[str, Tensor]
    ignored: dict[str, str]
    """Source key -> reason."""
    class_layers: list[str]
    """Target keys left out because the number of classes differs (only if allowed)."""
    missing: list[str]
    """Target keys that a file of the first layers does not contain (only if allowed)."""


class CheckpointMismatch(ValueError):
    """The file does not match the network; the message lists all keys that differ."""


def convert(
    source: Mapping[str, Tensor],
    target: Mapping[str, Tensor],
    key_map: KeyMap,
    allow_class_layers: bool = False,
    partial: bool = False,
) -> Conversion:
    """State dict ``source`` with the names of ``target``.

    Args:
        source: the official state dict.
        target: ``state_dict()`` of our network; only names and shapes are read.
        key_map: the family's rules.
        allow_class_layers: leave out layers whose shape differs with the number of classes.
        partial: leave out target keys that the source does not contain.

    Raises:
        CheckpointMismatch: keys are missing, unexpected, filled twice or of another shape.
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
            'missing (not in the file)': [] if partial else missing,
            'unexpected (no rule or no layer for them)': claimed.unexpected,
            'of another shape': changed,
            'filled twice (two keys of the file for one of ours)': claimed.collisions,
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
    """Subtract biases without a target key from the running means after them, in ``renamed``."""
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
    lines = ['The checkpoint does not match the network.']
    for title, keys in problems.items():
        if keys:
            lines += [f'{len(keys)} {title}:', *(f'  {key}' for key in keys)]
    if len(lines) > 1:
        raise CheckpointMismatch('\n'.join(lines))


def assemble(backbone: nn.Module, predictor: nn.Module, neck: nn.Module | None = None) -> nn.Module:
    """Module whose children are named as in a full detector."""
    parts = dict(backbone=backbone, bbox_head=nn.ModuleDict(dict(predictor=predictor)))
    return nn.ModuleDict(parts if neck is None else dict(parts, neck=neck))


def read_checkpoint(path: Path | str) -> dict[str, Tensor]:
    """State dict of a file: the whole file, ``state_dict`` or ``model``; ``module.`` is removed.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file does not contain named tensors only.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'checkpoint {path} does not exist; check the path.')
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f'{path} does not load as plain tensors ({reason}); save only its state_dict with the '
            'code that created the file, then convert that file.'
        ) from error
    return strip_module(_unwrap(content, path))


def strip_module(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict without the prefix ``module.`` of parallel wrappers."""
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
            f'{path} contains no named tensors, neither directly nor under state_dict or model; '
            'save a state_dict.'
        )
    return dict(content)


class Family(NamedTuple):
    """One kind of official file: how to read it, and the network that it fits."""

    key_map: KeyMap
    build: Callable[..., nn.Module]
    """Builds our network with ``assemble``; its keyword arguments are the options of the family."""
    read: Callable[[Path], dict[str, Tensor]] = read_checkpoint
    """Reads a file into {official key: tensor}."""
    fill: Callable[[Path, nn.Module, bool], dict[str, Tensor]] | None = None
    """For files without names, instead of ``read``: fills {our key: tensor} in the order of our
    network; the third argument is ``partial``."""

    def load(self, path: Path, network: nn.Module, partial: bool = False) -> dict[str, Tensor]:
        """Tensors of a file, with the keys that the rules expect.

        Args:
            path: the official file.
            network: result of ``build``.
            partial: the file may contain only the first layers.

        Raises:
            ValueError: ``partial`` for a file with named tensors.
        """
        if self.fill is not None:
            return self.fill(path, network, partial)
        if partial:
            raise ValueError(
                f'{path} is not a darknet file, but --partial is only for darknet files of first '
                'layers; remove --partial.'
            )
        return self.read(path)
