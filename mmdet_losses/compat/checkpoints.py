"""Patches of MMEngine: checkpoints stay complete in a kill, and damaged ones are not loaded."""

from __future__ import annotations

import importlib
import os
import pickle
import textwrap
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

PARTIAL = '.partial'
"""Suffix of a file that is being written."""


def write_files_atomically() -> None:
    """Write files of MMEngine's local backend completely or not at all.

    Reason: MMEngine writes a checkpoint in place. A kill, a full disk or a power cut while it
    writes leaves a damaged file under the final name. Now the content goes to a temporary file in
    the same folder, is flushed to the disk, and gets the final name in one step.
    Versions: every MMEngine 0.10.
    """
    backend = importlib.import_module('mmengine.fileio.backends').LocalBackend
    if getattr(backend.put, '__module__', '') == __name__:
        return

    def put(self: Any, obj: bytes, filepath: str | Path) -> None:
        write_atomically(Path(filepath), obj)

    def put_text(self: Any, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        write_atomically(Path(filepath), obj.encode(encoding))

    backend.put, backend.put_text = put, put_text


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file through a temporary file in its folder; the folder is created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'{path.name}.{os.getpid()}{PARTIAL}')
    try:
        with partial.open('wb') as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    if hasattr(os, 'O_DIRECTORY'):  # the new name is on the disk as well
        folder = os.open(path.parent, os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove_checkpoints_after_saving() -> None:
    """Remove outdated checkpoints after the new one is saved.

    Reason: with ``max_keep_ckpts=1`` MMEngine removes the only checkpoint before it writes the
    next one, so a kill between both loses the training. It does the same with the best
    checkpoint, and writes ``last_checkpoint`` in place. The disk needs room for one more
    checkpoint.
    Versions: every MMEngine 0.10.
    """
    module = importlib.import_module('mmengine.hooks.checkpoint_hook')
    hook, is_main_process = module.CheckpointHook, module.is_main_process
    if getattr(hook._save_checkpoint_with_step, '__module__', '') == __name__:
        return
    save_best = hook._save_best_checkpoint

    def _save_checkpoint_with_step(self: Any, runner: Any, step: int, meta: dict) -> None:
        outdated = _note_step(self, runner, step)
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            record = Path(runner.work_dir) / 'last_checkpoint'
            write_atomically(record, self.last_ckpt.encode())
            if outdated is not None:
                path = self.filename_tmpl.format(outdated)
                _remove(self.file_backend, self.file_backend.join_path(self.out_dir, path))

    def _save_best_checkpoint(self: Any, runner: Any, metrics: dict) -> None:
        backend = self.file_backend
        late = self.file_backend = _LateRemoval(backend)
        try:
            save_best(self, runner, metrics)
        finally:
            self.file_backend = backend
        kept = {getattr(self, 'best_ckpt_path', None)}
        kept |= set(getattr(self, 'best_ckpt_path_dict', {}).values())
        for path in late.removed:
            if path not in kept:
                _remove(backend, path)

    hook._save_checkpoint_with_step = _save_checkpoint_with_step
    hook._save_best_checkpoint = _save_best_checkpoint


def _note_step(hook: Any, runner: Any, step: int) -> int | None:
    """Add a step to the kept ones; returns the step whose checkpoint is outdated then."""
    if hook.max_keep_ckpts <= 0 or step in list(hook.keep_ckpt_ids)[-1:]:
        return None
    kept = [*hook.keep_ckpt_ids, step]
    hook.keep_ckpt_ids.append(step)  # its length is limited
    runner.message_hub.update_info('keep_ckpt_ids', list(hook.keep_ckpt_ids))
    return kept[0] if len(kept) > hook.max_keep_ckpts else None


class _LateRemoval:
    """A file backend that lists the paths to remove instead of removing them."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self.removed: list[str] = []

    def remove(self, path: str) -> None:
        self.removed.append(path)

    rmtree = remove

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)


def _remove(backend: Any, path: str) -> None:
    if backend.isfile(path):
        backend.remove(path)
    elif backend.isdir(path):  # a checkpoint of DeepSpeed
        backend.rmtree(path)


def check_files_before_loading() -> None:
    """Raise one message for a damaged checkpoint file, and for weights that are not finite.

    Reason: PyTorch does not compare the checksums of the weights, so a file with a changed byte
    loads silently, as do the NaN of a failed training. For other damages it raises errors without
    the name of the file.
    Versions: every MMEngine 0.10.
    """
    loader = importlib.import_module('mmengine.runner.checkpoint').CheckpointLoader
    loaders, load_any = loader._schemes, loader.load_checkpoint
    load = loaders['']
    if getattr(load, '__module__', '') == __name__:
        return

    def load_checkpoint(filename: str, *args: Any, **kwargs: Any) -> Any:
        """Content of a file or URL whose weights are finite; the arguments are MMEngine's."""
        content = load_any(filename, *args, **kwargs)
        check_finite(content, filename)
        return content

    loader.load_checkpoint = staticmethod(load_checkpoint)

    def load_from_local(filename: str, *args: Any, **kwargs: Any) -> Any:
        """Content of a file whose checksums are right; the arguments are MMEngine's."""
        try:
            check_checksums(os.path.expanduser(filename))
            return load(filename, *args, **kwargs)
        except (FileNotFoundError, PermissionError):
            raise
        except Exception as error:  # a damaged file raises many kinds of errors
            kind = type(error) if isinstance(error, pickle.UnpicklingError) else RuntimeError
            if filename.endswith(('.weights', '.cfg')):
                raise kind(
                    f'{filename} is a file of darknet, not a checkpoint; convert the weights with '
                    'tools/import_darknet.py (with their cfg) or tools/convert_checkpoint.py.'
                ) from error
            text = textwrap.shorten(str(error), 120, placeholder=' ...') or type(error).__name__
            raise kind(
                f'checkpoint {filename} is damaged, or has more than tensors and numbers ({text}): '
                'get the file again, or choose another one.'
            ) from error

    loaders[''] = load_from_local


def check_checksums(path: Path | str) -> None:
    """Raise a ``RuntimeError`` if a part of a zip archive does not have its checksum.

    PyTorch writes the checksums but does not compare them. Files of another format pass.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except Exception as error:  # a damaged table of contents raises many kinds of errors
        raise RuntimeError(f'its table of contents is damaged ({error})') from error
    if broken:
        raise RuntimeError(f'the checksum of its part {broken} is wrong')


def check_finite(content: Any, path: Path | str) -> None:
    """Raise a ``ValueError`` if weights of a checkpoint are NaN, infinite or not real numbers.

    Args:
        content: a state dict, or a checkpoint with ``state_dict`` or ``model``.
        path: of the file, for the message.
    """
    fault = value_fault(content, ('state_dict', 'model'))
    if fault:
        raise ValueError(
            f'checkpoint {path} cannot be used: {fault}. Use an earlier checkpoint; after a '
            'diverged training, train again with a lower learning rate or with clip_grad.'
        )


def value_fault(content: Any, entries: tuple[str, ...]) -> str | None:
    """Words about tensors that are not finite real numbers in float32, or None.

    Args:
        content: of a checkpoint.
        entries: keys of the parts to examine; without any of them, the whole content.
    """
    if not isinstance(content, Mapping):
        return None
    tensors = dict(_tensors({key: content[key] for key in entries if key in content} or content))
    for name, tensor in tensors.items():
        if tensor.is_meta or tensor.is_complex():
            kind = 'complex numbers' if tensor.is_complex() else 'a shape but no values'
            return f'its tensor {name} has {kind}'
    counts = {name: _not_finite(tensor) for name, tensor in tensors.items()}
    found = [name for name in counts if counts[name]]
    if not found:
        return None
    return (
        f'it has NaN or infinite values, {sum(counts.values())} in {len(found)} of {len(tensors)} '
        f'tensors (the first: {found[0]}, {counts[found[0]]} of {tensors[found[0]].numel()})'
    )


def _tensors(content: Mapping) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of all tensors in nested containers; a state dict has its own names."""
    pending: list[tuple[str, Any]] = [('', content)]
    while pending:  # the nesting of a hostile file is deeper than Python's stack
        name, node = pending.pop()
        if isinstance(node, Tensor):
            yield name, node
            continue
        children: Any = ()
        if isinstance(node, Mapping):
            children = node.items()
        elif isinstance(node, (list, tuple)):
            children = enumerate(node)
        prefix = f'{name}.' if name not in ('', 'state_dict', 'model') else ''
        pending += reversed([(f'{prefix}{key}', child) for key, child in children])


def _not_finite(tensor: Tensor) -> int:
    """Number of values that are NaN or infinite, also after a conversion to float32."""
    if not tensor.is_floating_point():
        return 0
    values = tensor.detach().to_dense() if tensor.layout != torch.strided else tensor.detach()
    finite = values.float().isfinite()
    return 0 if finite.all() else int((~finite).sum())
