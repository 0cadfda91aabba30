"""Guarded memory finds what it is there to find."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from .pages import PAGE, Edge, allocate, block, constant, span
from .test_guard_pages import environment

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="protected pages are asked for as Linux does"
)

SIZE, MARGIN = 5000, 512
DIES = -11  # by SIGSEGV

CODE = """
import ctypes, sys
import numpy as np
from tests.safety.pages import Edge, allocate, block, constant, span

edge, place, what = sys.argv[1], int(sys.argv[2]), sys.argv[3]
if what.startswith("constant"):
    held = constant(np.zeros(5000, np.uint8), Edge(edge))
else:
    pages = allocate(span(5000, 512))
    held = block(pages, 5000, 512, Edge(edge), np.random.default_rng(0)).body
address = held.__array_interface__["data"][0] + place
if what.endswith("read"):
    ctypes.string_at(address, 1)
else:
    ctypes.memset(address, 0, 1)
"""


@pytest.mark.parametrize(
    ("edge", "place", "what", "dies"),
    [
        ("body ends", SIZE - 1, "write", False),
        ("body ends", SIZE, "write", True),
        ("body ends", SIZE + MARGIN - 1, "read", False),
        ("body begins", 0, "write", False),
        ("body begins", -1, "write", True),
        ("body begins", -MARGIN, "read", False),
        ("margin ends", SIZE + MARGIN - 1, "read", False),
        ("margin ends", SIZE + MARGIN, "read", True),
        ("margin begins", -MARGIN, "read", False),
        ("margin begins", -MARGIN - 1, "read", True),
        ("body ends", SIZE - 1, "constant read", False),
        ("body ends", SIZE, "constant read", True),
        ("body begins", 0, "constant read", False),
        ("body begins", -1, "constant read", True),
        ("body begins", 0, "constant write", True),
    ],
)
def test_what_lies_out_of_bounds_ends_the_process(edge, place, what, dies):
    found = subprocess.run(
        [sys.executable, "-c", CODE, edge, str(place), what], env=environment(), check=False
    )
    assert found.returncode == (DIES if dies else 0)


@pytest.mark.parametrize("edge", Edge)
@pytest.mark.parametrize("size", [1, PAGE - 1, PAGE, SIZE])
@pytest.mark.parametrize("margin", [0, MARGIN, PAGE, 3 * PAGE + 1])
def test_the_exact_edge(edge, size, margin):
    pages = allocate(span(size, margin))
    one = block(pages, size, margin, edge, np.random.default_rng(0))
    start = one.body.__array_interface__["data"][0]
    exact = {
        Edge.BODY_BEGINS: start,
        Edge.BODY_ENDS: start + size,
        Edge.MARGIN_BEGINS: start - margin,
        Edge.MARGIN_ENDS: start + size + margin,
    }
    assert exact[edge] % PAGE == 0
    one.body[:] = 0
    one.check()


@pytest.mark.parametrize(
    ("edge", "place"), [("margin ends", SIZE), ("margin begins", -1), ("body ends", -1)]
)
def test_what_is_written_beside_a_body_is_found(edge, place):
    pages = allocate(span(SIZE, 100))
    one = block(pages, SIZE, 100, Edge(edge), np.random.default_rng(0))
    pages[one.start + place] += 1
    with pytest.raises(AssertionError, match=f"byte {place} of a buffer of 5000"):
        one.check()


def test_fresh_memory_is_random():
    blocks = [
        block(allocate(span(SIZE, 0)), SIZE, 0, Edge.BODY_ENDS, np.random.default_rng(seed)).body
        for seed in (0, 1)
    ]
    assert len(np.unique(blocks[0])) == 256
    assert not np.array_equal(*blocks)


@pytest.mark.parametrize("edge", [Edge.BODY_BEGINS, Edge.BODY_ENDS])
@pytest.mark.parametrize("shape", [(0,), (3,), (5, 700)])
def test_constants_are_what_they_were(edge, shape):
    array = np.random.default_rng(0).standard_normal(shape, np.float32)
    np.testing.assert_array_equal(constant(array, edge), array)


def test_pages_are_those_of_the_system():
    assert os.sysconf("SC_PAGE_SIZE") == PAGE
