"""The benchmark of the training pipelines runs and prints both sides."""

from pathlib import Path

import mmdet
import numpy as np
import pytest
from mmengine.registry import DefaultScope

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
    assert all(float(row.split()[4].rstrip('x')) > 0 for row in rows)
    assert rows[0].split()[3] == '-'
    assert float(rows[1].split()[3]) > 0


@pytest.mark.parametrize('name', ['CornerNet', 'CenterNetPoints', 'SSD300-VOC', 'Scaled-CSP'])
def test_a_plain_loader_makes_the_input_of_the_pipeline(name, tmp_path):
    """The same size, channels first."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        pipelines.write_images(tmp_path, 4)
        ours = pipelines.sources(pipelines.CASES[name], tmp_path)[0]
        plain = pipelines.PlainSource(name, tmp_path, ours)
        image, wanted = plain.item(), ours.item()['inputs']
    assert image.shape == tuple(wanted.shape)
    assert image.flags.c_contiguous
    assert np.isfinite(image).all()


def test_the_profile_lists_the_transforms_of_both(capsys):
    assert benchmark_pipelines.main(['--profile', 'RetinaNet', *FEW]) == 0
    output = capsys.readouterr().out
    assert 'RetinaNet, ours' in output
    assert output.count('LoadImageFromFile') == output.count(' Resize') == 2


def test_an_unknown_name_is_an_error(capsys):
    with pytest.raises(SystemExit):
        benchmark_pipelines.parse_args(['--profile', 'nothing'])
    assert "'nothing' is no pipeline; choose from CornerNet" in capsys.readouterr().err
