"""The benchmark of the training pipelines runs and prints both sides."""

from pathlib import Path

import mmdet
import pytest

from tools import benchmark_pipelines
from tools.benchmarks import pipelines

FEW = ['--images', '2', '--items', '1', '--rounds', '1']


@pytest.fixture(autouse=True)
def _small_images(monkeypatch):
    monkeypatch.setattr(pipelines, 'SIZE', (48, 64))


def test_every_config_exists():
    theirs = Path(mmdet.__file__).parent / '.mim' / 'configs'
    for case in pipelines.CASES.values():
        assert (pipelines.CONFIGS / case.ours).is_file()
        assert (theirs / case.theirs).is_file()


def test_the_table_has_a_row_per_pipeline(capsys):
    assert benchmark_pipelines.main(['--only', 'SSD300-COCO,YOLOv4-mosaics', *FEW]) == 0
    rows = capsys.readouterr().out.splitlines()[-2:]
    assert [row.split()[0] for row in rows] == ['SSD300-COCO', 'YOLOv4-mosaics']
    assert all(float(row.split()[3].rstrip('x')) > 0 for row in rows)


def test_the_profile_lists_the_transforms_of_both(capsys):
    assert benchmark_pipelines.main(['--profile', 'RetinaNet', *FEW]) == 0
    output = capsys.readouterr().out
    assert 'RetinaNet, ours' in output
    assert output.count('LoadImageFromFile') == output.count(' Resize') == 2


def test_an_unknown_name_is_an_error(capsys):
    with pytest.raises(SystemExit):
        benchmark_pipelines.parse_args(['--profile', 'nothing'])
    assert "'nothing' is no pipeline; choose from CornerNet" in capsys.readouterr().err
