"""What every kernel is handed: an operation, which says what to do, and a frame, which says where.

An operation is a record with a layout of the kernel's own. In it, buffers of the arena are offsets,
and constants are addresses. Kernels are called by address, check nothing, and do a piece of an
operation only; an operation begins when all pieces of the one before are done.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic, register_jitable
from numpy.typing import NDArray

FRAME = np.dtype(
    [
        ("arena", "i8"),  # address that offsets count from
        ("scratch", "i8"),  # address of memory of this thread alone
        ("images", "i8"),  # items of the slice
        ("piece", "i8"),  # of the operation, which is to be done
        ("pieces", "i8"),
    ]
)
"""What differs between calls and between the threads of a call."""

PLACE = "i8"
"""The dtype of offsets into the arena and of addresses."""


def layout(**fields: str) -> np.dtype[Any]:
    """Return the dtype of a kernel's operations."""
    return np.dtype(list(fields.items()), align=True)


def address(array: NDArray[Any]) -> int:
    """Return where an array's elements lie."""
    return int(array.__array_interface__["data"][0])  # quicker than what makes a ctypes object


def record(dtype: np.dtype[Any], fields: Mapping[str, Any]) -> NDArray[Any]:
    """Return an operation; all fields have to be given."""
    operation = np.zeros(1, dtype)
    if set(fields) != set(dtype.names or ()):
        raise TypeError(f"fields {sorted(fields)} of an operation, expected {dtype.names}")
    for name, value in fields.items():
        operation[name] = value
    return operation


@intrinsic
def pointer(context, place):
    """Return an address as a pointer."""

    def emit(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), emit


@register_jitable
def floats(place, count):
    """Return float32 [count] at an address."""
    return carray(pointer(place), (count,), np.float32)


@register_jitable
def codes(place, count):
    """Return uint8 [count] at an address."""
    return carray(pointer(place), (count,), np.uint8)


@register_jitable
def integers(place, count):
    """Return int32 [count] at an address."""
    return carray(pointer(place), (count,), np.int32)


@register_jitable
def share(count, frame):
    """Return the first and the last of `count` units of work that are of this piece."""
    return count * frame.piece // frame.pieces, count * (frame.piece + 1) // frame.pieces
