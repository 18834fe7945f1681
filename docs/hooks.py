"""MkDocs hooks: generated pages, the executed tutorial, links out of docs/, MathML."""

from __future__ import annotations

import gc
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

import detector_cards
import landscape
import pages

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r'(!?\[[^\]]*\]\()([^)\s]+)(\))')
CODE = re.compile(r'(^ *```.*?^ *```|^ *~~~.*?^ *~~~)', re.DOTALL | re.MULTILINE)
IMAGES = ('.png', '.svg', '.jpg', '.gif')
LANGUAGES = {'.py': 'python', '.sh': 'sh', '.json': 'json', '.yml': 'yaml'}


def on_config(config: Any) -> Any:
    """Replace the folders in the navigation of mkdocs.yml by the lists of their pages.

    What is imported leaves the garbage collection, which each data set of MMEngine runs.
    """
    gc.freeze()
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
    """Add the generated pages and plots, and the files of the repository that pages link to."""
    texts = {path: (owner, text) for path, owner, text in pages.pages()}
    tutorial, images = run_notebook(ROOT / 'docs/tutorial.ipynb')
    texts['tutorial.md'] = ('docs/tutorial.ipynb', tutorial)
    for file in list(files.documentation_pages()):
        if file.src_uri not in texts:
            texts[file.src_uri] = (f'docs/{file.src_uri}', file.content_string)
        files.remove(file)
    site = Site({path: owner for path, (owner, _) in texts.items()})
    for path, (owner, text) in texts.items():
        files.append(File.generated(config, path, content=site.relink(text, owner, path)))
    added: set[str] = set()
    while more := site.wanted.keys() - added:  # a linked page may contain further links
        for target in sorted(more):
            added.add(target)
            source = site.wanted[target]
            if source.endswith(IMAGES):
                file = File.generated(config, target, abs_src_path=str(ROOT / source))
            else:
                file = File.generated(config, target, content=site.show(source, target))
            files.append(file)
    for name, image in images.items():
        files.append(File.generated(config, name, content=image))
    for name, image in detector_cards.images():
        files.append(File.generated(config, f'detectors/images/{name}.jpg', content=image))
    for name in landscape.panels():
        path = f'losses/images/{name}.svg'
        files.append(File.generated(config, path, content=landscape.svg(name)))
    return files


def run_notebook(path: Path) -> tuple[str, dict[str, bytes]]:
    """Execute a notebook; return its Markdown and its images. An error stops the build."""
    notebook = nbformat.read(path, as_version=4)
    quiet = ['--IPKernelApp.log_level=ERROR']  # it warns about local TCP
    nbclient.execute(notebook, cwd=ROOT, timeout=1800, extra_arguments=quiet)
    text, made = MarkdownExporter().from_notebook_node(notebook, {'unique_key': path.stem})
    return text, made['outputs']


class Site:
    """The pages of the site and the files of the repository that they come from."""

    def __init__(self, owners: dict[str, str]) -> None:
        self.places = {owner: path for path, owner in reversed(owners.items())}
        self.wanted: dict[str, str] = {}
        """Page or image to add -> file of the repository."""

    def relink(self, text: str, owner: str, path: str) -> str:
        """Replace links relative to the file ``owner`` by links relative to the page ``path``."""

        def change(match: re.Match) -> str:
            target, mark, anchor = match[2].partition('#')
            if not target or '://' in target or target.startswith('mailto:'):
                return match[0]
            place = self.place(posixpath.normpath(posixpath.join(posixpath.dirname(owner), target)))
            if place is None:
                return match[0]  # MkDocs reports the broken link
            relative = posixpath.relpath(place, posixpath.dirname(path) or '.')
            return f'{match[1]}{relative}{mark}{anchor}{match[3]}'

        parts = CODE.split(text)
        return ''.join(part if CODE.match(part) else LINK.sub(change, part) for part in parts)

    def place(self, source: str) -> str | None:
        """The page or image for a file or folder of the repository."""
        if (ROOT / source).is_dir():
            source = posixpath.join(source, 'README.md')
        if source in self.places:
            return self.places[source]
        if source.startswith('docs/'):
            return source.removeprefix('docs/')
        if not (ROOT / source).is_file():
            return None
        is_image = source.endswith(IMAGES)
        place = f'source/{source}' if is_image else f'source/{source}.md'
        self.wanted[place] = source
        return place

    def show(self, source: str, path: str) -> str:
        """A file of the repository as a page. Files other than Markdown are not in the search."""
        text = (ROOT / source).read_text(encoding='utf-8')
        if source.endswith('.md'):
            return self.relink(text, source, path)
        head = f'---\nsearch:\n  exclude: true\n---\n\n# {source}\n\n'
        return f'{head}````{LANGUAGES.get(Path(source).suffix, "text")}\n{text}\n````\n'


def on_page_content(content: str, page: Any, **_: Any) -> str:
    """Replace formulas by MathML, which browsers draw without a script; lay out the tables."""

    def change(match: re.Match) -> str:
        latex = html.unescape(match[2])
        drawn = convert(latex.strip(), display='block' if match[1] == 'div' else 'inline')
        unknown = re.search(r'\\\w+', re.sub(r'<[^>]*>', '', drawn))
        if unknown or '&<' in drawn:
            raise PluginError(
                f'{page.file.src_uri}: cannot convert {unknown} of the formula {latex}'
            )
        return drawn

    pattern = r'<(div|span) class="arithmatex">\\[\[(](.+?)\\[\])]</\1>'
    return layout_cells(re.sub(pattern, change, content, flags=re.DOTALL))


def layout_cells(content: str) -> str:
    """The cells of tables: names break behind ``_``, ``.`` and ``/`` only, numbers nowhere."""

    def breaks(match: re.Match) -> str:
        return re.sub(r'(?<=\w)([_./]+)(?=\w)', r'\1<wbr>', match[0])

    def change(match: re.Match) -> str:
        return re.sub(r'(?<=<code>)[^<]+', breaks, match[0])

    content = re.sub(r'<td.*?</td>', change, content, flags=re.DOTALL)
    return re.sub(r'<td>(?=[-+±\d. ]+</td>)', '<td class="number">', content)
