"""Comparison of a checkpoint with the network that shall take it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from mmdet_losses.core.checkpoint import read_checkpoint
from mmdet_losses.engine.processes import UsageError


def check_checkpoint(path: str, model: nn.Module, config: str) -> None:
    """Raise a ``UsageError`` unless every layer of a checkpoint file fits the detector.

    The file is read without running code from it. A URL is not checked.

    Args:
        path: of the checkpoint.
        model: the detector, possibly in wrappers.
        config: name of the config, for the message.
    """
    if '://' in path:
        return
    while isinstance(inner := getattr(model, 'module', None), nn.Module):
        model = inner
    try:
        state = read_checkpoint(path)
    except ValueError as error:
        raise UsageError(str(error)) from error
    check_fit(state, model.state_dict(), path, config)


def check_fit(
    state: Mapping[str, Tensor], target: Mapping[str, Tensor], checkpoint: str, config: str
) -> None:
    """Raise a ``UsageError`` for missing, unexpected and reshaped layers.

    Args:
        state: of the checkpoint.
        target: state dict of the detector.
        checkpoint: name of the file.
        config: name of the config.
    """
    missing = [key for key in target if key not in state]
    unexpected = [key for key in state if key not in target]
    changed = [key for key in target if key in state and state[key].shape != target[key].shape]
    if not (missing or unexpected or changed):
        return
    if len(missing) == len(target):
        raise UsageError(
            f'checkpoint {checkpoint} has no layer of {config}; give the checkpoint of this '
            'config, or convert official weights with tools/convert_checkpoint.py.'
        )
    counts = {'missing': missing, 'unexpected': unexpected, 'of another shape': changed}
    parts = [f'{len(keys)} {words} ({keys[0]}, ...)' for words, keys in counts.items() if keys]
    hint = ' The number of classes may differ.' if changed and not missing else ''
    raise UsageError(
        f'checkpoint {checkpoint} does not fit {config}: layers {", ".join(parts)}.{hint} Give the '
        'config that the checkpoint was trained with.'
    )
