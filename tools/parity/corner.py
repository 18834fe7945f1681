"""Golden checks of the corner family: beginning of a file's name -> check."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tools.parity import corner_decode as decode
from tools.parity import corner_losses as losses
from tools.parity import corner_targets as targets
from tools.parity.rows import Row

CHECKS: dict[str, Callable[[Path], list[Row]]] = {
    'losses_cornernet': losses.check_cornernet,
    'losses_squeeze': losses.check_cornernet,
    'losses_saccade': losses.check_saccade,
    'losses_centernet': losses.check_triplet,
    'losses_components': losses.check_components,
    'targets_cornernet': targets.check_cornernet,
    'targets_squeeze': targets.check_cornernet,
    'targets_centernet': targets.check_triplet,
    'targets_saccade': targets.check_saccade,
    'targets_gaussian_tables': targets.check_gaussian_tables,
    'decode_cornernet': decode.check_pairs,
    'decode_squeeze': decode.check_pairs,
    'decode_kernel1': decode.check_pairs,
    'decode_saccade_no_border': decode.check_pairs,
    'decode_cornernet_full': decode.check_cornernet_test,
    'decode_squeeze_full': decode.check_cornernet_test,
    'decode_centernet': decode.check_triplet_test,
    'decode_softnms': decode.check_soft_nms,
    'decode_saccade_pieces': decode.check_saccade_pieces,
    'decode_saccade_full': decode.check_saccade_test,
}
