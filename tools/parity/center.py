"""Golden checks of the centre family, by the beginning of a file's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tools.parity import center_points as points
from tools.parity import center_pose as pose
from tools.parity import center_track as track
from tools.parity.rows import Row

CHECKS: dict[str, Callable[[Path], list[Row]]] = {
    'gaussian': points.check_gaussian,
    'targets_ctdet': points.check_targets,
    'targets_ctdet_keepres': points.check_targets_keep,
    'losses_ctdet': points.check_losses,
    'decode_ctdet': points.check_decode,
    'targets_multi_pose': pose.check_targets,
    'losses_multi_pose': pose.check_losses,
    'decode_multi_pose': pose.check_decode,
    'targets_track': track.check_targets,
    'losses_track': track.check_losses,
    'decode_track': track.check_decode,
    'tracker_greedy': track.check_tracker,
    'prehm_test_track': track.check_previous,
}
