"""List every component that the package registers: kind, name, aliases and summary."""

from __future__ import annotations

import argparse
import inspect
import json
import re
from fnmatch import fnmatch
from typing import NamedTuple

import mmdet_losses
from mmdet_losses import registry


class Component(NamedTuple):
    """One registered class or function."""

    kind: str
    """Name of its registry, as in ``mmdet_losses.registry``."""
    name: str
    aliases: list[str]
    """Its other registered names, from the code of the papers."""
    summary: str
    """First line of its docstring, without roles."""


def components() -> list[Component]:
    """All components of this package in MMDetection's registries, sorted by kind and name."""
    found = []
    for kind in registry.__all__:
        names: dict[type, list[str]] = {}
        for name, item in getattr(getattr(registry, kind), 'module_dict', {}).items():
            if item.__module__.partition('.')[0] == mmdet_losses.__name__:
                names.setdefault(item, []).append(name)
        for item, known in names.items():
            name = item.__name__ if item.__name__ in known else known[0]
            summary = re.sub(r':\w+:`', '`', (inspect.getdoc(item) or '').partition('\n')[0])
            aliases = sorted(alias for alias in known if alias != name)
            found.append(Component(kind, name, aliases, summary))
    return sorted(found)


def matches(component: Component, pattern: str) -> bool:
    """Whether kind, name or an alias contains the pattern, or matches it if it has a ``*``."""
    pattern = pattern.lower()
    words = (component.kind, component.name, *component.aliases)
    if '*' in pattern:
        return any(fnmatch(word.lower(), pattern) for word in words)
    return any(pattern in word.lower() for word in words)


def main(argv: list[str] | None = None) -> int:
    """Print the list; status 1 if nothing matches the pattern."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'pattern', nargs='?', default='', help='part of a kind, name or alias, or a pattern with *'
    )
    parser.add_argument('--json', action='store_true', help='print a JSON list of objects')
    args = parser.parse_args(argv)
    chosen = [component for component in components() if matches(component, args.pattern)]
    if args.json:
        print(json.dumps([component._asdict() for component in chosen], indent=1))
    else:
        for component in chosen:
            aliases = f' ({", ".join(component.aliases)})' if component.aliases else ''
            print(f'{component.kind:<10}  {component.name}{aliases}: {component.summary}')
        print(f'{len(chosen)} component(s)')
    return 0 if chosen else 1


if __name__ == '__main__':
    raise SystemExit(main())
