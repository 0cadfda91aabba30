"""Convolutions and pooling of Keras files, and the zeros around what they read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from . import keras_reference as reference
from .keras_files import KerasFile, close, random, run

Array = NDArray[Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keras")


places = st.fixed_dictionaries(
    {
        "size": st.tuples(st.integers(5, 9), st.integers(5, 9)),
        "kernel": st.tuples(st.integers(1, 4), st.integers(1, 4)),
        "strides": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "padding": st.sampled_from(["same", "valid"]),
    }
)


@settings(max_examples=40, deadline=None)
@given(places, st.sampled_from([1, 2, 4]), st.booleans(), st.booleans())
def test_conv2d(
    folder: Path, place: dict[str, Any], groups: int, dilated: bool, use_bias: bool
) -> None:
    strides, dilation = ((1, 1), (1, 2)) if dilated else (place["strides"], (1, 1))
    size = (place["kernel"][0], min(place["kernel"][1], 3))
    kernel, bias = random(*size, 4 // groups, 8), random(8) if use_bias else np.zeros(8)
    file = KerasFile()
    file.input("image", *place["size"], 4)
    file.add(
        "Conv2D",
        "conv",
        "image",
        weights={"kernel": kernel, **({"bias": bias} if use_bias else {})},
        filters=8,
        kernel_size=size,
        strides=strides,
        padding=place["padding"],
        dilation_rate=dilation,
        groups=groups,
        use_bias=use_bias,
    )
    x = random(2, *place["size"], 4)
    expected = reference.conv2d(
        x, kernel, bias, groups, strides=strides, padding=place["padding"], dilation=dilation
    )
    close(run(file.write(folder / "conv.h5", "conv"), x)[0], expected)


@settings(max_examples=25, deadline=None)
@given(places, st.integers(1, 3))
def test_depthwise_conv2d(folder: Path, place: dict[str, Any], multiplier: int) -> None:
    kernel, bias = random(*place["kernel"], 3, multiplier), random(3 * multiplier)
    where = {"strides": place["strides"], "padding": place["padding"]}
    file = KerasFile()
    file.input("image", *place["size"], 3)
    file.add(
        "DepthwiseConv2D",
        "conv",
        "image",
        weights={"depthwise_kernel": kernel, "bias": bias},
        kernel_size=place["kernel"],
        depth_multiplier=multiplier,
        **where,
    )
    x = random(2, *place["size"], 3)
    found = run(file.write(folder / "depthwise.h5", "conv"), x)[0]
    close(found, reference.depthwise_conv2d(x, kernel, bias, **where))


@settings(max_examples=25, deadline=None)
@given(places)
def test_pooling(folder: Path, place: dict[str, Any]) -> None:
    where = {"strides": place["strides"], "padding": place["padding"]}
    file = KerasFile()
    file.input("image", *place["size"], 3)
    file.add("MaxPooling2D", "max", "image", pool_size=place["kernel"], **where)
    file.add("AveragePooling2D", "mean", "image", pool_size=place["kernel"], **where)
    x = random(2, *place["size"], 3)
    largest, mean = run(file.write(folder / "pool.h5", "max", "mean"), x)
    close(largest, reference.max_pooling(x, place["kernel"], **where))
    close(mean, reference.average_pooling(x, place["kernel"], **where))


def test_same_padding_puts_the_odd_zero_after(tmp_path: Path) -> None:
    file = KerasFile()
    file.input("image", 1, 4, 1)
    file.add("AveragePooling2D", "mean", "image", pool_size=[1, 3], padding="same")
    kernel = np.array([1, 10, 100]).reshape(1, 3, 1, 1)
    file.add(
        "Conv2D",
        "conv",
        "image",
        weights={"kernel": kernel, "bias": [0]},
        filters=1,
        kernel_size=[1, 3],
        strides=[2, 2],
        padding="same",
    )
    mean, conv = run(file.write(tmp_path / "net.h5", "mean", "conv"), np.ones((1, 1, 4, 1)))
    assert mean.ravel().tolist() == [1, 1]
    assert conv.ravel().tolist() == [111, 11]


Pooled = Callable[[Array], Array]


@pytest.mark.parametrize(
    ("class_name", "config", "expected"),
    [
        ("AveragePooling2D", {}, lambda x: reference.average_pooling(x, [2, 2], strides=[2, 2])),
        ("MaxPooling2D", {}, lambda x: reference.max_pooling(x, [2, 2], strides=[2, 2])),
        (
            "MaxPooling2D",
            {"padding": "same", "pool_size": [3, 2]},
            lambda x: reference.max_pooling(x, [3, 2], strides=[2, 2], padding="same"),
        ),
    ],
)
def test_zero_padding_before_pooling(
    tmp_path: Path, class_name: str, config: dict[str, Any], expected: Pooled
) -> None:
    file = KerasFile()
    file.input("image", 5, 6, 2)
    file.add("ReLU", "relu", "image")
    file.add("ZeroPadding2D", "zeros", "relu", padding=[[1, 0], [1, 1]])
    file.add(class_name, "pool", "zeros", **config)
    x = random(2, 5, 6, 2)
    padded = np.pad(reference.relu(x), [(0, 0), (1, 0), (1, 1), (0, 0)])
    close(run(file.write(tmp_path / "net.h5", "pool"), x)[0], expected(padded))


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_zero_padding_before_convolutions(tmp_path: Path, padding: str) -> None:
    kernel, depthwise, bias = random(3, 3, 2, 4), random(2, 2, 2, 1), random(4)
    place: dict[str, Any] = {"strides": (2, 2), "padding": padding}
    file = KerasFile()
    file.input("image", 5, 6, 2)
    file.add("ZeroPadding2D", "zeros", "image", padding=[[3, 0], [1, 2]])
    file.add("ZeroPadding2D", "more", "zeros", padding=[[0, 1], [0, 0]])
    weights = {"kernel": kernel, "bias": bias}
    file.add("Conv2D", "conv", "more", weights=weights, filters=4, kernel_size=[3, 3], **place)
    weights = {"depthwise_kernel": depthwise, "bias": bias[:2]}
    file.add("DepthwiseConv2D", "each", "zeros", weights=weights, kernel_size=[2, 2], **place)
    x = random(2, 5, 6, 2)
    conv, each = run(file.write(tmp_path / "net.h5", "conv", "each"), x)
    zeros = np.pad(x, [(0, 0), (3, 0), (1, 2), (0, 0)])
    more = np.pad(zeros, [(0, 0), (0, 1), (0, 0), (0, 0)])
    close(conv, reference.conv2d(more, kernel, bias, **place))
    close(each, reference.depthwise_conv2d(zeros, depthwise, bias[:2], **place))
