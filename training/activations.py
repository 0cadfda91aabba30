"""k-bit activations: a ReLU bounded to 0..1, then DoReFa's uniform quantizer.

Zhou et al., *DoReFa-Net*, 2016 (arXiv:1606.06160), section 2.2 (Eq. 5) and 2.4.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class _Quantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor) -> Tensor:
        # Division by a float32 scale and rounding half to even, as ONNX QuantizeLinear does it:
        # a multiplication by 2**k - 1 would round other values at the midpoints.
        return torch.round(x / scale) * scale

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        # Straight-through estimator: the rounding counts as the identity.
        return grad_outputs[0], None


_quantize: Callable[[Tensor, Tensor], Tensor] = _Quantize.apply


def code_scale(bits: int) -> float:
    """Return the step between two codes of 0..1, rounded to float32: 1 / (2**bits - 1)."""
    return float(np.float32(1 / (2**bits - 1)))


def quantize(x: Tensor, bits: int) -> Tensor:
    """Round values of 0..1 to the nearest of 2**bits evenly spaced ones, gradient unchanged.

    Parameters
    ----------
    x : float32 Tensor
        Values in 0..1.
    bits : int
        Bits of a code, 1 to 8.

    Returns
    -------
    float32 Tensor
        code * scale, with the float32 `code_scale(bits)`.
    """
    return _quantize(x, torch.tensor(code_scale(bits)))


class BoundedReLU(nn.Module):
    """Clip to 0..1 and, where `bits` is given, quantize to that many bits."""

    def __init__(self, bits: int | None) -> None:
        super().__init__()
        self.bits = bits

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` clipped (and quantized), same shape."""
        x = x.clamp(0.0, 1.0)
        return x if self.bits is None else quantize(x, self.bits)
