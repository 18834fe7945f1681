"""Eighteen hostile checkpoint files: no reader of the package runs code from any of them."""

import builtins
import importlib
import io
import operator
import os
import pickle
import posix
import struct
import tarfile
import zipfile
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from mmdet_losses.core.checkpoint import read_checkpoint
from mmdet_losses.detectors.yolo.pickled_modules import read_pickled_module
from mmdet_losses.engine.fit import check_checkpoint
from mmdet_losses.engine.processes import UsageError
from mmdet_losses.engine.resume import damage
from tools.convert_checkpoint import plain_copy

MARK = 'HOSTILE_CODE_RAN'


class Call:
    """Pickles as the call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class State(Call):
    """Pickles as a call whose result gets a state."""

    def __reduce__(self):
        return (*self.call, dict(a=1))


CODE = f"import os; os.environ['{MARK}'] = '1'"
OBJECTS = {
    'exec': lambda folder: Call(builtins.exec, CODE),
    'eval': lambda folder: Call(builtins.eval, f"__import__('os').environ.update({MARK}='1')"),
    'os.system': lambda folder: Call(posix.system, f'touch {folder}/ran'),
    'os.mkdir': lambda folder: Call(os.mkdir, f'{folder}/ran'),
    'open': lambda folder: Call(builtins.open, f'{folder}/ran', 'w'),
    'getattr': lambda folder: Call(builtins.getattr, Path, 'home'),
    'import': lambda folder: Call(importlib.import_module, 'this'),
    'methodcaller': lambda folder: Call(operator.methodcaller, 'system', 'true'),
    'partial': lambda folder: State(partial, print, MARK),
    'torch.load': lambda folder: Call(torch.load, '/dev/null'),
    'torch.hub': lambda folder: Call(
        torch.hub.load_state_dict_from_url, 'http://host.invalid/a.pth'
    ),
    'nested pickle': lambda folder: Call(pickle.loads, pickle.dumps(1)),
}


def write(path, kind):
    if kind in OBJECTS:
        content = dict(meta={}, state_dict=nn.Linear(2, 2).state_dict(), optimizer={})
        torch.save(content | dict(model=OBJECTS[kind](path.parent)), path)
    elif kind == 'bare pickle':
        path.write_bytes(pickle.dumps(Call(builtins.exec, CODE)))
    elif kind == 'dotted name':  # protocol 4 finds attributes of attributes
        name = [b'\x8c' + struct.pack('B', len(text)) + text for text in (b'torch', b'os.Storage')]
        path.write_bytes(b'\x80\x04' + b''.join(name) + b'\x93)R.')
    elif kind == 'legacy tar':
        with tarfile.open(path, 'w') as archive:
            for name in ('sys_info', 'pickle', 'storages', 'tensors'):
                content = pickle.dumps(Call(builtins.exec, CODE))
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    elif kind == 'legacy format':
        torch.save(Call(builtins.exec, CODE), path, _use_new_zipfile_serialization=False)
    elif kind == 'GLOBAL, INST and nested REDUCE':
        path.write_bytes(
            b"(S'" + CODE.replace("'", '"').encode() + b"'\nibuiltins\nexec\n"
            b"cbuiltins\nmap\n(cbuiltins\nexec\n(lp0\nS'1'\natRcbuiltins\nlist\n(tR."
        )
    elif kind == 'TorchScript':
        torch.jit.script(nn.Linear(2, 2)).save(path)


KINDS = (
    *OBJECTS, 'bare pickle', 'dotted name', 'legacy tar', 'legacy format',
    'GLOBAL, INST and nested REDUCE', 'TorchScript',
)  # fmt: skip


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('kind', KINDS)
def test_a_hostile_file_raises_and_runs_nothing(tmp_path: Path, monkeypatch, capfd, kind):
    path = tmp_path / 'hostile.pth'
    write(path, kind)
    monkeypatch.delenv(MARK, raising=False)
    ran = []
    monkeypatch.setattr(torch.jit, 'load', lambda *_, **__: ran.append('TorchScript'))
    if kind == 'TorchScript':  # PyTorch before 2.6 runs its code, also with weights_only=True
        monkeypatch.setattr(torch, 'load', lambda *_, **__: ran.append('torch.load'))
    with pytest.raises(ValueError, match=r'hostile\.pth') as caught:
        read_checkpoint(path)
    assert 'weights_only' not in str(caught.value)  # no advice to run the code
    with pytest.raises(ValueError, match=r'hostile\.pth'):
        read_pickled_module(path)
    with pytest.raises(UsageError, match=r'hostile\.pth'):
        check_checkpoint(str(path), nn.Linear(2, 2), 'a.py')
    assert damage(path) is not None
    assert ran == [] and MARK not in os.environ and not (tmp_path / 'ran').exists()
    assert MARK not in ''.join(capfd.readouterr())


def test_a_file_name_in_an_archive_writes_no_file(tmp_path):
    path = tmp_path / 'in' / 'hostile.pth'
    path.parent.mkdir()
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('../escaped', 'text')
        archive.writestr('archive/data.pkl', pickle.dumps({}))
    for read in (read_checkpoint, read_pickled_module):
        with pytest.raises(ValueError, match=r'hostile\.pth'):
            read(path)
    assert damage(path) is not None
    assert not (tmp_path / 'escaped').exists()


def test_there_are_eighteen_kinds():
    assert len(KINDS) == 18


class OtherClass:
    """Any class of another package in a file that is trusted."""


def test_a_trusted_pickle_is_copied_with_a_warning(tmp_path, capsys):
    content = dict(model=nn.Linear(2, 2), options=OtherClass())
    torch.save(content, tmp_path / 'a.pth')
    (tmp_path / 'copy').mkdir()
    copy = plain_copy(tmp_path / 'a.pth', f'{tmp_path}/copy')
    assert list(torch.load(copy, weights_only=True)) == ['weight', 'bias']
    assert f'warning: --trust-pickle runs the code in {tmp_path}/a.pth' in capsys.readouterr().err


def test_torchscript_is_never_loaded(tmp_path):
    write(tmp_path / 'a.pth', 'TorchScript')
    with pytest.raises(ValueError, match='is a TorchScript archive'):
        plain_copy(tmp_path / 'a.pth', str(tmp_path))
