"""Random networks of every operator and any geometry, whose results have one order or need none.

Layers of float32 read small binary fractions and have such weights: their sums are exact, so that
the order of summation, which DESIGN.md leaves open, changes no bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from hypothesis import strategies as st

from deepchip.converter.builder import Builder
from deepchip.formats.graph import Graph, Quantization, Shape
from deepchip.formats.shapes import window_outputs
from tests.runtime.networks import LAYERS, OPERATORS, PLANES, Growing
from tests.runtime.one_node import Attributes, biases, level_weights, seeds, weights_of

MOST_ELEMENTS = 30_000
"""Of a value that grows no more."""
MOST_SEEN = 2**21
"""Inputs that the windows of a layer see: what the plain convolution holds for one item."""


@dataclass(frozen=True)
class Case:
    """A network and how it is run."""

    graph: Graph
    batch: int
    threads: int
    seed: int


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A network of any geometry, on batches of 1 to 70 items and 1 to 3 threads."""
    random = np.random.default_rng(draw(seeds))
    builder = Builder("random")
    shape = _item(random)
    names = [builder.input(f"x{i}", shape) for i in range(random.choice([1, 1, 2]))]
    growing = Wild(builder, draw, names[0], random)
    for op in random.choice([*OPERATORS, *LAYERS, *LAYERS], draw(st.integers(1, 8))):
        if len(growing.shape) == 3 or op not in PLANES:
            growing.add(str(op))
    others = sorted(set(builder.values) - {growing.name})
    wanted = [growing.name, *draw(st.lists(st.sampled_from(others), max_size=2, unique=True))]
    outputs = [
        builder.add("Dequantize", [name], "real") if builder.values[name].quantization else name
        for name in wanted
    ]
    most = max(1, int(2**23 // growing.seen))
    batch = int(min(most, random.choice([1, 1, 2, 3, 5, 13, 64, 65, 70])))
    return Case(builder.finish(outputs), batch, draw(st.integers(1, 3)), draw(seeds))


def _item(random: np.random.Generator) -> Shape:
    kind = random.integers(7)
    if kind == 0:  # many channels of few pixels
        return (int(random.integers(1, 600)), int(random.integers(1, 3)), 1)
    if kind == 1:  # planes of several tiles
        return tuple(map(int, (random.integers(1, 4), *random.integers(1, 60, 2))))
    if kind == 2:  # long rows
        return (
            int(random.integers(1, 3)),
            int(random.integers(1, 3)),
            int(random.integers(1, 3000)),
        )
    return tuple(map(int, (random.integers(1, 9), *random.integers(1, 14, 2))))


@dataclass
class Wild(Growing):
    """Networks whose windows are of any size, stride, dilation and padding."""

    random: np.random.Generator
    seen: int = 1

    def add(self, op: str) -> None:
        """Add a node, unless values would become too large; see `Growing`."""
        if prod(self.shape) > MOST_ELEMENTS and op in (
            "Pad",
            "Resample",
            "Take",
            "Concat",
            *LAYERS,
        ):
            return
        self.seen = max(self.seen, prod(self.shape))
        if op in LAYERS and self.random.random() < 0.25:
            self._add_of_floats(op)
            return
        if op in LAYERS and self.random.random() < 0.3:  # bits are counted where they are few
            form = Quantization(0.5, int(self.random.integers(2)), self._count(2))
            self.name = self.builder.add("Quantize", [self.name], "few", quantization=form)
        super().add(op)

    def _add_of_floats(self, op: str) -> None:
        form = Quantization(0.25, int(self.random.integers(16)), 4)
        self.name = self.builder.add("Quantize", [self.name], "few", quantization=form)
        if op == "FullyConnected" and len(self.shape) != 1:
            super().add("Reshape")
        self.name = self.builder.add("Dequantize", [self.name], "fractions")
        if op == "Conv":
            self._add_conv(floats=True)
        else:
            shape = (self._count(40), *self.shape)
            self._add(op, {}, tensors=self._fractions(shape))

    def _fractions(self, shape: Shape) -> Any:
        """Weights and bias of which every sum of products is exact in float32."""
        bias = {"bias": self.random.integers(-8, 9, shape[0]).astype(np.float32) / 4}
        if self.random.random() < 0.5:
            values = self.random.integers(-4, 5, shape).astype(np.float32) / 8
            return {"weight": values, **(bias if self.random.random() < 0.5 else {})}
        count = int(self.random.choice([1, 2, 5, 255]))
        levels = np.sort(self.random.integers(-8, 9, count)) / 8
        codes = self.random.integers(1, count + 1, shape)
        codes *= self.random.random(shape) < self.random.choice([0.02, 0.3, 1.0])
        return {"weight": weights_of(codes, levels), **bias}

    def _count(self, most: int) -> int:
        return int(self.random.integers(1, most + 1))

    def _add_conv(self, floats: bool = False) -> None:
        channels, random = self.shape[0], self.random
        groups = int(random.choice([g for g in range(1, channels + 1) if channels % g == 0]))
        outputs = groups * self._count(3 if groups > 8 else max(1, 40 // groups))
        attributes, kernel, plane = self._window(pool=False)
        shape = (outputs, channels // groups, *kernel)
        seen = channels * prod(kernel) * prod(plane)
        if seen * max(1, outputs // groups) > 32 * MOST_SEEN or seen > MOST_SEEN:
            return
        self.seen = max(self.seen, seen, outputs * prod(plane))
        tensors = self._fractions(shape) if floats else {
            "weight": self.draw(level_weights(shape)), **self.draw(biases(outputs))
        }  # fmt: skip
        fits = [v.name for v in self.builder.values.values() if v.shape == (outputs, *plane)]
        residual = [str(random.choice(fits))] if fits and not floats else []
        self._add("Conv", {**attributes, "groups": groups}, *residual, tensors=tensors)

    def _add_pool(self, op: str) -> None:
        attributes, kernel, _ = self._window(pool=True)
        flags = ["ceil_mode"] + ["count_include_pad"] * (op == "AveragePool")
        chosen = {flag: int(self.random.integers(2)) for flag in flags}
        self._add(op, {**attributes, "kernel": kernel, **chosen})

    def _window(self, pool: bool) -> tuple[Attributes, tuple[int, int], tuple[int, int]]:
        """A window's attributes, kernel, and the plane that it gives."""
        axes = [self._axis(size, pool) for size in self.shape[1:]]
        kernel, strides, dilations, before, after = (
            (int(first), int(second)) for first, second in zip(*axes, strict=True)
        )
        plane = tuple(
            window_outputs(*each, False)
            for each in zip(self.shape[1:], kernel, strides, before, after, dilations, strict=True)
        )
        attributes = {"strides": strides, "dilations": dilations, "pads": (*before, *after)}
        return attributes, kernel, plane

    def _axis(self, size: int, pool: bool) -> tuple[int, int, int, int, int]:
        """Kernel, stride, dilation and pads along an axis, of which the window has a place."""
        random = self.random
        kernel = int(random.choice([1, 2, 3, 3, 5, size, random.integers(1, 12)]))
        dilation = int(random.choice([1, 1, 1, 2, random.integers(1, 9)]))
        if pool:
            dilation = min(dilation, size)
        stride = int(random.choice([1, 1, 2, 2, 3, 4, random.integers(1, 20)]))
        reach = dilation * (kernel - 1) + 1
        most = reach - 1 if pool else int(random.choice([0, kernel // 2, 3, 30, 300, 5000]))
        before, after = (int(random.integers(0, most + 1)) for _ in range(2))
        if random.random() < 0.3 and kernel % 2 and (kernel // 2) * dilation <= most:
            before = after = kernel // 2 * dilation
        missing = reach - size - before - after
        if missing > 0:  # a smaller kernel, so that it fits
            return self._axis(size, pool)
        return kernel, stride, dilation, before, after
