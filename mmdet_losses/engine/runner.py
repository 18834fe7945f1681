"""What the tools share: the config, the processes, the work dir, the runner and plain errors."""

from __future__ import annotations

import argparse
import datetime
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmdet.utils import setup_cache_size_limit_of_dynamo
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.dist import broadcast_object_list, get_dist_info, init_dist, is_distributed
from mmengine.registry import RUNNERS
from mmengine.runner import Runner, find_latest_checkpoint
from mmengine.utils.dl_utils import set_multi_processing

from mmdet_losses.engine.explain import explain

DATA_KEYS = (
    'train_dataloader', 'val_dataloader', 'test_dataloader', 'val_evaluator', 'test_evaluator',
)  # fmt: skip
DEFAULT_HOOKS = ('CheckDataHook', 'EpochSeedHook', 'NumPositivesHook')


class UsageError(Exception):
    """A mistake in how a tool was called; the message is the whole sentence a user needs."""


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what MMDetection's train and test commands have in common, and ``--debug``."""
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='folder of logs, checkpoints and metrics')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override settings of the config, e.g. train_cfg.max_epochs=2 key="[(a,b),(c,d)]"; '
        'data_root=DIR moves data sets and evaluators along',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='by the launcher')
    parser.add_argument('--debug', action='store_true', help='known errors show their traceback')


def run_tool(work: Callable[[Config, argparse.Namespace], None], args: argparse.Namespace) -> None:
    """Load the config and do ``work(cfg, args)``; known errors end in one sentence and status 1."""
    cfg: Config | None = None
    try:
        cfg = load_config(args)
        start_processes(cfg)
        work(cfg, args)
    except Exception as error:
        sentence = str(error) if isinstance(error, UsageError) else explain(error, cfg)
        if sentence is None or args.debug:
            raise
        rank, world = get_dist_info()
        print(f'error{f" (rank {rank})" if world > 1 else ""}: {sentence}', file=sys.stderr)
        sys.exit(1)
    if is_distributed():
        torch.distributed.destroy_process_group()


