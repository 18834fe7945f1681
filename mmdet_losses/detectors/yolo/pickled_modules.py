"""Tensors of a pickled network, without the code that defined it and without running any.

Scaled-YOLOv4 saved whole modules, which load only where its classes import. Here every class of
the file becomes an empty one, so nothing of the file is executed, and the tensors keep their names.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from mmdet_losses.compat.checkpoints import check_finite
from mmdet_losses.core.plain_tensors import is_torchscript

STAND_IN_MODULES = ('models.', 'utils.', 'torch.nn.modules.', 'numpy', '_codecs')
"""Modules (or prefixes, with a dot) whose names become inert classes; other names are errors."""

_HARMLESS = {
    ('collections', 'OrderedDict'),
    ('torch', 'Size'),
    ('torch', 'device'),
    ('torch._utils', '_rebuild_parameter'),
    ('torch._utils', '_rebuild_tensor_v2'),
    ('builtins', 'set'),
    ('__builtin__', 'set'),
}


class _Empty(nn.Module):
    """Stands for any class or function of the file."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            super().__setstate__(state)


class _Unpickler(pickle.Unpickler):
    """Builds tensors and containers; names of :data:`STAND_IN_MODULES` become :class:`_Empty`."""

    def find_class(self, module: str, name: str) -> Any:
        # a name with a dot is an attribute of an attribute, such as torch's `os.path`
        storage = module == 'torch' and name.endswith('Storage') and '.' not in name
        if storage or (module, name) in _HARMLESS:
            return super().find_class(module, name)
        if not f'{module}.'.startswith(STAND_IN_MODULES):
            raise pickle.UnpicklingError(f'{module}.{name} is in the file, which is not allowed')
        return type(name, (_Empty,), {})


def read_pickled_module(path: Path | str, entry: str = 'model') -> dict[str, Tensor]:
    """State dict of the network pickled in a file.

    Args:
        path: the checkpoint.
        entry: its key, where the file holds a dict.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file does not unpickle, has no network under ``entry``, or has NaN or
            infinite values.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'checkpoint {path} does not exist; check the path.')
    reader = SimpleNamespace(__name__='inert', Unpickler=_Unpickler, load=_load)
    if is_torchscript(path):
        raise ValueError(
            f'{path} is a TorchScript archive, and loading it would run its code; save the '
            'state_dict of the network with the code that created the file.'
        )
    try:
        content = torch.load(path, map_location='cpu', pickle_module=reader, weights_only=False)
    except Exception as error:  # a damaged file raises many kinds of errors
        raise ValueError(f'{path} does not load as a PyTorch checkpoint ({error}).') from error
    network = content.get(entry) if isinstance(content, dict) else content
    try:
        state = network.state_dict() if isinstance(network, nn.Module) else {}
        tensors = OrderedDict((key, value.detach()) for key, value in state.items())
    except Exception as error:  # the file also fills the attributes of modules
        raise ValueError(f'{path} has a damaged network under {entry!r} ({error}).') from error
    if not tensors:
        raise ValueError(
            f'{path} has no network under {entry!r}; name the entry that holds it, or convert a '
            'plain state dict.'
        )
    check_finite(tensors, path)
    return tensors


def _load(file: Any, **kwargs: Any) -> Any:
    return _Unpickler(file, **kwargs).load()
