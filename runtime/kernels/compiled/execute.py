"""The one function that Python calls: it calls the kernel of every operation in turn."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic, register_jitable

from deepchip.formats.jit import jit

from .frame import FRAME, pointer

PATIENCE = 4000
"""How often a thread looks whether the others have arrived before it lets others run."""
_YIELD = "SwitchToThread" if os.name == "nt" else "sched_yield"

_I64 = ir.IntType(64)


@intrinsic
def _call(context, kernel, operation, frame):
    """Call the kernel at an address with pointers to an operation and a frame."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, byte]).as_pointer()
        handed = [builder.inttoptr(argument, byte) for argument in arguments[1:]]
        builder.call(builder.inttoptr(arguments[0], kind), handed)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), emit


@intrinsic
def _arrive(context, place):
    """Add one to the int64 at an address, seen by all threads in one order."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], _I64.as_pointer())
        builder.atomic_rmw("add", place, ir.Constant(_I64, 1), "seq_cst")
        return context.get_dummy_value()

    return types.void(types.int64), emit


@intrinsic
def _look(context, place):
    """Return the int64 at an address as other threads left it, and all they wrote before."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], _I64.as_pointer())
        return builder.load_atomic(place, "acquire", 8)

    return types.int64(types.int64), emit


@intrinsic
def _let_others_run(context):
    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(32), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, _YIELD), [])
        return context.get_dummy_value()

    return types.void(), emit


@register_jitable
def _meet(meeting, goal):
    """Wait until all threads have arrived; return whether they are to go on."""
    _arrive(meeting)
    looks = 0
    while _look(meeting) < goal:
        if _look(meeting + 8) != 0:
            return False
        looks += 1
        if looks > PATIENCE:
            _let_others_run()
    return True


@jit("void(int64, int64, int64, int64)")
def execute(calls, count, frame, meeting):
    """Run this thread's share of `count` operations.

    Parameters
    ----------
    calls : address of int64 [count, 2], addresses of kernels and of operations
    frame : address of the thread's frame
    meeting : address of int64 [2], how often threads arrived after an operation, and whether they
        are to give up. The count only ever grows, so that a thread may be late to see it.
    """
    pairs = carray(pointer(calls), (count, 2), np.int64)
    own = carray(pointer(frame), 1, dtype=FRAME)[0]
    threads, met = own.threads, own.met
    for i in range(count):
        _call(pairs[i, 0], pairs[i, 1], frame)
        if threads > 1 and not _meet(meeting, met + threads * (i + 1)):
            return
