"""Where compiled kernels are kept, and what that depends on. tests/faults has what goes wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from deepchip.formats import kernel_cache

from .test_jit import run_python

FOLDER = "from deepchip.formats.kernel_cache import cache_folder; print(cache_folder())"


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
    assert not folder.exists()  # nothing is made until there is something to keep


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
    before = kernel_cache._key.__wrapped__()
    for name in ("formats", "runtime"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "helper.py").write_text("x = 1\n")
    monkeypatch.setattr(kernel_cache, "__file__", str(tmp_path / "formats" / "kernel_cache.py"))
    first = kernel_cache._key.__wrapped__()
    (tmp_path / "runtime" / "helper.py").write_text("x = 2\n")
    assert len({before, first, kernel_cache._key.__wrapped__()}) == 3
