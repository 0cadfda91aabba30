"""The same kernels in Numba; only this package imports it."""

from .conv import conv
from .elementwise import (
    add,
    affine,
    clip,
    dequantize,
    elu,
    leaky_relu,
    multiply,
    quantize,
    relu,
    sigmoid,
    softmax,
    tanh,
)
from .fully_connected import fully_connected
from .pooling import average_pool, max_pool

__all__ = [
    "add",
    "affine",
    "average_pool",
    "clip",
    "conv",
    "dequantize",
    "elu",
    "fully_connected",
    "leaky_relu",
    "max_pool",
    "multiply",
    "quantize",
    "relu",
    "sigmoid",
    "softmax",
    "tanh",
]
