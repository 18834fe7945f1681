"""Triton kernels without a GPU: in Triton's interpreter, and compiled ahead of time."""

import functools
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mmdet_losses.losses import (
    center_track_focal_loss,
    penalty_reduced_focal_loss,
    sigmoid_focal_loss,
)
from mmdet_losses.networks.corner_pool import running_max
from mmdet_losses.ops import (
    BoxRule,
    Splats,
    box_similarity,
    darknet_iou_direction,
    find_peaks,
    outside_windows,
    splat_gaussians,
    usable_objects,
    window_radii,
)
from mmdet_losses.ops.kernels import gpu, region_cells
from mmdet_losses.ops.kernels.launch import Launch, bytes_of, intercept_launches
from tests.processes import ROOT, run_command

triton = pytest.importorskip('triton')

TYPES = {
    torch.float32: 'fp32',
    torch.float16: 'fp16',
    torch.bfloat16: 'bf16',
    torch.float64: 'fp64',
    torch.int64: 'i64',
    torch.int32: 'i32',
    torch.bool: 'i1',
}

ATOMIC = r'^\s*(?:@!?%\w+\s+)?(?:atom|red)\.'
"""An atomic operation in PTX."""


def test_atomic_operations_are_found():
    lines = '  @%p1 atom.global.add.f32 %f1, [%rd1], %f2;\n\tred.global.add.f32 [%rd1], %f2;\n'
    assert len(re.findall(ATOMIC, lines + '  ld.global.f32 %f1;', re.MULTILINE)) == 2


