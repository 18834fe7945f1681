"""Scaled-YOLOv4's PyTorch files: names, shared batch norms, pickled networks."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mmdet_losses.core.checkpoint import (
    CheckpointMismatch,
    assemble,
    convert,
    network_of,
    read_checkpoint,
)
from mmdet_losses.detectors.yolo.checkpoints import (
    read_scaled_yolov4,
    scaled_yolov4_map,
    split_scaled_yolov4,
)
from mmdet_losses.detectors.yolo.pickled_modules import read_pickled_module
from mmdet_losses.detectors.yolo.predictors import ScaledYOLOV4Predictor
from mmdet_losses.networks import DarknetCSP, ScaledYOLOV4Neck
from tools.parity.models import check_model, forward, recipe

GOLDEN = Path(__file__).parents[1] / 'golden' / 'models'


@pytest.mark.parametrize('arch', ['csp', 'p5'])
def test_outputs_equal_the_official_network(arch: str) -> None:
    rows = check_model(GOLDEN / f'scaled_yolov4_{arch}')
    assert rows and all(row.ok for row in rows), [row for row in rows if not row.ok]


def official(arch: str) -> dict[str, torch.Tensor]:
    keys = json.loads((GOLDEN / f'scaled_yolov4_{arch}' / 'keys.json').read_text())
    return {key: torch.empty(shape, device='meta') for key, shape in keys.items()}


def ours(arch: str) -> dict[str, torch.Tensor]:
    return network_of(recipe(f'scaled_yolov4/scaled_yolov4_{arch}_*-300e-*.py')).state_dict()


def test_anchor_buffers_are_left_out_with_a_reason() -> None:
    source = official('csp')
    source['model.31.anchors'] = torch.empty(3, 3, 2)
    source['model.31.anchor_grid'] = torch.empty(3, 1, 3, 1, 1, 2)
    result = convert(split_scaled_yolov4(source), ours('csp'), scaled_yolov4_map('csp', 3))
    reasons = {key for key, reason in result.ignored.items() if 'encoder' in reason}
    assert reasons == {'model.31.anchors', 'model.31.anchor_grid'}


def test_the_file_of_another_architecture_raises() -> None:
    with pytest.raises(CheckpointMismatch, match='missing'):
        convert(split_scaled_yolov4(official('csp')), ours('p5'), scaled_yolov4_map('p5', 3))


def test_a_shared_batch_norm_equals_one_for_each_branch() -> None:
    torch.manual_seed(0)
    shared = nn.BatchNorm2d(6).eval()
    for value in (*shared.parameters(), shared.running_mean, shared.running_var):
        nn.init.uniform_(value, 0.5, 1.5)
    names = {f'model.4.bn.{key}': value for key, value in shared.state_dict().items()}
    split = split_scaled_yolov4({**names, 'model.4.cv2.weight': torch.ones(3, 3, 1, 1)})
    halves = []
    for branch in ('deep', 'cross'):
        norm = nn.BatchNorm2d(3).eval()
        prefix = f'model.4.bn.{branch}.'
        state = {k.removeprefix(prefix): v for k, v in split.items() if k.startswith(prefix)}
        norm.load_state_dict({**norm.state_dict(), **state})
        halves.append(norm)
    deep, cross = torch.randn(2, 1, 3, 4, 4).unbind()
    expected = shared(torch.cat([deep, cross], dim=1))
    assert torch.equal(torch.cat([halves[0](deep), halves[1](cross)], dim=1), expected)


# ------------------------------------------------- the official layout, written the obvious way


class Conv(nn.Module):
    def __init__(self, c1: int, c2: int, k: int = 1, s: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, k // 2, bias=False)
        self.bn = nn.BatchNorm2d(c2, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.mish(self.bn(self.conv(x)))


class Pair(nn.Module):
    def __init__(self, c: int, hidden: int, add: bool) -> None:
        super().__init__()
        self.cv1, self.cv2, self.add = Conv(c, hidden), Conv(hidden, c, 3), add

    def forward(self, x: Tensor) -> Tensor:
        return x + self.cv2(self.cv1(x)) if self.add else self.cv2(self.cv1(x))


class SharedNorm(nn.Module):
    def join(self, deep: Tensor, cross: Tensor) -> Tensor:
        return nn.functional.mish(self.bn(torch.cat([deep, cross], 1)))


class Stage(SharedNorm):
    def __init__(self, c: int, n: int) -> None:
        super().__init__()
        h = c // 2
        self.cv1, self.cv4 = Conv(c, h), Conv(2 * h, c)
        self.cv2, self.cv3 = (nn.Conv2d(k, h, 1, bias=False) for k in (c, h))
        self.bn = nn.BatchNorm2d(2 * h, eps=1e-3)
        self.m = nn.Sequential(*(Pair(h, h, True) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        return self.cv4(self.join(self.cv3(self.m(self.cv1(x))), self.cv2(x)))


class Block(SharedNorm):
    def __init__(self, c1: int, c: int, n: int) -> None:
        super().__init__()
        self.cv1, self.cv3 = Conv(c1, c), Conv(2 * c, c)
        self.cv2 = nn.Conv2d(c, c, 1, bias=False)
        self.bn = nn.BatchNorm2d(2 * c, eps=1e-3)
        self.m = nn.Sequential(*(Pair(c, c, False) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.cv1(x)
        return self.cv3(self.join(self.m(x), self.cv2(x)))


class Pyramid(SharedNorm):
    def __init__(self, c1: int, c: int) -> None:
        super().__init__()
        self.cv1, self.cv3, self.cv4 = Conv(c1, c), Conv(c, c, 3), Conv(c, c)
        self.cv2 = nn.Conv2d(c1, c, 1, bias=False)
        self.cv5, self.cv6, self.cv7 = Conv(4 * c, c), Conv(c, c, 3), Conv(2 * c, c)
        self.bn = nn.BatchNorm2d(2 * c, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv4(self.cv3(self.cv1(x)))
        pools = [nn.functional.max_pool2d(y, k, 1, k // 2) for k in (5, 9, 13)]
        return self.cv7(self.join(self.cv6(self.cv5(torch.cat([y, *pools], 1))), self.cv2(x)))


class Detect(nn.Module):
    def __init__(self, channels: list[int], out: int) -> None:
        super().__init__()
        self.m = nn.ModuleList(nn.Conv2d(c, out, 1) for c in channels)


class Layout(nn.Module):
    """Numbered as the yaml: None stands for modules without parameters."""

    def __init__(self, maps: list[int], blocks: list[int], outs: list[int], fuse: int) -> None:
        super().__init__()
        levels = len(outs)
        net: list[nn.Module | None] = [Conv(3, maps[0], 3)]
        for i, n in enumerate(blocks):
            net += [Conv(maps[i], maps[i + 1], 3, 2), Stage(maps[i + 1], n)]
        net.append(Pyramid(maps[-1], outs[-1]))
        for i in reversed(range(levels - 1)):
            lateral = Conv(maps[3 + i], outs[i])
            net += [
                Conv(outs[i + 1], outs[i]),
                None,
                lateral,
                None,
                Block(2 * outs[i], outs[i], fuse),
            ]
        net.append(Conv(outs[0], 2 * outs[0], 3))
        for i in range(1, levels):
            block = Block(2 * outs[i], outs[i], fuse)
            net += [Conv(outs[i - 1], outs[i], 3, 2), None, block, Conv(outs[i], 2 * outs[i], 3)]
        net.append(Detect([2 * c for c in outs], 7))
        self.stages, self.levels = len(blocks), levels
        self.model = nn.ModuleList(nn.Identity() if m is None else m for m in net)

    def forward(self, x: Tensor) -> list[Tensor]:
        net = list(self.model)
        x, maps = net.pop(0)(x), []
        for _ in range(self.stages):
            x = net.pop(0)(x)
            x = net.pop(0)(x)
            maps.append(x)
        down = [net.pop(0)(x)]
        for fine in reversed(maps[2:-1]):
            reduce, _, lateral, _, block = (net.pop(0) for _ in range(5))
            large = nn.functional.interpolate(reduce(down[-1]), scale_factor=2)
            down.append(block(torch.cat([lateral(fine), large], 1)))
        x, heads = down.pop(), []
        heads.append(net.pop(0)(x))
        while down:
            shrink, _, block, head = (net.pop(0) for _ in range(4))
            x = block(torch.cat([shrink(x), down.pop()], 1))
            heads.append(head(x))
        return [m(h) for m, h in zip(net.pop(0).m, heads, strict=True)]


SMALL = {
    'p5': ([8, 8, 16, 32, 64, 128], [16, 32, 64]),
    'p6': ([8, 8, 16, 32, 64, 128, 128], [16, 32, 64, 64]),
    'p7': ([8, 16, 24, 40, 80, 160, 160, 160], [24, 40, 80, 80, 80]),
}


@pytest.mark.parametrize('arch', sorted(SMALL))
def test_larger_networks_follow_the_layout(arch: str) -> None:
    torch.manual_seed(0)
    maps, outs = SMALL[arch]
    theirs = Layout(maps, [1, 1, 2, 2, 1, 1, 1][: len(maps) - 1], outs, 3).eval()
    for name, value in theirs.state_dict().items():
        if name.rpartition('.')[0].endswith('bn') and value.dim():
            nn.init.uniform_(value, 0.5, 1.5)
    norm = dict(type='BN', eps=1e-3)
    ours = assemble(
        DarknetCSP(arch, 0.1, 0.125, range(3, len(maps)), norm),
        ScaledYOLOV4Predictor(2, outs, 1, norm_cfg=norm),
        ScaledYOLOV4Neck(maps[3:], outs, blocks=3, renorm=True, norm_cfg=norm),
    ).eval()
    source = split_scaled_yolov4(theirs.state_dict())
    ours.load_state_dict(
        convert(source, ours.state_dict(), scaled_yolov4_map(arch, len(outs))).state_dict
    )
    image = torch.randn(2, 3, 256, 128)
    with torch.no_grad():
        for expected, got in zip(theirs(image), forward(ours, image).levels, strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------------------- pickled networks


def pickled(path: Path, content: object, legacy: bool = False) -> Path:
    """Save objects of a module that does not exist when the file is read."""
    module = ModuleType('models.vanished')
    sys.modules.update({'models': ModuleType('models'), 'models.vanished': module})
    try:
        for kind in (Conv, Pair, Detect):
            kind.__module__ = 'models.vanished'
            setattr(module, kind.__name__, kind)
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    finally:
        del sys.modules['models.vanished'], sys.modules['models']
        for kind in (Conv, Pair, Detect):
            kind.__module__ = __name__
    return path


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('legacy', [False, True])
def test_a_pickled_network_gives_its_tensors_without_its_code(legacy: bool, tmp_path: Path) -> None:
    network = nn.Sequential(Conv(3, 4, 3), Pair(4, 4, True)).half()
    content = dict(epoch=-1, best_fitness=np.float64(0.5), model=network, optimizer=None)
    path = pickled(tmp_path / 'yolov4.pt', content, legacy)
    with pytest.raises(ValueError, match='does not load as plain tensors'):
        read_checkpoint(path)
    state = read_pickled_module(path)
    expected = network.state_dict()
    assert list(state) == list(expected)
    assert all(torch.equal(state[key], value) for key, value in expected.items())
    assert read_scaled_yolov4(path)['0.conv.weight'].dtype == torch.float32


class Touch:
    """Pickles as a call that creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple:
        return open, (self.path, 'w')


