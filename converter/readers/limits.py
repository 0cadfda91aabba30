"""What reading a file may cost the process that does nothing else.

Memory and processor time are given out by the size of the file. Who takes more is refused the
memory, and ended by the signal SIGPROF when the time is over. Systems that cannot say how much
memory a process has set no limit to it, and those without timers none to its time.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

MEMORY = 2**26
"""Bytes beyond what the process had before."""
MEMORY_PER_BYTE = 32
"""The same for each byte of the file. Floats take 6: they are read, parsed, converted and handed
over; weights of 8 bits take 16, as each becomes a code and an index."""
SECONDS = 1.0
BYTES_A_SECOND = 2**22
"""Files are read at 50 MB a second and more; a Raspberry Pi is ten times as slow."""

_data = 0
"""Private memory that this process may have; 0 while nothing is limited."""
_files: set[str] = set()


def limit(seconds: float, *paths: str) -> None:
    """Limit this process from here on to what reading these files may take.

    seconds : `SECONDS`, as the process that wants them read has it
    """
    global _data
    _files.update(map(os.path.realpath, paths))
    size = sum(map(_size, _files))
    with suppress(ImportError, OSError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        _data = _taken() + MEMORY + MEMORY_PER_BYTE * size
        resource.setrlimit(resource.RLIMIT_DATA, (_data, hard))
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGPROF])
        signal.setitimer(signal.ITIMER_PROF, seconds + size / BYTES_A_SECOND)


def extend(path: Path) -> None:
    """Allow for one more file that belongs to them, once; nothing where nothing is limited."""
    global _data
    name = os.path.realpath(path)
    if not _files or name in _files:
        return
    _files.add(name)
    size = _size(name)
    if _data:
        import resource

        _data += MEMORY_PER_BYTE * size
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (_data, hard))
    if hasattr(signal, "setitimer"):
        left, _ = signal.getitimer(signal.ITIMER_PROF)
        signal.setitimer(signal.ITIMER_PROF, left + size / BYTES_A_SECOND)


def _size(path: str) -> int:
    """Return the bytes that a file takes on the disk: holes in it are not paid for."""
    found = os.stat(path)
    blocks: int | None = getattr(found, "st_blocks", None)
    return found.st_size if blocks is None else min(found.st_size, 512 * blocks)


def _taken() -> int:
    """Return the private bytes of this process, as Linux counts them for RLIMIT_DATA (proc(5))."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmData:")[2].split()[0])
