"""Compiled kernels: where they are kept, what that depends on, and what it leaves alone."""

from __future__ import annotations

import ctypes
import itertools
import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import numba
import numpy as np
import pytest
from numba.core import config

from deepchip.formats import jit
from deepchip.formats.jit import Compiled

FOLDER = "from deepchip.formats.jit import cache_folder; print(cache_folder())"
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
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


compiles = pytest.mark.skipif(
    bool(config.DISABLE_JIT), reason="nothing is compiled under NUMBA_DISABLE_JIT"
)


def folder_of(**environment):
    (line,) = run_python(FOLDER, **environment)
    return Path(line)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("DEEPCHIP_CACHE_DIR", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME"), "DEEPCHIP_CACHE_DIR"),
        (("NUMBA_CACHE_DIR", "XDG_CACHE_HOME"), "NUMBA_CACHE_DIR"),
        (("XDG_CACHE_HOME",), "XDG_CACHE_HOME/deepchip"),
        ((), "HOME/.cache/deepchip"),
    ],
)
def test_the_folder_follows_the_environment(given, expected, tmp_path):
    environment = {name: tmp_path / name for name in ("HOME", *given)}
    folder = folder_of(**environment)
    assert folder.parent == tmp_path / expected
    assert folder.is_dir()
    assert not list(folder.iterdir())  # the probe is gone


def test_an_empty_setting_is_none(tmp_path):
    folder = folder_of(DEEPCHIP_CACHE_DIR="", NUMBA_CACHE_DIR="", XDG_CACHE_HOME=tmp_path)
    assert folder.parent == tmp_path / "deepchip"


def test_bounds_checking_has_a_folder_of_its_own(tmp_path):
    unchecked = folder_of(DEEPCHIP_CACHE_DIR=tmp_path)
    checked = folder_of(DEEPCHIP_CACHE_DIR=tmp_path, NUMBA_BOUNDSCHECK=1)
    assert unchecked != checked
    assert unchecked == folder_of(DEEPCHIP_CACHE_DIR=tmp_path)


def test_a_changed_source_has_a_folder_of_its_own(tmp_path, monkeypatch):
    """Also where it is a helper: Numba looks at the file of the kernel alone."""
    before = jit._key()
    for name in ("formats", "runtime"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "helper.py").write_text("x = 1\n")
    monkeypatch.setattr(jit, "__file__", str(tmp_path / "formats" / "jit.py"))
    first = jit._key()
    (tmp_path / "runtime" / "helper.py").write_text("x = 2\n")
    assert len({before, first, jit._key()}) == 3


def test_an_unwritable_place_gives_one_warning_and_computes(tmp_path):
    (tmp_path / "file").touch()
    found, *warned = run_python(KERNELS, DEEPCHIP_CACHE_DIR=tmp_path / "file" / "below")
    assert found == RESULT
    assert len(warned) == 1
    assert warned[0].startswith("RuntimeWarning: kernels are compiled anew in every process")
    assert str(tmp_path / "file" / "below") in warned[0]
    assert warned[0].endswith("Set DEEPCHIP_CACHE_DIR to a folder that is.")


def test_a_second_process_compiles_nothing(tmp_path):
    def stored():
        return {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}

    assert run_python(KERNELS, DEEPCHIP_CACHE_DIR=tmp_path) == [RESULT]
    first = stored()
    kernels = {path.name.split("-")[0] for path in first}
    assert kernels == {"elementwise.relu", "elementwise.add", "execute.execute"}
    assert sum(path.suffix == ".nbc" for path in first) == 3  # what was compiled; .nbi is an index
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
    ours = {path.name.split("-")[0] for path in (tmp_path / "ours").rglob("*.nbc")}
    assert theirs == {"application.first", "application.second"}
    assert ours == {"elementwise.relu", "elementwise.add", "execute.execute"}


def test_two_threads_that_compile_at_once_leave_the_setting(monkeypatch):
    """Where both can be inside Numba at once, they are, and the first to enter leaves first."""
    together = threading.Barrier(2)
    first_left = threading.Event()
    numbers = itertools.count()
    seen = []
    njit = numba.njit

    def slow_njit(**options):
        second = next(numbers) == 1
        with suppress(threading.BrokenBarrierError):  # if one thread at a time gets here: as good
            together.wait(1)
        if second:
            first_left.wait(5)
        seen.append(config.CACHE_DIR)
        return njit(**options)

    def compile_one():
        Compiled(lambda x: x + 1, "float64(float64)").compile()
        first_left.set()

    monkeypatch.setattr(jit, "cache_folder", lambda: None)
    compile_one()  # what Numba loads on first use is decorated too
    first_left.clear()
    monkeypatch.setattr(numba, "njit", slow_njit)
    monkeypatch.setattr(config, "CACHE_DIR", "the application's")
    threads = [threading.Thread(target=compile_one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == ["", ""]
    assert config.CACHE_DIR == "the application's"


def test_the_plain_function_is_at_hand():
    def double(x):
        """Return x twice."""
        return 2 * x

    compiled = jit.jit("float64(float64)")(double)
    assert (compiled.plain, compiled.signature) == (double, "float64(float64)")
    assert (compiled.__name__, compiled.__doc__) == ("double", "Return x twice.")


@compiles
def test_another_type_is_refused_and_not_compiled_for(monkeypatch):
    """A call with other types must not compile in the middle of a user's work."""
    monkeypatch.setattr(jit, "cache_folder", lambda: None)
    same = jit.jit("float32[::1](float32[::1])")(lambda x: x)
    assert same(np.ones(2, np.float32)).tolist() == [1, 1]
    with pytest.raises(TypeError, match="No matching definition"):
        same(np.ones(2, np.float64))


PAIR = np.dtype([("x", "f8"), ("n", "i8")], align=True)


@compiles
def test_a_kernel_is_called_by_its_address(monkeypatch):
    """With pointers to records: by ctypes here, by compiled code otherwise."""
    monkeypatch.setattr(jit, "cache_folder", lambda: None)

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


@compiles
def test_a_kernel_divides_as_numpy_does(monkeypatch):
    """A division by zero gives infinity, and not an error that nobody would see."""
    monkeypatch.setattr(jit, "cache_folder", lambda: None)

    @jit.kernel(PAIR)
    def invert(pairs):
        pair = numba.carray(pairs, 1)
        pair[0].x = 1 / pair[0].x

    pair = np.array([(0.0, 0)], PAIR)
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(invert.address)(pair.ctypes.data)
    assert pair["x"] == np.inf
