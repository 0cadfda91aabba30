"""The one function that Python calls: it calls the kernel of every operation in turn.

Threads that share a call cut each operation into pieces and take one after the other, until none is
left. So one that comes late, as it was asleep, or is slow, as others use its processor, does less,
and nobody waits for more than a piece. Which thread does a piece changes no bit of the results.
"""

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
"""How often a thread looks whether there is something to do before it lets others run."""
_YIELD = "SwitchToThread" if os.name == "nt" else "sched_yield"

PIECE_BITS, OPERATION_BITS, CALL_BITS = 12, 18, 33
"""A state says which piece is the next to be taken, of which operation, of which call. A network of
at most 2**12 nodes with 2**15 inputs has fewer operations; numbers of calls begin anew some day."""
MOST_PIECES = 2**PIECE_BITS - 1
ALONE, LEADS, FOLLOWS = range(3)
_CALL = PIECE_BITS + OPERATION_BITS

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
def _add_one(context, place):
    """Add one to the int64 at an address, seen by all threads in one order."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], _I64.as_pointer())
        builder.atomic_rmw("add", place, ir.Constant(_I64, 1), "seq_cst")
        return context.get_dummy_value()

    return types.void(types.int64), emit


@intrinsic
def _replace(context, place, old, new):
    """Put a number in the place of the int64 at an address, if that is `old`; return whether."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], _I64.as_pointer())
        found = builder.cmpxchg(place, arguments[1], arguments[2], "seq_cst", "seq_cst")
        return builder.extract_value(found, 1)

    return types.boolean(types.int64, types.int64, types.int64), emit


@intrinsic
def _put(context, place, number):
    """Set the int64 at an address; who sees it sees all that this thread wrote before."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], _I64.as_pointer())
        builder.store_atomic(arguments[1], place, "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit


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


def first_state(call: int) -> int:
    """Return the state at the beginning of a call."""
    return call << _CALL


@register_jitable
def _do_piece(calls, operation, piece, pieces, frame):
    pairs = carray(pointer(calls), (operation + 1, 2), np.int64)
    own = carray(pointer(frame), 1, dtype=FRAME)
    own[0].piece, own[0].pieces = piece, pieces
    _call(pairs[operation, 0], pairs[operation, 1], frame)


@register_jitable
def _wait(looks):
    """Return one more look; let others run after many."""
    if looks > PATIENCE:
        _let_others_run()
    return looks + 1


@register_jitable
def _lead(calls, count, frame, meeting, pieces):
    first = _look(meeting)
    first -= first & MOST_PIECES
    for operation in range(count):
        state = first + (operation << PIECE_BITS)
        if operation > 0:
            _put(meeting, state)
        piece = _look(meeting) - state
        while piece < pieces:
            if _replace(meeting, state + piece, state + piece + 1):
                _do_piece(calls, operation, piece, pieces, frame)
                _add_one(meeting + 8)
            piece = _look(meeting) - state
        looks = 0
        while _look(meeting + 8) < pieces * (operation + 1):
            looks = _wait(looks)
    _put(meeting, ((first >> _CALL) + 1) << _CALL)


@register_jitable
def _follow(calls, frame, meeting, pieces, call):
    looks = 0
    while True:
        state = _look(meeting)
        if state >> _CALL != call:
            return
        piece = state & MOST_PIECES
        if piece >= pieces:
            looks = _wait(looks)
        elif _replace(meeting, state, state + 1):
            operation = (state >> PIECE_BITS) & (2**OPERATION_BITS - 1)
            _do_piece(calls, operation, piece, pieces, frame)
            _add_one(meeting + 8)
            looks = 0


@jit("void(int64, int64, int64, int64, int64, int64, int64)")
def execute(role, calls, count, frame, meeting, pieces, call):
    """Run `count` operations.

    Parameters
    ----------
    role : `ALONE`; `LEADS` those who follow, and begins an operation when the one before is done;
        or `FOLLOWS`, and takes pieces until the call is over, maybe before this thread begins
    calls : address of int64 [count, 2], addresses of kernels and of operations
    frame : address of this thread's frame; alone, it tells which piece is done of each operation
    meeting : address of int64 [2]: the state, `first_state` of the call when others are asked to
        follow; and how many pieces are done, 0 then
    pieces : of each operation, at most `MOST_PIECES`
    call : its number, even and below 2**CALL_BITS; the next one is of what is over
    """
    if role == FOLLOWS:
        _follow(calls, frame, meeting, pieces, call)
    elif role == LEADS:
        _lead(calls, count, frame, meeting, pieces)
    else:
        pairs = carray(pointer(calls), (count, 2), np.int64)
        for operation in range(count):
            _call(pairs[operation, 0], pairs[operation, 1], frame)
