"""The one function that Python calls: it calls the kernel of every operation in turn."""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from deepchip.formats.jit import jit

from .frame import FRAME, pointer

_FRAME_BYTES = FRAME.itemsize


@intrinsic
def _call(context, kernel, operation, frame):
    """Call the kernel at an address with pointers to an operation and a frame."""

    def emit(context, builder, signature, arguments):
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, byte]).as_pointer()
        handed = [builder.inttoptr(argument, byte) for argument in arguments[1:]]
        builder.call(builder.inttoptr(arguments[0], kind), handed)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), emit


@jit("void(int64, int64, int64, int64)")
def execute(calls, count, frames, threads):
    """Run `count` operations, each of them for every frame before the next one.

    Parameters
    ----------
    calls : address of int64 [count, 2], addresses of kernels and of operations
    frames : address of frames [threads]
    """
    pairs = carray(pointer(calls), (count, 2), np.int64)
    for i in range(count):
        for thread in range(threads):
            _call(pairs[i, 0], pairs[i, 1], frames + thread * _FRAME_BYTES)
