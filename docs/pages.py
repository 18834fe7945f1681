"""The pages of the site that are made from the code and from files outside docs/."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'docs')]

import landscape
from docstrings import Docstring, config, inline, read_docstring, signature

from mmdet_losses.detectors.checkpoints import LAYOUTS
from mmdet_losses.registry import MODELS, TASK_UTILS
from tools.datasets.small_configs import small_configs
from tools.list_components import Component, components

STOCK = 'mmdet::centernet/centernet_r18_8xb16-crop512-140e_coco.py'
BOXES = 'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py'
PLACES = {
    'BoxIoULoss': (BOXES, 'loss_bbox', ''),
    'CenterTrackFocalLoss': ('centertrack', 'loss_heatmap', ''),
    'CompleteIoULoss': (BOXES, 'loss_bbox', ''),
    'DistanceIoULoss': (BOXES, 'loss_bbox', ''),
    'GeneralizedIoULoss': (BOXES, 'loss_bbox', ''),
    'HardNegativeCrossEntropyLoss': ('ssd', 'loss_cls', ''),
    'HeatmapMSELoss': ('centernet_points', 'loss_heatmap', 'activated=False'),
    'MaskedL1Loss': ('centernet_points', 'loss_size', 'loss_weight=0.1'),
    'MaskedSmoothL1Loss': ('cornernet', 'loss_offset', ''),
    'MaskedWeightedL1Loss': ('centertrack', 'loss_tracking', ''),
    'PenaltyReducedFocalLoss': (STOCK, 'loss_center_heatmap', 'activated=True'),
    'PullPushLoss': ('cornernet', 'loss_embedding', 'pull_weight=0.1, push_weight=0.1'),
    'SigmoidFocalLoss': ('retinanet', 'loss_cls', ''),
}
"""Where a page shows a term at work: MMDetection's config or a folder of ours, key, arguments."""


GRIDS = ('YOLOV2Loss', 'YOLOV3Loss', 'YOLOV4Loss', 'ScaledYOLOV4Loss')
COMPONENTS = (
    'What `python tools/list_components.py` prints, by registry. In any MMDetection config '
    "`type='mmdet_losses.<name>'` finds them without an import line."
)


def losses() -> list[Component]:
    """Every registered loss, terms and whole criteria, with a page each."""
    return [each for each in components() if each.kind == 'MODELS' and each.name.endswith('Loss')]


def detectors() -> list[str]:
    """Folders of configs that hold a detector, with a page each."""
    return list(small_configs())


REFERENCE = re.compile(r':(?:func|class):`~?([\w.]+)`')


class Page:
    """A page of one loss: its docstring, and those of what it refers to, each of them once."""

    def __init__(self, name: str, folder: str, module: str = '') -> None:
        self.name, self.folder, self.module = name, folder, module
        self.waiting: list[Any] = []
        self.shown: set[str] = {name}

    def refer(self, text: str, owner: Any) -> str:
        """References as code, linked to the section or page that explains them."""
        return REFERENCE.sub(lambda match: self._link(match[1], owner), text)

    def _link(self, path: str, owner: Any) -> str:
        item, name = resolve(path, owner), path.rpartition('.')[2]
        if item is None:
            return f'`{name}`'
        if name in {each.name for each in losses()} and name != self.name:
            if inspect.isclass(owner) and issubclass(owner, item) and item not in self.waiting:
                self.waiting.append(item)
            return f'[`{name}`]({"" if self.folder == "losses" else "../losses/"}{name}.md)'
        if name == self.name:
            return f'`{name}`'
        if name not in self.shown:
            self.shown.add(name)
            self.waiting.append(item)
        return f'[`{name}`](#{slug(name)})'

    def body(self, doc: Docstring, owner: Any, skip: tuple[str, ...] = ()) -> str:
        """A docstring's text and sections."""
        parts = [self.refer(doc.text, owner)]
        for title, text in doc.sections.items():
            if title not in skip:
                parts.append(f'**{title}**\n\n{self.refer(text, owner)}')
        return '\n\n'.join(part for part in parts if part.strip())

    def rest(self) -> Iterator[str]:
        """The sections of what was referred to, until nothing new turns up."""
        while self.waiting:
            item = self.waiting.pop(0)
            doc = read_docstring(item)
            if inspect.isclass(item) and item.__name__ in MODELS.module_dict:
                # A parent with a page of its own: its conventions, and what it refers to.
                self.refer(doc.summary, item)
                if 'Convention' in doc.sections:
                    title = f'## Conventions of {item.__name__}'
                    yield f'{title}\n\n{self.refer(doc.sections["Convention"], item)}'
                continue
            yield f'## {item.__name__}\n\n{self.refer(doc.summary, item)}'
            if inspect.isfunction(item):
                yield f'```python\n{signature(item)}\n```'
            if item.__module__ != self.module:  # whose formula the page begins with
                yield formula(item, self)
            yield self.body(doc, item)


