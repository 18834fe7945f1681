"""Checkpoints stay complete: atomic files, removal after saving, kills at random times."""

import os
import random
import sys
import time
from collections import deque
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.fileio.backends import LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.runner import load_checkpoint, save_checkpoint
from torch import nn

from mmdet_losses.compat.checkpoints import write_atomically
from mmdet_losses.core.checkpoint import read_checkpoint
from mmdet_losses.engine.explain import explain
from mmdet_losses.engine.resume import _latest_checkpoint, damage
from tests.processes import ROOT, fork_child, kill_child, run_command


class Hub(dict):
    runtime_info = property(lambda self: self)
    get_info = dict.__getitem__
    update_info = dict.__setitem__


class Runner(SimpleNamespace):
    """The parts of a runner that the hook uses; a checkpoint has a megabyte."""

    def __init__(self, work_dir):
        logger = SimpleNamespace(info=lambda text: None)
        super().__init__(work_dir=str(work_dir), message_hub=Hub(), epoch=0, iter=0, logger=logger)

    def save_checkpoint(self, folder, filename, *_, **__):
        weights = torch.full((2**18,), float(self.epoch))
        meta = dict(epoch=1, iter=1)
        content = dict(meta=meta, state_dict=dict(a=weights), optimizer={})
        save_checkpoint(content, os.path.join(folder, filename))


def hook_of(runner, **options):
    hook = CheckpointHook(interval=1, **options)
    hook.before_train(runner)
    return hook


def epochs(hook, runner, count):
    for _ in range(count):
        hook._save_checkpoint(runner)
        runner.epoch += 1


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


@pytest.mark.parametrize('keep', [1, 2, -1])
def test_the_chosen_number_of_checkpoints_is_kept(tmp_path, keep):
    runner = Runner(tmp_path)
    hook = hook_of(runner, max_keep_ckpts=keep)
    epochs(hook, runner, 4)
    kept = [f'epoch_{i}.pth' for i in range(1 if keep < 0 else 5 - keep, 5)]
    assert names(tmp_path) == [*kept, 'last_checkpoint']
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_4.pth')
    if keep > 0:
        assert runner.message_hub['keep_ckpt_ids'] == list(hook.keep_ckpt_ids)
        assert hook.keep_ckpt_ids == deque(range(5 - keep, 5))
    assert all(damage(path) is None for path in tmp_path.glob('*.pth'))


def test_a_failed_save_keeps_the_checkpoint_before_it(tmp_path, monkeypatch):
    runner = Runner(tmp_path)
    hook = hook_of(runner, max_keep_ckpts=1)
    epochs(hook, runner, 1)

    def no_space(descriptor):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', no_space)
    with pytest.raises(OSError, match='No space left') as failure:
        epochs(hook, runner, 1)
    monkeypatch.undo()
    assert names(tmp_path) == ['epoch_1.pth', 'last_checkpoint']  # and no partial file
    assert _latest_checkpoint(tmp_path) == str(tmp_path / 'epoch_1.pth')
    assert 'No space left on device' in explain(failure.value)
    assert '--resume' in explain(failure.value)


def test_the_best_checkpoint_is_replaced_after_saving(tmp_path, monkeypatch):
    runner = Runner(tmp_path)
    hook = hook_of(runner, max_keep_ckpts=1, save_best='ap', rule='greater')
    epochs(hook, runner, 1)
    hook._save_best_checkpoint(runner, dict(ap=0.1))
    assert 'best_ap_epoch_1.pth' in names(tmp_path)
    epochs(hook, runner, 1)
    present = []
    remove = LocalBackend.remove
    monkeypatch.setattr(
        LocalBackend, 'remove', lambda *args: present.append(names(tmp_path)) or remove(*args)
    )
    hook._save_best_checkpoint(runner, dict(ap=0.2))
    assert {'best_ap_epoch_1.pth', 'best_ap_epoch_2.pth'} <= set(present[0])
    assert names(tmp_path) == ['best_ap_epoch_2.pth', 'epoch_2.pth', 'last_checkpoint']


