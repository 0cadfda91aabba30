"""Models in several threads and processes, and what importing and running them imports."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from deepchip.converter.builder import Builder
from deepchip.formats.graph import Quantization
from deepchip.formats.model_file import model_bytes
from deepchip.runtime.model import Model
from tests.checks import needs_threads_after_fork, patient

from .one_node import BACKENDS, check_same_bits, weights_of


def network():
    """A convolution over codes, a Sigmoid, and a layer of 3 outputs."""
    random = np.random.default_rng(4)
    builder = Builder("small")
    x = builder.input("x", (2, 9, 8))
    codes = builder.add("Quantize", [x], "codes", quantization=Quantization(0.25, 7, 4))
    attributes = {"strides": (1, 1), "dilations": (1, 1), "pads": (1, 1, 1, 1), "groups": 1}
    weight = weights_of(random.integers(0, 3, (4, 2, 3, 3)), [-0.1, 0.3])
    y = builder.add("Conv", [codes], "conv", attributes, {"weight": weight})
    y = builder.add("Sigmoid", [y], "sigmoid", quantization=Quantization(2.0**-8, 0, 8))
    flat = {"shape": (288,)}
    y = builder.add("Reshape", [y], "flat", flat, quantization=Quantization(2.0**-8, 0, 8))
    weight = weights_of(random.integers(0, 4, (3, 288)), [-1, 0.5, 2])
    return builder.finish([builder.add("FullyConnected", [y], "y", {}, {"weight": weight})])


def images(count=24):
    return np.random.default_rng(5).standard_normal((count, 2, 9, 8), np.float32)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("backend", BACKENDS)
def test_called_from_eight_threads_at_once(backend, threads):
    x = images()
    expected = Model(network(), backend="numpy")(x)
    model = Model(network(), backend=backend, threads=threads)
    start = threading.Barrier(8)

    def call(first):
        start.wait()
        return [model(x[first : first + size]) for size in (3, 17, 1)]

    with ThreadPoolExecutor(8) as pool:
        for first, found in enumerate(pool.map(call, range(8))):
            for size, array in zip((3, 17, 1), found, strict=True):
                check_same_bits(array, expected[first : first + size])


def test_no_thread_is_left_after_a_call():
    before = threading.active_count()
    Model(network(), backend="numpy", threads=4)(images())
    assert threading.active_count() == before


def run_and_send(model, x, connection):
    connection.send(model(x))


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12: other threads live
def test_in_another_process(backend, method):
    """A child that was forked holds the model as it is; one that was spawned, unpickled."""
    if method == "fork":
        needs_threads_after_fork()
    x = images()
    model = Model(network(), backend=backend, threads=2)
    expected = model(x)
    context = multiprocessing.get_context(method)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=run_and_send, args=(model, x, sender))
    process.start()
    try:
        assert receiver.poll(patient(120)), "the child gave no result"
        check_same_bits(receiver.recv(), expected)
        process.join(30)
        assert process.exitcode == 0
    finally:
        process.kill()
        process.join()
    check_same_bits(model(x), expected)


BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("numba", "llvmlite"):
            raise ImportError(f"No module named {name!r}")
sys.meta_path.insert(0, Block())
"""


def run_python(code, *arguments):
    """Run code in a process of its own, and return what it prints."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=patient(120))
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


@pytest.fixture
def files(tmp_path):
    """The network, its inputs, and where to save its outputs."""
    (tmp_path / "net.dchip").write_bytes(model_bytes(network()))
    np.save(tmp_path / "x.npy", images())
    return [tmp_path / name for name in ("net.dchip", "x.npy", "y.npy")]


@pytest.mark.parametrize("block", ["", BLOCK])
def test_the_numpy_backend_imports_no_numba(block, files):
    code = f"""{block}
import sys, numpy, deepchip
path, x, y = sys.argv[1:]
numpy.save(y, deepchip.load(path, backend="numpy", threads=2)(numpy.load(x)))
print(*sys.modules)
"""
    modules = run_python(code, *files)
    assert "deepchip.runtime.kernels.plain" in modules
    assert not {"numba", "llvmlite", "deepchip.runtime.kernels.compiled"} & set(modules)
    check_same_bits(np.load(files[2]), Model(network(), backend="numpy")(images()))


def test_import_alone_imports_neither_numba_nor_the_converter():
    assert "numpy" not in run_python("import sys, deepchip; print(*sys.modules)")
    modules = set(run_python("import sys, deepchip; deepchip.load; print(*sys.modules)"))
    assert "deepchip.runtime.model" in modules
    assert not {"numba", "llvmlite", "onnx", "deepchip.converter"} & modules


def test_without_numba_its_backend_is_unsupported(files):
    code = f"""{BLOCK}
import sys, deepchip
try:
    deepchip.load(sys.argv[1])
except deepchip.UnsupportedError as error:
    print(error)
"""
    text = " ".join(run_python(code, files[0]))
    assert text == (
        "net.dchip: backend 'numba' needs Numba, which does not import here "
        "(No module named 'numba'); backend='numpy' does without"
    )
