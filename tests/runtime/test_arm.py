"""The code of kernels on a Raspberry Pi: vectors in the loops where the time goes, nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PI3, PI4, PI5 = "cortex-a53", "cortex-a72", "cortex-a76"

ADD_BYTES = r"add v\d+\.16b"
LOAD_ROW = r"ld1 (.*\.16b){4}"
"""Sixteen bytes are added; 64 are loaded."""

Loop = list[str]


@cache
def loops(module: str, kernel: str, cpu: str) -> list[Loop]:
    """Return the instructions of every innermost loop of a kernel."""
    command = [sys.executable, "-m", "tests.runtime.arm", module, kernel, cpu]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    code: list[str] = []
    labels: dict[str, int] = {}
    for line in done.stdout.splitlines():
        if label := re.match(r"(\.LBB\w+):", line):
            labels[label[1]] = len(code)
        elif re.match(r"\t[a-z]", line):
            code.append(line.strip().replace("\t", " "))
    back = []
    for place, instruction in enumerate(code):
        jump = re.match(r"(?:b|cb|tb)\S* .*?(\.LBB\w+)$", instruction)
        if jump and labels.get(jump[1], len(code)) <= place:
            back.append((labels[jump[1]], place))
    return [
        code[first : last + 1]
        for first, last in back
        if not any((first, last) != (a, b) and first <= a and b <= last for a, b in back)
    ]


def count(loop: Loop, pattern: str) -> int:
    """Return how many instructions of a loop begin with a pattern."""
    return sum(bool(re.match(pattern, line)) for line in loop)


def holding(found: list[Loop], pattern: str, least: int) -> Iterator[Loop]:
    """Yield the loops that hold so many instructions of a pattern."""
    yield from (loop for loop in found if count(loop, pattern) >= least)


def alone(loop: Loop) -> Loop:
    """Return what loads, stores, moves or computes an element of a vector by itself."""
    element = r"(ldrb|ldrsb|strb|umov|smov|fmov|dup|ins)\b|.*(\bv\d+\.[bhsd]\[|\b[bhsd]\d+\b)"
    return [line for line in loop if re.match(element, line)]


def spills(loop: Loop) -> Loop:
    """Return what keeps vectors on the stack, where registers do not suffice."""
    return [line for line in loop if re.search(r"\bq\d+, .*\[sp", line)]


def tile_bits(loop: Loop) -> set[int]:
    """Return the logarithms of how many pixels the tiles have whose rows a loop adds."""
    return {int(bits) for line in loop for bits in re.findall(r"^add x.*lsl #(\d+)", line)}


@pytest.mark.parametrize(
    "cpu",
    [PI4, pytest.param(PI5, marks=pytest.mark.slow), pytest.param(PI3, marks=pytest.mark.slow)],
)
def test_sums_of_few_bits(cpu: str) -> None:
    tiles = set()
    for loop in holding(loops("conv_blocks", "conv_blocks_narrow", cpu), ADD_BYTES, 16):
        if count(loop, "usra|fadd|[us]cvtf"):
            continue  # the loop around it, which widens what was summed
        assert not alone(loop)
        adds = count(loop, ADD_BYTES)
        assert adds == 4 * count(loop, LOAD_ROW)  # each register that is loaded is added once
        # All the rest: an instruction for each addition, and one more on a Pi itself, where LLVM
        # does one turn of the loop over 64 pixels at a time: here it does two.
        assert len(loop) <= 2 * adds + 1
        # A Cortex-A53 takes instructions in their order: loads are moved up, and registers run out.
        assert len(spills(loop)) <= (adds // 2 if cpu == PI3 else 0)
        tiles |= tile_bits(loop)
    assert tiles == {6, 7}


@pytest.mark.slow
def test_sums_of_eight_bits() -> None:
    tiles = set()
    for loop in holding(loops("conv_blocks", "conv_blocks_wide", PI4), LOAD_ROW, 4):
        assert not alone(loop)
        adds, loads = count(loop, r"add v\d+\.8h"), count(loop, LOAD_ROW)
        # Each register that is loaded is added, and shifted and added, which is one instruction.
        assert adds == count(loop, r"usra v\d+\.8h, v\d+\.8h, #8") == 4 * loads
        assert not count(loop, "ushr|uaddw|eor|bsl")
        assert len(spills(loop)) <= adds // 4
        tiles |= tile_bits(loop)
    assert tiles == {6, 7}


@pytest.mark.parametrize("kernel", ["look_up_narrow", "look_up_wide"])
def test_sums_that_are_looked_up(kernel: str) -> None:
    found = list(holding(loops("fully_connected_codes", kernel, PI4), r"tbl v\d+\.16b, {", 8))
    assert found
    for loop in found:
        assert not alone(loop) + spills(loop)
        assert len(loop) <= 4.5 * count(loop, "tbl")  # nibbles come by two, sums in bytes go


def test_codes_of_numbers() -> None:
    (loop,) = holding(loops("quantization", "quantize", PI4), r"f\w+ v\d+\.4s", 16)
    assert not count(loop, "fdiv")  # which takes a Cortex-A72 as long as ten products
    assert not count(loop, r"f\w+ s\d|(ld|st)\w+ [bhsw]\d")  # no number by itself


def test_maxima_of_codes() -> None:
    found = list(holding(loops("max_codes", "max_codes", PI4), r"umax v\d+\.16b", 4))
    assert len(found) >= 2  # down the columns, and across the row of maxima
    for loop in found:
        assert not alone(loop) + spills(loop)
