"""The pages of the losses, made from docstrings, signatures and configs."""

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
import places
from docstrings import Docstring, cell, compact, config, inline, read_docstring, signature

from mmdet_losses import losses as terms_package
from mmdet_losses.registry import MODELS
from tests.detector_cases import DETECTORS
from tools.datasets.small_configs import small_configs
from tools.list_components import Component, components

GRIDS = ('YOLOV2Loss', 'YOLOV3Loss', 'YOLOV4Loss', 'ScaledYOLOV4Loss', 'GaussianYOLOLoss')
REFERENCE = re.compile(r':(?:func|class):`~?([\w.]+)`')


@cache
def losses() -> list[Component]:
    """Every registered loss, terms and criteria; each has a page."""
    return [each for each in components() if each.kind == 'MODELS' and each.name.endswith('Loss')]


def is_term(name: str) -> bool:
    """Whether a loss is a term: one that ``mmdet_losses.losses`` exports."""
    return name in terms_package.__all__


class Page:
    """The page of one loss: its docstring, and the docstrings that it refers to, each once."""

    def __init__(self, name: str, folder: str, module: str = '') -> None:
        self.name, self.folder, self.module = name, folder, module
        self.pending: list[Any] = []
        self.shown: set[str] = {name}

    def refer(self, text: str, owner: Any) -> str:
        """The text with references as code, linked to the section or page of the target."""
        return REFERENCE.sub(lambda match: self._link(match[1], owner), text)

    def _link(self, path: str, owner: Any) -> str:
        item, name = resolve(path, owner), path.rpartition('.')[2]
        if item is None:
            return f'`{name}`'
        if name in {each.name for each in losses()} and name != self.name:
            return f'[`{name}`]({"" if self.folder == "losses" else "../losses/"}{name}.md)'
        if name == self.name:
            return f'`{name}`'
        if name not in self.shown:
            self.shown.add(name)
            self.pending.append(item)
        return f'[`{name}`](#{name.lower()})'

    def body(self, doc: Docstring, owner: Any, skip: tuple[str, ...] = ()) -> str:
        """The text and sections of a docstring."""
        parts = [self.refer(doc.text, owner)]
        for title, text in doc.sections.items():
            if title not in skip:
                parts.append(f'**{title}**\n\n{self.refer(text, owner)}')
        return '\n\n'.join(part for part in parts if part.strip())

    def rest(self) -> Iterator[str]:
        """The sections of everything that the page refers to, until nothing is left."""
        while self.pending:
            item = self.pending.pop(0)
            doc = read_docstring(item)
            if inspect.isclass(item) and item.__name__ in MODELS.module_dict:
                # A parent class with its own page: show its conventions, follow its references.
                self.refer(doc.summary, item)
                if 'Convention' in doc.sections:
                    title = f'## Conventions of {item.__name__}'
                    yield f'{title}\n\n{self.refer(doc.sections["Convention"], item)}'
                continue
            yield f'## {item.__name__}\n\n{self.refer(doc.summary, item)}'
            if inspect.isfunction(item):
                yield f'```python\n{signature(item)}\n```'
            if item.__module__ != self.module:  # the page begins with the formula of its own module
                yield formula(item, self)
            yield self.body(doc, item)


def resolve(path: str, owner: Any) -> Any:
    """The object that a reference names, in the module of the docstring's owner."""
    module = sys.modules[getattr(owner, '__module__', None) or owner.__name__]
    first, *others = path.split('.')
    if first == 'mmdet_losses':
        *parents, name = path.split('.')
        return getattr(importlib.import_module('.'.join(parents)), name, None)
    return None if others else getattr(module, first, None)


