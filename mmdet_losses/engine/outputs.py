"""Checks of output paths, before any work is done."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from mmengine.dist import broadcast_object_list, get_dist_info

from mmdet_losses.engine.processes import UsageError

LEAST_SPACE = 64 * 2**20
"""Bytes that must be free in a folder of results."""


def check_folder(path: Path | str, name: str, least: int = LEAST_SPACE) -> None:
    """Create a folder of results, and raise a ``UsageError`` unless files can be written there.

    The first process checks for all.

    Args:
        path: of the folder.
        name: of the setting, such as ``--out``.
        least: bytes that must be free.
    """
    message: list[str | None] = [None]
    if get_dist_info()[0] == 0:
        message[0] = _folder_fault(Path(path), name, least)
    broadcast_object_list(message)
    if message[0] is not None:
        raise UsageError(message[0])


def check_file(path: Path | str, name: str) -> None:
    """Raise a ``UsageError`` unless a file of results can be written; see :func:`check_folder`."""
    if Path(path).is_dir():
        raise UsageError(f'{name} is {path}, which is a folder: give the path of a file.')
    check_folder(Path(path).parent, name)


def check_new(path: Path | str, name: str, suffixes: tuple[str, ...], force: bool = False) -> None:
    """Raise a ``UsageError`` unless a new file can be written; see :func:`check_file`.

    Args:
        path: of the file.
        name: of the setting, such as ``--out``.
        suffixes: the file has one of these; none means any.
        force: an existing file is replaced.
    """
    path = Path(path)
    if suffixes and path.suffix not in suffixes:
        raise UsageError(
            f'{name} is {path}: give the path of a file that ends with {" or ".join(suffixes)}.'
        )
    check_file(path, name)
    if path.exists() and not force:
        raise UsageError(f'{path} exists; choose another {name}, or replace it with --force.')


def _folder_fault(path: Path, name: str, least: int) -> str | None:
    blocking = next((each for each in (path, *path.parents) if each.exists()), path)
    if blocking.exists() and not blocking.is_dir():
        return f'{name} is {path}, but {blocking} is a file: choose another folder.'
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return (
            f'{name} is {path}, where no file can be written ({error.strerror or error}): choose '
            'another folder, or change its permissions.'
        )
    free = shutil.disk_usage(path).free
    if free < least:
        return (
            f'{name} is {path}, where only {free / 2**20:.0f} MiB are free: free some space '
            f'({least / 2**20:.0f} MiB at least), or choose another folder.'
        )
    return None
