"""A network, and calls of it that are checked bit by bit."""

from __future__ import annotations

import itertools
import threading
import time

import numpy as np

import deepchip
from deepchip.converter.builder import Builder
from deepchip.formats.graph import Quantization
from deepchip.formats.model_file import model_bytes
from deepchip.runtime.model import Model
from tests.runtime.one_node import weights_of

ITEMS = 24


def network(seed=1):
    """Two convolutions over 4-bit codes and a layer of 10 outputs; threads share one image."""
    random = np.random.default_rng(seed)
    builder = Builder("service")
    x = builder.input("x", (16, 20, 20))
    x = builder.add("Quantize", [x], "codes", quantization=Quantization(0.25, 1, 4))
    for scale in (4.0, 80.0):  # about what is summed: codes spread over all their range
        weight = weights_of(random.integers(0, 3, (128, builder.values[x].shape[0], 3, 3)), [-1, 1])
        attributes = {"strides": (1, 1), "dilations": (1, 1), "pads": (1, 1, 1, 1), "groups": 1}
        tensors = {"weight": weight, "bias": random.standard_normal(128).astype(np.float32)}
        form = Quantization(scale, 7, 4)
        x = builder.add("Conv", [x], "conv", attributes, tensors, quantization=form)
    x = builder.add("Reshape", [x], "flat", {"shape": (128 * 400,)}, quantization=form)
    weight = weights_of(random.integers(0, 3, (10, 128 * 400)), [-0.5, 0.5])
    return builder.finish([builder.add("FullyConnected", [x], "y", {}, {"weight": weight})])


class Calls:
    """Calls of models of one network, counted, each compared with what NumPy computes."""

    def __init__(self, seed=1):
        self.graph = network(seed)
        self.data = model_bytes(self.graph)
        self.x = np.random.default_rng(seed).random((ITEMS, 16, 20, 20), np.float32) * 4
        self.expected = Model(self.graph, backend="numpy")(self.x)
        assert len(np.unique(self.expected)) > 200  # an item's result is not another's
        self._counter = itertools.count()

    def load(self, threads=1):
        """Load it; the first time, this imports Numba."""
        model = deepchip.load(self.data, threads=threads)
        costs = [operation.cost for operation in model.plan.operations]
        assert sum(costs) > type(model.plan).WORTH_WAKING
        return model

    def call(self, model, first=0, count=1):
        found = model(self.x[first : first + count])
        same = found.tobytes() == self.expected[first : first + count].tobytes()
        assert same, f"items {first} to {first + count} differ"
        next(self._counter)

    def call_until(self, model, deadline):
        """Call with batches of 1 to 5 items, from another first item each time."""
        for turn in itertools.count():
            if time.monotonic() > deadline:
                return
            self.call(model, turn * 7 % 19, 1 + turn % 5)

    @property
    def made(self):
        """How many were made; counts as one."""
        return next(self._counter)


def helpers():
    """The threads of models that live."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("deepchip-")]
