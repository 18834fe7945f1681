"""The console of a tool: errors, messages of this package, and progress."""

import io
import warnings
from types import SimpleNamespace

import pytest
from mmengine.logging import MMLogger, print_log
from pycocotools.coco import COCO
from torch.distributed import HashStore, distributed_c10d

from mmdet_losses import engine
from mmdet_losses.engine import cli, console
from mmdet_losses.engine.progress import Progress
from tools import launch


def log_from(module, logger, text):
    """Log at level INFO from a module of this name."""
    exec('log(text, logger)', dict(__name__=module, log=print_log, text=text, logger=logger))


def test_the_console_has_errors_and_own_messages_and_the_file_has_all(tmp_path, capsys):
    with console.quiet_console():
        logger = MMLogger.get_instance('quiet_file', log_file=str(tmp_path / 'log'))
        log_from('mmengine.runner', logger, 'hooks of the runner')
        log_from('mmdet_losses.engine.check', logger, 'four images have no objects')
        log_from('mmengine.runner', None, 'loads a checkpoint')
        logger.warning('the file client is deprecated')
        logger.error('out of memory')
        warnings.simplefilter('always')
        warnings.warn('an old function', stacklevel=1)
        COCO().createIndex()
    printed = capsys.readouterr()
    assert printed.out.splitlines() == ['four images have no objects', 'error: out of memory']
    assert printed.err == ''
    log = (tmp_path / 'log').read_text()
    assert ' - INFO - four images' in log
    for text in (
        'hooks of the runner',
        'loads a checkpoint',
        'file client',
        'an old function',
        'index created!',
    ):
        assert text in log


def test_the_console_is_as_before_afterwards(capsys):
    with console.quiet_console():
        logger = MMLogger.get_instance('quiet_once')
    log_from('mmengine.runner', logger, 'hooks of the runner')
    COCO().createIndex()
    assert 'hooks of the runner' in (text := capsys.readouterr().out)
    assert 'index created!' in text


def test_several_processes_print_the_same_error_once(monkeypatch, capsys):
    store = HashStore()
    monkeypatch.setattr(distributed_c10d, '_get_default_store', lambda: store)
    for rank in (1, 0, 2):
        monkeypatch.setattr(console, 'get_dist_info', lambda rank=rank: (rank, 3))
        console.report_error('no annotations.')
        console.report_error(f'Traceback of {rank}\nKeyError: 3', known=False)
    console.report_error('another error.')
    assert capsys.readouterr().err.splitlines() == [
        'error (rank 1): no annotations.',
        'error (rank 1): Traceback of 1',
        'KeyError: 3',
        'error (rank 2): another error.',
    ]


@pytest.mark.parametrize(
    ('launcher', 'name'), [('slurm', 'SLURM_LOCALID'), ('pytorch', 'LOCAL_RANK'), ('none', 'A')]
)
def test_one_process_per_machine_prints_an_error_of_the_config(monkeypatch, capsys, launcher, name):
    args = SimpleNamespace(
        config='absent.py', launcher=launcher, local_rank=0, debug=False, verbose=True
    )
    monkeypatch.setattr(cli, 'setup_cache_size_limit_of_dynamo', lambda: None)
    for rank in (0, 1):
        monkeypatch.setenv(name, str(rank))
        with pytest.raises(SystemExit):
            engine.run_tool(print, args)
    count = capsys.readouterr().err.count('config file absent.py not found')
    assert count == (2 if launcher == 'none' else 1)


def test_a_training_shows_progress_and_validations(monkeypatch, capsys):
    monkeypatch.setattr('mmdet_losses.engine.progress.FIRST_LINE', 0)
    loss = SimpleNamespace(current=lambda: 1.5)
    runner = SimpleNamespace(
        iter=0, epoch=0, max_epochs=2, max_iters=4,
        message_hub=SimpleNamespace(get_scalar=lambda name: loss),
    )  # fmt: skip
    hook = console.ConsoleProgressHook()
    hook.before_train(runner)
    hook.after_train_iter(runner, 0)
    runner.epoch = 1
    hook.after_val_epoch(runner, {'coco/bbox_mAP': 0.25})
    hook.after_train(runner)
    step, validation = capsys.readouterr().out.splitlines()
    assert step.startswith('1 of 4 steps, ') and step.endswith(' s left, epoch 1 of 2, loss 1.50')
    assert validation == 'validation: epoch 1 of 2, AP 0.250'


def test_a_terminal_has_a_bar():
    stream = io.StringIO()
    stream.isatty = lambda: True
    progress = Progress(2, 'images', stream)
    progress.advance('loss 1.50')
    progress.message('validation: AP 0.250')
    progress.close()
    assert '1/2' in stream.getvalue() and 'validation: AP 0.250\n' in stream.getvalue()


def test_the_launcher_prints_one_error_of_all_processes(tmp_path, monkeypatch, capsys):
    assert launch.FAULTS == console.FAULTS
    monkeypatch.setenv(console.FAULTS, str(tmp_path))
    monkeypatch.setattr(console, 'get_dist_info', lambda: (1, 2))
    console.report_error('Traceback: connection closed', known=False)
    console.report_error('image 3.png cannot be read')
    assert capsys.readouterr().err == ''
    assert launch.first_fault(str(tmp_path)) == 'error (rank 1): image 3.png cannot be read'
    monkeypatch.setattr(console, 'get_dist_info', lambda: (0, 1))
    console.report_error('no such file')
    assert capsys.readouterr().err == 'error: no such file\n'
