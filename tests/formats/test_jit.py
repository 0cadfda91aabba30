"""Compiled kernels: what is compiled, when, and what that leaves alone."""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys

import numba
import numpy as np
import pytest
from llvmlite.binding.module import ModuleRef
from numba.core import config

from deepchip.formats import jit
from tests.checks import patient

KERNELS = """
import warnings
import numpy as np
from deepchip.converter.builder import Builder
from deepchip.runtime.model import Model
builder = Builder("net")
x = builder.input("x", (2,))
outputs = [builder.add("Relu", [x], "a"), builder.add("Add", [x, x], "b")]
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    model = Model(builder.finish(outputs))
    found = model.run({"x": np.array([[-1.5, 2.5]], np.float32)})
    found = [found[name][0].tolist() for name in outputs]
print(found, *[f"{w.category.__name__}: {w.message}" for w in caught], sep="\\n")
"""
RESULT = "[[0.0, 2.5], [-3.0, 5.0]]"


def run_python(code, **environment):
    """Run code in a process of its own, in an environment without settings of Numba and ours.

    Returns the lines that it prints.
    """
    ours = ("NUMBA_", "DEEPCHIP_", "XDG_CACHE_HOME")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=inherited | {name: str(value) for name, value in environment.items()},
        capture_output=True, text=True, timeout=patient(120),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


compiles = pytest.mark.skipif(
    bool(config.DISABLE_JIT), reason="nothing is compiled under NUMBA_DISABLE_JIT"
)


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """Nothing of these tests is kept in the user's folder."""
    monkeypatch.setenv("DEEPCHIP_CACHE_DIR", str(tmp_path))


def test_an_unwritable_place_gives_one_warning_and_computes(tmp_path):
    (tmp_path / "file").touch()
    found, *warned = run_python(KERNELS, DEEPCHIP_CACHE_DIR=tmp_path / "file" / "below")
    assert found == RESULT
    assert len(warned) == 1
    assert warned[0].startswith("RuntimeWarning: kernels are compiled anew in every process")
    assert str(tmp_path / "file" / "below") in warned[0]
    assert warned[0].endswith("Set DEEPCHIP_CACHE_DIR to a folder that is yours and writable.")


def test_a_second_process_compiles_nothing(tmp_path):
    def stored():
        return {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}

    assert run_python(KERNELS, DEEPCHIP_CACHE_DIR=tmp_path) == [RESULT]
    first = stored()
    kernels = {path.name.split("-")[0] for path in first}
    assert kernels == {"elementwise.relu", "elementwise.add", "execute.execute"}
    assert {path.suffix for path in first} == {".kernel"}
    assert len(first) == 3
    assert run_python(KERNELS, DEEPCHIP_CACHE_DIR=tmp_path) == [RESULT]
    assert stored() == first


def test_the_applications_own_setting_stays(tmp_path):
    """Its kernels go where it says, before and after ours."""
    (tmp_path / "application.py").write_text(
        "import numba\n"
        "@numba.njit(cache=True)\ndef first(x):\n    return x + 1\n"
        "@numba.njit(cache=True)\ndef second(x):\n    return x + 2\n"
    )
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import numba
numba.config.CACHE_DIR = {str(tmp_path / "theirs")!r}
{KERNELS}
from application import first, second
print(numba.config.CACHE_DIR, first(1), second(1))
"""
    lines = run_python(code, DEEPCHIP_CACHE_DIR=tmp_path / "ours")
    assert lines == [RESULT, f"{tmp_path / 'theirs'} 2 3"]
    theirs = {path.name.split("-")[0] for path in (tmp_path / "theirs").rglob("*.nbc")}
    ours = {path.name.split("-")[0] for path in (tmp_path / "ours").rglob("*.kernel")}
    assert theirs == {"application.first", "application.second"}
    assert ours == {"elementwise.relu", "elementwise.add", "execute.execute"}


def test_the_plain_function_is_at_hand():
    def double(x):
        """Return x twice."""
        return 2 * x

    compiled = jit.jit("float64(float64)")(double)
    assert (compiled.plain, compiled.signature) == (double, "float64(float64)")
    assert (compiled.__name__, compiled.__doc__) == ("double", "Return x twice.")


@compiles
def test_another_type_is_refused_and_not_compiled_for(own_cache):
    """A call with other types must not compile in the middle of a user's work."""
    same = jit.jit("float32[::1](float32[::1])")(lambda x: x)
    assert same(np.ones(2, np.float32)).tolist() == [1, 1]
    with pytest.raises(TypeError, match="No matching definition"):
        same(np.ones(2, np.float64))


PAIR = np.dtype([("x", "f8"), ("n", "i8")], align=True)


@compiles
def test_a_kernel_is_called_by_its_address(own_cache):
    """With pointers to records: by ctypes here, by compiled code otherwise."""

    @jit.kernel(PAIR, PAIR)
    def scale(pairs, factors):
        """Multiply x."""
        pair = numba.carray(pairs, 1)
        pair[0].x *= numba.carray(factors, 1)[0].n

    assert (scale.__name__, scale.__doc__, scale.layouts) == ("scale", "Multiply x.", (PAIR, PAIR))
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(scale.address)
    pair, factor = np.array([(1.5, 7)], PAIR), np.array([(0, 3)], PAIR)
    call(pair.ctypes.data, factor.ctypes.data)
    assert (pair.item(), factor.item()) == ((4.5, 7), (0, 3))
    assert scale.address == scale.address


def functions_of_llvm():
    """How many functions are held in LLVM's own form."""
    modules = [x for x in gc.get_objects() if type(x) is ModuleRef]  # not what proxies stand for
    return sum(not f.is_declaration for module in modules for f in module.functions)


@compiles
def test_a_kernel_from_the_cache_is_machine_code_alone(own_cache):
    """LLVM's form, to be inlined elsewhere, would take five times the memory."""

    def double(pairs):
        pair = numba.carray(pairs, 1)
        pair[0].x *= 2

    made = jit.kernel(PAIR)(double)
    assert made.address
    gc.collect()
    before = functions_of_llvm()
    found = jit.kernel(PAIR)(double)
    pair = np.array([(1.5, 0)], PAIR)
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(found.address)(pair.ctypes.data)
    assert pair["x"] == 3
    assert functions_of_llvm() == before


@compiles
def test_a_kernel_divides_as_numpy_does(own_cache):
    """A division by zero gives infinity, and not an error that nobody would see."""

    @jit.kernel(PAIR)
    def invert(pairs):
        pair = numba.carray(pairs, 1)
        pair[0].x = 1 / pair[0].x

    pair = np.array([(0.0, 0)], PAIR)
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(invert.address)(pair.ctypes.data)
    assert pair["x"] == np.inf
