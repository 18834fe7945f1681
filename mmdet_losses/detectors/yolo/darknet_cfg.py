"""Darknet's cfg files: sections with line numbers, and the table of layers for a network."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from mmdet_losses.networks.darknet_from_cfg import ACTIVATIONS, HEADS, layer_shape

Value = TypeVar('Value')
NAMES = {'net': 'net', 'network': 'net', 'conv': 'convolutional', 'conn': 'connected',
         'max': 'maxpool', 'avg': 'avgpool'}  # fmt: skip
"""Short names of sections that darknet accepts."""


LONGEST = 60
"""Characters of a value that messages show."""


POSITIVE = (
    *('width', 'height', 'channels', 'batch', 'subdivisions', 'filters', 'size', 'stride'),
    *('groups', 'dilation', 'output', 'num', 'classes', 'side'),
)
"""Integer options that must be at least 1."""


class CfgError(ValueError):
    """A cfg file cannot be expressed; the message names section, option and line."""


class Section(NamedTuple):
    """One section of a cfg file."""

    type: str
    options: dict[str, tuple[str, int]]
    """Option -> (value, line)."""
    line: int
    index: int
    """Number of the layer; -1 for `[net]`."""

    def where(self, option: str = '') -> str:
        """Section, option and line, for messages."""
        value, line = self.options.get(option, ('', self.line))
        value = value if len(value) <= LONGEST else f'{value[:LONGEST]}...'
        named = f', option {option}={value}' if option in self.options else ''
        layer = f' (layer {self.index})' if self.index >= 0 else ''
        return f'[{self.type}]{layer}{named}, line {line}'

    def text(self, option: str, default: str) -> str:
        """A value."""
        return self.options.get(option, (default, 0))[0]

    def number(self, option: str, default: int) -> int:
        """An integer value.

        Raises:
            CfgError: the value is not an integer, or less than 1 for one of :data:`POSITIVE`.
        """
        value = self._convert(option, default, int, 'an integer')
        if option in POSITIVE and value < 1:
            raise CfgError(f'{self.where(option)}: the value must be at least 1.')
        return value

    def real(self, option: str, default: float) -> float:
        """A number.

        Raises:
            CfgError: the value is not a number.
        """
        return self._convert(option, default, _finite, 'a number')

    def reals(self, option: str) -> list[float]:
        """Numbers separated by commas; empty if the option is missing.

        Raises:
            CfgError: a value is not a number.
        """

        def convert(text: str) -> list[float]:
            return [_finite(each) for each in text.split(',') if each]

        return self._convert(option, '', convert, 'numbers separated by commas')

    def whole(self, option: str) -> list[int]:
        """Integers separated by commas; empty if the option is missing.

        Raises:
            CfgError: a value is not an integer.
        """

        def convert(text: str) -> list[int]:
            return [int(each) for each in text.split(',') if each]

        return self._convert(option, '', convert, 'integers separated by commas')

    def _convert(
        self, option: str, default: object, convert: Callable[[str], Value], words: str
    ) -> Value:
        try:
            return convert(self.text(option, str(default)))
        except ValueError:
            raise CfgError(f'{self.where(option)}: the value must be {words}.') from None


def _finite(text: str) -> float:
    """A number.

    Raises:
        ValueError: the text is no number, or the number is infinite or nan.
    """
    if not math.isfinite(value := float(text)):
        raise ValueError(text)
    return value


def read_cfg_text(path: Path) -> str:
    """Text of a cfg file. Only comments are not ASCII, so bytes that are not UTF-8 are replaced."""
    return path.read_text(encoding='utf-8-sig', errors='replace')


def parse_cfg(text: str) -> list[Section]:
    """The sections of a cfg, `[net]` first.

    Convention:
        As in darknet, the first value of an option counts, and text after the number does not. So
        a comment can follow a value.

    Raises:
        CfgError: a line that is neither section, option nor comment, or a file without `[net]`.
    """
    sections: list[Section] = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = ''.join(raw.split())
        if not line or line[0] in '#;':
            continue
        if line.startswith('['):
            name = line.strip('[]').lower() if line.endswith(']') else ''
            name = NAMES.get(name, name)
            sections.append(Section(name, {}, number, len(sections) - 1))
            continue
        option, equals, value = line.partition('=')
        if not equals or not sections:
            raise CfgError(f'Line {number} is no option of a section: {raw.strip()!r}; correct it.')
        sections[-1].options.setdefault(option, (re.split('[#;]', value)[0], number))
    if not sections or sections[0].type != 'net':
        raise CfgError('The cfg does not start with [net]; give a complete cfg file.')
    return sections


LAYER_OPTIONS = {
    'convolutional': 'filters size stride pad padding batch_normalize activation groups dilation',
    'connected': 'output activation',
    'local': 'filters size stride pad activation',
    'maxpool': 'size stride padding',
    'avgpool': '',
    'dropout': 'probability',
    'upsample': 'stride',
    'reorg': 'stride',
    'route': 'layers groups group_id',
    'shortcut': 'from activation weights_type',
    'sam': 'from activation',
    'scale_channels': 'from activation',
}
"""Type of a layer -> the options that a table expresses."""
TRAINING_OPTIONS = ('stopbackward', 'onlyforward', 'learning_rate', 'dontload', 'flipped')
"""Options that do not change the forward pass."""


def layer_table(sections: list[Section]) -> list[dict[str, Any]]:
    """Rows for :class:`~mmdet_losses.networks.darknet_from_cfg.DarknetFromCfg`.

    Raises:
        CfgError: a layer or an option that a table does not express.
    """
    return [_row(section) for section in sections[1:]]


def check_shapes(
    sections: list[Section], table: list[dict[str, Any]]
) -> list[tuple[int, int, int]]:
    """(channels, h, w) of the output of every layer, for the image size of the cfg.

    Raises:
        CfgError: a layer combines outputs whose shapes do not fit.
    """
    net = sections[0]
    image = net.number('channels', 3), net.number('height', 416), net.number('width', 416)
    shapes: list[tuple[int, int, int]] = []
    for section, row in zip(sections[1:], table, strict=True):
        try:
            shapes.append(layer_shape(section.index, row, (shapes or [image])[-1], shapes))
        except ValueError as error:
            option = 'layers' if section.type == 'route' else 'from'
            raise CfgError(f'{section.where(option)}: {error}') from None
        if min(shapes[-1]) < 1:
            sides = 'x'.join(map(str, shapes[-1]))
            raise CfgError(
                f'{section.where()}: the output would be {sides} (channels, h, w); correct the '
                'options of this layer, or enlarge width and height of [net].'
            )
    return shapes


def _row(section: Section) -> dict[str, Any]:
    kind = section.type
    if kind in HEADS:
        number = section.number('num', 1)
        anchors = {'detection': 0, 'region': number}.get(kind, len(section.whole('mask')) or number)
        return {'type': kind, 'anchors': anchors} if anchors else {'type': kind}
    if kind not in LAYER_OPTIONS:
        raise CfgError(
            f'{section.where()}: this type of layer is not supported; choose a cfg without it.'
        )
    for option in section.options:
        if option not in LAYER_OPTIONS[kind].split() and option not in TRAINING_OPTIONS:
            raise CfgError(f'{section.where(option)}: this option is not supported; remove it.')
    if section.text('weights_type', 'none') != 'none':
        raise CfgError(f'{section.where("weights_type")}: weights are not supported; remove it.')
    row: dict[str, Any] = {'type': kind}
    if kind in ('convolutional', 'local', 'connected'):
        row |= _parameters(section)
    elif kind == 'maxpool':
        row |= _pool(section)
    elif kind == 'dropout':
        row['probability'] = section.real('probability', 0.5)
    elif kind in ('upsample', 'reorg'):
        row['stride'] = section.number('stride', 2 if kind == 'upsample' else 1)
        if kind == 'reorg' and row['stride'] != 2:
            raise CfgError(f'{section.where("stride")}: only stride=2 is supported.')
    elif kind != 'avgpool':
        row['layers'] = _sources(section)
        if kind == 'route' and (groups := section.number('groups', 1)) > 1:
            row |= {'groups': groups, 'group_id': section.number('group_id', 0)}
            if not 0 <= row['group_id'] < groups:
                raise CfgError(f'{section.where("group_id")}: give a number below groups={groups}.')
    if kind in ('shortcut', 'sam', 'scale_channels'):
        row['activation'] = _activation(section, 'linear')
    return row


def _parameters(section: Section) -> dict[str, Any]:
    row: dict[str, Any] = {}
    if section.type == 'connected':
        row['output'] = section.number('output', 1)
    else:
        row |= {'filters': section.number('filters', 1), 'size': section.number('size', 1)}
        stride, padded = section.number('stride', 1), section.number('pad', 0)
        padding = row['size'] // 2 if padded else section.number('padding', 0)
        if section.type == 'local' and (stride != 1 or padding != row['size'] // 2):
            raise CfgError(f'{section.where()}: only stride=1 and pad=1 are supported.')
        if section.type == 'convolutional':
            if stride != 1:
                row['stride'] = stride
            if padding != row['size'] // 2:
                row['padding'] = padding
            if section.number('batch_normalize', 0):
                row['batch_normalize'] = True
            for option in ('groups', 'dilation'):
                if (value := section.number(option, 1)) != 1:
                    row[option] = value
    row['activation'] = _activation(section, 'logistic')
    return row


def _pool(section: Section) -> dict[str, int]:
    stride = section.number('stride', 1)
    size = section.number('size', stride)
    return {'size': size, 'stride': stride, 'padding': section.number('padding', size - 1)}


def _activation(section: Section, default: str) -> str:
    name = section.text('activation', default)
    if name not in ACTIVATIONS:
        raise CfgError(f'{section.where("activation")}: choose one of {", ".join(ACTIVATIONS)}.')
    return name


def _sources(section: Section) -> list[int]:
    """Absolute indices of the layers that a layer reads."""
    option = 'layers' if section.type == 'route' else 'from'
    try:
        given = [int(each) for each in section.text(option, '').split(',') if each]
    except ValueError:
        given = []
    absolute = [each + section.index if each < 0 else each for each in given]
    if not absolute or not all(0 <= each < section.index for each in absolute):
        raise CfgError(f'{section.where(option)}: give numbers of earlier layers.')
    return absolute
