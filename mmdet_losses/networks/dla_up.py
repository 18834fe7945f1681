"""CenterNet's up-sampling of DLA: iterative aggregation with deformable convolutions.

Reference:
    Zhou et al., *Objects as Points*, 2019, appendix A, figure 6 (d).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet_losses.compat import has_mmcv_ops
from mmdet_losses.ops import check_choice
from mmdet_losses.registry import MODELS

_NORM = {'type': 'BN', 'requires_grad': True}
_CONVS = {'dcn': {'type': 'DCNv2'}, 'conv': None}


def bilinear_kernel(factor: int) -> Tensor:
    """(2 f, 2 f) weights of a transposed convolution of stride f for bilinear interpolation."""
    distance = torch.arange(2 * factor) - (factor - 0.5)
    ramp = 1 - distance.abs() / factor
    return ramp[:, None] * ramp[None]


class Aggregation(nn.Module):
    """Fuses maps from fine to coarse at the size of the first.

    ``out[0] = maps[0]``, ``out[k] = node(up(project(maps[k])) + out[k - 1])``.

    The official convolutions have a bias, which the following batch norm removes; ours have none.

    Args:
        in_channels: of the maps, finest first. The first map is not projected and must have
            ``out_channels``.
        factors: size of the first map divided by that of each other map.
        conv: config of the convolutions, None for plain ones.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        factors: Sequence[int],
        conv: dict | None,
    ) -> None:
        super().__init__()

        def unit(channels: int) -> ConvModule:
            return ConvModule(channels, out_channels, 3, padding=1, conv_cfg=conv, norm_cfg=_NORM)

        self.projections = nn.ModuleList(unit(channels) for channels in in_channels[1:])
        self.nodes = nn.ModuleList(unit(out_channels) for _ in in_channels[1:])
        self.ups = nn.ModuleList(self._up(out_channels, factor) for factor in factors)

    @staticmethod
    def _up(channels: int, factor: int) -> nn.ConvTranspose2d:
        up = nn.ConvTranspose2d(
            channels,
            channels,
            2 * factor,
            stride=factor,
            padding=factor // 2,
            groups=channels,
            bias=False,
        )
        with torch.no_grad():
            up.weight.copy_(bilinear_kernel(factor).expand_as(up.weight))
        return up

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """One map per input, all of the size of the first; the last fuses all inputs."""
        fused = [maps[0]]
        for x, project, up, node in zip(
            maps[1:], self.projections, self.ups, self.nodes, strict=True
        ):
            fused.append(node(up(project(x)) + fused[-1]))
        return fused


@MODELS.register_module()
class DLAUpNeck(BaseModule):
    """Fuses DLA's four maps into one map of the finest size.

    Shape:
        Maps (B, ``in_channels[i]``, H / 2**i, W / 2**i) -> one map (B, ``in_channels[0]``, H, W).

    Args:
        in_channels: of the maps, finest first; three or more.
        conv: ``'dcn'`` (modulated deformable convolutions, which need MMCV's compiled operators)
            or ``'conv'`` (plain convolutions).
    """

    def __init__(
        self,
        in_channels: Sequence[int] = (64, 128, 256, 512),
        conv: str = 'dcn',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        check_choice('conv', conv, _CONVS)
        if conv == 'dcn' and not has_mmcv_ops():
            raise RuntimeError(
                "DLAUpNeck(conv='dcn') needs the compiled operators of MMCV, which are not "
                "installed; build them with `make env OPS=1`, or use conv='conv'."
            )
        count, widths = len(in_channels), list(in_channels)
        if count < 3:
            raise ValueError(f'in_channels has {count} entries; give three or more.')
        self.rounds = nn.ModuleList()
        for j in range(count - 2, -1, -1):  # the finest map of the round
            coarser = count - 1 - j
            self.rounds.append(Aggregation(widths[j:], in_channels[j], [2] * coarser, _CONVS[conv]))
            widths[j + 1 :] = [in_channels[j]] * coarser
        factors = [2**i for i in range(1, count - 1)]
        self.final = Aggregation(in_channels[:-1], in_channels[0], factors, _CONVS[conv])

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor]:
        """See Shape."""
        maps = list(feats)
        finished: list[Tensor] = []
        for fuse in self.rounds:
            j = len(maps) - 2 - len(finished)
            maps[j:] = fuse(maps[j:])
            finished.insert(0, maps[-1])
        return (self.final(finished)[-1],)
