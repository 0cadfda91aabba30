"""Functions of each number of an item, written as a function of one number each."""

from __future__ import annotations

from numba import carray
from numba.extending import register_jitable

from .frame import PLACE, floats, layout, share

inlined = register_jitable(forceinline=True)
"""Decorates functions of numbers: loops that call one do not become vector code."""

EACH = layout(source=PLACE, target=PLACE, count="i8")
"""From `count` numbers of each item to as many."""
EACH_ALPHA = layout(source=PLACE, target=PLACE, count="i8", alpha="f4")


@register_jitable
def part(operation, frame):
    """Return this piece of source and target, float32 both."""
    first, last = share(operation.count * frame.images, frame)
    source = floats(frame.arena + operation.source + 4 * first, last - first)
    return source, floats(frame.arena + operation.target + 4 * first, last - first)


@register_jitable
def each(operations, frames, function):
    """Write `function` of each number, see `EACH`."""
    operation, frame = carray(operations, 1)[0], carray(frames, 1)[0]
    x, out = part(operation, frame)
    for i in range(len(out)):
        out[i] = function(x[i])


@register_jitable
def each_alpha(operations, frames, function):
    """Write `function` of each number and of alpha, see `EACH_ALPHA`."""
    operation, frame = carray(operations, 1)[0], carray(frames, 1)[0]
    alpha = operation.alpha
    x, out = part(operation, frame)
    for i in range(len(out)):
        out[i] = function(x[i], alpha)
