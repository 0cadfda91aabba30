"""Other processors than this one: kernels compiled for less compute the same bits."""

from __future__ import annotations

import platform

import pytest

from .test_guard_pages import pytestmark, run_child

__all__ = ["pytestmark"]

X86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="is an x86-64 processor")
WHOLE = ("operators", "extremes", "random 1 200")


def processor(name, features=""):
    """What Numba is told to compile for."""
    return {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features}


def test_any_processor(tmp_path):
    """The least of its kind: of x86-64, SSE2."""
    check(tmp_path, processor("generic"), "random 0 12")


@pytest.mark.slow
@pytest.mark.parametrize("what", WHOLE)
def test_any_processor_in_full(what, tmp_path):
    check(tmp_path, processor("generic"), what)


@X86
@pytest.mark.slow
@pytest.mark.parametrize("what", WHOLE)
@pytest.mark.parametrize(
    "name, features", [("haswell", "+avx2,+fma,+bmi,+popcnt"), ("nehalem", "")]
)
def test_x86_without_avx512(name, features, what, tmp_path):
    check(tmp_path, processor(name, features), what)


def check(folder, settings, what):
    """Run networks in guarded memory by kernels that are compiled for another processor."""
    cache = folder / "cache"
    run_child(folder, "body ends", *what.split(), DEEPCHIP_CACHE_DIR=str(cache), **settings)
    assert list(cache.rglob("*.kernel")), "kernels were taken from elsewhere"