def test_text_and_bytes_are_written_with_their_folder(tmp_path):
    LocalBackend().put_text('caf\xe9', tmp_path / 'a' / 'b.txt', encoding='latin-1')
    assert (tmp_path / 'a' / 'b.txt').read_bytes() == b'caf\xe9'
    LocalBackend().put(b'12', str(tmp_path / 'a' / 'b.txt'))
    assert names(tmp_path / 'a') == ['b.txt'] and (tmp_path / 'a/b.txt').read_bytes() == b'12'


def test_a_failed_write_keeps_the_file_before_it(tmp_path):
    write_atomically(tmp_path / 'a', b'before')
    with pytest.raises(TypeError):
        write_atomically(tmp_path / 'a', None)
    assert names(tmp_path) == ['a'] and (tmp_path / 'a').read_bytes() == b'before'


KILLS = int(os.environ.get('KILLS', '20'))


def test_no_kill_loses_a_checkpoint(tmp_path):
    """A child saves without a pause and is killed at a random time; KILLS=1000 for more."""
    # in a new process: a fork of this one could wait forever for a lock of its thread pools
    call = f'test.kill_at_random_times(Path({str(tmp_path)!r}), {KILLS})'
    code = f'from pathlib import Path; import tests.test_compat_checkpoints as test; {call}'
    done = run_command([sys.executable, '-W', 'ignore', '-c', code], cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]


def kill_at_random_times(folder, kills):
    """Every killed child has saved, and its newest checkpoint is intact."""
    rng = random.Random(0)
    for _ in range(kills):
        before = _latest_checkpoint(folder)
        child = fork_child(partial(_save_without_a_pause, folder, before))
        end = time.monotonic() + 20
        while _age(folder) == (before and Path(before).name) and time.monotonic() < end:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.03))
        kill_child(child)
        latest = _latest_checkpoint(folder)
        assert latest is not None and latest != before
        assert damage(Path(latest)) is None


def _save_without_a_pause(folder, before):
    runner = Runner(folder)
    runner.epoch = int(Path(before).stem.split('_')[1]) if before else 0
    epochs(hook_of(runner, max_keep_ckpts=1), runner, 10**6)


def _age(folder):
    """Name that ``last_checkpoint`` records, or None."""
    record = folder / 'last_checkpoint'
    return Path(record.read_text()).name if record.is_file() else None


@pytest.mark.parametrize(
    ('values', 'words'),
    [
        ([0, float('nan'), float('inf'), 1], 'it has NaN or infinite values, 2 in 1 of 2'),
        ([1e39, 0, 0, 0], 'it has NaN or infinite values, 1 in 1 of 2'),  # in float32
        ([1j, 0, 0, 0], 'its tensor weight has complex numbers'),
    ],
)
@pytest.mark.parametrize('entry', ['state_dict', 'model', None])
def test_weights_that_are_not_finite_numbers_do_not_load(tmp_path, values, words, entry):
    dtype = torch.complex128 if 1j in values else torch.float64
    state = nn.Linear(2, 2).state_dict() | dict(
        weight=torch.tensor([values[:2], values[2:]], dtype=dtype)
    )
    path = tmp_path / 'a.pth'
    torch.save(
        state if entry is None else {entry: state, 'message_hub': torch.tensor(torch.nan)}, path
    )
    for load in (read_checkpoint, lambda file: load_checkpoint(nn.Linear(2, 2), str(file))):
        with pytest.raises(ValueError, match=rf'a\.pth cannot be used: {words}') as caught:
            load(path)
        assert explain(caught.value) == str(caught.value)
        if 1j not in values:
            assert '(the first: weight, ' in str(caught.value) and 'of 4)' in str(caught.value)


def test_finite_values_of_every_kind_load(tmp_path):
    state = dict(
        half=torch.ones(2, dtype=torch.float16), count=torch.tensor(3), none=torch.ones(0),
        sparse=torch.eye(2).to_sparse(), small=torch.ones(2).to(torch.float8_e4m3fn),
    )  # fmt: skip
    torch.save(state, tmp_path / 'a.pth')
    assert read_checkpoint(tmp_path / 'a.pth').keys() == state.keys()
