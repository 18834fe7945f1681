"""Reading of checkpoint files without running code from them."""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from mmdet_losses.compat.checkpoints import check_checksums


def load_plain(path: Path | str, mmap: bool = False) -> Any:
    """Content of a PyTorch file: tensors, containers and numbers.

    PyTorch before 2.6 runs the code of a TorchScript archive even with ``weights_only=True``, so
    these archives are not given to it.

    Args:
        mmap: read the tensors when they are used; files of the format before PyTorch 1.6 at once.

    Raises:
        pickle.UnpicklingError: the file has other objects, or is a TorchScript archive.
        RuntimeError: the file is damaged; checksums of weights are compared.
    """
    if is_torchscript(path):
        raise pickle.UnpicklingError('it is a TorchScript archive; loading it would run its code')
    check_checksums(path)
    mmap = mmap and zipfile.is_zipfile(path)
    return torch.load(path, map_location='cpu', weights_only=True, mmap=mmap)


def load_failure(error: Exception) -> str:
    """Why a file does not load, in one line.

    PyTorch's message begins with the advice to load the file with ``weights_only=False``, which
    runs its code; the cause is a later line of it.
    """
    text = str(error).strip()
    if 'weights_only' in text:
        found = re.search(r'WeightsUnpickler error: (.+?)(?:\. |\.?\s*$)', text, re.MULTILINE)
        return found[1] if found else 'it is damaged, or has other objects than tensors'
    return text.splitlines()[0][:200] if text else type(error).__name__


def is_torchscript(path: Path | str) -> bool:
    """Whether ``torch.load`` would pass the file to ``torch.jit.load``, which runs its code."""
    try:
        records = torch._C.PyTorchFileReader(str(path)).get_all_records()  # as torch.load decides
    except RuntimeError:  # not a zip archive
        return False
    return 'constants.pkl' in records
