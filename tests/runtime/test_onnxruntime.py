"""Every operator against ONNX Runtime, on ONNX models made here and never read by the converter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from deepchip.formats.graph import Quantization

from .one_node import BACKENDS, check_close, compute, one_node, seeds, windows

pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")

from onnx import TensorProto, helper

from tests.converter.onnx_models import make_model, run_onnx
from tests.converter.onnx_models import one_node as onnx_node

OPSET = 19  # the first whose AveragePool has dilations


def onnx_window(attributes):
    """The same settings under ONNX's names."""
    names = {"groups": "group", "kernel": "kernel_shape"}
    return {names.get(name, name): value for name, value in attributes.items()}


@given(windows(), st.integers(1, 3), st.sampled_from([(1, 1), (2, 3)]), st.booleans(), seeds)
@settings(max_examples=40)
def test_conv(window, groups, sizes, biased, seed):
    attributes, kernel, plane = window
    channels, per_group = sizes
    random = np.random.default_rng(seed)
    x = random.standard_normal((2, groups * channels, *plane), np.float32)
    weight = random.standard_normal((groups * per_group, channels, *kernel), np.float32)
    bias = random.standard_normal(len(weight), np.float32) if biased else None
    settings_ = {**attributes, "groups": groups}
    model = onnx_node(
        "Conv", x.shape[1:], weight, *([bias] * biased), opset=OPSET, **onnx_window(settings_)
    )
    magnitudes = onnx_node("Conv", x.shape[1:], abs(weight), opset=OPSET, **onnx_window(settings_))
    (expected,), (scale,) = run_onnx(model, x), run_onnx(magnitudes, abs(x))
    tensors = {"weight": weight, **({"bias": bias} if biased else {})}
    graph = one_node("Conv", [x.shape[1:]], settings_, tensors)
    for backend in BACKENDS:
        check_close(compute(graph, backend, x), expected, scale + 1)


@pytest.mark.parametrize(("outputs", "inputs"), [(1, 1), (7, 33), (10, 1000)])
def test_gemm(outputs, inputs):
    random = np.random.default_rng(outputs)
    x = random.standard_normal((3, inputs), np.float32)
    weight = random.standard_normal((outputs, inputs), np.float32)
    bias = random.standard_normal(outputs, np.float32)
    (expected,) = run_onnx(onnx_node("Gemm", (inputs,), weight, bias, transB=1), x)
    graph = one_node("FullyConnected", [(inputs,)], {}, {"weight": weight, "bias": bias})
    for backend in BACKENDS:
        check_close(compute(graph, backend, x), expected, abs(x) @ abs(weight).T + abs(bias))


@given(windows(pool=True), st.integers(0, 1), seeds)
@settings(max_examples=60)
def test_max_pool(window, ceil, seed):
    """Rounded up as well: either lets no window start in the end padding."""
    attributes, kernel, plane = window
    # ONNX Runtime wants pads smaller than the kernel without its dilation.
    assume(all(p < k for p, k in zip(attributes["pads"], kernel * 2, strict=True)))
    x = np.random.default_rng(seed).standard_normal((2, 2, *plane), np.float32)
    settings_ = {**attributes, "kernel": kernel, "ceil_mode": ceil}
    model = onnx_node("MaxPool", x.shape[1:], opset=OPSET, **onnx_window(settings_))
    (expected,) = run_onnx(model, x)
    graph = one_node("MaxPool", [x.shape[1:]], settings_)
    for backend in BACKENDS:
        np.testing.assert_array_equal(compute(graph, backend, x), expected)


