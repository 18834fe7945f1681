"""Command line of the tools: common arguments, the config, and errors as one message."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmdet.utils import setup_cache_size_limit_of_dynamo
from mmengine.config import Config, DictAction
from mmengine.dist import is_distributed
from mmengine.runner import Runner

from mmdet_losses.engine.console import quiet_console, report_error
from mmdet_losses.engine.data_config import leaf_configs
from mmdet_losses.engine.explain import explain
from mmdet_losses.engine.processes import UsageError, end_processes, start_processes

CONFIGS = Path(__file__).parents[1] / '.mim' / 'configs'
DATA_KEYS = (
    'train_dataloader', 'val_dataloader', 'test_dataloader', 'val_evaluator', 'test_evaluator',
)  # fmt: skip
RUNNER_KEYS = (
    *list(inspect.signature(Runner.__init__).parameters)[1:],
    'auto_scale_lr', 'custom_imports', 'data_root', 'find_unused_parameters', 'model_wrapper_cfg',
    'runner_type', 'test_pipeline', 'train_pipeline', 'tta_model', 'tta_pipeline', 'val_pipeline',
)  # fmt: skip
"""Usual settings at the top level of a config."""


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the config, ``--cfg-options``, ``--debug``, ``--quiet`` and ``--verbose``."""
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override settings of the config, e.g. train_cfg.max_epochs=2 key="[(a,b),(c,d)]"; '
        'data_root=DIR also changes the paths of data sets and evaluators',
    )
    parser.add_argument('--debug', action='store_true', help='show the traceback of known errors')
    output = parser.add_mutually_exclusive_group()
    output.add_argument(
        '--quiet',
        action='store_true',
        help='print errors, progress and results (default); the log file has everything',
    )
    output.add_argument('--verbose', action='store_true', help='print everything')
    parser.set_defaults(work_dir=None, launcher='none', local_rank=0)


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the common arguments of MMDetection's train and test commands, and our own."""
    add_config_arguments(parser)
    parser.add_argument('--work-dir', help='folder of logs, checkpoints and metrics')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument(
        '--local_rank', '--local-rank', type=int, default=0, help='set by the launcher'
    )


def run_tool(work: Callable[[Config, argparse.Namespace], None], args: argparse.Namespace) -> None:
    """Load the config, call ``work(cfg, args)``, and end the process group.

    The console is quiet unless ``--verbose`` is set. A known error prints one message and exits
    with status 1.
    """
    with contextlib.nullcontext() if args.verbose else quiet_console():
        status = _run(work, args)
    end_processes()  # after `_run` has returned, so that its runner and model can be freed
    if status:
        sys.exit(status)


def _run(work: Callable[[Config, argparse.Namespace], None], args: argparse.Namespace) -> int:
    cfg: Config | None = None
    try:
        cfg = load_config(args)
        start_processes(cfg)
        work(cfg, args)
    except Exception as error:
        if cfg is None and not _is_first_local(args.launcher):
            return 1  # the first process of this machine prints the same error of the config
        message = str(error) if isinstance(error, UsageError) else explain(error, cfg)
        if message is not None and not args.debug:
            report_error(message)
        elif is_distributed():
            report_error(''.join(traceback.format_exception(error)), known=False)
        else:
            raise
        return 1
    return 0


def _is_first_local(launcher: str) -> bool:
    """Whether this is the first process of a launcher on this machine, or the only one."""
    names = {'slurm': 'SLURM_LOCALID', 'pytorch': 'LOCAL_RANK', 'mpi': 'OMPI_COMM_WORLD_LOCAL_RANK'}
    return os.environ.get(names.get(launcher, ''), '0') == '0'


def check_config_path(name: str) -> None:
    """Raise a ``UsageError`` unless a config file has this path; the message lists similar ones."""
    path = Path(name)
    if path.suffix in ('.cfg', '.weights'):
        raise UsageError(
            f'{name} is a file of darknet, not a config; tools/import_darknet.py writes a config '
            'and a checkpoint from a cfg and its weights.'
        )
    if path.is_file():
        return
    if path.is_dir():
        files = ', '.join(str(each) for each in sorted(path.glob('*.py'))[:3])
        raise UsageError(
            f'config {name} is a folder; give a file, for example {files or "mine.py"}.'
        )
    known = {each.stem: each for each in sorted(CONFIGS.glob('[!_]*/*.py'))}
    similar = difflib.get_close_matches(path.stem, known, n=3, cutoff=0.65)
    found = [known[path.stem]] if path.stem in known else [known[stem] for stem in similar]
    places = [_from_here(each) for each in found]
    guess = f'; did you mean {" or ".join(places)}?' if places else '.'
    raise UsageError(f'config file {name} not found (from {Path.cwd()}){guess}')


