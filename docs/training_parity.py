"""Writes docs/training_parity.md: each full recipe beside the official training, column by column.

    python docs/training_parity.py            # writes the page
    python docs/training_parity.py --check    # exits with 1 if the page is not up to date

The values of a recipe are read from its config. The official ones are in ``training_official.py``.
"""

from __future__ import annotations

import argparse
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'docs')]

from mmengine.config import Config
from training_official import COLUMNS, INTRODUCTION, OFFICIAL, STATED, Training

from tools.datasets.small_configs import full_recipes

PAGE = ROOT / 'docs' / 'training_parity.md'


def official_of(path: Path) -> Training | None:
    """The official training of a recipe: the first pattern that its path matches."""
    name = str(path.relative_to(ROOT / 'configs'))
    return next((each for pattern, each in OFFICIAL.items() if fnmatch(name, pattern)), None)


def number(value: float) -> str:
    """A number as the table shows it: 450,000 or 0.00025."""
    return f'{value:,}' if float(value).is_integer() and value >= 1 else f'{value:g}'


def optimizer_of(cfg: Config) -> str:
    """Type, rate, momentum, decay and clipping."""
    wrapper = cfg.optim_wrapper
    optimizer = wrapper.optimizer
    parts = [f'{optimizer.type.removeprefix("Caffe")} {number(optimizer.lr)}']
    if optimizer.get('momentum'):
        name = 'Nesterov momentum' if optimizer.get('nesterov') else 'momentum'
        inside = ' that contains the rate' if optimizer.type == 'CaffeSGD' else ''
        parts.append(f'{name} {number(optimizer.momentum)}{inside}')
    if decay := optimizer.get('weight_decay', 0):
        kernels = wrapper.get('constructor') or wrapper.get('paramwise_cfg')
        parts.append(f'decay {number(decay)} of {"kernels" if kernels else "everything"}')
    if factor := (wrapper.get('paramwise_cfg') or {}).get('bias_lr_mult'):
        parts.append(f'rate of biases x {number(factor)}')
    if wrapper.get('clip_grad'):
        parts.append(f'clipped to {number(wrapper.clip_grad.max_norm)}')
    return ', '.join(parts)


def schedule_of(cfg: Config) -> str:
    """Length, warm-up and drops."""
    loop = cfg.train_cfg
    unit = 'epochs' if 'max_epochs' in loop else 'updates'
    parts = [f'{number(loop.get("max_epochs") or loop.max_iters)} {unit}']
    parts += [_SCHEDULERS[each.type](each) for each in cfg.get('param_scheduler') or []]
    for hook in cfg.get('custom_hooks') or []:
        if hook['type'] == 'ScaledYOLOV4ScheduleHook':
            parts.append(
                f'warm-up of {hook["warmup_epochs"]} epochs (biases from '
                f'{hook["warmup_bias_lr"]}, momentum from {hook["warmup_momentum"]}), cosine to '
                f'{hook["final_fraction"]}'
            )
    return ', '.join(parts)


def _drops(scheduler: dict) -> str:
    moments = ', '.join(number(each) for each in scheduler['milestones'])
    return f'x {scheduler["gamma"]} after {moments}'


def _darknet(scheduler: dict) -> str:
    drops = ', '.join(
        f'x {scale} at {number(step)}'
        for step, scale in zip(scheduler['steps'], scheduler['scales'], strict=True)
    )
    burn_in = scheduler.get('burn_in')
    return f'burn-in {number(burn_in)} (power 4), {drops}' if burn_in else drops


_SCHEDULERS = {
    'MultiStepLR': _drops,
    'LinearLR': lambda each: f'linear warm-up of {number(each["end"])} updates',
    'DarknetLR': _darknet,
}


def average_of(cfg: Config) -> str:
    """The average of the weights."""
    for hook in cfg.get('custom_hooks') or []:
        if hook['type'] == 'UpdateEMAHook':
            return '0.9999 (1 - exp(-u / 2000)) per update u, statistics included'
        if hook['type'] == 'DarknetEMAHook':
            return f'{hook["alpha"]} from half of training, applied 1,000 updates before the end'
        if hook['type'] == 'EMAHook':
            return f'EMA {1 - hook["momentum"]:g}'
    return 'none'


def batch_of(cfg: Config, path: Path) -> str:
    """Images per update and per batch norm."""
    per_gpu = cfg.train_dataloader.batch_size
    gpus = next((int(part[0]) for part in path.stem.split('_') if part[1:3] == 'xb'), 1)
    together = ', synchronised' if cfg.get('sync_bn') else ''
    return f'{gpus * per_gpu} = {gpus} x {per_gpu}{together}'


def start_of(cfg: Config) -> str:
    """Weights that training starts from."""
    if cfg.get('load_from'):
        return f'`{Path(cfg.load_from).name}`'
    init = cfg.model.backbone.get('init_cfg') or {}
    checkpoint = init.get('checkpoint') if isinstance(init, dict) else None
    return f'`{checkpoint.rpartition("/")[2]}`' if checkpoint else 'random'


def test_of(cfg: Config) -> str:
    """Score threshold, NMS and number of boxes."""
    test = cfg.model.test_cfg
    parts = [f'score {test.get("score_thr", 0):g}']
    if nms := test.get('nms'):
        kind = nms.type + (f' {nms.kind}' if 'kind' in nms else '')
        parts.append(f'{kind} {nms.get("iou_threshold", nms.get("sigma"))}')
    parts.append(f'{test.get("max_per_img", (test.get("nms") or {}).get("max_num", "all"))} boxes')
    return ', '.join(parts) + (', flip test' if cfg.model.get('flip_test') else '')


def cell(ours: str, official: str | None, reason: str = '') -> str:
    """'equal', or both values and why."""
    if official is None:
        return f'{ours}; official: not published'
    if official == ours:
        return 'equal'
    return f'**{ours}**; official: {official}' + (f' ({reason})' if reason else '')


def row(path: Path) -> list[str]:
    """The cells of a recipe.

    Raises:
        SystemExit: no official training is given for the recipe.
    """
    cfg, official = Config.fromfile(path), official_of(path)
    if official is None:
        raise SystemExit(f'{path} has no entry in docs/training_official.py; add its pattern.')
    ours: dict[str, Any] = dict(
        optimizer=optimizer_of(cfg),
        schedule=schedule_of(cfg),
        average=average_of(cfg),
        batch=batch_of(cfg, path),
        start=start_of(cfg),
        test=test_of(cfg),
    )
    name = path.relative_to(ROOT / 'configs')
    cells = [f'[{path.stem}](../configs/{name})']
    for column in COLUMNS:
        if column in STATED:
            cells.append(getattr(official, column))
        else:
            reason = official.reasons.get(column, '')
            cells.append(cell(ours[column], getattr(official, column), reason))
    return cells


def page() -> str:
    """The whole page."""
    titles = ['recipe', *COLUMNS.values()]
    lines = [INTRODUCTION, '| ' + ' | '.join(titles) + ' |', '|---' * len(titles) + '|']
    lines += ['| ' + ' | '.join(row(path)) + ' |' for path in full_recipes()]
    return '\n'.join(lines) + '\n'


def main() -> int:
    """Write the page, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--check', action='store_true', help='write nothing, compare')
    args = parser.parse_args()
    text = page()
    if args.check:
        if PAGE.read_text(encoding='utf-8') != text:
            print('docs/training_parity.md is out of date; run python docs/training_parity.py.')
            return 1
        return 0
    PAGE.write_text(text, encoding='utf-8')
    return 0


if __name__ == '__main__':
    sys.exit(main())
