"""Compare the time of our losses and encoders with MMDetection's.

Everything runs on one thread. The two sides of a ratio take turns, so that other load on the
machine affects both. Times are medians with the distance of the quartiles.

`--only launches` counts kernel launches, bytes and synchronisations without a GPU. `--device cuda`
measures on a GPU, and `--device cuda --smoke` compares it with the CPU.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import warnings
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import mmdet_losses  # noqa: F401

# isort: split
from mmdet.utils import register_all_modules

from tools.benchmarks import device, grids, heatmaps, inference, launch_table
from tools.benchmarks.memory import MEMORY_BAR, memory_table
from tools.benchmarks.timing import Line, show

SECTIONS = (
    'limits',
    'focal',
    'memory',
    'encode',
    'head',
    'anchors',
    'iou',
    'inference',
    'growth',
    'launches',
)


def lines_of(section: str, repeats: int, compiled: bool) -> list[Line]:
    """Measure one section."""
    if section == 'limits':
        return heatmaps.limit_lines(repeats)
    if section == 'focal':
        return heatmaps.focal_lines(repeats, compiled)
    if section == 'encode':
        return heatmaps.encode_lines(repeats)
    if section == 'head':
        return heatmaps.head_lines(repeats)
    if section == 'anchors':
        return grids.anchor_lines(repeats)
    if section == 'iou':
        return grids.iou_lines(repeats)
    if section == 'inference':
        return inference.inference_lines(repeats)
    return heatmaps.growth_lines(repeats) + grids.growth_lines(repeats)


def compared_with_limits(lines: list[Line]) -> list[str]:
    """Time of the focal loss as a multiple of the measured limits of the machine."""
    times = {line.what: line.ours for line in lines}
    limits = [what for what in times if what.startswith('limit: ')]
    return [
        f'{what}, forward and backward, takes {times[what] / times[limit]:.1f} times the '
        f'{limit.replace(": ", " (")})'
        for what in times
        if what in ('focal', 'focal, compile')
        for limit in limits
    ]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('--only', default=','.join(SECTIONS), help=f'sections: {SECTIONS}')
    parser.add_argument('--repeats', type=int, default=15, help='measurements per function')
    parser.add_argument('--no-compile', action='store_true', help='skip torch.compile')
    parser.add_argument('--device', help='cuda or cpu: measure the steps of all detectors there')
    parser.add_argument(
        '--smoke', action='store_true', help='with --device: compare it with the CPU instead'
    )
    parser.add_argument(
        '--detectors', default=','.join(launch_table.CASES), help='for launches and --device'
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the numbers to FILE')
    return parser.parse_args(argv)


def on_device(args: argparse.Namespace, stems: list[str]) -> int:
    """Measure on a device, or compare it with the CPU; returns the exit code."""
    if args.device != 'cpu':
        print(torch.cuda.get_device_name(args.device))
    if args.smoke:
        lines = device.smoke(args.device, stems)
    else:
        lines = device.device_lines(args.device, args.repeats, stems, not args.no_compile)
    print('\n'.join(lines))
    return int(any(line.startswith('FAILED') for line in lines))


def main(argv: list[str] | None = None) -> int:
    """Measure the chosen sections; returns the exit code."""
    args = parse_args(argv)
    sections = args.only.split(',')
    unknown = sorted(set(sections) - set(SECTIONS))
    if unknown:
        print(f'--only {unknown[0]!r} is unknown; choose from {", ".join(SECTIONS)}.')
        return 2
    stems = args.detectors.split(',')
    unknown = sorted(set(stems) - set(launch_table.CASES))
    if unknown:
        known = ', '.join(launch_table.CASES)
        print(f'--detectors {unknown[0]!r} is unknown; choose from {known}.')
        return 2
    if args.device and args.device.startswith('cuda') and not torch.cuda.is_available():
        print(f'--device {args.device} needs a GPU, and PyTorch has none; use --device cpu.')
        return 2
    warnings.filterwarnings('ignore')
    torch.set_num_threads(1)
    register_all_modules(init_default_scope=True)
    print(f'torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}')
    if args.device:
        return on_device(args, stems)
    print(f'{"what":30} {"setting":38} {"ours, ms":18} {"MMDetection, ms":18} {"ratio":8}')
    lines: list[Line] = []
    memory: list[dict] = []
    for section in sections:
        if section == 'launches':
            print(launch_table.table(launch_table.launch_rows(args.repeats, stems)))
            continue
        if section == 'memory':
            memory = memory_table()
            for row in memory:
                verdict = 'ok' if row['peak_maps'] <= MEMORY_BAR else 'MISSED'
                bar = f'bar {MEMORY_BAR:g} {verdict}' if row['what'] == 'ours, sparse' else ''
                print(
                    'memory, {what:22} kept for backward {kept_maps:5.2f} maps, peak above the '
                    'logits {peak_maps:5.2f}, target {target_maps:.0f}  {bar}'.format(
                        **row, bar=bar
                    )
                )
            continue
        for line in lines_of(section, args.repeats, not args.no_compile):
            show(line)
            lines.append(line)
    for text in compared_with_limits(lines):
        print(text)
    if args.json:
        numbers = {'lines': [line._asdict() for line in lines], 'memory': memory}
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(numbers, indent=1))
    return 0


if __name__ == '__main__':
    sys.exit(main())
