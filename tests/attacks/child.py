"""The side of the harness that runs attacks: it measures a call and tells what came of it."""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import importlib
import importlib.util
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from deepchip.converter.readers import limits
from deepchip.formats.errors import DeepChipError
from deepchip.formats.kernel_cache import cache_folder
from tests.checks import patient

MEGABYTE = 2**20
SAFETY = 2048 * MEGABYTE
"""What a call may take at all, so that a bad one cannot take the machine down with it."""
RETAINED = 4 * MEGABYTE
"""What may stay behind from calls before without being given back to the system first."""
LONG = 1.0
"""Seconds from which on the processor's speed of the moment is asked for: others share it."""
REFERENCE = 0.47
"""Processor time of the work in `slowness`, at best, on a core of an AMD EPYC (Zen 3, 2.4 GHz)."""

_REACHES = (
    "os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect",
    "pickle.find_class", "marshal.loads", "ctypes.dlopen", "os.remove", "os.rename", "os.mkdir",
    "os.symlink", "os.listdir", "os.scandir",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What came of an attack.

    Attributes
    ----------
    kind : "result"; "refused", an error of ours; "fault", any other exception; "crash", the process
        died; "hang", it did not answer in time
    value : what the call returned
    error : the name of the exception's class
    text : what it says, or how the process died
    seconds : of processor time, of the call and of processes that it waited for; of what takes
        long, in seconds of a processor that nobody shares, see `slowness`
    megabytes : the most memory (resident) during the call beyond what was taken before it; 0.0
        where the system does not tell. Processes that the call starts are not counted.
    reached : what Python code did to the world: files opened but for the given one, directories
        read, programs started, pickles resolved. Opening of Python's own modules and of compiled
        kernels is left out. What C libraries open is not seen here but by `harness.opened_by`.
    """

    kind: str
    value: Any = None
    error: str = ""
    text: str = ""
    seconds: float = 0.0
    megabytes: float = 0.0
    reached: tuple[str, ...] = ()


def serve(connection: Connection, target: str, log: str, warm: Sequence[Any]) -> None:
    """Answer each argument that comes over `connection` with the outcome of calling `target`."""
    with open(log, "w") as file:
        os.dup2(file.fileno(), 2)
    faulthandler.enable()
    limits.SECONDS = patient(limits.SECONDS)
    module, _, name = target.partition(":")
    function = getattr(importlib.import_module(module), name)
    for argument in warm:
        with suppress(DeepChipError):
            function(argument)
    world = _World()
    connection.send("ready")
    while True:
        try:
            argument = connection.recv()
        except EOFError:
            return
        outcome = _measured(function, argument, world)
        try:
            connection.send(outcome)
        except Exception as error:  # a value that does not pickle
            connection.send(Outcome("fault", text=f"the result cannot be sent: {error}"))


def _measured(function: Callable[[Any], Any], argument: Any, world: _World) -> Outcome:
    own = os.path.realpath(argument) if isinstance(argument, str) else None
    before = _settled_memory()
    with _limited():
        world.start(own)
        begin = _seconds()
        try:
            outcome = Outcome("result", function(argument))
        except DeepChipError as error:
            outcome = Outcome("refused", None, type(error).__name__, str(error))
        except BaseException as error:
            # Not the traceback itself: it holds on to all that the call had in its hands.
            text = "".join(traceback.format_exception(error))[-2000:]
            outcome = Outcome("fault", None, type(error).__name__, text)
        seconds = _seconds() - begin
        reached = world.stop()
    if seconds > LONG:
        seconds /= slowness()
    peak = _status("VmHWM") - before
    megabytes = max(0.0, peak / MEGABYTE)
    return Outcome(
        outcome.kind, outcome.value, outcome.error, outcome.text, seconds, megabytes, reached
    )


def _seconds() -> float:
    children = os.times()
    return time.process_time() + children.children_user + children.children_system


def slowness() -> float:
    """Return how many times as long as at best the processor takes for anything now, 1 to 2.

    A virtual machine's processor time tells of its neighbours too: half as much again, for minutes.
    The work is of the kind of a plan's: objects of Python and small arrays.
    """
    begin = time.process_time()
    for number in range(100_000):
        entry = {"name": str(number), "sizes": [number] * 4}
        sizes = np.array(entry["sizes"])
        np.repeat(sizes.cumsum(), 2).astype(np.int32)
    return min(2.0, max(1.0, (time.process_time() - begin) / patient(REFERENCE)))


class _limited:
    """Private memory may grow by `SAFETY` at most meanwhile, where the system can say so."""

    def __enter__(self) -> None:
        with suppress(ImportError, ValueError):
            import resource

            _, hard = self.before = resource.getrlimit(resource.RLIMIT_DATA)
            taken = _status("VmData")
            if taken:
                resource.setrlimit(resource.RLIMIT_DATA, (taken + SAFETY, hard))

    def __exit__(self, *_: object) -> None:
        with suppress(ImportError, ValueError):
            import resource

            resource.setrlimit(resource.RLIMIT_DATA, self.before)


_settled = 0


def _settled_memory() -> int:
    """Return the resident bytes, after giving back what calls before left; forget the peak."""
    global _settled
    if _status("VmRSS") > _settled + RETAINED:
        gc.collect()
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
        _settled = _status("VmRSS")
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the peak
    return _status("VmRSS")


def _status(name: str) -> int:
    """Return a number of bytes that Linux keeps of this process; 0 elsewhere."""
    try:
        with open("/proc/self/status") as file:
            return 1024 * int(file.read().partition(f"{name}:")[2].split()[0])
    except OSError:
        return 0


class _World:
    """Sees through an audit hook what Python code does outside of memory (PEP 578)."""

    def __init__(self) -> None:
        trusted = {sys.prefix, sys.base_prefix, *map(_folder_of, _LIBRARIES), _kernels()}
        self._trusted = tuple(
            {os.path.realpath(path) + os.sep for path in trusted}
            | {os.path.realpath(Path(__file__).parents[2] / name) + os.sep for name in _SOURCES}
            | set(_FACTS)
        )
        self._reached: list[str] | None = None
        self._own: str | None = None
        sys.addaudithook(self._hear)

    def start(self, own: str | None) -> None:
        self._own = own
        self._reached = []

    def stop(self) -> tuple[str, ...]:
        reached, self._reached = self._reached or [], None
        return tuple(dict.fromkeys(reached))

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._reached is None:
            return
        if event == "open":
            path = arguments[0]
            if isinstance(path, (str, bytes, os.PathLike)):
                real = os.path.realpath(os.fsdecode(path))
                if real != self._own and not real.startswith(self._trusted):
                    self._reached.append(f"open {real}")
        elif event in _REACHES and not _by_numba():
            first = str(arguments[0]) if arguments else ""
            if not f"{first}{os.sep}".startswith(self._trusted) or event == "subprocess.Popen":
                self._reached.append(f"{event} {first}")


_SOURCES = ("src", "formats", "converter", "runtime", "tests", "bench")
_LIBRARIES = ("deepchip", "numpy", "numba", "h5py", "PIL")
_FACTS = ("/proc/cpuinfo", "/proc/meminfo", "/proc/self/status", "/sys/devices/", "/dev/null")


def _by_numba() -> bool:
    """Say whether Numba is at work, as when it takes a kernel from its cache, which is trusted."""
    frame = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("numba."):
            return True
        frame = frame.f_back
    return False


def _folder_of(module: str) -> str:
    spec = importlib.util.find_spec(module)
    return str(Path((spec and spec.origin) or "/nowhere").parent)


def _kernels() -> str:
    return str(cache_folder())
