"""Start of a training: from the beginning, from a checkpoint, or in a cleared work dir."""

from __future__ import annotations

import time
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import broadcast_object_list, get_dist_info
from mmengine.runner import find_latest_checkpoint

from mmdet_losses.engine.processes import UsageError


def settle_start(cfg: Config, resume: str | None, restart: bool) -> None:
    """Set ``resume`` and ``load_from`` of the config; never overwrite an earlier training.

    The first process decides for all. ``resume='auto'`` continues from the latest checkpoint of the
    work dir. Without one, training starts from the beginning with ``load_from`` of the config, so a
    requeued cluster job needs only one command. A work dir with checkpoints raises an error, unless
    ``restart`` is set: then they are moved into a new folder. Nothing is deleted.

    Raises:
        UsageError: the work dir has checkpoints, or the checkpoint to resume from does not exist.
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


def _latest_checkpoint(work_dir: Path) -> str | None:
    if not (work_dir / 'last_checkpoint').exists():
        return None
    recorded = Path(find_latest_checkpoint(str(work_dir)))
    for path in (recorded, work_dir / recorded.name):  # the work dir may have been moved
        if path.is_file():
            return str(path)
    raise UsageError(
        f'{work_dir}/last_checkpoint names {recorded}, which does not exist: choose a checkpoint '
        'with --resume FILE.'
    )
