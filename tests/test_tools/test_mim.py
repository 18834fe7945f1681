"""mim lists and trains our configs."""

from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
from mim.utils import get_installed_path, module_full_name

from mmdet_losses import engine
from tests.processes import ROOT
from tools import train as tool

pytestmark = pytest.mark.short_training  # mim and its fork


@pytest.fixture(name='commands')
def _commands(monkeypatch):
    """The commands of mim, which take this checkout for the installed package."""
    search, train = (import_module(f'mim.commands.{name}') for name in ('search', 'train'))
    for module in (search, train):
        folder = str(ROOT / 'mmdet_losses')
        monkeypatch.setattr(module, 'get_installed_path', lambda package, folder=folder: folder)
    return SimpleNamespace(search=search, train=train)


def test_mim_finds_the_editable_install():
    assert module_full_name('mmdet_losses') == 'mmdet_losses'
    folder = Path(get_installed_path('mmdet_losses'))  # the forks return the folder of setup.py
    paths = [folder / '.mim' / 'model-index.yml', folder / 'model-index.yml']
    assert any(path.is_file() for path in paths)


def test_mim_search_lists_every_config(commands):
    found = commands.search.get_model_info('mmdet_losses', to_dict=True)
    names = {path.stem for path in ROOT.glob('configs/*/*.py') if path.parent.name != '_base_'}
    assert set(found) == names


def test_mim_train_takes_one_step(commands, tools, tmp_path, monkeypatch, capsys):
    """mim starts our training script; here it runs in this process."""
    calls = []
    started = SimpleNamespace(
        check_output=lambda command: b'',  # of --help
        check_call=lambda command, env: calls.append(command) or 0,
    )
    monkeypatch.setattr(commands.train, 'subprocess', started)
    options = ('--work-dir', str(tmp_path), '--cfg-options', 'train_cfg.max_epochs=1')
    ok, message = commands.train.train(
        package='mmdet_losses', config=str(tools.config), gpus=0, other_args=options
    )
    assert ok, message
    (command,) = calls
    script, config, *rest = command[1:]
    assert Path(script).samefile(ROOT / 'tools' / 'train.py')
    engine.run_tool(tool.train, tool.parse_args([config, *rest]))
    assert (tmp_path / 'epoch_1.pth').is_file()
    assert 'checkpoint: ' in capsys.readouterr().out
