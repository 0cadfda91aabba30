"""Compiled kernels in a folder: each in a file of its own, sealed by a digest.

A file that is missing, damaged, of another machine or of another Numba counts as none, and the
kernel is compiled again. What goes wrong with the folder costs time and one warning, never a
result.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import secrets
import warnings
from functools import cache
from pathlib import Path

from deepchip._version import __version__

_SOURCES = ("formats", "runtime")
_DIGEST = 32
_warned = False


def cache_folder() -> Path:
    """Return the folder that keeps compiled kernels; it need not be there.

    Below `DEEPCHIP_CACHE_DIR`, else `NUMBA_CACHE_DIR`, else the user's cache folder. It is named
    after the release, the kernel sources and the machine, because no kernel knows of the helpers
    that were compiled into it.
    """
    base = os.environ.get("DEEPCHIP_CACHE_DIR") or os.environ.get("NUMBA_CACHE_DIR")
    if not base:
        user = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        base = os.path.join(user, "deepchip")
    return Path(base) / f"kernels-{__version__}-{_key()}"


def load(name: str, key: bytes) -> bytes | None:
    """Return what `save` was given under this name and key, or None."""
    folder = cache_folder()
    try:
        if not _is_ours(folder):
            _warn(folder, "belongs to another user, or anyone may write to it")
            return None
        sealed = _path(folder, name, key).read_bytes()
    except OSError:
        return None
    digest, data = sealed[:_DIGEST], sealed[_DIGEST:]
    return data if digest == _seal(key, data) else None


def save(name: str, key: bytes, data: bytes) -> bool:
    """Keep `data`; return whether that worked, and warn the first time that it does not."""
    folder = cache_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_ours(folder):
            return False  # `load` has said so
        path = _path(folder, name, key)
        temporary = path.with_name(f".{secrets.token_hex(8)}")
        try:
            temporary.write_bytes(_seal(key, data) + data)
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
    except OSError as error:
        _warn(folder, f"is not writable ({error.strerror})")
        return False
    return True


def works() -> bool:
    """Return whether nothing has kept this process from keeping its kernels."""
    return not _warned


def _is_ours(folder: Path) -> bool:
    """Return whether nobody but this user and root can have put a file there: files hold code."""
    if os.name == "nt":
        return True
    try:
        found = folder.stat()
    except FileNotFoundError:
        return True
    return found.st_uid in (0, os.geteuid()) and not found.st_mode & 0o002


def _path(folder: Path, name: str, key: bytes) -> Path:
    return folder / f"{name}-{hashlib.sha256(key).hexdigest()[:16]}.kernel"


def _seal(key: bytes, data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(key).digest() + data).digest()


def _warn(folder: Path, reason: str) -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"kernels are compiled anew in every process, because {folder} {reason}. "
            "Set DEEPCHIP_CACHE_DIR to a folder that is yours and writable.",
            RuntimeWarning,
            stacklevel=2,
        )


@cache
def _key() -> str:
    """Digest what compiled code depends on and no kernel knows of."""
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
