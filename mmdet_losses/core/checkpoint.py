"""Conversion of official checkpoints to our parameter names, by strict rules.

A family defines its rules as a ``KeyMap`` in ``detectors/<family>/checkpoints.py`` and lists them
in a table ``LAYOUTS`` of ``Layout`` entries. :func:`convert` applies them: every source key
matches a rule, every target key gets one tensor of equal shape, and ignored keys are listed with a
reason. Anything else raises an error that lists the keys.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from mmdet_losses.compat.checkpoints import check_finite
from mmdet_losses.core.plain_tensors import load_failure, load_plain
from mmdet_losses.registry import MODELS

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

    def knows(self, key: str) -> bool:
        """Whether a rule claims or ignores a source key."""
        return self.rename(key) is not None or any(
            re.search(pattern, key) for pattern, _ in self.ignored
        )


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


def read_checkpoint(path: Path | str) -> dict[str, Tensor]:
    """State dict of a file: the whole file, ``state_dict`` or ``model``; ``module.`` is removed.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file does not contain named tensors only, or NaN or infinite values.
    """
    path = Path(path)
    if not path.is_file():
        what = 'is a folder' if path.is_dir() else 'does not exist'
        raise FileNotFoundError(f'checkpoint {path} {what}; check the path.')
    try:
        content = load_plain(path)
    except Exception as error:  # a damaged file raises many kinds of errors
        raise ValueError(
            f'{path} does not load as plain tensors ({load_failure(error)}); save only its '
            'state_dict with the code that created the file, then convert that file.'
        ) from error
    state = strip_module(_unwrap(content, path))
    check_finite(state, path)
    return state


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
        or not all(isinstance(key, str) for key in content)
        or not all(isinstance(value, Tensor) for value in content.values())
    ):
        raise ValueError(
            f'{path} contains no named tensors, neither directly nor under state_dict or model; '
            'save a state_dict.'
        )
    return dict(content)


# ------------------------------------------------------------------------ configs and layouts


def assemble(backbone: nn.Module, predictor: nn.Module, neck: nn.Module | None = None) -> nn.Module:
    """A container whose children have the names of a full detector's."""
    parts = dict(backbone=backbone, bbox_head=nn.ModuleDict(dict(predictor=predictor)))
    return nn.ModuleDict(parts if neck is None else dict(parts, neck=neck))


def network_of(model: ConfigDict) -> nn.Module:
    """Build the backbone, neck and predictor of a detector's config on the ``meta`` device.

    The parameters have names and shapes but no values, so they need no memory.

    Raises:
        ValueError: the config has no ``bbox_head.predictor``: it describes a detector of another
            package.
    """
    if 'predictor' not in model.get('bbox_head', {}):
        raise ValueError(
            f'The config describes {model.get("type")} without a bbox_head.predictor; choose a '
            'config of this package.'
        )
    parts = [model.backbone, model.bbox_head.predictor, model.get('neck')]
    with torch.device('meta'), DefaultScope.overwrite_default_scope('mmdet'):
        return assemble(*(each and MODELS.build(each) for each in parts))


def part_types(model: ConfigDict) -> tuple[str, str, str]:
    """Class names of backbone, neck ('' for none) and predictor in a detector's config."""
    parts = (model.backbone, model.get('neck'), model.get('bbox_head', {}).get('predictor'))
    kinds = (part['type'] if part else '' for part in parts)
    backbone, neck, predictor = (
        getattr(kind, '__name__', str(kind).rpartition('.')[2]) for kind in kinds
    )
    return backbone, neck, predictor