def slug(name: str) -> str:
    """The anchor of a heading, as Markdown makes it."""
    return name.lower()


def resolve(path: str, owner: Any) -> Any:
    """What a reference means, as seen from the module of the docstring's owner."""
    module = sys.modules[getattr(owner, '__module__', None) or owner.__name__]
    first, *others = path.split('.')
    if first == 'mmdet_losses':
        *parents, name = path.split('.')
        return getattr(importlib.import_module('.'.join(parents)), name, None)
    item = getattr(module, first, None)
    return item if not others else None


def formula(item: Any, page: Page) -> str:
    """The docstring of the item's module where that holds the formula."""
    module = inspect.getmodule(item)
    doc = read_docstring(module)
    # Criteria share a module; only a loss file speaks for the one function in it.
    if not module.__name__.startswith('mmdet_losses.losses.') or '$' not in doc.text:
        return ''
    return page.refer(doc.text, module)


# Losses


def snippet(name: str) -> tuple[str, str]:
    """Where to put it, and a config that uses the term."""
    base, key, options = PLACES[name]
    options = f', {options}' if options else ''
    if base.startswith('mmdet::'):
        return "In one of MMDetection's configs", (
            f'_base_ = {base!r}\n\n'
            f'model = dict(\n    bbox_head=dict(\n        {key}=dict(\n'
            f"            _delete_=True, type='mmdet_losses.{name}'{options}\n        )\n    )\n)"
        )
    # The key would reach the constructor where the base config leaves the term at its default.
    delete = '_delete_=True, ' if key in small_config(base).model.bbox_head.criterion else ''
    return f'In `configs/{base}/`', (
        f"_base_ = './{small_configs()[base].name}'\n\n"
        f'model = dict(\n    bbox_head=dict(\n        criterion=dict(\n            {key}=dict(\n'
        f'                {delete}type={name!r}{options}\n            )\n        )\n    )\n)'
    )


def loss_page(name: str) -> str:
    """The page of one registered loss."""
    item = MODELS.get(name)
    component = next(each for each in losses() if each.name == name)
    page, doc = Page(name, 'losses', item.__module__), read_docstring(item)
    parts = [f'# {name}', page.refer(doc.summary, item)]
    if component.aliases:
        names = ', '.join(f'`{alias}`' for alias in component.aliases)
        parts.append(f'Also registered as {names}, its name in the official code.')
    parts.append(formula(item, page))
    parts.append(page.body(doc, item, skip=('Args', 'Raises')))
    if name in landscape.panels():
        parts.append(
            f'![Cost and gradient of {name}](images/{name}.svg)\n\n'
            '*Cost above, gradient below, drawn from the code by '
            f'`python docs/landscape.py {name} --out .`.'
            + (' Cost counts from its value at a raw output of 0.' if name in GRIDS else '')
            + '*'
        )
    parts.append(f'## Arguments\n\n```python\n{config(name, item)}\n```')
    parts += [page.refer(doc.sections[key], item) for key in ('Args',) if key in doc.sections]
    takes = [key for key in inspect.signature(item.forward).parameters if key != 'self']
    parts.append(f'Called with `({", ".join(takes)})`. {first_line(item.forward)}')
    if name in PLACES:
        place, text = snippet(name)
        parts.append(f'## In a config\n\n{place}:\n\n```python\n{text}\n```')
    else:
        parts += [terms_table(item, page), criterion_in_config(name)]
    parts += page.rest()
    return '\n\n'.join(part for part in parts if part.strip()) + '\n'


def first_line(function: Any) -> str:
    """What a forward says of its result."""
    text = ' '.join((inspect.getdoc(function) or '').split())
    return inline(re.sub(r'See :func:`[^`]+`(?:; )?\.?', '', text)).strip()


