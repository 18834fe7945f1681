"""MkDocs hooks: pages from the code, the tutorial run, links that leave docs/, MathML."""

from __future__ import annotations

import html
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

import nbclient
import nbformat
from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

sys.path.insert(0, str(Path(__file__).parent))

import landscape
import pages

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r'(!?\[[^\]]*\]\()([^)\s]+)(\))')
CODE = re.compile(r'(```.*?^```|~~~.*?^~~~)', re.DOTALL | re.MULTILINE)
PICTURES = ('.png', '.svg', '.jpg', '.gif')
LANGUAGES = {'.py': 'python', '.sh': 'sh', '.json': 'json', '.yml': 'yaml'}


def on_config(config: Any) -> Any:
    """Fill in the folders that mkdocs.yml's navigation names."""
    names = {
        'losses/': [f'losses/{each.name}.md' for each in pages.losses()],
        'detectors/': [f'detectors/{folder}.md' for folder in pages.detectors()],
    }
    for entry in config.nav:
        for title, below in entry.items():
            if isinstance(below, list):
                entry[title] = [each for item in below for each in (names.get(str(item)) or [item])]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages and plots, and whatever files of the repository pages link to."""
    texts = {path: (owner, text) for path, owner, text in pages.pages()}
    tutorial, pictures = run_notebook(ROOT / 'docs/tutorial.ipynb')
    texts['tutorial.md'] = ('docs/tutorial.ipynb', tutorial)
    for file in list(files.documentation_pages()):
        if file.src_uri not in texts:
            texts[file.src_uri] = (f'docs/{file.src_uri}', file.content_string)
        files.remove(file)
    site = Site({path: owner for path, (owner, _) in texts.items()})
    for path, (owner, text) in texts.items():
        files.append(File.generated(config, path, content=site.relink(text, owner, path)))
    added: set[str] = set()
    while more := site.wanted.keys() - added:  # what a page links to may link to more
        for target in sorted(more):
            added.add(target)
            source = site.wanted[target]
            if source.endswith(PICTURES):
                file = File.generated(config, target, abs_src_path=str(ROOT / source))
            else:
                file = File.generated(config, target, content=site.show(source, target))
            files.append(file)
    for name, picture in pictures.items():
        files.append(File.generated(config, name, content=picture))
    for name in landscape.panels():
        path = f'losses/images/{name}.svg'
        files.append(File.generated(config, path, content=landscape.svg(name)))
    return files


def run_notebook(path: Path) -> tuple[str, dict[str, bytes]]:
    """A notebook run from top to bottom, as Markdown and its pictures; an error ends the build."""
    notebook = nbformat.read(path, as_version=4)
    quiet = ['--IPKernelApp.log_level=ERROR']  # it warns that it talks over local TCP
    nbclient.execute(notebook, cwd=path.parent, timeout=600, extra_arguments=quiet)
    text, made = MarkdownExporter().from_notebook_node(notebook, {'unique_key': path.stem})
    return text, made['outputs']


class Site:
    """Where files of the repository are on the site."""

    def __init__(self, owners: dict[str, str]) -> None:
        self.places = {owner: path for path, owner in reversed(owners.items())}
        self.wanted: dict[str, str] = {}
        """Page or picture to add -> file of the repository."""

    def relink(self, text: str, owner: str, path: str) -> str:
        """A page's links, relative to the file ``owner``, as links relative to the page."""

        def change(match: re.Match) -> str:
            target, mark, anchor = match[2].partition('#')
            if not target or '://' in target or target.startswith('mailto:'):
                return match[0]
            place = self.place(posixpath.normpath(posixpath.join(posixpath.dirname(owner), target)))
            if place is None:
                return match[0]  # MkDocs says what is wrong with it
            relative = posixpath.relpath(place, posixpath.dirname(path) or '.')
            return f'{match[1]}{relative}{mark}{anchor}{match[3]}'

        parts = CODE.split(text)
        return ''.join(part if CODE.match(part) else LINK.sub(change, part) for part in parts)

    def place(self, source: str) -> str | None:
        """The page or picture for a file or folder of the repository."""
        if (ROOT / source).is_dir():
            source = posixpath.join(source, 'README.md')
        if source in self.places:
            return self.places[source]
        if source.startswith('docs/'):
            return source.removeprefix('docs/')
        if not (ROOT / source).is_file():
            return None
        picture = source.endswith(PICTURES)
        place = f'source/{source}' if picture else f'source/{source}.md'
        self.wanted[place] = source
        return place

    def show(self, source: str, path: str) -> str:
        """A file of the repository as a page; what is no Markdown is left out of the search."""
        text = (ROOT / source).read_text(encoding='utf-8')
        if source.endswith('.md'):
            return self.relink(text, source, path)
        head = f'---\nsearch:\n  exclude: true\n---\n\n# {source}\n\n'
        return f'{head}````{LANGUAGES.get(Path(source).suffix, "text")}\n{text}\n````\n'


def on_page_content(content: str, page: Any, **_: Any) -> str:
    """Formulas as MathML, which browsers draw without a script."""

    def change(match: re.Match) -> str:
        latex = html.unescape(match[2])
        drawn = convert(latex.strip(), display='block' if match[1] == 'div' else 'inline')
        unknown = re.search(r'\\\w+', re.sub(r'<[^>]*>', '', drawn))
        if unknown or '&<' in drawn:
            raise PluginError(f'{page.file.src_uri}: no formula without {unknown}: {latex}')
        return drawn

    pattern = r'<(div|span) class="arithmatex">\\[\[(](.+?)\\[\])]</\1>'
    return re.sub(pattern, change, content, flags=re.DOTALL)
