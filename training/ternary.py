"""Trained Ternary Quantization: weights of three values, -Wn, 0 and +Wp, trained per layer.

Zhu, Han, Mao, Dally, *Trained Ternary Quantization*, ICLR 2017 (arXiv:1612.01064), section 3.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

THRESHOLD = 0.05  # the paper's t for CIFAR-10 and ImageNet


class _Ternarize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, latent: Tensor, wp: Tensor, wn: Tensor, threshold: float) -> Tensor:
        """Return +wp above the layer's threshold, -wn below its negative, else 0."""
        delta = threshold * latent.abs().max()
        positive, negative = latent > delta, latent < -delta
        ctx.save_for_backward(positive, negative, wp, wn)
        return wp * positive - wn * negative

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Return the gradients of the scales (Eq. 7) and of the latent weights (Eq. 8).

        Eq. 7 prints the gradient of Wn without a sign; the weight is -Wn, so it is negative here.
        """
        (grad,) = grad_outputs
        positive, negative, wp, wn = ctx.saved_tensors
        grad_wp = (grad * positive).sum()
        grad_wn = -(grad * negative).sum()
        grad_latent = grad * torch.where(positive, wp, torch.where(negative, wn, 1.0))
        return grad_latent, grad_wp, grad_wn, None


_ternarize: Callable[[Tensor, Tensor, Tensor, float], Tensor] = _Ternarize.apply


class TrainedTernary(nn.Module):
    """Parametrization that makes a layer's weight ternary and trains its two scales.

    Parameters
    ----------
    weight : Tensor
        Full-precision weight to start from; each scale starts as the mean magnitude of the
        weights it stands for.
    threshold : float
        Weights of magnitude up to `threshold` times the layer's largest become zero.
    """

    def __init__(self, weight: Tensor, threshold: float = THRESHOLD) -> None:
        super().__init__()
        self.threshold = threshold
        weight = weight.detach()
        delta = threshold * weight.abs().max()
        self.wp = nn.Parameter(weight[weight > delta].mean())
        self.wn = nn.Parameter(-weight[weight < -delta].mean())

    def forward(self, latent: Tensor) -> Tensor:
        """Return the ternary weight, shaped like `latent`."""
        return _ternarize(latent, self.wp, self.wn, self.threshold)


def ternarize(layer: nn.Conv2d | nn.Linear, threshold: float = THRESHOLD) -> None:
    """Make `layer.weight` ternary from now on; what it holds becomes the latent weight."""
    parametrize.register_parametrization(layer, "weight", TrainedTernary(layer.weight, threshold))


class Mask(nn.Module):
    """Parametrization that keeps chosen entries of a weight at zero.

    Parameters
    ----------
    mask : Tensor
        1.0 where the weight is free, 0.0 where it stays zero; broadcast against the weight.
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        """Return `weight` with the masked entries set to zero."""
        return weight * self.mask
