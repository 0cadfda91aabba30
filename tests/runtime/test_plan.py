"""Planning: what is released when, what it takes, and which graphs are refused."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from deepchip.converter.builder import Builder
from deepchip.formats.errors import InputError, InvalidModelError, UnsupportedError
from deepchip.formats.graph import Quantization, Value
from deepchip.runtime import plan as planning
from deepchip.runtime.plan import MAX_ITEM_BYTES, SLICE_BYTES, make_plan, peak_bytes

from .networks import networks
from .one_node import BACKENDS, one_node, weights_of


def residual():
    """x -> codes -> conv -> a -> sum = conv + a; and a node whose value nothing reads."""
    builder = Builder("residual")
    x = builder.input("x", (1, 4, 4))
    codes = builder.add("Quantize", [x], "codes", quantization=Quantization(1.0, 0, 8))
    attributes = {"strides": (1, 1), "dilations": (1, 1), "pads": (0, 0, 0, 0), "groups": 1}
    weight = {"weight": weights_of(np.ones((2, 1, 1, 1)), [1])}
    conv = builder.add("Conv", [codes], "conv", attributes, weight)
    a = builder.add("Relu", [conv], "a")
    return builder.finish([builder.add("Add", [conv, a], "sum")])


def test_values_are_released_after_their_last_reader():
    steps = make_plan(residual(), "numpy").steps
    assert [step.name for step in steps] == ["codes", "conv", "a", "sum"]
    assert [step.releases for step in steps] == [("x",), ("codes",), (), ("conv", "a")]


def test_what_is_to_be_kept_is_not_released():
    steps = make_plan(residual(), "numpy", keep=("codes", "conv")).steps
    assert [step.releases for step in steps] == [("x",), (), (), ("a",)]


def test_a_value_read_twice_by_one_node_is_released_once():
    builder = Builder("square")
    x = builder.input("x", (2,))
    graph = builder.finish([builder.add("Mul", [x, x], "y")])
    (step,) = make_plan(graph, "numpy").steps
    assert step.releases == ("x",)


def test_a_value_that_nothing_reads_is_released_at_once():
    graph = residual()
    unread = replace(graph.nodes[2], name="unread", output="unread")
    graph = replace(
        graph,
        nodes=(*graph.nodes[:3], unread, graph.nodes[3]),
        values={**graph.values, "unread": Value("unread", (2, 4, 4))},
    )
    assert make_plan(graph, "numpy").steps[3].releases == ("unread",)


@given(networks())
@settings(max_examples=50)
def test_only_the_outputs_are_left(graph):
    plan = make_plan(graph, "numpy")
    with np.errstate(all="ignore"):
        left = plan.run_slice({"x": np.ones((1, *graph.values["x"].shape), np.float32)})
    assert set(left) - {"x"} == set(graph.outputs) - {"x"}


def test_peak_bytes_by_hand():
    """x 64 and codes 16: 80. Codes 16, conv 4 * 32 = 128: 144. conv, a: 256. And the sum: 384."""
    graph = residual()
    assert peak_bytes(graph) == 384
    first = replace(graph, outputs=("conv",), nodes=graph.nodes[:2])
    assert peak_bytes(first) == 144


def test_a_slice_holds_as_many_items_as_fit():
    """Input and output of 100 numbers: 800 bytes. An item that is too large is run alone."""
    assert make_plan(one_node("Relu", [(100,)]), "numpy").slice == SLICE_BYTES // 800
    assert make_plan(one_node("Relu", [(2**24,)]), "numpy").slice == 1


@pytest.mark.parametrize(
    ("numbers", "images"), [(100, 64), (2**12, 64), (2**14, 16), (2**14 + 1, 8), (2**24, 1)]
)
def test_the_arena_of_a_slice_is_bounded(numbers, images):
    """Input and output of n numbers: 8 * n bytes; 16 items of 2**17 bytes are the 2**21 allowed."""
    assert make_plan(one_node("Relu", [(numbers,)]), "numba").slice == images


@pytest.mark.parametrize("backend", BACKENDS)
def test_items_that_are_too_large_are_refused_before_anything_is_allocated(backend):
    make_plan(one_node("Relu", [(2**27,)]), backend)  # 2**29 bytes and as many: just not too large
    graph = one_node("Relu", [(2**27 + 1,)])
    tracemalloc.start()
    with pytest.raises(UnsupportedError) as error:
        make_plan(graph, backend)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20
    assert str(2**30 + 8) in str(error.value)
    assert str(MAX_ITEM_BYTES) in str(error.value)


def test_what_compiled_kernels_need_besides_values_counts():
    """A Relu from n codes to n codes reads and gives n numbers as float32: 8 * n bytes."""
    form, count = Quantization(1.0, 0, 8), 2**27 + 1
    graph = one_node("Relu", [(count,)], reads=form, gives=form)
    assert peak_bytes(graph) == 5 * count  # codes, and what they are made of
    make_plan(graph, "numpy")
    with pytest.raises(UnsupportedError, match=r"values of one item take \d+ bytes"):
        make_plan(graph, "numba")


def test_an_unknown_backend_is_refused():
    with pytest.raises(InputError, match=r"backend is 'cuda', expected one of numba, numpy$"):
        make_plan(residual(), "cuda")


def broken_graphs():
    graph = residual()
    _, conv, a, total = graph.nodes
    shape = {**graph.values, "conv": Value("conv", (3, 4, 4))}
    not_a_number = conv.with_tensors(bias=np.array([np.nan, 0], np.float32))
    return {
        "layer 'conv': gives shape": replace(graph, values=shape),
        "layer 'a': operator 'Gelu' is unknown": with_node(graph, 2, replace(a, op="Gelu")),
        "layer 'a': reads 'b', which": with_node(graph, 2, replace(a, inputs=("b",))),
        "layer 'a': reads 'sum', which": with_node(graph, 2, replace(a, inputs=("sum",))),
        "layer 'sum': gives 'a', which": with_node(graph, 3, replace(total, output="a")),
        "layer 'conv': a second layer": with_node(graph, 2, replace(a, name="conv")),
        "layer 'conv': bias holds NaN": with_node(graph, 1, not_a_number),
        "layer 'codes': Quantize gives float32": replace(
            graph, values={**graph.values, "codes": Value("codes", (1, 4, 4))}
        ),
        "'codes' is quantized": replace(graph, outputs=("codes",)),
        "'z' is not described": replace(graph, outputs=("z",)),
        "layer 'conv': attributes": with_node(graph, 1, replace(conv, attributes={})),
    }  # fmt: skip


def with_node(graph, at, node):
    return replace(graph, nodes=(*graph.nodes[:at], node, *graph.nodes[at + 1 :]))


@pytest.mark.parametrize("message", broken_graphs())
def test_contradictory_graphs_are_refused(message, monkeypatch):
    monkeypatch.setattr(planning.Steps, "of", lambda *given: pytest.fail("was lowered"))
    with pytest.raises(InvalidModelError) as error:
        make_plan(broken_graphs()[message], "numpy")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("backend", BACKENDS)
def test_work_without_end_is_refused(backend):
    """6000 x 6000 windows of 6001 x 6001 elements; a file of 2 KB can ask for it."""
    builder = Builder("endless")
    x = builder.input("x", (1, 6000, 6000))
    window = {"strides": (1, 1), "dilations": (1, 1), "pads": (3000, 3000, 3000, 3000)}
    y = builder.add("MaxPool", [x], "pool", {**window, "kernel": (6001, 6001), "ceil_mode": 0})
    graph = builder.finish([y])
    with pytest.raises(UnsupportedError, match=rf"one item takes {6000**2 * 6001**2} additions"):
        make_plan(graph, backend)
