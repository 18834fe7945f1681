"""The process group of a tool: MMEngine's on GPUs, gloo on CPUs."""

from __future__ import annotations

import datetime
import gc
import os
import subprocess
import sys
import threading
import time

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import get_dist_info, init_dist, is_distributed
from mmengine.utils.dl_utils import set_multi_processing


class UsageError(Exception):
    """A mistake in the call of a tool; the tool prints only the message."""


def start_processes(cfg: Config) -> None:
    """Join the process group of the launcher, with gloo on a machine without an accelerator.

    MMEngine's launchers and its model wrapper need a CUDA device. On the CPU the group is therefore
    created here, and the wrapper gets no device. The main process prints when it uses the CPU.

    Raises:
        UsageError: more processes than GPUs on this machine.
    """
    on_cpu = get_device() == 'cpu'
    if cfg.launcher != 'none':
        env = cfg.setdefault('env_cfg', {})
        set_multi_processing(**env.get('mp_cfg', {}), distributed=True)
        if cfg.launcher == 'pytorch':
            watch_launcher()
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
        print(f'No GPU found: running on the CPU with {how}.', flush=True)


def watch_launcher(seconds: float = 5.0) -> None:
    """End this process when its launcher is killed.

    A launcher that ends normally ends its processes. A killed one cannot, and they would keep
    their memory and GPUs.

    Args:
        seconds: between two checks.
    """
    launcher = os.getppid()

    def watch() -> None:
        """Loop of the thread."""
        while os.getppid() == launcher:
            time.sleep(seconds)
        print(
            f'error: the launcher (process {launcher}) was killed, so process {os.getpid()} ends; '
            'continue with --resume.',
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name='watch_launcher').start()


def end_processes() -> None:
    """Destroy the process group, after every object that refers to it is freed.

    The reducer of a ``DistributedDataParallel`` model refers to the group. If the group is
    destroyed first, the reducer frees it later while it holds the GIL. The group then waits for a
    thread that needs the GIL, so the process hangs or aborts. The caller must drop its runner and
    model.
    """
    if is_distributed():
        gc.collect()
        torch.distributed.destroy_process_group()


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
            f'--launcher {launcher} needs {", ".join(missing)} in the environment: start this tool '
            'with tools/dist_train.sh, torchrun, srun or mpirun.'
        )
    torch.distributed.init_process_group('gloo', timeout=datetime.timedelta(seconds=timeout))


def _check_gpu_count(launcher: str, gpus: int) -> None:
    local = int(os.environ.get('LOCAL_RANK', '0'))
    if launcher == 'pytorch' and torch.cuda.is_available() and local >= gpus:
        raise UsageError(
            f'this machine has {gpus} GPU(s), but process {local + 1} was started on it: '
            f'set GPUS={gpus} or less.'
        )
