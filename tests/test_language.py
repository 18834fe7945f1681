"""The text of the repository uses the standard terms: CONTRIBUTING.md, "Language"."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from typing import NamedTuple

import pytest

from tests.processes import ROOT, run_command

READ = ('*.py', '*.md', '*.ipynb', '*.toml', '*.yml', '*.yaml', '*.sh', '*Makefile', '.ci/run')
NOT_READ = ('tests/golden/*', 'tests/test_language.py')
"""Arrays of the official codes, whose keys are theirs; the banned words themselves."""

GAP = r"""(?:[\s#']|"(?!"")|\bf(?=['"]))+"""
"""A space, or a line break with the comment sign or the quotes around it."""
NUMBER = (
    r'(?:one|two|three|four|five|six|seven|eight|nine|ten|once|twice|(?<![.,\d])\d+(?:,\d{3})*)'
)
COUNTED = (
    '(?:anchors|annotations|boxes|channels|classes|corners|detections|files|frames|images|joints'
    '|keypoints|logits|masks|numbers|objects|passes|peaks|pixels|points|predictions|priors|seconds'
    '|slots|steps|tags|times|values)'
)
UNIT = (
    '(?:anchor|batch|box|cell|channel|class|configs?|corner|detector|epoch|file|frame|image|iteration'
    '|keypoint|level|line|map|minute|object|picture|pixel|point|prior|process|run|scale|second|slot'
    '|step|video)'
)
PREPOSITION = (
    '(?:a|about|and|as|at|by|for|from|has|in|into|is|like|of|on|or|over|per|than|to|where'
    '|with|without)'
)

BANNED = {
    r'sa(?:id|ys?|ying)': 'message, output, decoded, logged',
    r'sentences?': 'message',
    r'speak(?:s|ing)?|spoken': 'is, gives, is used',
    r'pictur(?:es?|ed)': 'image (a frame is an image of a video)',
    r'heat(?:~|-)maps?': 'heatmap',
    r'truths?': 'ground truth',
    r'suppression': 'NMS',
    r'gone': 'missing, removed, dropped',
    r'(?:left|leave|leaves)~in~peace': 'ignored',
    r'another~word': 'without a message',
    r'joint(?:s|ed)?': 'keypoint',
    r'tags?': 'embedding',
    r'refus(?:e|es|ed|ing|al)': 'raises, warns, logs',
    r'how~many': 'number of',
    r'of~which': 'two sentences',
    r'told~apart|tells?~.{0,20}\bapart': 'distinguished',
    r'by~heart': 'stored',
    r'looks?~twice': 'repeated work',
    r'and~so~(?:do|does|did|are|is|was|were|has|have|can|must)': 'also',
    r'tiny~(?:configs?|detectors?|recipes?)|\w*~tiny\.py': 'digits config, small config',
    rf'(?:{NUMBER}(?:~(?!{PREPOSITION}\b)\w+)?|{COUNTED})~an?~{UNIT}': 'per',
}
"""Pattern -> what to write instead; ``~`` is a space or a line break."""


class Allowed(NamedTuple):
    """A place where a banned word is right."""

    text: str
    """Regular expression, removed before the search."""
    files: str
    reason: str


ALLOWED = [
    Allowed(
        r'PicturesHook|(?:visualization)?[./]pictures\b(?!\()|(?:test_)?pictures\.py',
        '*',
        'a hook and its module',
    ),
    Allowed(rf'(?i)(?:\b|_)ground(?:[ _-]|{GAP})truth', '*', 'the standard term'),
    Allowed(r'(?m)^\| .* \| .* \|$', 'CONTRIBUTING.md', 'the table of words'),
    Allowed(r'darknet_truth', '*', 'a golden file'),
    Allowed(r'(?:ignore|truth)_thresh(?:old)?', '*', "darknet's option names"),
    *(
        Allowed(r'([\'`])[^\'`\s]*(?:truth|tags?|joints)[^\'`\s]*\1', files, 'official names')
        for files in ('tools/parity/*', 'tests/test_checkpoints/*', '*/checkpoints.py', 'docs/*')
    ),
]


def text_files() -> list[str]:
    """The tracked text files, as paths from the root."""
    listed = run_command(['git', 'ls-files', '-z'], cwd=ROOT)
    assert listed.returncode == 0, listed.stderr
    return [
        name
        for name in listed.stdout.split('\0')
        if any(fnmatch(name, pattern) for pattern in READ)
        and not any(fnmatch(name, pattern) for pattern in NOT_READ)
        and (ROOT / name).is_file()
    ]


def compiled(pattern: str) -> re.Pattern[str]:
    """Whole words; ``~`` also matches a line break with the ``#`` or the quotes around it."""
    return re.compile(rf'\b(?:{pattern})\b'.replace('~', GAP), re.IGNORECASE)


PATTERNS = {compiled(pattern): use for pattern, use in BANNED.items()}


def words(text: str) -> str:
    """The text with identifiers split at underscores and capitals; lines stay lines."""
    return re.sub(r'(?<=[a-z0-9])(?=[A-Z][a-z])', ' ', text.replace('_', ' '))


def found(text: str, name: str) -> list[str]:
    """Every banned word of a text: ``file:line: word (use ...)``."""
    for each in ALLOWED:
        if fnmatch(name, each.files):
            text = re.sub(each.text, '', text)
    text = words(text)
    hits = [
        (text.count('\n', 0, match.start()) + 1, ' '.join(match[0].split()), use)
        for pattern, use in PATTERNS.items()
        for match in pattern.finditer(text)
    ]
    return [f'{name}:{line}: {word!r} (use: {use})' for line, word, use in sorted(hits)]


FILES = text_files()


@pytest.mark.parametrize('name', FILES)
def test_a_file_uses_the_standard_terms(name):
    assert not found(name, name)
    assert not found((ROOT / name).read_text(encoding='utf-8'), name)


@pytest.mark.parametrize(
    ('text', 'word'),
    [
        ('A picture.', 'picture'),
        ('def draw_pictures(): ...', 'pictures'),
        ('class HeatMapLoss: ...', 'Heat Map'),
        ('the truth of an image', 'truth'),
        ('two an object', 'two an object'),
        ('15 objects an image', '15 objects an image'),
        ("f'there are {n} boxes '\n    f'a cell'", "boxes ' f'a cell"),
        ('# one list\n# a level', 'one list # a level'),
        ('test_bad_input_is_refused', 'refused'),
        ('ssd_tiny.py', 'ssd tiny.py'),
    ],
)
def test_a_banned_word_is_found(text, word):
    (hit,) = found(text, 'f.py')
    assert repr(word) in hit


@pytest.mark.parametrize(
    'text',
    [
        'the ground truth and the ground-truth boxes',
        'truth_thresh = 1',
        'one of an image',
        'two boxes in a cell',
        'three boxes per cell',
        'a percentage, stage, vintage',
        'yolov3-tiny.weights',
    ],
)
def test_other_text_passes(text):
    assert not found(text, 'f.py')