def _from_here(path: Path) -> str:
    """A path without links, relative to the current folder if it is below it."""
    path, here = path.resolve(), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def read_config(path: Path | str) -> Config:
    """The config of a file.

    Raises:
        UsageError: the file does not exist, or it or a file that it inherits does not load.
    """
    check_config_path(str(path))
    try:
        return Config.fromfile(path)
    except FileNotFoundError as error:
        missing = error.filename or error
        raise UsageError(
            f'config {path} needs {missing}, which does not exist; correct `_base_` or the path.'
        ) from error
    except Exception as error:  # a config runs any code
        line = f' line {error.lineno}' if isinstance(error, SyntaxError) else ''
        raise UsageError(
            f'config {path} does not load ({type(error).__name__}{line}: '
            f'{" ".join(str(error).split())}); correct it, or see the traceback with --debug.'
        ) from error


def load_config(args: argparse.Namespace) -> Config:
    """Config of the command line: the file, ``--cfg-options`` and the work dir.

    The work dir is ``--work-dir``, or ``work_dir`` of the config, or ``work_dirs/<config name>``.

    Raises:
        UsageError: the config file does not exist or does not load, a setting is mistyped, the
            training has no epochs, or ``data_root`` changes no path.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    setup_cache_size_limit_of_dynamo()
    cfg = read_config(args.config)
    check_keys(cfg, args.cfg_options or {})
    cfg.launcher = args.launcher
    if args.cfg_options is not None:
        merge_options(cfg, args.cfg_options)
    check_length(cfg)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    return cfg


def check_keys(cfg: Config, options: dict[str, Any]) -> None:
    """Raise a ``UsageError`` for a mistyped setting at the top level, which would have no effect.

    A key of the file is mistyped if it is not one of ``Runner`` but similar to one. A key of
    ``--cfg-options`` must be in the file or be one of ``Runner``.
    """
    for key in cfg:
        similar = difflib.get_close_matches(key, RUNNER_KEYS, n=1, cutoff=0.85)
        if key not in RUNNER_KEYS and similar and similar[0] not in key:
            raise UsageError(
                f"the config has a setting '{key}', which nothing reads: did you mean "
                f"'{similar[0]}'?"
            )
    for option in options:
        key = option.partition('.')[0]
        known = sorted({*cfg, *RUNNER_KEYS})
        if key not in known:
            similar = difflib.get_close_matches(key, known, n=1)
            guess = f" did you mean '{similar[0]}'?" if similar else ''
            raise UsageError(f"--cfg-options {option}: the config has no '{key}';{guess}")


def check_length(cfg: Config) -> None:
    """Raise a ``UsageError`` for a training of no epochs or iterations, which ends silently."""
    for key in ('max_epochs', 'max_iters'):
        value = (cfg.get('train_cfg') or {}).get(key, 1)
        if not isinstance(value, int) or value < 1:
            raise UsageError(f'train_cfg.{key} is {value!r}; set a whole number of 1 or more.')


def merge_options(cfg: Config, options: dict[str, Any]) -> None:
    """Merge settings into the config; a new ``data_root`` also changes the paths below it.

    The paths of data sets and evaluators contain a copy of ``data_root``, made when the config was
    read. Setting ``data_root`` alone would change none of them. If none begins with it, the root
    that all data sets share is replaced.

    Raises:
        UsageError: ``data_root`` is set, but no path of the config begins with its old value, and
            the data sets have different roots.
    """
    before = cfg.get('data_root')
    cfg.merge_from_dict(options)
    if 'data_root' not in options:
        return
    parts = {key: cfg[key] for key in DATA_KEYS if cfg.get(key)}
    new, roots = str(cfg.data_root).rstrip('/'), _roots(parts)
    old = str(before).rstrip('/')
    if len(roots) == 1 and not any(f'{root}/'.startswith(f'{old}/') for root in roots):
        (old,) = roots
    changed = {key: _replace_root(part, old, new) for key, part in parts.items()}
    if changed == parts and old != new:
        raise UsageError(
            f'data_root={cfg.data_root} has no effect, because no data set of the config is in '
            f'{before}: set data_root of each data set, and ann_file of the evaluators.'
        )
    for key, part in changed.items():
        cfg[key] = part


def _roots(parts: dict[str, Any]) -> set[str]:
    """``data_root`` of every data set."""
    loaders = [part for key, part in parts.items() if key.endswith('dataloader')]
    leaves = [each for part in loaders for _, each in leaf_configs(part.get('dataset'))]
    return {str(each['data_root']).rstrip('/') for each in leaves if each.get('data_root')}


def _replace_root(node: Any, old: str, new: str) -> Any:
    """Copy of a config node with every path below ``old`` moved to ``new``."""
    if isinstance(node, dict):
        return type(node)({key: _replace_root(value, old, new) for key, value in node.items()})
    if isinstance(node, (list, tuple)):
        return type(node)(_replace_root(value, old, new) for value in node)
    if isinstance(node, str) and f'{node}/'.startswith(f'{old}/'):
        return new + node.removeprefix(old)
    return node
