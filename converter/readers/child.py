"""The process in which a file is read: see `read.py`, which starts it.

It answers with a line of JSON and the bytes of a model file, which hold the graph; or else with
the error. Nothing that it says is believed: the model file is checked like any other.
"""

from __future__ import annotations

import json
import os
from typing import Any

from deepchip.formats.errors import DeepChipError, InvalidModelError
from deepchip.formats.model_file import model_bytes

from .kinds import reader_of
from .limits import limit

Answer = dict[str, Any]


def main(source: str, description: str, seconds: str) -> None:
    """Read a file, and answer on what is the standard output so far.

    description : "" for none
    seconds : see `limit`
    """
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # libraries print
        answer, data = _read(source, description or None, float(seconds))
        out.write(json.dumps(answer).encode() + b"\n")
        out.write(data)


def _read(source: str, description: str | None, seconds: float) -> tuple[Answer, bytes]:
    try:
        read = reader_of(source, description)
        limit(seconds, *filter(None, (source, description)))
        return {"error": None}, model_bytes(read(), "csr")
    except DeepChipError as error:
        found: Exception = error
    except OSError as error:
        return {"error": "OSError", "arguments": [error.errno, error.strerror]}, b""
    except MemoryError:
        found = _invalid(source, "reading it takes more memory than its size accounts for")
    except Exception as error:  # a contradiction that our checks overlooked, and a library found
        text = " ".join(str(error).split())
        found = _invalid(source, f"cannot be read: {type(error).__name__}: {text}")
    return {"error": type(found).__name__, "arguments": [str(found)]}, b""


def _invalid(source: str, text: str) -> InvalidModelError:
    return InvalidModelError(f"{os.path.basename(source)}: {text}")
