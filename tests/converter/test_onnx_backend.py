"""The cases that the onnx package ships for backends: what it stores is what we have to give."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper, version_converter
from onnx.backend.test.loader import load_model_tests

from deepchip.converter.readers.onnx.operators import OPERATORS
from deepchip.formats.errors import DeepChipError
from deepchip.runtime.model import Model
from deepchip.runtime.plan import make_plan
from tests.converter.onnx_models import read, run_onnx

Array = NDArray[Any]

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
BACKENDS = ("numpy", "numba")

_THREE = "expected (channels, height, width) or (channels, width)"
_BATCHES = "expected axis 0 of every input to be the same batch"
_KIND = "expected float (32 bits)"
_SLOPE = "slope of shape"  # the version converter leaves it as opset 6 had it, one a channel

OUT_OF_SCOPE = {
    **{
        f"test_{name}": _THREE
        for name in (
            "AvgPool3d", "AvgPool3d_stride", "AvgPool3d_stride1_pad0_gpu_input", "Conv3d",
            "Conv3d_dilated", "Conv3d_dilated_strided", "Conv3d_groups", "Conv3d_no_bias",
            "Conv3d_stride", "Conv3d_stride_padding", "MaxPool3d", "MaxPool3d_stride",
            "MaxPool3d_stride_padding",
        )
    },
    **{f"test_PReLU_{n}d_multiparam": _SLOPE for n in (1, 2, 3)},
    **{
        f"test_{name}": _KIND
        for name in (
            "Embedding", "Embedding_sparse", "operator_add_size1_broadcast", "operator_addconstant",
            "operator_non_float_params",
        )
    },
    **{
        f"test_{name}": _BATCHES
        for name in (
            "expand_shape_model1", "expand_shape_model2", "expand_shape_model3",
            "expand_shape_model4", "operator_add_broadcast", "operator_add_size1_right_broadcast",
            "operator_add_size1_singleton_broadcast", "operator_addmm", "operator_mm",
        )
    },
    "test_PoissonNLLLLoss_no_reduce": "the same for the whole batch",
    "test_operator_params": "the same for the whole batch",
    "test_operator_chunk": "Split has axis 0, the batch",
    "test_operator_index": "Squeeze has axis 0, the batch",
    "test_operator_pow": "computed exponent",
    "test_gradient_of_add": "Gradient",
    "test_gradient_of_add_and_mul": "Gradient",
    **{f"test_sequence_model{n}": "Sequence" for n in range(1, 9)},
    **{
        f"test_strnorm_model_{name}": "StringNormalizer"
        for name in (
            "monday_casesensintive_lower", "monday_casesensintive_nochangecase",
            "monday_casesensintive_upper", "monday_empty_output",
            "monday_insensintive_upper_twodim", "nostopwords_nochangecase",
        )
    },
}  # fmt: skip
"""Cases that are refused, and what the error says."""

CASES = sorted(
    path.parent
    for kind in ("pytorch-converted", "pytorch-operator", "simple")
    for path in (DATA / kind).glob("*/model.onnx")
)


def load(path: Path) -> Array:
    tensor = onnx.TensorProto()
    tensor.ParseFromString(path.read_bytes())
    return numpy_helper.to_array(tensor)


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_stored_case(case: Path) -> None:
    model = onnx.load(case / "model.onnx")
    if model.opset_import[0].version < 7:
        model = version_converter.convert_version(model, 7)
    if case.name in OUT_OF_SCOPE:
        with pytest.raises(DeepChipError, match=re.escape(OUT_OF_SCOPE[case.name])):
            read(model)
        return
    graph = read(model)
    for folder in sorted(case.glob("test_data_set_*")):
        inputs = [load(folder / f"input_{i}.pb") for i in range(len(graph.inputs))]
        for backend in BACKENDS:
            given = dict(zip(graph.inputs, inputs, strict=True))
            outputs = Model(graph, backend=backend).run(given)
            for i, name in enumerate(graph.outputs):
                check_equal(outputs[name], load(folder / f"output_{i}.pb"))


def check_equal(ours: Array, expected: Array, tolerance: float = 1e-5) -> None:
    assert ours.shape == expected.shape
    scale = float(np.nanmax(np.abs(expected), initial=1e-6))
    np.testing.assert_allclose(ours, expected, rtol=tolerance, atol=tolerance * scale / 5)


def test_every_case_that_is_out_of_scope_is_there() -> None:
    assert set(OUT_OF_SCOPE) <= {case.name for case in CASES}


NETWORKS = sorted(path.stem.removeprefix("light_") for path in (DATA / "light").glob("*.onnx"))


@pytest.mark.parametrize("name", NETWORKS)
def test_network_of_the_model_zoo(name: str) -> None:
    # All weights are one number (ConstantOfShape). The package's runner makes the input this way.
    model = onnx.load(DATA / "light" / f"light_{name}.onnx")
    expected = load(DATA / "light" / f"light_{name}_output_0.pb")
    graph = read(model)
    shape = (1, *graph.values[graph.inputs[0]].shape)
    x = np.arange(np.prod(shape), dtype=np.float64).reshape(shape) / np.prod(shape)
    softmax = next((node for node in graph.nodes if node.op == "Softmax"), None)
    for backend in BACKENDS:
        ours = Model(graph, backend=backend)(x.astype(np.float32))
        assert ours.shape == expected.shape
        if softmax is not None:
            (source,) = softmax.inputs
            plan = make_plan(graph, backend, keep=(source,))
            logits = plan.run({graph.inputs[0]: x.astype(np.float32)}, (source,))[source]
            rounding = 2e-5 * float(np.abs(logits).max())
            if rounding > 1:  # probabilities hold no digit of such logits, but what they differ by
                found, wanted = logits.reshape(-1), np.log(expected.reshape(-1))
                assert np.abs(found - found[0] - (wanted - wanted[0])).max() <= rounding
                continue
        np.testing.assert_allclose(ours, expected, rtol=2e-5)


SMALL = ("densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet", "squeezenet")


@pytest.mark.parametrize("name", SMALL)
def test_network_with_other_weights(name: str) -> None:
    # With weights that differ, so do the logits: each path through the network counts.
    model = onnx.load(DATA / "light" / f"light_{name}.onnx")
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for i, node in enumerate(nodes):
        if node.op_type == "ConstantOfShape":
            weight = weights_of(tuple(shapes[node.input[0]]), seed=i)
            model.graph.initializer.append(numpy_helper.from_array(weight, node.output[0]))
        else:
            model.graph.node.append(node)
    if nodes[-1].op_type == "Softmax":
        model.graph.output[0].name = model.graph.node.pop().input[0]
    graph = read(model)
    x = np.random.default_rng(0).random((1, *graph.values[graph.inputs[0]].shape), np.float32)
    expected = run_onnx(model, x)[0]
    assert len(np.unique(expected)) > 500
    for backend in BACKENDS:
        ours = Model(graph, backend=backend)(x)
        check_equal(ours, expected, 1e-4)


def weights_of(shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """Weights that keep activations in size; positive, near 1, where they may be variances."""
    random = np.random.default_rng(seed)
    if len(shape) == 1:
        return random.uniform(0.5, 1.5, shape).astype(np.float32)
    scale = np.sqrt(2 / np.prod(shape[1:]))
    return (scale * random.standard_normal(shape)).astype(np.float32)


REFUSALS = re.compile(
    "|".join(
        (
            "the batch",
            "the whole batch",
            "same batch",
            "the same row for all",
            "the same for all elements",
            "is computed, expected a constant",
            "reads the constant",
            "computed exponent",
            "in training mode",
            "'tf_crop_and_resize'",
            r"\(channels, width\)",
            r"expected float \(32 bits\)",
            "expected one number",
            "has a matrix of shape",
            "Take of 0 indices",
        )
    )
)
"""What may be said of the cases of single operators that are refused."""


@cache
def node_cases() -> dict[str, list[Any]]:
    """Cases of a single operator of ours, by operator."""
    cases: dict[str, list[Any]] = {}
    with warnings.catch_warnings():  # of what the package computes for its cases
        warnings.simplefilter("ignore")
        loaded = load_model_tests(kind="node")
    for case in loaded:
        nodes = case.model.graph.node
        if len(nodes) == 1 and nodes[0].op_type in OPERATORS and case.data_sets:
            cases.setdefault(nodes[0].op_type, []).append(case)
    return cases


def variants(case: Any) -> Iterator[tuple[onnx.ModelProto, list[Array], list[Array]]]:
    """Give models, inputs and outputs: as the case is, and with constants but for the first input.

    Parameters of layers are inputs in these cases, and constants in networks.
    """
    for inputs, outputs in case.data_sets:
        if not all(isinstance(array, np.ndarray | np.generic) for array in inputs):
            continue  # sequences, and numbers of other libraries
        model = onnx.ModelProto()
        model.CopyFrom(case.model)
        if model.graph.node[0].op_type != "Split":  # others give statistics, masks or indices
            del model.graph.output[1:]
        yield model, inputs, outputs
        if len(inputs) > 1:
            constant = onnx.ModelProto()
            constant.CopyFrom(model)
            for value, array in zip(model.graph.input[1:], inputs[1:], strict=True):
                tensor = numpy_helper.from_array(np.asarray(array), value.name)
                constant.graph.initializer.append(tensor)
            del constant.graph.input[1:]
            yield constant, inputs[:1], outputs


WITHOUT_A_CASE = {
    "Cast",  # float to float is no case
    "CastLike",
    "GlobalLpPool",
    "MeanVarianceNormalization",  # of the batch
    "ReduceLogSumExp",  # of double
    "QuantizeLinear",  # gives integers
    "DequantizeLinear",  # reads integers
    "Tile",  # of the batch
}
"""Operators of which no case is of float items and constants."""


@pytest.mark.parametrize("op", sorted(set(OPERATORS) - WITHOUT_A_CASE))
def test_cases_of_an_operator(op: str) -> None:
    if not onnx.defs.has(op):
        pytest.skip(f"onnx {onnx.__version__} has no {op}")
    done = 0
    for case in node_cases()[op]:
        for model, inputs, expected in variants(case):
            try:
                graph = read(model)
            except DeepChipError as error:
                assert REFUSALS.search(str(error)), (case.name, error)
                continue
            given = dict(zip(graph.inputs, inputs, strict=True))
            for backend in BACKENDS:
                outputs = Model(graph, backend=backend).run(given)
                for name, array in zip(graph.outputs, expected, strict=False):
                    # The package itself grants 1e-3: some expectations are of four digits.
                    assert outputs[name].shape == array.shape, case.name
                    np.testing.assert_allclose(
                        outputs[name], array, rtol=1e-3, atol=1e-6, err_msg=case.name
                    )
            done += 1
    assert done > 0
