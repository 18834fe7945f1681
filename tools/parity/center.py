"""Golden checks of the centre family: beginning of a file's name -> check."""

from __future__ import annotations

from tools.parity import center_points, center_pose, center_track
from tools.parity.golden import Check

CHECKS: dict[str, Check] = {
    'gaussian': center_points.gaussian,
    'targets_ctdet': center_points.targets,
    'losses_ctdet': center_points.losses,
    'decode_ctdet': center_points.decode,
    'targets_multi_pose': center_pose.targets,
    'losses_multi_pose': center_pose.losses,
    'decode_multi_pose': center_pose.decode,
    'targets_track': center_track.targets,
    'losses_track': center_track.losses,
    'decode_track': center_track.decode,
    'tracker_greedy': center_track.tracker,
    'prehm_test_track': center_track.previous_heatmap,
}
