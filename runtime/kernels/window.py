"""The geometry of a sliding window: convolution and pooling share it."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepchip.formats.attributes import ints
from deepchip.formats.graph import Node, Shape


@dataclass(frozen=True)
class Window:
    """A window of `kernel` elements that slides over the last two axes.

    Attributes
    ----------
    kernel, strides, dilations : (vertical, horizontal)
    pads : (top, left, bottom, right)
    outputs : how many places it takes, (vertical, horizontal)
    """

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]
    outputs: tuple[int, int]

    @classmethod
    def of(cls, node: Node, kernel: Shape, output: Shape) -> Window:
        """Return the window of a Conv or pooling node that gives items of shape `output`.

        A stride of its only place, and a dilation of one element, mean nothing: they are 1, so that
        all strides and dilations are smaller than the plane that the places lie in.
        """
        top, left, bottom, right = ints(node, "pads")
        height, width = output[1:]
        (down, across), (low, beside) = ints(node, "strides"), ints(node, "dilations")
        return cls(
            (kernel[0], kernel[1]),
            (down if height > 1 else 1, across if width > 1 else 1),
            (low if kernel[0] > 1 else 1, beside if kernel[1] > 1 else 1),
            (top, left, bottom, right),
            (height, width),
        )

    def elements(self, inputs: NDArray[np.int32]) -> tuple[Any, Any, Any]:
        """Return channel, row and column of what inputs of a row of weights see at the first place.

        Parameters
        ----------
        inputs : places in a row of weights (C, kh, kw)

        Returns
        -------
        Three int32 arrays; row and column count from the corner of the padded plane.
        """
        channel, element = np.divmod(inputs, np.int32(prod(self.kernel)))
        row, column = np.divmod(element, np.int32(self.kernel[1]))
        return channel, row * np.int32(self.dilations[0]), column * np.int32(self.dilations[1])

    def padded(self, height: int, width: int) -> tuple[int, int]:
        """Return the plane that all places of the window lie in, for an input of this size.

        Larger than input and pads where rounding up lets the last window reach beyond them, and
        never smaller than the input with its upper and left pads.
        """
        sizes = (height + self.pads[0], width + self.pads[1])
        reach = [
            (self.outputs[i] - 1) * self.strides[i] + self.dilations[i] * (self.kernel[i] - 1) + 1
            for i in range(2)
        ]
        return max(sizes[0], reach[0]), max(sizes[1], reach[1])
