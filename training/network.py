"""LeNet-5, and what its size is counted as.

LeCun, Bottou, Bengio, Haffner, *Gradient-Based Learning Applied to Document Recognition*, 1998,
section II.B; with max pooling, batch normalization and bounded ReLUs in place of the original's
trained subsampling, sigmoids and Euclidean output units.
"""

import torch
from activations import BoundedReLU, quantize
from ternary import Mask
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

INPUT_BITS = 8
WEIGHT_LAYERS = ("conv1", "conv2", "fc1", "fc2", "fc3")

# LeCun et al. 1998, Table I: the maps of S2 that each of the sixteen maps of C3 reads.
C3_INPUTS: tuple[tuple[int, ...], ...] = (
    *(tuple((first + i) % 6 for i in range(3)) for first in range(6)),
    *(tuple((first + i) % 6 for i in range(4)) for first in range(6)),
    (0, 1, 3, 4),
    (1, 2, 4, 5),
    (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)


class LeNet5(nn.Module):
    """LeNet-5 for digits, with the partial connections of Table I in its second convolution.

    Parameters
    ----------
    bits : int or None
        Bits of a hidden activation; None leaves the activations (clipped to 0..1) unquantized.
    """

    def __init__(self, bits: int | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2, bias=False)
        self.conv1_bn = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 16, 5, bias=False)
        self.conv2_bn = nn.BatchNorm2d(16)
        self.fc1 = nn.Linear(400, 120, bias=False)
        self.fc1_bn = nn.BatchNorm1d(120)
        self.fc2 = nn.Linear(120, 84, bias=False)
        self.fc2_bn = nn.BatchNorm1d(84)
        self.fc3 = nn.Linear(84, 10)
        self.activation = BoundedReLU(bits)
        parametrize.register_parametrization(self.conv2, "weight", Mask(_c3_mask()))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [N, 10] of images [N, 1, 28, 28] in 0..1, both float32."""
        # The activation is monotone, so pooling before it gives the values that pooling after it
        # gives; but the gradient then goes to the true maximum and not to the first of equal codes.
        x = quantize(images, INPUT_BITS)
        x = self.activation(functional.max_pool2d(self.conv1_bn(self.conv1(x)), 2))
        x = self.activation(functional.max_pool2d(self.conv2_bn(self.conv2(x)), 2))
        x = self.activation(self.fc1_bn(self.fc1(x.flatten(1))))
        x = self.activation(self.fc2_bn(self.fc2(x)))
        logits: Tensor = self.fc3(x)
        return logits

    def weight(self, layer: str) -> Tensor:
        """Return the weight that `layer` computes with: masked, and ternary where made so."""
        weight: Tensor = getattr(self, layer).weight.detach()
        return weight


def _c3_mask() -> Tensor:
    mask = torch.zeros(len(C3_INPUTS), 6, 1, 1)
    for row, inputs in zip(mask, C3_INPUTS, strict=True):
        row[list(inputs)] = 1.0
    return mask


def connections() -> dict[str, int]:
    """Count connections as LeCun et al. 1998 do: 340,908, the "341 k" of the field's tables.

    Every output of a layer counts its inputs and one bias at every position, a subsampling output
    four inputs and one bias, the output units no bias. C3 counts only the 60 pairs of maps that
    Table I connects; with all 96, and neither biases nor subsampling, LeNet-5 has 416,520
    multiply-accumulates (`dense_macs`).
    """
    pairs = sum(len(inputs) for inputs in C3_INPUTS)
    return {
        "C1": 28 * 28 * 6 * (5 * 5 + 1),
        "S2": 14 * 14 * 6 * (4 + 1),
        "C3": 10 * 10 * (pairs * 5 * 5 + 16),
        "S4": 5 * 5 * 16 * (4 + 1),
        "C5": 120 * (400 + 1),
        "F6": 84 * (120 + 1),
        "output": 10 * 84,
    }


def dense_macs() -> dict[str, int]:
    """Count each layer's multiply-accumulates for one image, its zero weights included."""
    return {
        "conv1": 28 * 28 * 6 * 5 * 5,
        "conv2": 10 * 10 * 16 * 6 * 5 * 5,
        "fc1": 120 * 400,
        "fc2": 84 * 120,
        "fc3": 10 * 84,
    }
