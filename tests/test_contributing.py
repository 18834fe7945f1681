"""The steps of CONTRIBUTING.md, performed in a copy of the repository, add a loss."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT, run_command

TEXT = (ROOT / 'CONTRIBUTING.md').read_text(encoding='utf-8')
STEPS = re.findall(r'^`([\w/.]+)` .*?```\w+\n(.*?)```', TEXT, re.DOTALL | re.MULTILINE)
"""(path, code) of every step."""
NAMES = ('MaskedGemanMcClureLoss', 'masked_geman_mcclure_loss')


def copy_repository(folder: Path) -> None:
    """Copy the tracked files, links included."""
    listed = run_command(['git', 'ls-files', '-z'], cwd=ROOT)
    for name in filter(None, listed.stdout.split('\0')):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).exists():
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)


def perform(path: Path, code: str) -> None:
    """Write a new file, or insert the code where the text of the step puts it."""
    if not path.exists():
        path.write_text(code, encoding='utf-8')
        return
    text = path.read_text(encoding='utf-8')
    if path.name == '__init__.py':
        text = text.replace('\nfrom ', f'\n{code}from ', 1)
        entries = ''.join(f'    {name!r},\n' for name in NAMES)
        text = text.replace('__all__ = [\n', f'__all__ = [\n{entries}')
    elif path.name == 'cases.py':
        mark = 'LOSSES: dict[str, LossCase] = {\n'
        assert mark in text
        text = text.replace(mark, mark + code)
    else:
        text = text.rstrip('\n') + '\n' + code
    path.write_text(text, encoding='utf-8')


@pytest.fixture(scope='module')
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository after all steps."""
    folder = tmp_path_factory.mktemp('copy')
    copy_repository(folder)
    for name, code in STEPS:
        perform(folder / name, code)
    return folder


def run(folder: Path, *command: str) -> str:
    """Output of a Python module that runs in the copy; it is the message of a failure."""
    done = run_command([sys.executable, '-W', 'ignore', '-m', *command], cwd=folder)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


def test_the_text_has_six_steps():
    assert [Path(path).name for path, _ in STEPS] == [
        'masked_geman_mcclure.py',
        '__init__.py',
        'cases.py',
        'test_masked_geman_mcclure.py',
        'centernet_points_geman_mcclure_digits.py',
        'metafile.yml',
    ]


def test_the_new_loss_passes_its_tests_contracts_and_pages(copy):
    output = run(
        copy,
        'pytest',
        *('-n0', '-q', '-p', 'no:cacheprovider'),
        *('-k', 'GemanMcClure or geman_mcclure or inventory or model_index'),
        'tests/test_losses',
        'tests/test_contracts',
        'tests/test_model_index.py',
        'tests/test_docs.py',
        'mmdet_losses/losses',
    )
    assert ' passed' in output and 'failed' not in output


def test_the_new_files_follow_the_style(copy):
    new = [name for name, _ in STEPS if name.endswith('.py') and not (ROOT / name).exists()]
    assert 'All checks passed' in run(copy, 'ruff', 'check', *new)
    assert f'{len(new)} files already formatted' in run(copy, 'ruff', 'format', '--check', *new)


def test_without_its_case_the_new_loss_fails_the_inventory(copy):
    cases = copy / 'tests/cases.py'
    text = cases.read_text(encoding='utf-8')
    cases.write_text(text.replace(dict(STEPS)['tests/cases.py'], ''), encoding='utf-8')
    try:
        with pytest.raises(AssertionError, match='MaskedGemanMcClureLoss'):
            run(copy, 'pytest', '-n0', '-q', 'tests/test_contracts/test_inventory.py')
    finally:
        cases.write_text(text, encoding='utf-8')
