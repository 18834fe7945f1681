"""Start of a training: from the beginning, from a checkpoint, or in a cleared work dir."""

from __future__ import annotations

import ast
import re
import time
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import broadcast_object_list, get_dist_info

from mmdet_losses.compat.checkpoints import PARTIAL, value_fault
from mmdet_losses.core.plain_tensors import load_failure, load_plain
from mmdet_losses.engine.processes import UsageError


def settle_start(cfg: Config, resume: str | None, restart: bool) -> None:
    """Set ``resume`` and ``load_from`` of the config; never overwrite an earlier training.

    The first process decides for all. ``resume='auto'`` continues from the newest intact checkpoint
    of the work dir and prints which ones it skips. Without one, training starts from the beginning
    with ``load_from`` of the config, so a requeued cluster job needs only one command. A work dir
    with checkpoints raises an error, unless ``restart`` is set: then they are moved into a new
    folder. Nothing is deleted.

    Raises:
        UsageError: the work dir has checkpoints, or the checkpoint to resume from does not exist
            or is damaged.
    """
    decision: list = [None, None]
    if get_dist_info()[0] == 0:
        try:
            decision[0] = _starting_point(cfg, resume, restart)
        except UsageError as error:
            decision[1] = str(error)
    broadcast_object_list(decision)
    start, message = decision
    if message:
        raise UsageError(message)
    cfg.resume = start is not None
    if start is not None:
        cfg.load_from = start
        note = schedule_note(start, cfg)
        if note and get_dist_info()[0] == 0:
            print(note)


def _starting_point(cfg: Config, resume: str | None, restart: bool) -> str | None:
    work_dir = Path(cfg.work_dir)
    for path in work_dir.glob(f'*{PARTIAL}'):  # of a training that was killed
        path.unlink(missing_ok=True)
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
        reason = None if '://' in resume else damage(Path(resume))
        if reason:
            raise UsageError(
                f'training cannot continue from {resume}: {reason}. Choose another checkpoint, or '
                '--resume without a file for the newest intact one of the work dir.'
            )
        return resume
    found = sorted(work_dir.glob('*.pth'))
    if found and not restart:
        raise UsageError(
            f'{work_dir} already has {len(found)} checkpoint(s), such as {found[-1].name}: '
            'continue with --resume, start again with --restart (moves them into a new folder), '
            'or choose another --work-dir.'
        )
    if found:
        aside = work_dir / time.strftime('earlier_%Y%m%d_%H%M%S')
        aside.mkdir()
        for path in [*found, *work_dir.glob('last_checkpoint')]:
            path.rename(aside / path.name)
        print(f'{len(found)} earlier checkpoint(s) moved to {aside}.')
    return None


def schedule_note(path: str, cfg: Config) -> str | None:
    """Message if a checkpoint was trained with another schedule than that of the config.

    MMEngine restores the schedules of the learning rate with their length.
    """
    if '://' in path:
        return None
    content = load_plain(path, mmap=True)
    text = content.get('meta', {}).get('cfg')
    if not isinstance(text, str):
        return None
    before, now = _schedule(text), _schedule(cfg.pretty_text)
    if not before or before == now:
        return None
    return (
        f'note: {path} was trained for {_length(before)}, with another schedule than the config '
        f'({_length(now)}). The learning rate continues with the schedule of the checkpoint; for a '
        'new schedule, start a training with load_from instead of --resume.'
    )


def _schedule(text: str) -> dict[str, str]:
    """Settings of the schedule in the text of a config, which is parsed but not executed."""
    try:
        nodes = ast.parse(text).body
    except SyntaxError:
        return {}
    return {
        target.id: ast.unparse(node.value)
        for node in nodes
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id in ('train_cfg', 'param_scheduler')
    }


def _length(schedule: dict[str, str]) -> str:
    found = re.search(r'max_(epochs|iters)=([\d_]+)', schedule.get('train_cfg', ''))
    return f'{found[2]} {found[1]}' if found else 'an unknown time'


def _latest_checkpoint(work_dir: Path) -> str | None:
    """The newest intact checkpoint; the one that ``last_checkpoint`` names comes first."""
    recorded = _recorded(work_dir)
    found = sorted(work_dir.glob('*.pth'), key=lambda path: (_age(path), path.name), reverse=True)
    if recorded is not None:
        # the work dir may have been moved
        named = [path for path in (recorded, work_dir / recorded.name) if path.is_file()][:1]
        found = named + [path for path in found if path not in named]
    for path in found:
        reason = damage(path)
        if reason is None:
            return str(path)
        print(f'{path} is skipped: {reason}.')
    if found:
        raise UsageError(
            f'none of the {len(found)} checkpoint(s) in {work_dir} can be resumed; start again '
            'with --restart (moves them into a new folder), or choose another --work-dir.'
        )
    if recorded is not None:
        raise UsageError(
            f'{work_dir}/last_checkpoint names {recorded}, which does not exist: choose a '
            'checkpoint with --resume FILE, or start again with --restart.'
        )
    return None


def _recorded(work_dir: Path) -> Path | None:
    try:
        return Path((work_dir / 'last_checkpoint').read_text(encoding='utf-8').strip())
    except (OSError, ValueError):  # missing, or not text
        return None


def _age(path: Path) -> tuple[bool, int]:
    """Sort key: checkpoints of epochs come after the best ones, new ones after old ones."""
    return not path.name.startswith('best_'), path.stat().st_mtime_ns


def damage(path: Path) -> str | None:
    """Why training cannot continue from a file, or None if it can."""
    if not path.is_file():  # reading a named pipe would wait without end
        return 'it is not a file'
    try:
        content = load_plain(path, mmap=True)
    except Exception as error:  # damaged files raise many kinds of errors
        return f'it is damaged or not a checkpoint of a training ({load_failure(error)})'
    keys = content if isinstance(content, dict) else ()
    missing = [key for key in ('meta', 'state_dict', 'optimizer') if key not in keys]
    if missing:
        return f'it has no {" and no ".join(missing)}, so it is not a checkpoint of a training'
    meta = content['meta']
    if not isinstance(meta, dict) or not {'epoch', 'iter'} <= meta.keys():
        return 'it has no epoch and iter in meta, so it is not a checkpoint of a training'
    return value_fault(content, ('state_dict', 'ema_state_dict', 'optimizer'))