def formula(item: Any, page: Page) -> str:
    """The docstring of the item's module, if it holds a formula."""
    module = inspect.getmodule(item)
    doc = read_docstring(module)
    # Several criteria share a module; a module of losses/ belongs to one function.
    if not module.__name__.startswith('mmdet_losses.losses.') or '$' not in doc.text:
        return ''
    return page.refer(doc.text, module)


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
        parts.append(plot(name))
    parts.append(f'## Arguments\n\n```python\n{config(name, item)}\n```')
    parts += [page.refer(doc.sections[key], item) for key in ('Args',) if key in doc.sections]
    takes = [key for key in inspect.signature(item.forward).parameters if key != 'self']
    parts.append(f'Called with `({", ".join(takes)})`. {call_summary(item.forward)}')
    if is_term(name):
        text, code = places.snippet(name)
        parts.append(f'## In a config\n\n{text}:\n\n```python\n{code}\n```')
    else:
        parts += [terms_table(item), criterion_in_config(name)]
    registered = {MODELS.get(each.name) for each in losses()}
    page.pending += [each for each in item.__mro__[1:] if each in registered - {*page.pending}]
    parts += page.rest()
    return '\n\n'.join(part for part in parts if part.strip()) + '\n'


def plot(name: str) -> str:
    """The plot of a loss, with the command that draws it."""
    note = ' The cost is relative to its value at a raw output of 0.' if name in GRIDS else ''
    return (
        f'![Cost and gradient of {name}](images/{name}.svg)\n\n'
        '*Cost on the left, gradient on the right, drawn by '
        f'`python docs/landscape.py {name} --out .`.{note}*'
    )


def call_summary(function: Any) -> str:
    """The docstring of a forward, without a reference to the function that explains it."""
    text = ' '.join((inspect.getdoc(function) or '').split())
    return inline(re.sub(r'See :func:`[^`]+`(?:; )?\.?', '', text)).strip()


def terms_table(item: type) -> str:
    """The default terms of a criterion, with links."""
    rows = []
    for key, module in item().named_children():
        kind = type(module).__name__
        if isinstance(module, nn.Module) and is_term(kind):
            rows.append(f'| `{key}` | [{kind}]({kind}.md) | {getattr(module, "loss_weight", "")} |')
    if not rows:
        return ''
    return '## Terms\n\n| argument | default | weight |\n|---|---|---|\n' + '\n'.join(rows)


def criterion_in_config(name: str) -> str:
    """The criterion as in the small config of a detector, with a link to that detector.

    A criterion without such a config is shown in the head of its test case.
    """
    for folder, path in small_configs().items():
        criterion = places.small_config(folder).model.bbox_head.criterion
        if criterion.type == name:
            text = compact(Config(dict(criterion=criterion)).pretty_text.strip())
            return (
                f'## In a config\n\n[`{path.name}`](../detectors/{folder}.md) has\n\n'
                f'```python\n{text}\n```'
            )
    case = next((each for each in DETECTORS.values() if each.criterion['type'] == name), None)
    if case is None:
        return ''
    parts = dict(predictor=case.predictor, encoder=case.encoder, criterion=case.criterion)
    head = Config(dict(bbox_head=dict(type='EncodedDenseHead', **parts)))
    text = compact(head.pretty_text.strip())
    return f'## In a config\n\nA head for a small map:\n\n```python\n{text}\n```'


def summary_of(item: type) -> str:
    """The first line of a loss; of its function, if its own line only names the function."""
    doc = read_docstring(item)
    named = re.match(r':func:`~?([\w.]+)` as a component', doc.summary)
    text = read_docstring(resolve(named[1], item)).summary if named else doc.summary
    return REFERENCE.sub(lambda match: f'`{match[1].rpartition(".")[2]}`', text)


def loss_index() -> str:
    """The list of all losses."""
    rows: dict[bool, list[str]] = {True: [], False: []}
    for each in losses():
        names = ', '.join(f'`{alias}`' for alias in each.aliases)
        summary = cell(summary_of(MODELS.get(each.name)))
        rows[is_term(each.name)].append(f'| [{each.name}]({each.name}.md) | {names} | {summary} |')
    head = '| name | alias | description |\n|---|---|---|\n'
    return (
        '# Losses\n\nA *term* compares one tensor with its target. A *criterion* is the loss of a '
        'detector: it computes several terms and divides them. Each page has the formula, shapes, '
        'conventions, a plot, the arguments and a config.\n\n## Terms\n\n'
        f'{head}{chr(10).join(rows[True])}\n\n## Criteria\n\n{head}{chr(10).join(rows[False])}\n'
    )
