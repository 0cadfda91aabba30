"""The one place that talks to Numba: functions compiled on first use and kept in a cache folder.

Importing this module does not import Numba, so that the NumPy backend runs where Numba is missing.
"""

from __future__ import annotations

import hashlib
import os
import platform
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from deepchip._version import __version__

_SOURCES = ("formats", "runtime")
_decorating = threading.Lock()  # Numba's setting is one for the process


def jit(signature: str) -> Callable[[Callable[..., Any]], Compiled]:
    """Compile a function for one explicit Numba `signature`, on its first call.

    One signature, because every new combination of dtype, layout and writability would otherwise
    compile the function again, in the middle of a user's call.
    """
    return lambda function: Compiled(function, signature)


class Compiled:
    """A function that Numba compiles, or takes from its cache, when it is first called.

    Attributes
    ----------
    plain : the Python function itself
    signature : str, what it is compiled for
    """

    def __init__(self, function: Callable[..., Any], signature: str) -> None:
        self.plain = function
        self.signature = signature
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        self._call: Callable[..., Any] | None = None

    def __call__(self, *args: Any) -> Any:
        """Run the compiled function. It checks nothing: shapes and indices are the caller's."""
        return (self._call or self.compile())(*args)

    def compile(self) -> Callable[..., Any]:
        """Compile now, and return what is called. Doing so twice, or from two threads, is safe."""
        import numba

        folder = cache_folder()
        with _decorating, _numba_cache_at(folder):
            dispatcher = numba.njit(nogil=True, cache=folder is not None)(self.plain)
        if not _numba_settings().DISABLE_JIT:
            dispatcher.compile(self.signature)
            dispatcher.disable_compile()
        self._call = dispatcher
        return self._call


def kernel(*layouts: np.dtype[Any]) -> Callable[[Callable[..., Any]], Kernel]:
    """Compile a function of pointers to records of these `layouts`, which gives nothing back."""
    return lambda function: Kernel(function, layouts)


class Kernel:
    """A function that compiled code calls by its address.

    Attributes
    ----------
    plain : the Python function itself
    layouts : structured dtypes of the records that its arguments point to
    """

    def __init__(self, function: Callable[..., Any], layouts: tuple[np.dtype[Any], ...]) -> None:
        self.plain = function
        self.layouts = layouts
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        self._compiled: Any = None

    @property
    def address(self) -> int:
        """Where it lies in memory; compiles it, or takes it from the cache, the first time."""
        if self._compiled is None:
            import numba

            types: Any = numba.types
            pointers = [types.CPointer(numba.from_dtype(layout)) for layout in self.layouts]
            folder = cache_folder()
            with _decorating, _numba_cache_at(folder):
                # As NumPy divides: a check for zero, and Python's error, would stop vector code.
                compiled = numba.cfunc(
                    types.void(*pointers), cache=folder is not None, error_model="numpy"
                )
                self._compiled = compiled(self.plain)
        return int(self._compiled.address)


@cache
def cache_folder() -> Path | None:
    """Return the folder that keeps compiled kernels, or None (and warn) if it is not writable.

    `DEEPCHIP_CACHE_DIR`, else `NUMBA_CACHE_DIR`, else the user's cache folder. The folder is named
    after the release, the kernel sources and the machine, because Numba itself notices neither a
    change in a called helper nor bounds checking.
    """
    base = os.environ.get("DEEPCHIP_CACHE_DIR") or os.environ.get("NUMBA_CACHE_DIR")
    if not base:
        user = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        base = os.path.join(user, "deepchip")
    folder = Path(base) / f"kernels-{__version__}-{_key()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        warnings.warn(
            f"kernels are compiled anew in every process, because {folder} is not writable "
            f"({error.strerror}). Set DEEPCHIP_CACHE_DIR to a folder that is.",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return folder


def _key() -> str:
    """Digest everything that compiled code depends on and that Numba's own index leaves out."""
    digest = hashlib.sha256()
    root = Path(__file__).resolve().parent.parent
    for folder in _SOURCES:
        for path in sorted((root / folder).rglob("*.py")):
            digest.update(path.name.encode() + path.read_bytes())
    for fact in (platform.machine(), _cpu_model(), os.environ.get("NUMBA_BOUNDSCHECK", "")):
        digest.update(f"{fact}\0".encode())
    return digest.hexdigest()[:16]


def _cpu_model() -> str:
    """Return what the kernel says of the CPU, so that a shared home serves two machines."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            wanted = ("model name", "flags", "CPU part", "Features")
            return "".join(sorted({line for line in lines if line.startswith(wanted)}))
    except OSError:
        return platform.processor()


@contextmanager
def _numba_cache_at(folder: Path | None) -> Iterator[None]:
    """Point Numba at `folder` for one decoration; the application's own setting stays."""
    settings = _numba_settings()
    before = settings.CACHE_DIR
    settings.CACHE_DIR = "" if folder is None else str(folder)
    try:
        yield
    finally:
        settings.CACHE_DIR = before


def _numba_settings() -> Any:
    from numba.core import config

    return config
