"""The one place that talks to Numba: functions compiled on first use and kept in a cache folder.

Importing this module does not import Numba, so that the NumPy backend runs where Numba is missing.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from . import kernel_cache
from .memory import MB, require

IMPORTING = 256 * MB
"""What Numba and LLVM take, and the first kernel: 200 MB of addresses, 120 of them resident."""
COMPILING = 128 * MB
"""What compiling one kernel takes: 40 MB, and 64 that malloc may set aside for a thread."""
REBUILDING = 32 * MB
"""What a kernel from the cache takes: 10 MB."""
REMEDY = "allow the process more, or use backend='numpy', which takes less"

_lock = threading.RLock()


@contextmanager
def undivided() -> Iterator[None]:
    """Import Numba, and hold what a fork waits for: imports and compilers that are at work.

    A process that is forked meanwhile would wait for ever for a thread that it does not have.

    Raises
    ------
    OutOfMemoryError
        There is not enough for Numba; nothing was imported.
    """
    with _lock:
        if "numba" not in sys.modules:
            require(IMPORTING, "Numba", REMEDY)
        import numba  # noqa: F401
        import numpy.ma  # noqa: F401 (Numba asks for it when it first sees an array)

        yield


class _Fork:
    """Takes the locks before the process is forked, so that nobody else holds them in the child."""

    PATIENCE = 60.0
    """Seconds to wait for a lock; a fork that hangs would be worse than a child that may."""

    def __init__(self) -> None:
        self._held: list[Any] = []

    def before(self) -> None:
        self._take(_lock)  # first, or Numba could be imported before it is looked up
        numbas = sys.modules.get("numba.core.compiler_lock")
        if numbas is not None:
            self._take(numbas.global_compiler_lock._lock)
        llvms = sys.modules.get("llvmlite.binding.ffi")
        if llvms is not None:  # also taken where garbage of the compiler is collected
            self._take(llvms.lib._lock._lock)

    def _take(self, lock: Any) -> None:
        if lock.acquire(timeout=self.PATIENCE):
            self._held.append(lock)

    def after(self) -> None:
        while self._held:
            self._held.pop().release()


if hasattr(os, "register_at_fork"):
    # Of what is registered, the last comes first. Logging and thread pools, which Numba imports,
    # take locks of their own, and have to do so after.
    import concurrent.futures.thread  # noqa: F401
    import logging  # noqa: F401

    _fork = _Fork()
    os.register_at_fork(
        before=_fork.before, after_in_parent=_fork.after, after_in_child=_fork.after
    )


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
        with undivided():
            import numba

            config: Any = numba.config
            if self._call is None:
                dispatcher: Any = numba.njit(nogil=True)(self.plain)
                if not config.DISABLE_JIT:
                    require(REBUILDING, f"kernel {self.__name__!r}", REMEDY)
                    dispatcher._cache = _Cache(self.plain)
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
            with undivided():
                self._compiled = self._compiled or self._compile()
        return int(self._compiled.address)

    def _compile(self) -> Any:
        import numba
        from numba.core.ccallback import CFunc

        require(REBUILDING, f"kernel {self.__name__!r}", REMEDY)
        types: Any = numba.types
        pointers = [types.CPointer(numba.from_dtype(layout)) for layout in self.layouts]
        # As NumPy divides: a check for zero, and Python's error, would stop vector code.
        options = {"error_model": "numpy"}
        compiled: Any = CFunc(self.plain, (tuple(pointers), types.void), locals={}, options=options)
        compiled._cache = _Cache(self.plain)
        compiled.compile()
        # LLVM's form of it, to inline into others: five times the memory of its machine code.
        compiled._library._shared_module = None
        return compiled


def compiled_kernels() -> int:
    """Return how many functions this process compiled, and did not take from the cache."""
    return _Cache.compiled


class _Cache:
    """What Numba asks for a compiled function, and gives it to (`numba.core.caching._Cache`).

    In place of Numba's own, which trusts every byte of its folder, raises what a damaged one leads
    to, and refuses to start where it cannot write.
    """

    cache_path = None
    compiled = 0

    def __init__(self, function: Callable[..., Any]) -> None:
        code = function.__code__
        self._name = f"{function.__module__.rpartition('.')[2]}.{function.__qualname__}"
        self._facts = (function.__module__, self._name, code.co_code, code.co_names)

    def load_overload(self, signature: Any, context: Any) -> Any:
        """Return a compiled function, or None after a look whether there is memory to make it."""
        from numba.core.compiler import CompileResult

        context.refresh()
        data = kernel_cache.load(self._name, self._key(signature, context.codegen()))
        if data is None:
            require(COMPILING, f"compiling kernel {self._name!r}", REMEDY)
            return None
        rebuild: Any = CompileResult._rebuild
        return rebuild(context, *pickle.loads(data))

    def save_overload(self, signature: Any, result: Any) -> None:
        """Keep a compiled function, unless it holds addresses of this process."""
        from numba.core import serialize

        _Cache.compiled += 1  # one at a time: see `undivided`
        if not (result.lifted or result.library.has_dynamic_globals):
            dumps: Any = serialize.dumps
            data = dumps(result._reduce())
            kernel_cache.save(self._name, self._key(signature, result.codegen), data)

    def _key(self, signature: Any, codegen: Any) -> bytes:
        import llvmlite
        import numba

        versions = (numba.__version__, llvmlite.__version__, sys.implementation.cache_tag)
        facts = (*self._facts, str(signature), codegen.magic_tuple(), versions)
        return hashlib.sha256(repr(facts).encode()).digest()