def test_kernels_equal_the_eager_path_in_the_interpreter() -> None:
    files = sorted(Path(__file__).parent.glob('interpreted_*.py'))
    assert len(files) == 3
    done = run_command(
        [sys.executable, '-m', 'pytest', '-q', '-n0', '-p', 'no:cacheprovider', *files],
        cwd=ROOT,
        env={'TRITON_INTERPRET': '1'},
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert ' passed' in done.stdout and 'skipped' not in done.stdout


def launches_of(function: Callable[[], object]) -> list[Launch]:
    """The launches of a function on the path of a GPU; no kernel runs, all outputs are 0."""
    calls: list[Launch] = []

    def run(call: Launch) -> None:
        for output in call.outputs:
            output.zero_()
        calls.append(call)

    with intercept_launches(run):
        function()
    return calls


def argument_type(value: object) -> str:
    """Type in the signature of a kernel; 1 and None are constants, as in triton's launcher."""
    if isinstance(value, Tensor):
        return '*' + TYPES[value.dtype]
    if value is None or (isinstance(value, int) and value == 1):
        return 'constexpr'
    return 'i32' if isinstance(value, int) else 'fp32'


def compile_launch(call: Launch, arch: int, folder: Path) -> dict[str, int]:
    """Registers, stack, shared memory and atomic operations of a launch on an architecture."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = ('num_warps', 'enable_fp_fusion')
    options = {key: value for key, value in call.constants.items() if key in names}
    values = dict(zip(call.kernel.arg_names, call.args, strict=False))
    signature = {name: argument_type(value) for name, value in values.items()}
    constants = {name: values[name] for name, kind in signature.items() if kind == 'constexpr'}
    constants |= {name: call.constants[name] for name in call.kernel.arg_names[len(call.args) :]}
    signature |= dict.fromkeys(constants, 'constexpr')
    aligned = [['tt.divisibility', 16]]
    attributes = {
        (place,): aligned
        for place, value in enumerate(call.args)
        if isinstance(value, Tensor) or (isinstance(value, int) and value > 1 and value % 16 == 0)
    }
    source = ASTSource(call.kernel, signature, constants, attributes)
    binary = triton.compile(source, target=GPUTarget('cuda', arch, 32), options=options)
    cubin = folder / 'kernel.cubin'
    cubin.write_bytes(binary.asm['cubin'])
    command = [triton.knobs.nvidia.cuobjdump.path, '--dump-resource-usage', str(cubin)]
    usage = run_command(command).stdout
    used = {key: int(number) for key, number in re.findall(r'(REG|STACK|LOCAL):(\d+)', usage)}
    atomics = len(re.findall(ATOMIC, binary.asm['ptx'], re.MULTILINE))
    return {**used, 'SHARED': binary.metadata.shared, 'ATOMICS': atomics}


def logits_of(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.zeros(shape, dtype=dtype, requires_grad=True)


def listed_splats() -> Splats:
    shape, entries = (4, 80, 128, 128), 4 * 15 * 17 * 17
    return Splats(torch.zeros(entries, dtype=torch.int64), torch.zeros(entries), shape)


def heatmap_step(dtype: torch.dtype, **options: object) -> None:
    weight = torch.ones(4, 1, 128, 128, dtype=torch.bool) if options.pop('weighted', 0) else None
    pred = logits_of(4, 80, 128, 128, dtype=dtype)
    penalty_reduced_focal_loss(pred, listed_splats(), weight, **options).backward()


def track_step() -> None:
    index, mask = torch.zeros(4, 128, dtype=torch.int64), torch.ones(4, 128, dtype=torch.bool)
    pred, target = logits_of(4, 80, 128, 128), listed_splats()
    center_track_focal_loss(pred, target, index, index, mask).backward()


def class_step(dtype: torch.dtype) -> None:
    labels, counted = torch.zeros(2, 2000, dtype=torch.int64), torch.ones(2, 2000)
    logits = logits_of(2, 2000, 80, dtype=dtype)
    sigmoid_focal_loss(logits, labels, counted, avg_factor=torch.tensor(3.0)).backward()


def box_step(mode: str) -> None:
    box_similarity(logits_of(2000, 4), torch.zeros(2000, 4), mode).sum().backward()
    darknet_iou_direction(torch.zeros(2000, 4), torch.zeros(2000, 4), mode)


def pool_step(dtype: torch.dtype) -> None:
    x = logits_of(2, 128, 128, 128, dtype=dtype)
    running_max(x, 2, reverse=True).sum().backward()


def splat_step(size: tuple[int, int, int]) -> None:
    xy, mask = torch.zeros(4, 15, 2, dtype=torch.int64), torch.ones(4, 15, dtype=torch.bool)
    radius, labels = torch.zeros(4, 15, dtype=torch.float64), torch.zeros(4, 15, dtype=torch.int64)
    splat_gaussians(xy, radius, radius + 1, labels, mask, size, 17)
    outside_windows(xy, radius, radius + 1, labels, mask, size, 17)


def object_step() -> None:
    boxes, labels = torch.zeros(4, 15, 4), torch.zeros(4, 15, dtype=torch.int64)
    mask = torch.ones(4, 15, dtype=torch.bool)
    for region, fill in (('clip', None), ('center', None), ('overlap', (-2.0, -1.0))):
        rule = BoxRule((127, 127), (50, 50), region, (0.25, 0.25), fill)
        usable_objects(boxes, labels, mask, 80, rule)
    window_radii(boxes[..., 2:], 0.7, 'legacy')
    for classes in (None, 80):
        region_cells(boxes, labels, mask, (128, 128), (0.25, 0.25), classes)


def peak_step() -> None:
    find_peaks(torch.zeros(4, 80, 128, 128), 100)


STEPS: list[Callable[[], None]] = [
    functools.partial(heatmap_step, torch.float32),
    functools.partial(heatmap_step, torch.bfloat16, weighted=True, clamp=1e-4, alpha=1.5),
    functools.partial(class_step, torch.float32),
    functools.partial(class_step, torch.float16),
    track_step,
    functools.partial(box_step, 'giou'),
    functools.partial(box_step, 'ciou'),
    functools.partial(pool_step, torch.float16),
    functools.partial(splat_step, (80, 128, 128)),
    functools.partial(splat_step, (1, 128, 128)),
    object_step,
    peak_step,
]


def all_kernels() -> set[str]:
    """Names of the Triton kernels of the package; other Triton functions are called by them."""
    folder = Path(gpu.__file__).parent
    sources = ''.join(path.read_text() for path in folder.glob('*.py'))
    return set(re.findall(r'^def (\w+_kernel)\(', sources, re.MULTILINE))


@pytest.mark.parametrize('arch', [80, 90])
def test_kernels_compile_without_spills(
    arch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('TRITON_CACHE_DIR', str(tmp_path / 'cache'))
    variants: dict[str, Launch] = {}
    for step in STEPS:
        for call in launches_of(step):
            variant = call.constants.get('KIND', call.constants.get('MODE', ''))
            variants[f'{call.name} {call.args[0].dtype} {variant}'] = call
    assert {name.partition(' ')[0] for name in variants} == all_kernels()
    for name, call in variants.items():
        used = compile_launch(call, arch, tmp_path)
        print(f'sm_{arch} {name}: {used["REG"]} registers, {used["SHARED"]} B shared memory')
        assert used['STACK'] == used['LOCAL'] == 0, f'{name} spills registers: {used}'
        assert not used['ATOMICS'], f'the sums of {name} depend on the order of its programs'
        assert used['REG'] <= 128 and used['SHARED'] <= 48 << 10


def test_heatmap_focal_moves_two_maps_in_four_launches() -> None:
    calls = launches_of(STEPS[0])
    one_map = bytes_of(torch.empty(4, 80, 128, 128))
    assert len(calls) == 4
    assert sum(call.moved for call in calls) <= 2.1 * one_map
