"""Placing buffers in one block of memory."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepchip.runtime import arena
from deepchip.runtime.arena import LINE, Buffer, place


@st.composite
def lists_of_buffers(draw):
    """Buffers of 0 to a few lines an item, that live for some operations of twelve."""
    buffers = []
    for size in draw(st.lists(st.integers(0, 5 * LINE), max_size=12)):
        first = draw(st.integers(-1, 10))
        buffers.append(Buffer(size, first, draw(st.integers(first, 11))))
    return buffers


def alive_together(a, b):
    return bool(set(range(a.first, a.last + 1)) & set(range(b.first, b.last + 1)))


@pytest.mark.parametrize("many", [arena.MANY, 0])
@given(lists_of_buffers(), st.sampled_from([1, 2, 7, 64]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_buffers_alive_together_lie_apart(many, monkeypatch, buffers, images):
    """Placed by size, and where there are too many for that, in turn."""
    monkeypatch.setattr(arena, "MANY", many)
    offsets, size = place(buffers, images)
    placed = list(zip(buffers, offsets, strict=True))
    for buffer, offset in placed:
        assert offset % LINE == 0
        assert 0 <= offset <= offset + buffer.size * images <= size
    for (a, start), (b, other) in combinations(placed, 2):
        if a.size and b.size and alive_together(a, b):
            assert start + a.size * images <= other or other + b.size * images <= start


def test_a_chain_takes_what_two_neighbours_take():
    """By hand: lines 3, 1, 2, 1; each is read by the operation that writes the next.

    The largest lies at 0, where what is dead by then, or not alive yet, lies too: the third, of 2
    lines, and beside the first, from line 3 on, the second, which the third does not reach. The
    fourth lives with the third alone: behind it, from line 2 on.
    """
    sizes = [3, 1, 2, 1]
    buffers = [Buffer(LINE * size, i - 1, i) for i, size in enumerate(sizes)]
    assert place(buffers, 1) == ([0, 3 * LINE, 0, 2 * LINE], 4 * LINE)
    assert place(buffers, 5) == ([0, 15 * LINE, 0, 10 * LINE], 20 * LINE)


def test_parts_of_lines_are_rounded_up():
    """Two items of 33 bytes: 66, and so two lines; one item: one."""
    buffers = [Buffer(33, 0, 1), Buffer(1, 0, 1)]
    assert place(buffers, 1) == ([0, LINE], 2 * LINE)
    assert place(buffers, 2) == ([0, 2 * LINE], 3 * LINE)


def test_nothing_takes_no_memory():
    assert place([], 64) == ([], 0)


def test_a_buffer_lives_from_its_first_to_its_last_use():
    buffer = Buffer(1)
    for operation in (5, 3, 4):
        buffer.used(operation)
    assert (buffer.first, buffer.last) == (3, 5)


def test_what_many_buffers_take():
    """Of a chain of 5,000, two are alive together: one place for those of even and of odd turns."""
    buffers = [Buffer(LINE * (1 + i % 2), i - 1, i) for i in range(5_000)]
    offsets, size = place(buffers, 1)
    assert size == 3 * LINE
    assert len(set(offsets)) == 2
