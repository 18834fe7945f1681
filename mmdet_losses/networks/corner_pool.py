r"""Corner, cascade corner and centre pooling in plain torch.

A corner pool is a running maximum. The top pool takes, for each cell, the maximum over all cells
from it down to the bottom border,

.. math:: \mathrm{top}(x)_{i} = \max_{i' \ge i} x_{i'},

so the cell of a top-left corner gets the features of the object below it. The modules in this file
add the convolutions around the pools, one class per published module.

Shape:
    Every pool maps (B, C, H, W) to (B, C, H, W); every module maps (B, ``in_channels``, H, W) to
    the same shape.

Convention:
    Top and bottom pools run along a column (dimension 2), left and right pools along a row
    (dimension 3). Each output passes its gradient to one cell; in the form for ONNX export, cells
    with equal values share it.

Reference:
    Law and Deng, *CornerNet*, ECCV 2018, section 3.3; Duan et al., *CenterNet: Keypoint Triplets
    for Object Detection*, ICCV 2019, section 3.2.
"""

from __future__ import annotations

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet_losses.ops import check_choice
from mmdet_losses.ops.kernels import gpu_kernels, use_triton
from mmdet_losses.registry import MODELS

_NORM = dict(type='BN', requires_grad=True)


def running_max(x: Tensor, dim: int, reverse: bool = False) -> Tensor:
    """Maximum of every cell and all cells before it along ``dim`` (after it with ``reverse``).

    ONNX has no cumulative maximum, so the export uses ``doubling_max``, whose values are identical.
    """
    if torch.onnx.is_in_onnx_export():
        return doubling_max(x, dim, reverse)
    if use_triton(x):
        return gpu_kernels('running_max').running_max(x, dim, reverse)
    # On a CPU this is several times faster along contiguous memory.
    x = x.transpose(dim, -1).contiguous()
    x = x.flip(-1).cummax(-1).values.flip(-1) if reverse else x.cummax(-1).values
    return x.transpose(dim, -1).contiguous()


def doubling_max(x: Tensor, dim: int, reverse: bool = False) -> Tensor:
    """``running_max`` in log2(size) steps of Slice, Max and Concat; several times slower on a CPU.

    After the step of width s, each cell contains the maximum over 2 s cells, or over all cells up
    to the border if there are fewer.
    """
    size, step = x.shape[dim], 1
    while step < size:
        head, tail = x.narrow(dim, 0, size - step), x.narrow(dim, step, size - step)
        if reverse:
            done = x.narrow(dim, size - step, step)
            x = torch.cat((torch.maximum(head, tail), done), dim)
        else:
            x = torch.cat((x.narrow(dim, 0, step), torch.maximum(head, tail)), dim)
        step *= 2
    return x


class _RunningMax(nn.Module):
    dim: int
    reverse: bool

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return running_max(x, self.dim, self.reverse)


@MODELS.register_module()
class TopPool(_RunningMax):
    """Maximum from each cell down to the bottom row."""

    dim, reverse = 2, True


@MODELS.register_module()
class LeftPool(_RunningMax):
    """Maximum from each cell to the rightmost column."""

    dim, reverse = 3, True


@MODELS.register_module()
class BottomPool(_RunningMax):
    """Maximum from the top row down to each cell."""

    dim, reverse = 2, False


@MODELS.register_module()
class RightPool(_RunningMax):
    """Maximum from the leftmost column to each cell."""

    dim, reverse = 3, False


class _PoolingModule(BaseModule):
    """Base of the three modules: two pooled branches, a shortcut and a last convolution."""

    def __init__(
        self, in_channels: int, pool_channels: int = 128, init_cfg: dict | None = None
    ) -> None:
        super().__init__(init_cfg)
        self.branch1 = self._conv(in_channels, pool_channels)
        self.branch2 = self._conv(in_channels, pool_channels)
        self.merge = self._conv(pool_channels, in_channels, act_cfg=None)
        self.shortcut = ConvModule(in_channels, in_channels, 1, norm_cfg=_NORM, act_cfg=None)
        self.out = self._conv(in_channels, in_channels)

    @staticmethod
    def _conv(in_channels: int, out_channels: int, **kwargs: object) -> ConvModule:
        return ConvModule(in_channels, out_channels, 3, padding=1, norm_cfg=_NORM, **kwargs)

    def pooled(self, x: Tensor) -> Tensor:
        """The sum of the two pooled branches, (B, ``pool_channels``, H, W)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """(B, ``in_channels``, H, W) -> the same shape."""
        return self.out(torch.relu(self.merge(self.pooled(x)) + self.shortcut(x)))


@MODELS.register_module()
class CornerPooling(_PoolingModule):
    """CornerNet's corner module: ``pool1(branch1(x)) + pool2(branch2(x))`` between convolutions.

    Args:
        in_channels: channels of the input and the output.
        corner: ``'top_left'`` or ``'bottom_right'``.
        pool_channels: channels of the two pooled branches.
    """

    _POOLS = dict(top_left=(TopPool, LeftPool), bottom_right=(BottomPool, RightPool))

    def __init__(
        self,
        in_channels: int,
        corner: str,
        pool_channels: int = 128,
        init_cfg: dict | None = None,
    ) -> None:
        check_choice('corner', corner, self._POOLS)
        super().__init__(in_channels, pool_channels, init_cfg)
        self.pool1, self.pool2 = (pool() for pool in self._POOLS[corner])

    def pooled(self, x: Tensor) -> Tensor:
        """Vertical maximum of one branch plus horizontal maximum of the other."""
        return self.pool1(self.branch1(x)) + self.pool2(self.branch2(x))


@MODELS.register_module()
class CascadeCornerPooling(CornerPooling):
    """The triplets' corner module: each branch is first pooled along the other axis.

    ``pool1(cascade1(branch1(x) + pool2(look1(x))))`` plus the same with 1 and 2 swapped.
    ``cascade1`` and ``cascade2`` are convolutions without bias, norm and activation, so the pooled
    values may be negative. Arguments as in ``CornerPooling``.
    """

    def __init__(
        self,
        in_channels: int,
        corner: str,
        pool_channels: int = 128,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(in_channels, corner, pool_channels, init_cfg)
        self.look1 = self._conv(in_channels, pool_channels)
        self.look2 = self._conv(in_channels, pool_channels)
        self.cascade1 = nn.Conv2d(pool_channels, pool_channels, 3, padding=1, bias=False)
        self.cascade2 = nn.Conv2d(pool_channels, pool_channels, 3, padding=1, bias=False)

    def pooled(self, x: Tensor) -> Tensor:
        """Both cascades, summed."""
        first = self.cascade1(self.branch1(x) + self.pool2(self.look1(x)))
        second = self.cascade2(self.branch2(x) + self.pool1(self.look2(x)))
        return self.pool1(first) + self.pool2(second)


@MODELS.register_module()
class CenterPooling(_PoolingModule):
    """The triplets' centre module: the maximum of a whole column plus that of a whole row.

    The paper writes it as two opposite corner pools per axis, which gives the same values.

    Args:
        in_channels: channels of the input and the output.
        pool_channels: channels of the two pooled branches.
    """

    def pooled(self, x: Tensor) -> Tensor:
        """(B, C, 1, W) column maxima plus (B, C, H, 1) row maxima."""
        return self.branch1(x).amax(2, keepdim=True) + self.branch2(x).amax(3, keepdim=True)