def test_nothing_of_the_file_is_executed(tmp_path: Path) -> None:
    content = dict(model=nn.Linear(2, 2), extra=Touch(tmp_path / 'executed'))
    torch.save(content, tmp_path / 'x.pt')
    with pytest.raises(ValueError, match='open is in the file, which is not allowed'):
        read_pickled_module(tmp_path / 'x.pt')
    assert not (tmp_path / 'executed').exists()


class Script(nn.Module):
    """A module whose code would run when torch loads its TorchScript archive."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1


@pytest.mark.filterwarnings('ignore')
def test_a_torchscript_archive_raises_before_it_is_loaded(tmp_path: Path, monkeypatch) -> None:
    torch.jit.script(Script()).save(tmp_path / 'x.pt')
    monkeypatch.setattr(torch.jit, 'load', lambda *_, **__: pytest.fail('the archive was loaded'))
    with pytest.raises(ValueError, match='is a TorchScript archive, and loading it would run'):
        read_pickled_module(tmp_path / 'x.pt')


def test_files_without_a_network_raise(tmp_path: Path) -> None:
    torch.save(dict(epoch=1), tmp_path / 'x.pt')
    with pytest.raises(ValueError, match="no network under 'model'"):
        read_pickled_module(tmp_path / 'x.pt')
    (tmp_path / 'y.pt').write_bytes(b'no checkpoint at all')
    with pytest.raises(ValueError, match='does not load'):
        read_scaled_yolov4(tmp_path / 'y.pt')
    with pytest.raises(FileNotFoundError):
        read_scaled_yolov4(tmp_path / 'z.pt')
