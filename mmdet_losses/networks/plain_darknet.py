"""Sequences of convolutions and max pools: YOLOv1's extraction network and Darknet-19."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from mmdet_losses.networks.darknet_layers import BATCH_NORM, LEAKY, conv_chain, scale_channels
from mmdet_losses.networks.freezing import FreezableBackbone
from mmdet_losses.ops import check_choice
from mmdet_losses.registry import MODELS

# A stage is a sequence of (kernel size, channels[, stride]); a 2x2 max pool separates two stages.
Stage = Sequence[tuple[int, ...]]

_ARCHS: dict[str, tuple[Stage, ...]] = {
    'extraction': (
        ((7, 64, 2),),
        ((3, 192),),
        ((1, 128), (3, 256), (1, 256), (3, 512)),
        ((1, 256), (3, 512)) * 4 + ((1, 512), (3, 1024)),
        ((1, 512), (3, 1024)) * 2 + ((3, 1024), (3, 1024, 2), (3, 1024), (3, 1024)),
    ),
    'darknet19': (
        ((3, 32),),
        ((3, 64),),
        ((3, 128), (1, 64), (3, 128)),
        ((3, 256), (1, 128), (3, 256)),
        ((3, 512), (1, 256)) * 2 + ((3, 512),),
        ((3, 1024), (1, 512)) * 2 + ((3, 1024),),
    ),
}


@MODELS.register_module()
class PlainDarknet(FreezableBackbone):
    """Stages of convolutions with a 2x2 max pool between them.

    Shape:
        x: (B, 3, h, w). Returns one map per entry of ``out_indices``, taken before the next pool:
        ``extraction`` stage 4 is (B, 1024, h/64, w/64); ``darknet19`` stages 4 and 5 are
        (B, 512, h/16, w/16) and (B, 1024, h/32, w/32).

    Convention:
        ``extraction`` includes the last four 3x3 convolutions, which YOLOv1 adds for detection.
        Parameters are registered in the order of darknet's files.

    Args:
        arch: ``'extraction'``, ``'darknet19'``, or the stages themselves: each a sequence of
            ``(kernel size, channels)`` or ``(kernel size, channels, stride)``.
        width: factor on the number of channels (rounded up to a multiple of 8).
        out_indices: the stages to return.
        frozen_stages: stage 0 to this stage are not trained
            (:class:`~mmdet_losses.networks.freezing.FreezableBackbone`); -1 trains all.

    Raises:
        ValueError: an unknown ``arch`` or a stage that does not exist.

    Reference:
        Redmon et al., *You Only Look Once*, 2016; Redmon and Farhadi, *YOLO9000*, 2017, table 6.
    """

    def __init__(
        self,
        arch: str | Sequence[Stage] = 'darknet19',
        width: float = 1.0,
        out_indices: Sequence[int] = (4, 5),
        norm_cfg: dict[str, Any] | None = BATCH_NORM,
        act_cfg: dict[str, Any] | None = LEAKY,
        init_cfg: dict[str, Any] | None = None,
        frozen_stages: int = -1,
    ) -> None:
        super().__init__(init_cfg)
        if isinstance(arch, str):
            check_choice('arch', arch, _ARCHS)
        stages = _ARCHS[arch] if isinstance(arch, str) else arch
        if not set(out_indices) <= set(range(len(stages))):
            raise ValueError(
                f'out_indices is {tuple(out_indices)}; the network has stages 0 to '
                f'{len(stages) - 1}.'
            )
        self.out_indices = tuple(out_indices)
        self.stages = nn.ModuleList()
        cfg: dict[str, Any] = dict(norm_cfg=norm_cfg, act_cfg=act_cfg)
        channels = 3
        for index, rows in enumerate(stages):
            stage = nn.Sequential()
            if index:
                stage.append(nn.MaxPool2d(2, 2))
            scaled = [(size, scale_channels(out, width), *stride) for size, out, *stride in rows]
            stage.extend(conv_chain(channels, scaled, **cfg))
            channels = scaled[-1][1]
            self.stages.append(stage)
        self.freeze(frozen_stages + 1)

    def stages_in_order(self) -> list[nn.Module]:
        """The stages."""
        return list(self.stages)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        outs = []
        for index, stage in enumerate(self.stages[: max(self.out_indices) + 1]):
            x = stage(x)
            if index in self.out_indices:
                outs.append(x)
        return tuple(outs)
