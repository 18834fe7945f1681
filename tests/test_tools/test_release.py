"""Files of a release, and the command of an installed package."""

import hashlib
import tarfile
from argparse import Namespace

import pytest
import torch

from mmdet_losses import __main__ as command
from mmdet_losses import __version__
from tests.processes import ROOT
from tools import release


@pytest.fixture(name='args')
def _args(tmp_path):
    """A trained config, a folder of the documentation, and an earlier release."""
    work_dir = tmp_path / 'work_dirs' / 'zoo' / 'ssd_digits'
    work_dir.mkdir(parents=True)
    (work_dir / 'last_checkpoint').write_text('/elsewhere/epoch_2.pth')
    content = dict(meta=dict(epoch=2, cfg='text'), state_dict=dict(a=torch.ones(3)), optimizer={})
    torch.save(content, work_dir / 'epoch_2.pth')
    (work_dir / 'ssd_digits.py').write_text('train_cfg = dict(max_epochs=2)')
    running = tmp_path / 'work_dirs' / 'zoo' / 'yolov3_digits'
    running.mkdir()
    (running / 'last_checkpoint').write_text('epoch_2.pth')
    torch.save(content, running / 'epoch_2.pth')  # its config has five epochs
    other = tmp_path / 'work_dirs' / 'not_a_config'
    other.mkdir()
    (other / 'last_checkpoint').write_text('epoch_1.pth')
    (tmp_path / 'site').mkdir()
    (tmp_path / 'site' / 'index.html').write_text('documentation')
    (tmp_path / 'dist').mkdir()
    (tmp_path / 'dist' / 'mmdet_losses-0.0.1.whl').write_text('earlier')
    return Namespace(
        out=tmp_path / 'dist', work_dirs=tmp_path / 'work_dirs', site=tmp_path / 'site'
    )


def test_a_release_has_packages_checkpoints_and_checksums(args, monkeypatch, tmp_path):
    monkeypatch.setattr(
        release, 'build_packages', lambda out: (out / f'{release.NAME}.whl').write_text('wheel')
    )
    skipped, count, *sums = '\n'.join(release.release(args)).splitlines()
    assert skipped.endswith('yolov3_digits/epoch_2.pth (epoch 2 of 5)')
    assert count == 'checkpoints: 1'
    names = [f'{release.NAME}-checkpoints.tar.gz', f'{release.NAME}-docs.tar.gz']
    assert [line.split()[1] for line in sums] == [*names, f'{release.NAME}.whl']
    for line in sums:
        digest, name = line.split()
        assert hashlib.sha256((args.out / name).read_bytes()).hexdigest() == digest
    with tarfile.open(args.out / names[0]) as archive:
        archive.extractall(tmp_path, filter='data')
    folder = tmp_path / f'{release.NAME}-checkpoints'
    (weights,) = folder.glob('*.pth')
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert weights.name == f'ssd_digits-{digest[:8]}.pth'
    assert (folder / release.SUMS).read_text() == f'{digest}  {weights.name}\n'
    content = torch.load(weights, weights_only=True)
    assert set(content) == {'meta', 'state_dict'} and content['state_dict']['a'].sum() == 3


def test_a_release_without_documentation_is_an_error(args, capsys):
    (args.site / 'index.html').unlink()
    options = ('--out', str(args.out), '--site', str(args.site))
    assert release.main([*options, '--work-dirs', str(args.work_dirs)]) == 1
    assert 'run `make docs` first' in capsys.readouterr().err
    assert (args.out / 'mmdet_losses-0.0.1.whl').is_file()


def test_the_installed_command_runs_the_tools(capsys, monkeypatch):
    assert command.main(['no_such_tool']) == 2
    message = capsys.readouterr().err
    assert 'predict' in message and 'import_data' in message and 'make_env' not in message
    monkeypatch.setattr('sys.argv', ['mmdet-losses'])
    with pytest.raises(SystemExit) as exit_info:
        command.main(['make_digits', '--help'])
    assert exit_info.value.code == 0
    assert 'usage: make_digits.py' in capsys.readouterr().out


def test_the_changelog_describes_this_version():
    assert f'\n## [{__version__}] ' in (ROOT / 'CHANGELOG.md').read_text()
