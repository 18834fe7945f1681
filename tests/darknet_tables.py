"""Tables of layers of the official cfgs that this package also has as written networks.

The numbers that their files store are compared with those of the official program.
"""

from __future__ import annotations

from typing import Any

from mmdet_losses.networks.darknet_layers import scale_channels


class Table:
    """Rows of a ``DarknetFromCfg``; methods append layers and return the number of the last one."""

    def __init__(self, width: float = 1.0, activation: str = 'leaky') -> None:
        self.rows: list[dict[str, Any]] = []
        self.width, self.activation = width, activation

    def add(self, kind: str, **options: Any) -> int:
        self.rows.append(dict(type=kind, **options))
        return len(self.rows) - 1

    def conv(self, filters: int, size: int = 1, stride: int = 1) -> int:
        filters = scale_channels(filters, self.width)
        options = dict(stride=stride, batch_normalize=True, activation=self.activation)
        return self.add('convolutional', filters=filters, size=size, **options)

    def convs(self, *rows: tuple[int, int]) -> int:
        return [self.conv(*row) for row in rows][-1]

    def route(self, *layers: int) -> int:
        return self.add('route', layers=list(layers))

    def residual(self, hidden: int, out: int) -> int:
        start = len(self.rows) - 1
        self.convs((hidden, 1), (out, 3))
        return self.add('shortcut', layers=[start], activation='linear')

    def pool(self, size: int, stride: int = 1) -> int:
        return self.add('maxpool', size=size, stride=stride, padding=size - 1)

    def pyramid(self) -> int:
        start = len(self.rows) - 1
        pools = [self.pool(5)]
        for size in (9, 13):
            self.route(start)
            pools.append(self.pool(size))
        return self.route(*pools[::-1], start)

    def head(self, filters: int, kind: str = 'yolo') -> int:
        self.add('convolutional', filters=filters, size=1, activation='linear')
        return self.add(kind)


def yolov2(width: float = 1.0, filters: int = 125) -> list[dict[str, Any]]:
    """yolov2-voc.cfg."""
    table = Table(width)
    stages = ((32,), (64,), (128, 64, 128), (256, 128, 256), (512, 256, 512, 256, 512))
    for stage in stages:
        for number, channels in enumerate(stage):
            last = table.conv(channels, 1 if number % 2 else 3)
        passed = last
        table.pool(2, 2)
    for number, channels in enumerate((1024, 512, 1024, 512, 1024)):
        table.conv(channels, 1 if number % 2 else 3)
    deep = table.convs((1024, 3), (1024, 3))
    table.route(passed)
    table.conv(64)
    folded = table.add('reorg', stride=2)
    table.route(folded, deep)
    table.conv(1024, 3)
    table.head(filters, 'region')
    return table.rows


def yolov3(filters: int = 255) -> list[dict[str, Any]]:
    """yolov3.cfg."""
    table = Table()
    table.conv(32, 3)
    passed = []
    for channels, blocks in ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4)):
        table.conv(channels, 3, 2)
        passed.append([table.residual(channels // 2, channels) for _ in range(blocks)][-1])
    last = passed[-1]
    for level, channels in enumerate((512, 256, 128)):
        if level:
            table.route(last)
            table.conv(channels)
            upsampled = table.add('upsample', stride=2)
            table.route(upsampled, passed[4 - level])
        last = table.convs(*((channels, 1), (2 * channels, 3)) * 2, (channels, 1))
        table.conv(2 * channels, 3)
        table.head(filters)
    return table.rows


def yolov4(arch: str = 'v4', width: float = 1.0, filters: int = 255) -> list[dict[str, Any]]:
    """yolov4.cfg, yolov4-csp.cfg and yolov4x-mish.cfg."""
    table = Table(width, 'mish')
    channels = (80, 160, 320, 640, 1280) if arch == 'x' else (64, 128, 256, 512, 1024)
    blocks = (1, 3, 10, 10, 5) if arch == 'x' else (1, 2, 8, 8, 4)
    table.conv(32, 3)
    passed = []
    for stage, (size, count) in enumerate(zip(channels, blocks, strict=True)):
        down = table.conv(size, 3, 2)
        if stage == 0 and arch != 'v4':
            passed.append(table.residual(size // 2, size))
            continue
        branch = size if stage == 0 else size // 2
        cross = table.conv(branch)
        table.route(down)
        table.conv(branch)
        for _ in range(count):
            table.residual(size // 2, branch)
        main = table.conv(branch)
        table.route(main, cross)
        passed.append(table.conv(size))
    if arch == 'v4':
        table.activation = 'leaky'
    _neck(table, arch, passed, [size // 2 for size in channels[2:]], filters)
    return table.rows


def _neck(table: Table, arch: str, passed: list[int], sizes: list[int], filters: int) -> None:
    """Paths and heads of the YOLOv4 networks; ``sizes`` are the channels of the maps."""
    small, middle, large = sizes
    top = len(table.rows) - 1
    if arch == 'v4':
        table.convs((large, 1), (2 * large, 3), (large, 1))
        table.pyramid()
        coarse = table.convs((large, 1), (2 * large, 3), (large, 1))
    else:
        cross = table.conv(large)
        table.route(top)
        table.convs((large, 1), (large, 3), (large, 1))
        table.pyramid()
        deep = table.convs(*((large, 1), (large, 3)) * (2 if arch == 'x' else 1))
        table.route(deep, cross)
        coarse = table.conv(large)
    maps = [coarse]
    for size, source in ((middle, passed[3]), (small, passed[2])):
        table.conv(size)
        upsampled = table.add('upsample', stride=2)
        table.route(source)
        lateral = table.conv(size)
        table.route(lateral, upsampled)
        maps.append(_fuse(table, arch, size))
    last = maps[-1]
    for size, before in ((small, None), (middle, maps[1]), (large, maps[0])):
        if before is not None:
            table.route(last)
            down = table.conv(size, 3, 2)
            table.route(down, before)
            last = _fuse(table, arch, size)
        table.conv(2 * size, 3)
        table.head(filters)


def _fuse(table: Table, arch: str, size: int) -> int:
    if arch == 'v4':
        return table.convs(*((size, 1), (2 * size, 3)) * 2, (size, 1))
    start = table.conv(size)
    cross = table.conv(size)
    table.route(start)
    deep = table.convs(*((size, 1), (size, 3)) * (3 if arch == 'x' else 2))
    table.route(deep, cross)
    return table.conv(size)