@given(windows(pool=True), st.integers(0, 1), st.integers(0, 1), seeds)
@settings(max_examples=60)
def test_average_pool(window, ceil, include, seed):
    attributes, kernel, plane = window
    assume(all(p < k for p, k in zip(attributes["pads"], kernel * 2, strict=True)))
    x = np.random.default_rng(seed).standard_normal((2, 2, *plane), np.float32)
    settings_ = {
        **attributes, "kernel": kernel, "ceil_mode": ceil, "count_include_pad": include
    }  # fmt: skip
    graph = one_node("AveragePool", [x.shape[1:]], settings_)
    fed = x
    if include:
        # ONNX Runtime up to 1.24 miscounts what counts; zeros that are no padding always do.
        top, left, bottom, right = attributes["pads"]
        fed = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
        settings_ = {**settings_, "pads": (0, 0, 0, 0), "count_include_pad": 0}
    model = onnx_node("AveragePool", fed.shape[1:], opset=OPSET, **onnx_window(settings_))
    (expected,) = run_onnx(model, fed)
    height, width = graph.values["y"].shape[1:]  # no window starts in the end padding
    for backend in BACKENDS:
        found = compute(graph, backend, x)
        check_close(found, expected[:, :, :height, :width], np.float64(abs(x).max()))


WIDE = np.concatenate(
    [
        sign * np.float32(10) ** np.arange(-44, 38.5, 0.25).astype(np.float32)
        for sign in (np.float32(1), np.float32(-1))
    ]
    + [np.linspace(-30, 30, 2001, dtype=np.float32), np.array([0.0, -0.0, np.inf], np.float32)]
)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("op", "ours"),
    [
        ("Relu", {}),
        ("LeakyRelu", {"alpha": 0.01}),
        ("Elu", {"alpha": 1.5}),
        ("Sigmoid", {}),
        ("Tanh", {}),
    ],
)
def test_activations(op, ours, backend):
    (expected,) = run_onnx(onnx_node(op, WIDE.shape, **ours), WIDE[None])
    found = compute(one_node(op, [WIDE.shape], ours), backend, WIDE[None])
    # Its sigmoid and tanh are approximations that are off by some 2**-23 near their limits.
    atol = 2.5e-7 if op in ("Sigmoid", "Tanh", "Elu") else 0
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=atol)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("low", "high"), [(0.0, 6.0), (-1.5, 1e30), (3.0, -3.0)])
def test_clip(low, high, backend):
    bounds = np.array([low, high], np.float32)
    (expected,) = run_onnx(onnx_node("Clip", WIDE.shape, bounds[0], bounds[1]), WIDE[None])
    graph = one_node("Clip", [WIDE.shape], {"minimum": low, "maximum": high})
    np.testing.assert_array_equal(compute(graph, backend, WIDE[None]), expected)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [1e-30, 1, 50, 1e4, 1e30])
def test_softmax(size, backend):
    x = np.float32(size) * np.random.default_rng(1).standard_normal((2, 3, 5, 4), np.float32)
    for axis in range(3):
        (expected,) = run_onnx(onnx_node("Softmax", x.shape[1:], axis=axis + 1), x)
        found = compute(one_node("Softmax", [x.shape[1:]], {"axis": axis}), backend, x)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("scale", [1.0, 0.1, 1 / 3, 2.0**-7, 37.5, 2.0**-60])
@pytest.mark.parametrize("zero_point", [0, 1, 128, 255])
def test_quantize_and_dequantize(backend, scale, zero_point):
    """Exactly: ties, what lies beyond the range, and every code back."""
    form = Quantization(float(np.float32(scale)), zero_point, 8)
    steps = np.arange(-600, 600, dtype=np.float32) / np.float32(2)  # every second one a tie
    noise = 200 * np.random.default_rng(3).standard_normal(2000).astype(np.float32)
    far = np.array([0.0, -0.0, 1e20, -1e20, np.inf, -np.inf], np.float32)
    x = (np.concatenate([steps, noise, far]) * np.float32(scale))[None]
    constants = {"scale": np.float32(scale), "zero": np.uint8(zero_point)}
    model = make_model(
        [
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["codes"]),
            helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["reals"]),
            helper.make_node("Cast", ["codes"], ["numbers"], to=TensorProto.FLOAT),
        ],
        {"x": ["N", x.size]},
        ["numbers", "reals"],
        {name: np.asarray(value) for name, value in constants.items()},
    )
    numbers, reals = run_onnx(model, x)
    graph = one_node("Quantize", [(x.size,)], gives=form)
    np.testing.assert_array_equal(compute(graph, backend, x), numbers)
    np.testing.assert_array_equal(compute(graph, backend, x, value="real"), reals)
