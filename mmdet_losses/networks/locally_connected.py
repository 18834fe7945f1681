"""Locally connected layer: a convolution with separate weights per cell (YOLOv1's `[local]`)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdet_losses.registry import MODELS


@MODELS.register_module()
class LocallyConnected2d(nn.Module):
    r"""Convolution with its own kernel for every output cell.

    With the inputs k in the window of a cell p, output o is

    .. math::

        y_{o,p} = b_{o,p} + \sum_k w_{p,o,k}\, x_{k,p}

    Shape:
        x: (B, in_channels, H, W) with ``(H, W) == feat_size``, stride 1, padded to the same size.
        Returns (B, out_channels, H, W).

    Convention:
        ``weight`` is (H * W, out_channels, in_channels * k * k) and ``bias`` (out_channels, H, W),
        the order of darknet's files.

    Raises:
        ValueError: the map has another size than ``feat_size``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        feat_size: tuple[int, int],
        kernel_size: int = 3,
    ) -> None:
        super().__init__()
        height, width = self.feat_size = tuple(feat_size)
        self.out_channels, self.kernel_size = out_channels, kernel_size
        fan_in = in_channels * kernel_size**2
        self.weight = nn.Parameter(torch.empty(height * width, out_channels, fan_in))
        self.bias = nn.Parameter(torch.zeros(out_channels, height, width))
        nn.init.normal_(self.weight, std=(2 / fan_in) ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        if tuple(x.shape[2:]) != self.feat_size:
            raise ValueError(
                f'LocallyConnected2d has weights for {self.feat_size} cells (h, w), and the map '
                f'has {tuple(x.shape[2:])}; resize the images or change feat_size.'
            )
        patches = F.unfold(x, self.kernel_size, padding=self.kernel_size // 2)  # (B, fan_in, H*W)
        out = torch.einsum('bkp,pok->bop', patches, self.weight)
        return out.reshape(-1, self.out_channels, *self.feat_size) + self.bias
