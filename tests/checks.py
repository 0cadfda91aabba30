"""Helpers that tests of several folders share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def data_folder(name: str) -> Path:
    """Return a folder or file of the shared data, or skip the test and say why."""
    root = Path(os.environ.get("DEEPCHIP_DATA", Path(__file__).parents[2] / "shared" / "data"))
    path = root / name
    if not path.exists():
        pytest.skip(f"{name} is not at {root}; set DEEPCHIP_DATA to the folder that holds it")
    return path
