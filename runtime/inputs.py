"""What a caller hands in, as the arrays that plans run on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepchip.formats.errors import InputError
from deepchip.formats.graph import Graph, Shape
from deepchip.formats.memory import shortage

FEWER = "call it with fewer items at a time"


def check_inputs(graph: Graph, inputs: Mapping[str, ArrayLike]) -> dict[str, NDArray[np.float32]]:
    """Return the inputs as aligned, C-contiguous float32 arrays of one batch size.

    Parameters
    ----------
    inputs : of each input of the graph, an array of floating-point numbers [N, ...] of any
        precision, byte order and layout; those that are as they have to be are not copied

    Raises
    ------
    InputError
        Other names, types, shapes or batch sizes, masked elements, or numbers that no float32 is.
    """
    if not isinstance(inputs, Mapping):
        raise InputError(
            f"inputs are {type(inputs).__name__}, expected arrays by name, {{name: x}}"
        )
    if set(inputs) != set(graph.inputs):
        given = sorted(map(str, inputs))
        raise InputError(f"inputs {given} were given, expected {sorted(graph.inputs)}")
    arrays = {name: _as_float32(name, inputs[name], graph.values[name].shape) for name in inputs}
    batches = {len(array) for array in arrays.values()}
    if len(batches) > 1:
        raise InputError(f"inputs have batches of {sorted(batches)} items, expected one size")
    return arrays


def _as_float32(name: str, given: ArrayLike, shape: Shape) -> NDArray[np.float32]:
    array = _as_array(name, given)
    if array.dtype.kind != "f":
        raise InputError(
            f"input {name!r} has dtype {array.dtype}, expected float32, scaled as the network was "
            "trained (for pixels often x.astype('float32') / 255)"
        )
    if array.shape[1:] != shape or array.ndim == 0:
        raise InputError(
            f"input {name!r} has shape {array.shape}, expected {batch_of(shape)}: "
            + ("add a batch axis, x[None]" if array.shape == shape else "N is the batch")
        )
    if array.dtype == np.float32 and array.flags.c_contiguous and array.flags.aligned:
        return array
    try:
        with np.errstate(over="raise", under="ignore", invalid="ignore"):
            return np.require(array, np.float32, ["C", "ALIGNED"])
    except MemoryError:
        raise shortage(4 * array.size, f"input {name!r} as float32", FEWER) from None
    except FloatingPointError:
        raise InputError(
            f"input {name!r} of {array.dtype} holds numbers beyond float32, whose largest is "
            f"{np.finfo(np.float32).max:.3g}"
        ) from None


def _as_array(name: str, given: ArrayLike) -> NDArray[np.floating]:
    if type(given) is np.ndarray:
        return given
    if isinstance(given, np.ma.MaskedArray) and np.ma.is_masked(given):
        raise InputError(
            f"input {name!r} has masked elements; give them numbers first, x.filled(0)"
        )
    try:
        return np.asarray(given)
    except MemoryError:
        raise
    except Exception as error:  # of whatever `__array__` the object has
        text = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"input {name!r} is {type(given).__name__}, no array: {text}") from None


def batch_of(shape: Sequence[int | None]) -> str:
    """Return a shape as text, with the batch before it."""
    return f"({', '.join(['N', *map(str, shape)])})"
