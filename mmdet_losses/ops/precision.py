"""Arithmetic in at least float32."""

from __future__ import annotations

import torch
from torch import Tensor

_HALF = (torch.float16, torch.bfloat16)


def promote(tensor: Tensor) -> Tensor:
    """float16 and bfloat16 as float32; float32 and float64 (for gradcheck) unchanged."""
    return tensor.float() if tensor.dtype in _HALF else tensor
