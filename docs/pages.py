"""The pages of the site that are made from the code and from files outside docs/."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'docs')]

import options
from detector_guide import detector_index, guide_page
from docstrings import cell, read_docstring
from loss_pages import Page, loss_index, loss_page, losses
from places import small_config

from mmdet_losses.detectors.checkpoints import LAYOUTS
from mmdet_losses.registry import TASK_UTILS
from tools.datasets.small_configs import small_configs
from tools.list_components import components

COMPONENTS = (
    'The output of `python tools/list_components.py`, by registry. In any MMDetection config '
    "`type='mmdet_losses.<name>'` finds them without an import line."
)


def detectors() -> list[str]:
    """Folders of configs that hold a detector; each has a page."""
    return list(small_configs())


def detector_page(folder: str) -> str:
    """The README of the configs, then commands, encoder and criterion from the code."""
    here = ROOT / 'configs' / folder
    text = (here / 'README.md').read_text(encoding='utf-8').strip()
    small = small_configs()[folder]
    full = next(path for path in sorted(here.glob('*.py')) if path != small)
    head = small_config(folder).model.bbox_head
    page = Page(folder, 'detectors')
    encoder = TASK_UTILS.get(head.encoder.type)
    doc = read_docstring(encoder)
    files = '\n'.join(f'- [`{path.name}`]({path.name})' for path in sorted(here.glob('*.py')))
    commands = (
        f'python tools/train.py configs/{folder}/{small.name}\n'
        f'python tools/test.py configs/{folder}/{small.name} \\\n'
        f'    work_dirs/{small.stem}/epoch_N.pth\n'
        f'tools/dist_train.sh configs/{folder}/{full.name} 8'
    )
    parts = [
        text,
        f'## Train and test\n\n```sh\n{commands}\n```',
        f'Criterion: [{head.criterion.type}](../../docs/losses/{head.criterion.type}.md). '
        f'Configs:\n\n{files}',
        f'## {head.encoder.type}\n\n{page.refer(doc.summary, encoder)}',
        page.body(doc, encoder),
        *page.rest(),
        f'## Options of the official codes\n\n{options.table(folder)}',
    ]
    return '\n\n'.join(part for part in parts if part.strip()) + '\n'


def component_page() -> str:
    """All registered components, by registry."""
    parts, linked = ['# Components', COMPONENTS], {each.name for each in losses()}
    found = components()
    for kind in sorted({each.kind for each in found}):
        rows = [
            f'| {link(each.name, linked)} | {", ".join(f"`{a}`" for a in each.aliases)} | '
            f'{cell(each.summary)} |'
            for each in found
            if each.kind == kind
        ]
        parts.append(
            f'## {kind}\n\n| name | alias | description |\n|---|---|---|\n' + '\n'.join(rows)
        )
    return '\n\n'.join(parts) + '\n'


def link(name: str, linked: set[str]) -> str:
    """A name, linked to its page if it has one."""
    return f'[`{name}`](losses/{name}.md)' if name in linked else f'`{name}`'


def checkpoint_page() -> str:
    """docs/checkpoints.md with the table of layouts in place of its mark."""
    text = (ROOT / 'docs' / 'checkpoints.md').read_text(encoding='utf-8')
    rows = ['| layout | files of |', '|---|---|']
    rows += [f'| `{name}` | {layout.source} |' for name, layout in LAYOUTS.items()]
    return text.replace('<!-- layouts -->', '\n'.join(rows))


def pages() -> Iterator[tuple[str, str, str]]:
    """Every generated page: path on the site, file that its links are relative to, Markdown."""
    yield 'index.md', 'README.md', (ROOT / 'README.md').read_text(encoding='utf-8')
    for name in ('CONTRIBUTING', 'CHANGELOG'):
        yield f'{name.lower()}.md', f'{name}.md', (ROOT / f'{name}.md').read_text(encoding='utf-8')
    yield 'losses/index.md', 'docs/losses/index.md', loss_index()
    for each in losses():
        yield f'losses/{each.name}.md', f'docs/losses/{each.name}.md', loss_page(each.name)
    yield 'detectors/index.md', 'docs/detectors/index.md', detector_index()
    for folder in detectors():
        yield f'detectors/{folder}.md', f'configs/{folder}/README.md', detector_page(folder)
    yield 'which_detector.md', 'docs/which_detector.md', guide_page()
    yield 'components.md', 'docs/components.md', component_page()
    yield 'checkpoints.md', 'docs/checkpoints.md', checkpoint_page()
