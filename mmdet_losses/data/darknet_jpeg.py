"""JPEG files as darknet decodes them.

Both programs read images with their own JPEG decoder. OpenCV and Pillow round the colours
differently: pixels differ by up to 3 levels, which moves probabilities by up to 0.016. This decoder
gives darknet's pixels. It is slow (about one second per megapixel), so it is for comparisons.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.int64]
ZIGZAG = np.array([
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
])  # fmt: skip
"""Place in a row-major 8 x 8 block of each coefficient of the file."""


class UnsupportedJpeg(ValueError):
    """The file is not a baseline JPEG with one or three interleaved components."""


class Component(NamedTuple):
    """A colour plane of the file."""

    across: int
    """Blocks per unit, horizontally; the other planes are smaller by the ratio."""
    down: int
    quantisation: Array
    direct: list[tuple[int, int]]
    """Huffman code of the mean of a block: 16 bits to (length, symbol)."""
    rest: list[tuple[int, int]]
    """Huffman code of the other coefficients."""


class Header(NamedTuple):
    """All that stands before the coded coefficients."""

    width: int
    height: int
    components: list[Component]
    restart: int
    """Units between two restart markers; 0 without them."""
    start: int
    """First byte of the coefficients."""


def read_darknet_image(path: Path) -> NDArray[np.uint8] | None:
    """(h, w, 3) BGR image, or None if the file is no image.

    Baseline JPEG files are decoded as darknet decodes them, and an EXIF orientation is not applied.
    OpenCV reads all other files.
    """
    try:
        return decode_jpeg(path.read_bytes())
    except (ValueError, LookupError, struct.error):
        return cv2.imread(str(path))


def decode_jpeg(data: bytes) -> NDArray[np.uint8]:
    """(h, w, 3) BGR image of a baseline JPEG file.

    Raises:
        UnsupportedJpeg: a progressive file, or another number of components.
        ValueError, LookupError, struct.error: the data are damaged.
    """
    header = _read_header(data)
    across = max(each.across for each in header.components)
    down = max(each.down for each in header.components)
    planes = []
    for part, blocks in zip(header.components, _read_blocks(data, header), strict=True):
        plane = _inverse_transform(blocks, part.quantisation)
        rows = -(-header.height * part.down // down)
        columns = -(-header.width * part.across // across)
        plane = _enlarge(plane[:rows, :columns], across // part.across, down // part.down)
        planes.append(plane[: header.height, : header.width])
    if len(planes) == 1:
        return np.repeat(planes[0][..., None], 3, 2).astype(np.uint8)
    return _to_bgr(*planes)


# ------------------------------------------------------------------------------------- header


def _segments(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Kind, content and end of every segment, up to the start of the coefficients."""
    position, kind = 2, 0
    while kind != 0xDA:
        while data[position] == 0xFF:
            position += 1
        kind = data[position]
        (size,) = struct.unpack_from('>H', data, position + 1)
        end = position + 1 + size
        yield kind, data[position + 3 : end], end
        position = end


def _read_header(data: bytes) -> Header:
    if data[:2] != b'\xff\xd8':
        raise UnsupportedJpeg('The file is no JPEG.')
    tables: dict[int, Array] = {}
    codes: dict[int, list[tuple[int, int]]] = {}
    restart, frame, scan, start = 0, b'', b'', 0
    for kind, content, end in _segments(data):
        if kind == 0xDB:
            tables.update(_quantisation(content))
        elif kind == 0xC4:
            codes.update(_huffman(content))
        elif kind == 0xDD:
            (restart,) = struct.unpack('>H', content)
        elif kind in (0xC0, 0xC1):
            frame = content
        elif kind == 0xDA:
            scan, start = content, end
    if len(frame) < 6 or frame[5] not in (1, 3) or frame[0] != 8 or scan[0] != frame[5]:
        raise UnsupportedJpeg('The file is not a baseline JPEG with one or three components.')
    height, width = struct.unpack_from('>HH', frame, 1)
    components = []
    for i in range(frame[5]):
        _, sampling, table = frame[6 + 3 * i : 9 + 3 * i]
        use = scan[2 + 2 * i]
        across, down = (1, 1) if frame[5] == 1 else (sampling >> 4, sampling & 15)
        components.append(
            Component(across, down, tables[table], codes[use >> 4], codes[16 + (use & 15)])
        )
    return Header(width, height, components, restart, start)


