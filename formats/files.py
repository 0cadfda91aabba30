"""Files are written beside their target, then renamed: what was there stays whole until then."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def replacing(
    path: str | os.PathLike[str], check: Callable[[Path], None] = lambda written: None
) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` when the block ends, unless it or `check` raises.

    `check` is handed the path of the file once all of it is on the disk.

    Raises
    ------
    OSError
        It cannot be written, or `path` is something else than a file, such as a folder or a device.
    """
    target = Path(os.path.abspath(path))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(target))
    if target.exists() and not target.is_file():  # a device would be gone afterwards
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(target))
    temporary = target.with_name(f".deepchip-{secrets.token_hex(8)}")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # or the rename could reach the disk before the bytes
        check(temporary)
        os.replace(temporary, target)
    except OSError as error:
        if error.filename == os.fspath(temporary) or error.errno in _FULL:
            raise OSError(error.errno, error.strerror, os.fspath(target)) from error
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file in UTF-8."""
    with replacing(path) as file:
        file.write(text.encode())