@dataclass(frozen=True)
class Layout:
    """One layout of published files: how to read them, and the networks that they fill."""

    source: str
    """The code that wrote the files, as shown by ``convert_checkpoint.py --list``."""
    networks: Sequence[tuple[str, str, str]]
    """Patterns of the class names of backbone, neck and predictor (see :func:`part_types`)."""
    rules: KeyMap | Callable[[ConfigDict], KeyMap]
    """The rules, or a function of the model's config that returns them."""
    read: Callable[[Path], dict[str, Tensor]] = read_checkpoint
    """{official key: tensor} of a file."""
    fill: Callable[[Path, nn.Module, ConfigDict, bool], dict[str, Tensor]] | None = None
    """For files without names, instead of ``read``: file, our network, config of the model and
    ``partial`` to {our key: tensor}."""
    of_file: Callable[[Path, ConfigDict], ConfigDict] | None = None
    """For files without names: config of the model with the number of classes of the file."""
    only: Callable[[ConfigDict], bool] = lambda model: True
    """A further condition on the model's config."""
    prefix: str = ''
    """The keys of ours that the files fill start with it ('backbone.' for ImageNet weights)."""

    def fits(self, model: ConfigDict) -> bool:
        """Whether files of this layout fill the network of a config."""
        kinds = part_types(model)
        known = any(
            all(re.fullmatch(pattern, kind) for pattern, kind in zip(patterns, kinds, strict=True))
            for patterns in self.networks
        )
        return known and self.only(model)

    def key_map(self, model: ConfigDict) -> KeyMap:
        """The rules for the network of a config."""
        return self.rules if isinstance(self.rules, KeyMap) else self.rules(model)

    def target(self, network: nn.Module) -> dict[str, Tensor]:
        """The part of our state dict that the files fill."""
        state = network.state_dict()
        return {key: value for key, value in state.items() if key.startswith(self.prefix)}

    def load(
        self,
        path: Path,
        network: nn.Module,
        model: ConfigDict,
        partial: bool = False,
        allow_class_layers: bool = False,
    ) -> dict[str, Tensor]:
        """The tensors of a file, as the rules expect them.

        Args:
            path: the official file.
            network: of :func:`network_of`.
            model: config of the model.
            partial: the file may end before the network does.
            allow_class_layers: the file may have another number of classes.

        Raises:
            ValueError: ``partial`` with a file that names its tensors.
        """
        if self.fill is not None:
            if allow_class_layers and self.of_file is not None:
                model = self.of_file(path, model)
                network = network_of(model)
            return self.fill(path, network, model, partial)
        if partial:
            raise ValueError(
                f'{path} is not a darknet file, but --partial is only for darknet files of first '
                'layers; remove --partial.'
            )
        return self.read(path)


def names_tensors(path: Path) -> bool:
    """Whether a file is a checkpoint of PyTorch (zip or pickle); darknet's have no names.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f'There is no checkpoint at {path}; check the path.')
    with path.open('rb') as file:
        return file.read(2) in (b'PK', b'\x80\x02', b'\x80\x03', b'\x80\x04', b'\x80\x05')


def choose_layout(
    path: Path, model: ConfigDict, layouts: Mapping[str, Layout]
) -> tuple[str, Layout]:
    """The layout of a file, among those that fill the network of a config.

    Where several fit, the one whose rules claim or ignore the most keys of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no layout of that kind of file fits the config.
    """
    named = names_tensors(path)
    fitting = {name: each for name, each in layouts.items() if each.fits(model)}
    found = {name: each for name, each in fitting.items() if (each.fill is None) == named}
    if not found:
        kind = 'PyTorch checkpoint' if named else 'darknet weights file (or damaged)'
        accepted = ', '.join(each.source for each in fitting.values()) or 'no official file'
        raise ValueError(
            f'{path.name} is a {kind}, but the network of the config '
            f'({", ".join(filter(None, part_types(model)))}) accepts {accepted}; choose another '
            'config (--list shows what each one accepts).'
        )
    if len(found) > 1:
        keys = list(read_checkpoint(path))
        known = {
            name: sum(each.key_map(model).knows(key) for key in keys)
            for name, each in found.items()
        }
        name = max(known, key=known.__getitem__)
        return name, found[name]
    return next(iter(found.items()))
