"""Limits on memory (RLIMIT_AS) from too little to plenty: right bits or our error, no crash.

LLVM, OpenBLAS and what is half imported end the process where an allocation of theirs fails, so
each limit is tried in a process of its own.
"""

from __future__ import annotations

import sys

import numpy as np
import pytest

from deepchip.formats.errors import DeepChipError, OutOfMemoryError
from deepchip.formats.memory import MB, require, shortage
from deepchip.runtime.model import Model, load
from tests.checks import needs_memory_limits

from .processes import INPUTS, OUTPUTS, network, run_python, written

if not sys.platform.startswith("linux"):
    pytest.skip("address space is counted and limited on Linux", allow_module_level=True)

LIMITED = f"""
import resource, sys
import numpy as np
import deepchip
deepchip.Model

def limit(megabytes):
    with open("/proc/self/statm") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    soft = resource.RLIM_INFINITY if megabytes is None else taken + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (soft, resource.RLIM_INFINITY))

path, backend, megabytes, *rest = sys.argv[1:]
x = np.array({INPUTS}, np.float32)
"""

SWEEP = f"""{LIMITED}
limit(int(megabytes))
try:
    model = deepchip.load(path, backend=backend, threads=2)
    print(model(x).tolist())
except deepchip.OutOfMemoryError as error:
    print("out of memory")
    print(str(error), file=sys.stderr)
    del error
try:
    smaller = deepchip.load(path, backend="numpy")  # it may be short of memory too, and say so
except deepchip.OutOfMemoryError:
    pass
limit(None)
print(deepchip.load(path, backend=backend)(x).tolist())
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    needs_memory_limits()
    return written(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def cache(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    run_python(SWEEP, model, "numba", 4096, cache=folder)
    return folder


def sweep(model, backend, limits, cache):
    """Return which of the limits sufficed."""
    enough = []
    for megabytes in limits:
        found = run_python(SWEEP, model, backend, megabytes, cache=cache)
        first, again = found.stdout.splitlines()
        assert again == str(OUTPUTS)
        if first != str(OUTPUTS):
            assert first == "out of memory"
            assert found.stderr.count("\n") == 1
            assert "out of memory: " in found.stderr
            assert " MB more; " in found.stderr
        else:
            assert found.stderr == ""
        enough.append(first == str(OUTPUTS))
    return enough


def check_sweep(model, backend, limits, cache=None):
    enough = sweep(model, backend, limits, cache)
    assert not enough[0]
    assert enough[-1]


def test_numpy(model):
    check_sweep(model, "numpy", range(0, 160, 20))


def test_numba(model, cache):
    check_sweep(model, "numba", [0, 128, 240, 256, 264, 280, 420], cache)


def test_numba_that_compiles(model, tmp_path):
    """Limits with which Numba is imported, and compiling could still run out of memory."""
    for megabytes in (260, 290, 320):
        sweep(model, "numba", [megabytes], tmp_path / str(megabytes))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_every_eight_megabytes(backend, model, cache):
    check_sweep(model, backend, range(0, 480, 8), cache)


@pytest.mark.slow
def test_every_eight_megabytes_that_compile(model, tmp_path):
    for megabytes in range(240, 480, 8):
        sweep(model, "numba", [megabytes], tmp_path / str(megabytes))


LEAST = f"""{LIMITED}
model = deepchip.load(path, backend=backend)
expected = model(x).tolist()
limit(int(megabytes))
for count in map(int, rest):
    try:
        found = model(np.broadcast_to(np.float32(1), (count, 2)))
        print(count, found.shape)
    except deepchip.OutOfMemoryError as error:
        print(error)
        del error
    assert model(x).tolist() == expected
"""


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_a_huge_batch(backend, model, cache):
    """The model goes on working after it, and says what was wanted."""
    counts = (10**5, 10**8, 10**11, 10**15)
    found = run_python(LEAST, model, backend, 200, *counts, cache=cache).stdout.splitlines()
    assert found[0] == "100000 (100000, 2)"
    assert found[1:] == [
        f"out of memory: input 'x' as float32 takes {-(-8 * count // 2**20):,} MB more; "
        "call it with fewer items at a time"
        for count in counts[1:]
    ]


RESULTS = f"""{LIMITED}
model = deepchip.load(path, backend=backend)
x = np.zeros((2**24, 2), np.float32)
limit(64)
try:
    model(x)
except deepchip.OutOfMemoryError as error:
    print(error)
"""


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_results_that_do_not_fit(backend, model, cache):
    """2**24 items of two float32 are 128 MB; the values of a slice come on top."""
    (found,) = run_python(RESULTS, model, backend, 0, cache=cache).stdout.splitlines()
    start, _, rest = found.partition(" takes ")
    assert start == "out of memory: a call of 16777216 items"
    megabytes, rest = rest.split(" ", 1)
    assert 128 <= int(megabytes) <= 128 + 65
    assert rest == "MB more; call it with fewer items at a time"


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_python_running_out_while_planning(backend, monkeypatch, tmp_path):
    """Wherever it happens, it is our error, and says for what."""

    def exhausted(*arguments):
        raise MemoryError

    path = written(tmp_path)
    name = "Steps.of" if backend == "numpy" else "_compiled"
    monkeypatch.setattr(f"deepchip.runtime.plan.{name}", exhausted)
    with pytest.raises(
        OutOfMemoryError, match=r"^net.dchip: out of memory: planning .* takes 1 MB"
    ):
        load(path, backend=backend)
    monkeypatch.undo()
    monkeypatch.setattr("deepchip.runtime.model.read_model", lambda *_, **__: exhausted())
    with pytest.raises(OutOfMemoryError, match=r"^net.dchip: out of memory while it was read; "):
        load(path, backend=backend)


def test_numpy_running_out_in_a_call(monkeypatch):
    model = Model(network(), backend="numpy")

    def exhausted(*arguments):
        raise MemoryError

    monkeypatch.setattr("deepchip.runtime.steps.Steps.run_slice", exhausted)
    with pytest.raises(OutOfMemoryError, match="a call of 2 items takes 1 MB more"):
        model(np.zeros((2, 2), np.float32))


def test_the_error_is_of_both_kinds():
    with pytest.raises(MemoryError, match=r"takes 8,192 MB more; buy some$") as caught:
        raise shortage(8192 * MB, "this", "buy some")
    assert isinstance(caught.value, DeepChipError)
    assert isinstance(caught.value, OutOfMemoryError)


def test_what_is_required_is_let_go():
    for _ in range(3):
        require(2**30, "a test", "none")
    with pytest.raises(OutOfMemoryError):
        require(2**60, "a test", "none")
    with pytest.raises(OutOfMemoryError):
        require(2**70, "a test", "none")
