"""Docstrings and signatures as Markdown."""

from __future__ import annotations

import inspect
import re
from typing import Any, NamedTuple


class Docstring(NamedTuple):
    """The parts of a docstring, as Markdown."""

    summary: str
    """Its first paragraph."""
    text: str
    """The text outside the sections, such as a formula."""
    sections: dict[str, str]
    """Shape, Convention, Args, ..."""


SECTION = re.compile(r'^([A-Z][a-z]+(?: [a-z]+)?):\n((?:    .*\n|\n)+)', re.MULTILINE)


def read_docstring(item: Any) -> Docstring:
    """Parse the docstring of a module, class or function."""
    raw = (inspect.getdoc(item) or '') + '\n'
    sections = {
        match[1]: section(match[1], inspect.cleandoc('\n' + match[2]))
        for match in SECTION.finditer(raw)
    }
    summary, _, rest = SECTION.sub('', raw).partition('\n\n')
    return Docstring(inline(' '.join(summary.split())), inline(rest).strip(), sections)


def section(name: str, body: str) -> str:
    """The body of a section as Markdown: code, a list of names, or paragraphs."""
    if name == 'Example':
        return f'```pycon\n{body}\n```'
    if name in ('Args', 'Raises', 'Shape'):
        rows = re.split(r'\n(?! |\n)', body)
        items = (re.sub(r'^((?:[\w ]|, )+):', mark_names, ' '.join(row.split())) for row in rows)
        return inline('\n'.join(f'- {item}' for item in items))
    return inline(body)


def mark_names(match: re.Match) -> str:
    """``pred, target:`` with both names in code style."""
    names = match[1].split(', ')
    return match[0] if ' ' in match[1].replace(', ', '') else f'`{"`, `".join(names)}`:'


def inline(text: str) -> str:
    """The reStructuredText markup of our docstrings as Markdown; references stay."""
    text = re.sub(
        r'\.\. math::\n\n((?:    .*\n|\n)+)',
        lambda match: f'{display(inspect.cleandoc(chr(10) + match[1]))}\n\n',
        text + '\n',
    )
    text = re.sub(r':math:`([^`]+)`', lambda match: f'${match[1]}$', text)
    text = re.sub(r':(?:meth|attr|data|mod):`~?([^`]+)`', r'`\1`', text)
    return re.sub(r'``([^`]+)``', r'`\1`', text)


def cell(text: str) -> str:
    """A text as a cell of a table: a ``|`` would end the cell, also in a formula."""
    text = ' '.join(inline(text).split())
    text = re.sub(r'\$[^$]+\$', lambda match: match[0].replace('|', r'\vert{}'), text)
    return text.replace('|', r'\|')


def compact(text: str) -> str:
    """A config in which lists of numbers, which MMEngine writes one per line, are on one line."""
    return re.sub(
        r'([\[(])\s+((?:-?[\d.]+,\s+)+)([\])])',
        lambda match: f'{match[1]}{", ".join(re.findall(r"[-.0-9]+", match[2]))}{match[3]}',
        text,
    )


def display(formula: str) -> str:
    """A displayed formula; aligned if it has several columns or rows."""
    aligned = '&' in formula or r'\\' in formula
    return (
        f'$$\n\\begin{{align*}}\n{formula}\n\\end{{align*}}\n$$'
        if aligned
        else f'$$\n{formula}\n$$'
    )


def arguments(item: type) -> dict[str, Any]:
    """The arguments of a component and their defaults; behind ``**kwargs`` those of its parents."""
    found: dict[str, Any] = {}
    for each in item.__mro__:
        init = vars(each).get('__init__')
        if init is None:
            continue
        parameters = list(inspect.signature(init).parameters.values())[1:]
        for parameter in parameters:
            if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                found.setdefault(parameter.name, parameter.default)
        if not any(each.kind == each.VAR_KEYWORD for each in parameters):
            break
    return found


def config(name: str, item: type) -> str:
    """The component as a config with every argument at its default."""
    rows = [
        f'    {key}=...,  # required'
        if value is inspect.Parameter.empty
        else f'    {key}={value!r},'
        for key, value in arguments(item).items()
        if key != 'init_cfg'
    ]
    return '\n'.join(['dict(', f'    type={name!r},', *rows, ')'])


def signature(function: Any) -> str:
    """The arguments and defaults of a function, one per line."""
    rows, star = [], False
    for each in inspect.signature(function).parameters.values():
        if each.kind == each.KEYWORD_ONLY and not star:
            rows, star = [*rows, '    *,'], True
        default = '' if each.default is each.empty else f'={each.default!r}'
        rows.append(f'    {each.name}{default},')
    return '\n'.join([f'{function.__name__}(', *rows, ')'])
