"""Base class of backbones whose first stages can be frozen."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import nn


class FreezableBackbone(BaseModule):
    """A backbone that does not train its first stages, as ``frozen_stages`` of MMDetection.

    The parameters of a frozen stage have no gradient, and its batch norm uses the running
    statistics. A subclass defines :meth:`stages_in_order` and calls :meth:`freeze` after it has
    built them.
    """

    num_frozen = 0

    def stages_in_order(self) -> Sequence[nn.Module]:
        """Layers in the order of the forward pass, grouped to stages."""
        raise NotImplementedError

    def freeze(self, count: int) -> None:
        """Train all stages except the first ``count``.

        Raises:
            ValueError: the network has fewer stages.
        """
        stages = self.stages_in_order()
        if not 0 <= count <= len(stages):
            raise ValueError(
                f'{type(self).__name__} cannot freeze {count} stages; it has {len(stages)}.'
            )
        self.num_frozen = count
        for index, stage in enumerate(stages):
            stage.requires_grad_(index >= count)
        self.train(self.training)

    def train(self, mode: bool = True) -> FreezableBackbone:
        """Set the mode; frozen stages stay in evaluation mode."""
        super().train(mode)
        if self.num_frozen:
            for stage in self.stages_in_order()[: self.num_frozen]:
                stage.eval()
        return self
