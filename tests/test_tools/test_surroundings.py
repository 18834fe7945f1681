"""Every tool asks ``mmdet_losses`` about its surroundings before it needs them."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT, run_command

STACK = {'mmcv', 'mmdet', 'mmengine'}
HELP = """
import runpy, sys
{hide}
sys.argv = [sys.argv[1], '--help']
runpy.run_path(sys.argv[0], run_name='__main__')
"""


def show_help(tool: str, hide: str, *paths: Path) -> subprocess.CompletedProcess:
    paths = os.pathsep.join(map(str, [*paths, ROOT]))
    command = [sys.executable, '-c', HELP.format(hide=hide), ROOT / 'tools' / f'{tool}.py']
    return run_command(command, env={'PYTHONPATH': paths})


def imported(path: Path) -> list[str]:
    """Packages that a file imports at its top level, in order."""
    names = []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom):
            names.append(node.module)
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return [name.partition('.')[0] for name in names]


def test_our_package_is_imported_before_the_stack():
    scripts = [path for path in ROOT.glob('tools/*.py') if '__main__' in path.read_text()]
    orders = {path.name: imported(path) for path in scripts}
    users = {name: order for name, order in orders.items() if STACK & set(order)}
    assert {'train.py', 'test.py', 'demo.py', 'zoo.py'} <= set(users)
    late = [
        name
        for name, order in users.items()
        if next(each for each in order if each in STACK | {'mmdet_losses'}) in STACK
    ]
    assert late == []


@pytest.mark.parametrize('tool', ['train', 'demo'])
def test_tools_start_without_compiled_operators(tool):
    done = show_help(tool, "sys.modules['mmcv._ext'] = None")
    assert done.returncode == 0, done.stderr
    assert '--cfg-options' in done.stdout


@pytest.mark.parametrize('tool', ['train', 'zoo'])
def test_a_missing_package_is_named_with_its_cure(tool, tmp_path):
    (tmp_path / 'mmengine.py').write_text("raise ModuleNotFoundError('No module named this')\n")
    done = show_help(tool, '', tmp_path)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode != 0
    assert last.startswith('ImportError: mmdet_losses needs `mmengine`') and 'make env' in last
