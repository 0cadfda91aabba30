"""Maximum and average over windows of planes [N, C, H, W]."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepchip.formats.graph import Quantization, Shape
from deepchip.formats.jit import jit
from deepchip.runtime.kernels.plain.planes import pad
from deepchip.runtime.kernels.plain.pooling import counts
from deepchip.runtime.kernels.window import Window

Array = NDArray[Any]


def max_pool(window: Window) -> Callable[[Array], Array]:
    """Return a function from [N, C, H, W] to the largest of each window; see `plain.max_pool`."""
    geometry = _geometry(window)

    def run(x: Array) -> Array:
        floats = x.dtype == np.float32
        lowest = -np.inf if floats else 0
        planes = _planes(x, window, lowest)
        y = np.full((*x.shape[:2], *window.outputs), lowest, x.dtype)
        kernel = max_floats if floats else max_codes
        kernel(planes, *geometry, y.reshape(-1, *window.outputs))
        return y

    return run


def average_pool(
    shape: Shape, window: Window, quantization: Quantization | None, count_include_pad: bool
) -> Callable[[Array], NDArray[np.float32]]:
    """Return a function from [N, *shape] to averages, float32; see `plain.average_pool`."""
    elements, divisor = counts(shape, window, count_include_pad)
    geometry = _geometry(window)

    def run(x: Array) -> NDArray[np.float32]:
        y = np.empty((*x.shape[:2], *window.outputs), np.float32)
        out = y.reshape(-1, *window.outputs)
        if quantization is None:
            average_floats(_planes(x, window, 0), *geometry, divisor, out)
        else:
            absent = elements * np.int32(quantization.zero_point)
            scale = np.float32(quantization.scale)
            average_codes(_planes(x, window, 0), *geometry, absent, scale, divisor, out)
        return y

    return run


def _geometry(window: Window) -> tuple[int, ...]:
    return (*window.kernel, *window.strides, *window.dilations)


def _planes(x: Array, window: Window, fill: float) -> Array:
    plane = pad(x, window, fill)
    return plane.reshape(-1, *plane.shape[2:])


def _max(x, kh, kw, sv, sh, dv, dh, out):
    """Write the largest of each window of x [planes, Hp, Wp] to out [planes, OH, OW].

    `out` holds the lowest number at first. Down before across: the former is vector code, and
    leaves a kh-th of the work for the latter.
    """
    high = np.empty(x.shape[2], x.dtype)
    for p in range(x.shape[0]):
        for r in range(out.shape[1]):
            high[:] = x[p, r * sv]
            for i in range(1, kh):
                line = x[p, r * sv + i * dv]
                for c in range(high.shape[0]):
                    high[c] = line[c] if not high[c] >= line[c] else high[c]
            best = out[p, r]
            for j in range(kw):
                row = high[j * dh :]
                if sh == 2:  # known to the compiler, it becomes vector code too
                    for c in range(best.shape[0]):
                        best[c] = row[2 * c] if row[2 * c] > best[c] else best[c]
                else:
                    for c in range(best.shape[0]):
                        best[c] = row[c * sh] if row[c * sh] > best[c] else best[c]


_ARGUMENTS = "void({0}[:, :, ::1], int64, int64, int64, int64, int64, int64, {0}[:, :, ::1])"
max_codes = jit(_ARGUMENTS.format("uint8"))(_max)
max_floats = jit(_ARGUMENTS.format("float32"))(_max)


@jit(
    "void(float32[:, :, ::1], int64, int64, int64, int64, int64, int64, float32[:, ::1], "
    "float32[:, :, ::1])"
)
def average_floats(x, kh, kw, sv, sh, dv, dh, divisor, out):
    """Write each window's sum, in the order of its elements, over `divisor` [OH, OW] to out."""
    for p in range(x.shape[0]):
        for r in range(out.shape[1]):
            for c in range(out.shape[2]):
                total = np.float32(0)
                for i in range(kh):
                    for j in range(kw):
                        total += x[p, r * sv + i * dv, c * sh + j * dh]
                out[p, r, c] = total / divisor[r, c]


@jit(
    "void(uint8[:, :, ::1], int64, int64, int64, int64, int64, int64, int32[:, ::1], float32, "
    "float32[:, ::1], float32[:, :, ::1])"
)
def average_codes(x, kh, kw, sv, sh, dv, dh, absent, scale, divisor, out):
    """Write scale * (S - absent) / divisor, S the exact sum of each window's codes, to out."""
    for p in range(x.shape[0]):
        for r in range(out.shape[1]):
            for c in range(out.shape[2]):
                total = np.int64(0)
                for i in range(kh):
                    for j in range(kw):
                        total += x[p, r * sv + i * dv, c * sh + j * dh]
                out[p, r, c] = scale * np.float32(total - absent[r, c]) / divisor[r, c]