def terms_table(item: type, page: Page) -> str:
    """The terms that a criterion is made of by default, with links."""
    rows = []
    for key, module in item().named_children():
        kind = type(module).__name__
        if isinstance(module, nn.Module) and kind in PLACES:
            rows.append(f'| `{key}` | [{kind}]({kind}.md) | {getattr(module, "loss_weight", "")} |')
    if not rows:
        return ''
    return '## Terms\n\n| argument | default | weight |\n|---|---|---|\n' + '\n'.join(rows)


@cache
def small_config(folder: str) -> Config:
    """The tiny config of a detector."""
    return Config.fromfile(small_configs()[folder])


def criterion_in_config(name: str) -> str:
    """The criterion as the tiny config of a detector spells it out, and that detector."""
    for folder in detectors():
        criterion = small_config(folder).model.bbox_head.criterion
        if criterion.type == name:
            text = Config(dict(criterion=criterion)).pretty_text.strip()
            small = small_configs()[folder].name
            return (
                f'## In a config\n\n[`{small}`](../detectors/{folder}.md) has\n\n'
                f'```python\n{text}\n```'
            )
    return ''


def summary_of(item: type) -> str:
    """What a loss is: its function's first sentence where its own only names that function."""
    doc = read_docstring(item)
    named = re.match(r':func:`~?([\w.]+)` as a component', doc.summary)
    text = read_docstring(resolve(named[1], item)).summary if named else doc.summary
    return REFERENCE.sub(lambda match: f'`{match[1].rpartition(".")[2]}`', text)


def loss_index() -> str:
    """The list of all losses."""
    rows = {True: [], False: []}
    for each in losses():
        names = ', '.join(f'`{alias}`' for alias in each.aliases)
        summary = inline(summary_of(MODELS.get(each.name))).strip()
        rows[each.name in PLACES].append(f'| [{each.name}]({each.name}.md) | {names} | {summary} |')
    head = '| name | also | what |\n|---|---|---|\n'
    return (
        '# Losses\n\nA *term* compares one tensor with its target; a *criterion* makes a '
        "detector's loss of terms, and divides. Each page: formula, shapes, conventions, plot, "
        'arguments, config.\n\n## Terms\n\n'
        f'{head}{chr(10).join(rows[True])}\n\n## Criteria\n\n{head}{chr(10).join(rows[False])}\n'
    )


# Detectors, components, checkpoints


def detector_page(folder: str) -> str:
    """The README of the configs, then the commands, encoder and criterion from the code."""
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
        f'python tools/test.py configs/{folder}/{small.name} work_dirs/{small.stem}/epoch_N.pth\n'
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
    ]
    return '\n\n'.join(part for part in parts if part.strip()) + '\n'


def detector_index() -> str:
    """The list of all detectors, by the titles of their pages."""
    rows = []
    for folder in detectors():
        title = (ROOT / 'configs' / folder / 'README.md').read_text('utf-8').partition('\n')[0]
        rows.append(f'- [{title.lstrip("# ")}]({folder}.md)')
    return (
        '# Detectors\n\nEach page: recipes, what equals the official code, what differs and why, '
        'official weights, what was measured, the target encoder.\n\n' + '\n'.join(rows) + '\n'
    )


def component_page() -> str:
    """Everything that is registered, by registry."""
    parts, pages = ['# Components', COMPONENTS], {each.name for each in losses()}
    found = components()
    for kind in sorted({each.kind for each in found}):
        rows = [
            f'| {link(each.name, pages)} | {", ".join(f"`{a}`" for a in each.aliases)} | '
            f'{inline(each.summary).strip()} |'
            for each in found
            if each.kind == kind
        ]
        parts.append(f'## {kind}\n\n| name | also | what |\n|---|---|---|\n' + '\n'.join(rows))
    return '\n\n'.join(parts) + '\n'


def link(name: str, pages: set[str]) -> str:
    """A name, linked to its page if it has one."""
    return f'[`{name}`](losses/{name}.md)' if name in pages else f'`{name}`'


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
    yield 'components.md', 'docs/components.md', component_page()
    yield 'checkpoints.md', 'docs/checkpoints.md', checkpoint_page()