def load_config(args: argparse.Namespace) -> Config:
    """Read the config, merge ``--cfg-options`` and settle the work dir.

    The command line comes before the config, the config before ``work_dirs/<config name>``.

    Raises:
        UsageError: the config file does not exist, or ``data_root`` moves nothing.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    setup_cache_size_limit_of_dynamo()
    if not Path(args.config).is_file():
        raise UsageError(f'config file {args.config} not found (from {Path.cwd()}).')
    cfg = Config.fromfile(args.config)
    cfg.launcher = args.launcher
    if args.cfg_options is not None:
        merge_options(cfg, args.cfg_options)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    return cfg


def merge_options(cfg: Config, options: dict[str, Any]) -> None:
    """Merge settings into the config; data sets and evaluators follow a new ``data_root``.

    Reading a config copies its ``data_root`` into the paths that begin with it; a setting of that
    name alone would move none of them.

    Raises:
        UsageError: ``data_root`` is set, but no path of the config begins with its old value.
    """
    before = cfg.get('data_root')
    cfg.merge_from_dict(options)
    if 'data_root' not in options:
        return
    parts = {key: cfg[key] for key in DATA_KEYS if cfg.get(key)}
    old, new = str(before).rstrip('/'), str(cfg.data_root).rstrip('/')
    moved = {key: _replace_root(part, old, new) for key, part in parts.items()}
    if before is None or (moved == parts and old != new):
        raise UsageError(
            f'data_root={cfg.data_root} moves nothing, because no data set of the config lies in '
            f'{before}: set data_root of each data set, and ann_file of the evaluators.'
        )
    for key, part in moved.items():
        cfg[key] = part


def _replace_root(node: Any, old: str, new: str) -> Any:
    """The node of a config with every path below ``old`` below ``new`` instead."""
    if isinstance(node, dict):
        return type(node)({key: _replace_root(value, old, new) for key, value in node.items()})
    if isinstance(node, (list, tuple)):
        return type(node)(_replace_root(value, old, new) for value in node)
    if isinstance(node, str) and f'{node}/'.startswith(f'{old}/'):
        return new + node.removeprefix(old)
    return node


def start_processes(cfg: Config) -> None:
    """Join the process group that the launcher asks for: MMEngine's, or gloo on the CPU.

    MMEngine's launchers select a CUDA device and its wrapper hands the model to one. On a machine
    without an accelerator the group is therefore formed here, and the model wrapped without
    devices. Says in one line when the CPU does the work.

    Raises:
        UsageError: more processes than GPUs on this machine.
    """
    on_cpu = get_device() == 'cpu'
    if cfg.launcher != 'none':
        env = cfg.setdefault('env_cfg', {})
        set_multi_processing(**env.get('mp_cfg', {}), distributed=True)
        group = dict(env.get('dist_cfg', {}))
        if on_cpu:
            _join_gloo(cfg.launcher, group.get('timeout', 1800))
            env['dist_cfg'] = {**group, 'backend': 'gloo'}
            wrapper = dict(
                type='MMDistributedDataParallel',
                broadcast_buffers=False,
                find_unused_parameters=cfg.get('find_unused_parameters', False),
            )
            cfg.model_wrapper_cfg = {**wrapper, **cfg.get('model_wrapper_cfg', {})}
            cfg.model_wrapper_cfg.device_ids = None
        else:
            _check_gpu_count(cfg.launcher, torch.cuda.device_count())
            init_dist(cfg.launcher, **group)
    rank, world = get_dist_info()
    if on_cpu and rank == 0:
        how = f'{world} processes over gloo' if cfg.launcher != 'none' else 'one process'
        print(f'No GPU here: working on the CPU with {how}.', flush=True)


def _join_gloo(launcher: str, timeout: float) -> None:
    env = os.environ
    if launcher == 'slurm':
        if 'MASTER_ADDR' not in env:
            hosts = ['scontrol', 'show', 'hostnames', env['SLURM_NODELIST']]
            env['MASTER_ADDR'] = subprocess.check_output(hosts, text=True).split()[0]
        names = {'RANK': 'PROCID', 'WORLD_SIZE': 'NTASKS', 'LOCAL_RANK': 'LOCALID'}
        env.update({name: env[f'SLURM_{slurm}'] for name, slurm in names.items()})
    elif launcher == 'mpi':
        names = {'RANK': 'RANK', 'WORLD_SIZE': 'SIZE', 'LOCAL_RANK': 'LOCAL_RANK'}
        env.update({name: env[f'OMPI_COMM_WORLD_{mpi}'] for name, mpi in names.items()})
    env.setdefault('MASTER_PORT', '29500')
    missing = [name for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR') if name not in env]
    if missing:
        raise UsageError(
            f'--launcher {launcher} finds no {", ".join(missing)} in the environment: start this '
            'tool through tools/dist_train.sh, torchrun, srun or mpirun.'
        )
    torch.distributed.init_process_group('gloo', timeout=datetime.timedelta(seconds=timeout))


def _check_gpu_count(launcher: str, gpus: int) -> None:
    local = int(os.environ.get('LOCAL_RANK', '0'))
    if launcher == 'pytorch' and torch.cuda.is_available() and local >= gpus:
        raise UsageError(
            f'this machine has {gpus} GPU(s), but process {local + 1} was started on it: '
            f'give GPUS={gpus} or fewer.'
        )


def settle_start(cfg: Config, resume: str | None, restart: bool) -> None:
    """Decide where a training starts, and keep the checkpoints of an earlier one.

    The first process decides for all. ``resume='auto'`` continues from the work dir's latest
    checkpoint; where there is none, training starts from the beginning with the config's own
    ``load_from``, so that a requeued job needs one command. A work dir with checkpoints is refused
    unless ``restart`` moves them into a folder of their own; nothing is deleted.

    Raises:
        UsageError: the work dir holds checkpoints, or the one to resume from does not exist.
    """
    decision: list = [None, None]
    if get_dist_info()[0] == 0:
        try:
            decision[0] = _starting_point(cfg, resume, restart)
        except UsageError as error:
            decision[1] = str(error)
    broadcast_object_list(decision)
    start, complaint = decision
    if complaint:
        raise UsageError(complaint)
    cfg.resume = start is not None
    if start is not None:
        cfg.load_from = start


def _starting_point(cfg: Config, resume: str | None, restart: bool) -> str | None:
    work_dir = Path(cfg.work_dir)
    if resume is None and cfg.get('resume', False):
        resume = cfg.get('load_from') or 'auto'
    if resume == 'auto':
        latest = _latest_checkpoint(work_dir)
        if latest is None:
            print(f'Nothing to resume in {work_dir}: training starts from the beginning.')
        return latest
    if resume is not None:
        if '://' not in resume and not Path(resume).is_file():
            raise UsageError(f'checkpoint {resume} not found; there is nothing to resume from.')
        return resume
    found = sorted(work_dir.glob('*.pth'))
    if found and not restart:
        raise UsageError(
            f'{work_dir} already holds {len(found)} checkpoint(s), {found[-1].name} among them: '
            'continue with --resume, begin anew with --restart (moves them aside), or choose '
            'another --work-dir.'
        )
    if found:
        aside = work_dir / time.strftime('earlier_%Y%m%d_%H%M%S')
        aside.mkdir()
        for path in [*found, *work_dir.glob('last_checkpoint')]:
            path.rename(aside / path.name)
        print(f'{len(found)} earlier checkpoint(s) moved to {aside}.')
    return None


def _latest_checkpoint(work_dir: Path) -> str | None:
    if not (work_dir / 'last_checkpoint').exists():
        return None
    noted = Path(find_latest_checkpoint(str(work_dir)))
    for path in (noted, work_dir / noted.name):  # the work dir may have been moved since
        if path.is_file():
            return str(path)
    raise UsageError(
        f'{work_dir}/last_checkpoint names {noted}, which does not exist: give the one to '
        'continue from with --resume FILE.'
    )


def add_default_hooks(cfg: Config) -> None:
    """Append the hooks of :data:`DEFAULT_HOOKS` that the config does not name itself."""
    hooks = list(cfg.get('custom_hooks') or [])
    named = {str(hook['type']).rpartition('.')[2] for hook in hooks if isinstance(hook, dict)}
    missing = [dict(type=f'mmdet_losses.{name}') for name in DEFAULT_HOOKS if name not in named]
    cfg.custom_hooks = hooks + missing


def build_runner(cfg: Config) -> Runner:
    """The runner that the config names, or MMEngine's."""
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
