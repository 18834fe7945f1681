"""Golden checks of the corner family: beginning of a file's name -> check."""

from __future__ import annotations

from tools.parity import corner_decode, corner_losses, corner_targets
from tools.parity.golden import Check

CHECKS: dict[str, Check] = {
    'losses_cornernet': corner_losses.losses,
    'losses_squeeze': corner_losses.losses,
    'losses_saccade': corner_losses.losses,
    'losses_centernet': corner_losses.losses,
    'losses_components': corner_losses.components,
    'targets_cornernet': corner_targets.targets,
    'targets_squeeze': corner_targets.targets,
    'targets_centernet': corner_targets.targets,
    'targets_saccade': corner_targets.saccade,
    'targets_gaussian_tables': corner_targets.gaussian_tables,
    'decode_cornernet': corner_decode.decode,
    'decode_squeeze': corner_decode.decode,
    'decode_kernel1': corner_decode.decode,
    'decode_centernet': corner_decode.decode,
    'decode_saccade_no_border': corner_decode.decode,
    'decode_softnms': corner_decode.softnms,
    'decode_saccade_pieces': corner_decode.saccade_pieces,
    'decode_saccade_full': corner_decode.saccade_test,
}
