"""Base of criteria that change after a number of training images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from mmdet_losses.core import DetectorLoss
from mmdet_losses.core.types import OutputsT, TargetsT
from mmdet_losses.ops import process_count


class ImageCountLoss(DetectorLoss[OutputsT, TargetsT]):
    """Criterion with a buffer ``seen``, the number of training images of all processes so far.

    The buffer is saved, so a resumed training continues the count. A checkpoint without it
    (converted weights) loads strictly and does not change it.
    """

    seen: torch.Tensor

    def __init__(
        self, init_cfg: dict | None = None, class_weight: Sequence[float] | None = None
    ) -> None:
        super().__init__(init_cfg, class_weight)
        self.register_buffer('seen', torch.zeros((), dtype=torch.int64))

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        if f'{prefix}seen' not in state:
            state = {**state, f'{prefix}seen': self.seen}
        super()._load_from_state_dict(state, prefix, *args)

    def count_images(self, batch: int) -> None:
        """Add the images of a training batch; call it before the terms are computed."""
        if self.training:
            self.seen += batch * process_count()
