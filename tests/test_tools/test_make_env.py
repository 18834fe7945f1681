"""The script behind `make env` compiles MMCV's operators only on request."""

import os
import shutil

import pytest

from tests.processes import ROOT, run_command

# Stands in for Python: it passes all checks, makes a venv by copying itself (not into a link, as
# Python's venv), and logs make_env.py.
PYTHON = """#!/bin/bash
case "$*" in
    "-m venv "*) [ ! -L "${@: -1}" ] && mkdir -p "${@: -1}/bin" && cp "$0" "${@: -1}/bin/python" ;;
    tools/make_env.py*) echo "$*" >>made ;;
    -V) echo 'Python 3.11.0' ;;
esac
"""


@pytest.fixture(name='make')
def _make(tmp_path):
    """Runs make_env.sh in a small checkout; returns the arguments of make_env.py, if it ran."""
    for name in ('setup.py', 'tools/make_env.sh', 'tools/make_env.py', 'requirements'):
        target = tmp_path / name
        target.parent.mkdir(exist_ok=True)
        (shutil.copytree if target.suffix == '' else shutil.copy)(ROOT / name, target)
    python = tmp_path / 'python'
    python.write_text(PYTHON)
    python.chmod(0o755)

    def make(*arguments):
        (tmp_path / 'made').unlink(missing_ok=True)
        command = ['bash', str(tmp_path / 'tools/make_env.sh'), *arguments]
        done = run_command(command, env={'PATH': '/usr/bin:/bin', 'PYTHON': str(python)})
        assert done.returncode == 0, done.stderr
        made = tmp_path / 'made'
        return made.read_text().split()[1:] if made.exists() else None

    return make


def test_operators_are_compiled_on_request_and_then_kept(make, tmp_path):
    assert make('default') == ['default']
    assert make('default') is None
    assert make('default', 'ops') == ['default', 'ops']
    assert make('default') is None
    (tmp_path / 'setup.py').write_text('# changed')
    assert make('default') == ['default', 'ops']


def test_the_forks_always_have_operators(make):
    assert make('onedl') == ['onedl', 'ops']


def test_the_environment_can_be_a_link(make, tmp_path):
    (tmp_path / '.venv').symlink_to(tmp_path / 'elsewhere')
    assert make('default') == ['default']
    assert (tmp_path / 'elsewhere' / 'stamp').is_file()
    assert make('default') is None


def test_targets_of_developers_compile_the_operators():
    # Without the variables of a `make test` that runs this test.
    make = ['env', '-i', f'PATH={os.environ["PATH"]}', 'make', '-n']
    for target, wanted in (('demo', ''), ('test', 'ops'), ('env OPS=1', 'ops')):
        done = run_command([*make, *target.split()], cwd=ROOT)
        assert f'tools/make_env.sh default {wanted}\n' in done.stdout, done.stderr
