"""Where windows of planes [C, H, W] are placed, clipped at the borders of the plane."""

from __future__ import annotations

from typing import Any

from deepchip.formats.graph import Shape
from deepchip.runtime.kernels.window import Window

from .each import inlined
from .frame import PLACE

PLACES = {
    "source": PLACE, "target": PLACE, "channels": "i8", "height": "i8", "width": "i8",
    "rows": "i8", "columns": "i8", "kh": "i8", "kw": "i8", "sv": "i8", "sh": "i8", "dv": "i8",
    "dh": "i8", "top": "i8", "left": "i8",
}  # fmt: skip
"""Planes, how often the window is placed, its kernel, strides, dilations and first pads."""


def places(shape: Shape, window: Window) -> dict[str, Any]:
    """Return what `PLACES` has, but for the buffers."""
    (channels, height, width), (rows, columns) = shape, window.outputs
    (kh, kw), (sv, sh), (dv, dh) = window.kernel, window.strides, window.dilations
    return {
        "channels": channels, "height": height, "width": width, "rows": rows, "columns": columns,
        "kh": kh, "kw": kw, "sv": sv, "sh": sh, "dv": dv, "dh": dh, "top": window.pads[0],
        "left": window.pads[1],
    }  # fmt: skip


@inlined
def inside(start, kernel, dilation, size):
    """Return the first and behind the last element of a window that lie on an axis of `size`."""
    if start >= 0 and start + (kernel - 1) * dilation < size:
        return 0, kernel
    first = max(0, -(start // dilation))
    return first, max(first, min(kernel, (size - 1 - start) // dilation + 1))
