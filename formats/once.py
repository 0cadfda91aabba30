"""Properties that are computed when they are first asked for, and kept.

Not `functools.cached_property`: before Python 3.12 it holds a lock that all objects of a class
share, and a process that is forked while another thread holds it waits for it for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")


class once(Generic[T]):
    """Makes a property of a method. Two threads may both compute it: what is kept last stays."""

    def __init__(self, method: Callable[[Any], T]) -> None:
        self._method = method
        self.__doc__ = method.__doc__

    @overload
    def __get__(self, owner: None, kind: type) -> once[T]: ...

    @overload
    def __get__(self, owner: object, kind: type) -> T: ...

    def __get__(self, owner: object, kind: type) -> once[T] | T:
        if owner is None:  # asked of the class
            return self
        value = self._method(owner)
        owner.__dict__[self._method.__name__] = value  # found there before this is asked again
        return value
