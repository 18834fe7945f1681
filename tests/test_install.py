"""Contents of the wheel, and the message of the import when the stack is broken."""

import os
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.processes import ROOT, run_command

CONFIG = '_base_/probe.py'

GUARDED_IMPORT = """
import socket, sys

class Forbid:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] == 'pkg_resources':
            raise AssertionError('pkg_resources was imported')

def forbid(*args, **kwargs):
    raise AssertionError('the network was used')

sys.meta_path.insert(0, Forbid())
socket.socket.connect = socket.getaddrinfo = forbid
import mmdet_losses
print(mmdet_losses.__file__)
"""

INHERIT = """
import mmdet_losses
from mmengine.config import Config
print(Config.fromfile('child.py').model.type, Config.fromfile('child.py').extra)
"""


def run_python(code: str, folder: Path, *paths: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a new process in ``folder``, with these paths before all others."""
    env = {'PYTHONPATH': os.pathsep.join(map(str, paths))}
    return run_command([sys.executable, '-c', code], cwd=folder, env=env)


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    """The last line of the output; the forks print a message on import."""
    return (done.stdout.strip().splitlines() or [''])[-1]


@pytest.fixture(scope='module')
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the files that are installed, with one more config."""
    source = tmp_path_factory.mktemp('source')
    for name in ('setup.py', 'pyproject.toml', 'README.md', 'LICENSE'):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source)
    for name in ('mmdet_losses', 'configs'):
        shutil.copytree(
            ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns('__pycache__')
        )
    (source / 'configs' / CONFIG).write_text("model = dict(type='Probe')\n")
    return source


@pytest.fixture(scope='module')
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the checkout, built without a network."""
    target = tmp_path_factory.mktemp('wheel')
    command = [sys.executable, '-m', 'pip', 'wheel', '--no-deps', '--no-index']
    command += ['--no-build-isolation', '-w', str(target), str(checkout)]
    built = run_command(command)
    assert built.returncode == 0, built.stdout + built.stderr
    return next(target.glob('*.whl'))


@pytest.fixture(scope='module')
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the contents of the wheel, as an installer makes it."""
    folder = tmp_path_factory.mktemp('site')
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_wheel_has_only_text_files(wheel: Path) -> None:
    assert wheel.name.endswith('-py3-none-any.whl')
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        for name in names:
            assert b'\0' not in archive.read(name), f'{name} is binary'
    package = [name for name in names if '.dist-info/' not in name]
    assert {Path(name).parts[0] for name in package} == {'mmdet_losses'}
    assert {Path(name).suffix or Path(name).name for name in package} == {'.py', '.typed', '.yml'}


def test_wheel_requires_no_mm_distribution_and_no_upper_bound(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith('.dist-info/METADATA'))
        metadata = Parser().parsestr(archive.read(name).decode())
    needs = [Requirement(line) for line in metadata.get_all('Requires-Dist')]
    assert {need.name for need in needs if need.marker is None} == {'numpy', 'pycocotools', 'torch'}
    optional = {need.name for need in needs if 'mmdet' in str(need.marker)}
    assert optional == {'mmengine', 'mmcv-lite', 'mmdet', 'setuptools'}
    assert not [need for need in needs if need.name.startswith('onedl')]
    required = [need for need in needs if need.marker is None]
    operators = {bound.operator for need in required for bound in need.specifier}
    assert operators == {'>='}
    assert metadata['Requires-Python'] == '>=3.10'


def test_wheel_has_every_config_and_module(installed: Path) -> None:
    shipped = installed / 'mmdet_losses'
    configs = {str(path.relative_to(ROOT / 'configs')) for path in (ROOT / 'configs').rglob('*.py')}
    inside = shipped / '.mim' / 'configs'
    assert {str(path.relative_to(inside)) for path in inside.rglob('*.py')} == configs | {CONFIG}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / 'mmdet_losses').rglob('*.py')}
    modules = {name for name in modules if '.mim' not in name}
    found = {str(path.relative_to(installed)) for path in shipped.rglob('*.py')}
    assert {name for name in found if '.mim' not in name} == modules


def test_import_needs_neither_pkg_resources_nor_network(installed: Path, tmp_path: Path) -> None:
    done = run_python(GUARDED_IMPORT, tmp_path, installed)
    assert done.returncode == 0, done.stderr
    assert Path(last_line(done)) == installed / 'mmdet_losses' / '__init__.py'


def test_an_editable_install_names_the_folder_where_mim_finds_the_configs(
    checkout: Path, tmp_path: Path
) -> None:
    code = f'from setuptools import build_meta; print(build_meta.build_editable({str(tmp_path)!r}))'
    done = run_command([sys.executable, '-W', 'ignore', '-c', code], cwd=checkout)
    assert done.returncode == 0, done.stderr[-3000:]
    with zipfile.ZipFile(tmp_path / last_line(done)) as archive:
        names = archive.namelist()
        top = next(name for name in names if name.endswith('.dist-info/top_level.txt'))
        folder, module = archive.read(top).decode().split()
        record = next(name for name in names if name.endswith('.dist-info/RECORD'))
        assert f'{top},,' in archive.read(record).decode().splitlines()
    assert module == 'mmdet_losses'
    assert (tmp_path / folder / '.mim' / 'configs' / CONFIG).is_file()


@pytest.mark.parametrize('place', ['checkout', 'installed'])
def test_a_config_inherits_from_the_package(
    place: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    (tmp_path / 'child.py').write_text(f"_base_ = 'mmdet_losses::{CONFIG}'\nextra = 3\n")
    done = run_python(INHERIT, tmp_path, request.getfixturevalue(place))
    assert last_line(done) == 'Probe 3', done.stderr


@pytest.mark.parametrize(
    ('name', 'broken', 'message'),
    [
        ('mmengine', "raise ModuleNotFoundError('No module named this')", 'No module named this'),
        ('mmcv', "raise RuntimeError('undefined symbol')", 'undefined symbol'),
        ('mmdet', "raise AssertionError('MMCV 9 is incompatible,\\nuse 8')", 'incompatible, use 8'),
    ],
)
def test_a_broken_stack_raises_one_message(
    tmp_path: Path, name: str, broken: str, message: str
) -> None:
    (tmp_path / f'{name}.py').write_text(broken + '\n')
    done = run_python('import mmdet_losses', tmp_path, tmp_path, ROOT)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f'ImportError: mmdet_losses needs `{name}`'), done.stderr
    assert message in last
    assert 'make env' in last
    assert f'pip install {name}' in last


def test_pins_are_in_one_place() -> None:
    pinned = {
        line.strip()
        for path in (ROOT / 'requirements').glob('*.txt')
        for line in path.read_text().splitlines()
        if '==' in line
    }
    assert all(Requirement(line).specifier for line in pinned)
    for name in (
        'Makefile',
        'setup.py',
        'pyproject.toml',
        'tools/make_env.sh',
        'tools/make_env.py',
    ):
        assert not [line for line in pinned if line in (ROOT / name).read_text()], (
            f'{name} repeats a pin'
        )
