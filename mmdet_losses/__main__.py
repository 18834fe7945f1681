"""Command ``mmdet-losses TOOL ARGUMENT...``: the tools of an installed package."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

TOOLS = Path(__file__).parent / '.mim' / 'tools'
HIDDEN = ('launch', 'make_env', 'release')
"""Scripts that need a checkout or are started by other scripts."""


def tool_names() -> list[str]:
    """Names of the tools, for example 'predict'."""
    return sorted(path.stem for path in TOOLS.glob('*.py') if path.stem not in HIDDEN)


def main(argv: list[str] | None = None) -> int:
    """Run a tool in this process; returns the exit code of an unknown name."""
    arguments = sys.argv[1:] if argv is None else argv
    names = tool_names()
    if not arguments or arguments[0] not in names:
        print(f'usage: mmdet-losses TOOL ARGUMENT...\ntools: {", ".join(names)}', file=sys.stderr)
        return 2
    script = TOOLS / f'{arguments[0]}.py'
    sys.argv = [str(script), *arguments[1:]]
    runpy.run_path(str(script), run_name='__main__')
    return 0


if __name__ == '__main__':
    sys.exit(main())
