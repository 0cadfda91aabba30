"""MNIST in memory, and the random distortions it is trained with."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

ROTATION = math.radians(12)
SCALING = 0.12
SHIFT = 2 / 14  # two pixels, in the -1..1 coordinates of a 28-pixel side
SHEAR = 0.12


class Digits(NamedTuple):
    """Images float32 [N, 1, 28, 28] in 0..1 and their labels int64 [N]."""

    images: Tensor
    labels: Tensor


def load_digits(path: Path, part: str) -> Digits:
    """Return the "train" or the "test" part of an MNIST archive (`x_train`, `y_train`, ...)."""
    with np.load(path) as archive:
        images = torch.from_numpy(archive[f"x_{part}"])
        labels = torch.from_numpy(archive[f"y_{part}"])
    return Digits(images.unsqueeze(1).float() / 255, labels.long())


def distort(images: Tensor) -> Tensor:
    """Rotate, scale, shear and shift each image [N, 1, 28, 28] at random, bilinearly."""
    angle, scale, shear, shift_x, shift_y = torch.rand(5, len(images)) * 2 - 1
    angle = angle * ROTATION
    scale = 1 + scale * SCALING
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    rows = (cos, shear * SHEAR - sin, shift_x * SHIFT, sin, cos, shift_y * SHIFT)
    grid = functional.affine_grid(
        torch.stack(rows, dim=1).view(-1, 2, 3), list(images.shape), align_corners=False
    )
    return functional.grid_sample(images, grid, align_corners=False)
