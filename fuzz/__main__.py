"""Runs a target under Atheris: `python -m fuzz TARGET [CORPUS ...] [-option=value ...]`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pkgutil import walk_packages
from types import FunctionType, ModuleType
from typing import Any

import atheris

from . import TARGETS, target
from .readers import MUTATORS

_INSTRUMENTED = ("deepchip.formats", "deepchip.runtime", "deepchip.converter")
_COMPILED = "deepchip.runtime.kernels"


def _functions(holder: Any, module: str) -> Iterator[FunctionType]:
    """Yield the functions of a module and of its classes; what Numba compiles is none of them."""
    for value in vars(holder).values():
        value = getattr(value, "__func__", getattr(value, "fget", value))
        if getattr(value, "__module__", None) != module:
            continue
        if isinstance(value, FunctionType):
            yield value
        elif isinstance(value, type):
            yield from _functions(value, module)


def _modules() -> Iterator[ModuleType]:
    for name in _INSTRUMENTED:
        package = import_module(name)
        yield package
        for found in walk_packages(package.__path__, f"{name}."):
            if not found.name.startswith(_COMPILED):
                yield import_module(found.name)


def main() -> None:
    """Instrument the modules in place and fuzz until the options say stop."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m fuzz TARGET [CORPUS ...] [-option=value ...]\n{list(TARGETS)}")
    name = sys.argv.pop(1)
    function = target(name)
    # Not on import, as Atheris does it: Numba could not compile what it has instrumented.
    for module in _modules():
        for found in _functions(module, module.__name__):
            atheris.instrument_func(found)
    mutator = MUTATORS.get(name)
    custom = {} if mutator is None else {"custom_mutator": mutator}
    atheris.Setup(sys.argv, function, **custom)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