def _quantisation(content: bytes) -> Iterator[tuple[int, Array]]:
    while content:
        wide, name = content[0] >> 4, content[0] & 15
        size = 128 if wide else 64
        numbers = np.frombuffer(content[1 : 1 + size], '>u2' if wide else 'u1')
        yield name, numbers.astype(np.int64)
        content = content[1 + size :]


def _huffman(content: bytes) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """Tables from the next 16 bits to (length of the code, symbol)."""
    while content:
        counts = content[1:17]
        symbols = iter(content[17 : 17 + sum(counts)])
        table: list[tuple[int, int]] = []
        for length, count in enumerate(counts, 1):
            for _ in range(count):
                table += [(length, next(symbols))] * (1 << 16 - length)
        yield content[0], table + [(16, 0)] * (65536 - len(table))
        content = content[17 + sum(counts) :]


# ------------------------------------------------------------------------------- coefficients


def _read_blocks(data: bytes, header: Header) -> list[Array]:
    """(rows, columns, 64) quantised coefficients of every component, in the order of the file."""
    parts = header.components
    columns = -(-header.width // (8 * max(part.across for part in parts)))
    rows = -(-header.height // (8 * max(part.down for part in parts)))
    blocks = [np.zeros((rows * p.down, columns * p.across, 64), np.int64) for p in parts]
    units = iter(range(rows * columns))
    for piece in _pieces(data[header.start :]):
        bits, last = _Bits(piece), [0] * len(parts)
        for _, unit in zip(range(header.restart or rows * columns), units, strict=False):
            row, column = divmod(unit, columns)
            for i, part in enumerate(parts):
                for v in range(part.down):
                    for u in range(part.across):
                        block = bits.block(part, last[i])
                        last[i] = block[0]
                        blocks[i][row * part.down + v, column * part.across + u] = block
    if next(units, None) is not None:
        raise ValueError('The file ends before its last block.')
    return blocks


def _pieces(data: bytes) -> Iterator[bytes]:
    """The coded data between restart markers, without stuffed zeros."""
    position = begin = 0
    while True:
        position = data.index(b'\xff', position)
        marker = data[position + 1]
        if marker:
            yield data[begin:position].replace(b'\xff\x00', b'\xff')
            begin = position + 2
            if not 0xD0 <= marker <= 0xD7:
                return
        position += 2


class _Bits:
    """Reads Huffman codes and numbers from bytes."""

    def __init__(self, data: bytes) -> None:
        self.data, self.position, self.bits, self.count = data + bytes(16), 0, 0, 0

    def block(self, part: Component, last: int) -> list[int]:
        """64 coefficients; ``last`` is the mean of the block before."""
        found = [0] * 64
        place, table = 0, part.direct
        while place < 64:
            if self.count < 32:
                chunk = self.data[self.position : self.position + 8]
                self.position += 8
                self.bits = (self.bits & (1 << self.count) - 1) << 64
                self.bits |= int.from_bytes(chunk.ljust(8, b'\0'), 'big')
                self.count += 64
            length, symbol = table[self.bits >> self.count - 16 & 0xFFFF]
            self.count -= length
            size = symbol & 15
            if place:
                place += symbol >> 4
                if not size:
                    if symbol != 0xF0:
                        return found
                    place += 1
                    continue
            self.count -= size
            value = self.bits >> self.count & (1 << size) - 1
            if size and value < 1 << size - 1:
                value -= (1 << size) - 1
            found[place] = value if place else value + last
            place, table = place + 1, part.rest
        return found


# ------------------------------------------------------------------------------------- pixels


def _fixed(value: float) -> int:
    """A constant with 12 bits after the point."""
    return int(value * 4096 + 0.5)


def _cosines() -> Array:
    """(8, 8) integer matrix of the fast inverse cosine transform, scaled by 4096.

    Reference:
        Loeffler, Ligtenberg and Moschytz, *Practical fast 1-D DCT algorithms*, 1989, figure 1.
    """
    s = np.eye(8, dtype=np.int64)
    turn = (s[2] + s[6]) * _fixed(0.5411961)
    inner, outer = turn + s[6] * _fixed(-1.847759065), turn + s[2] * _fixed(0.765366865)
    total, gap = (s[0] + s[4]) * 4096, (s[0] - s[4]) * 4096
    even = total + outer, gap + inner, gap - inner, total - outer
    both = (s[1] + s[3] + s[5] + s[7]) * _fixed(1.175875602)
    a = both + (s[7] + s[1]) * _fixed(-0.899976223)
    b = both + (s[5] + s[3]) * _fixed(-2.562915447)
    c, d = (s[7] + s[3]) * _fixed(-1.961570560), (s[5] + s[1]) * _fixed(-0.390180644)
    odd = (
        s[1] * _fixed(1.501321110) + a + d,
        s[3] * _fixed(3.072711026) + b + c,
        s[5] * _fixed(2.053119869) + b + d,
        s[7] * _fixed(0.298631336) + a + c,
    )
    first = [e + o for e, o in zip(even, odd, strict=True)]
    return np.stack(first + [e - o for e, o in zip(even, odd, strict=True)][::-1])


COSINES = _cosines()


def _inverse_transform(blocks: Array, quantisation: Array) -> Array:
    """Blocks of coefficients to a plane of levels 0 to 255."""
    values = np.zeros_like(blocks)
    values[..., ZIGZAG] = blocks * quantisation
    values = values.reshape(*blocks.shape[:2], 8, 8)
    values = (np.einsum('ki,abij->abkj', COSINES, values) + 512) >> 10
    values = (np.einsum('kj,abij->abik', COSINES, values) + (128 << 17) + 65536) >> 17
    rows, columns = blocks.shape[:2]
    return values.clip(0, 255).transpose(0, 2, 1, 3).reshape(8 * rows, 8 * columns)


def _enlarge(plane: Array, across: int, down: int) -> Array:
    """A plane enlarged by whole factors; by 2 with weights 3/4 and 1/4, as darknet does."""
    if (across, down) == (1, 2):
        return (_doubled_rows(plane) + 2) >> 2
    if (across, down) == (2, 1):
        wide = (_doubled_rows(plane.T).T + 2) >> 2
        if plane.shape[1] > 1:
            wide[:, -2] = (3 * plane[:, -2] + plane[:, -1] + 2) >> 2  # darknet swaps the weights
        return wide
    if (across, down) == (2, 2):
        rows = _doubled_rows(plane)
        wide = (_doubled_rows(rows.T).T + 8) >> 4
        wide[:, [0, -1]] = (rows[:, [0, -1]] + 2) >> 2
        return wide
    return plane.repeat(down, 0).repeat(across, 1)


def _doubled_rows(plane: Array) -> Array:
    """Twice the rows: three times the own row and the nearer neighbour."""
    padded = np.concatenate((plane[:1], plane, plane[-1:]))
    return np.stack((3 * plane + padded[:-2], 3 * plane + padded[2:]), 1).reshape(
        2 * len(plane), -1
    )


def _to_bgr(y: Array, cb: Array, cr: Array) -> NDArray[np.uint8]:
    """BGR levels, in fixed point with 20 bits as darknet computes them."""
    y, cb, cr = (y << 20) + (1 << 19), cb - 128, cr - 128
    red = y + cr * (_fixed(1.402) << 8)
    green = y - cr * (_fixed(0.71414) << 8) + (-cb * (_fixed(0.34414) << 8) & ~0xFFFF)
    blue = y + cb * (_fixed(1.772) << 8)
    return (np.stack((blue, green, red), -1) >> 20).clip(0, 255).astype(np.uint8)
