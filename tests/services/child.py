"""Scenarios run in a process of their own, which shows where it hangs and leaves nobody behind."""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from math import ceil
from pathlib import Path
from typing import Any

from tests.checks import patient

ROOT = Path(__file__).parents[2]


def run(scenario: Callable[..., Any], bound: int, **options: Any) -> Any:
    """Return what `scenario(**options)` returns in a process of its own.

    The test fails, and shows where every thread is, when that takes more than `bound` seconds, see
    `patient`. The scenario is a function of a module; options and results are what JSON holds.
    """
    bound = ceil(patient(bound))
    name = f"{scenario.__module__}:{scenario.__name__}"
    command = [sys.executable, "-m", __name__, name, str(bound), json.dumps(options)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )
    try:
        out, err = process.communicate(timeout=bound + 20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGABRT)
        out, err = process.communicate()
        raise AssertionError(f"{name} or a process that it started hangs\n{err}") from None
    print(out, err)  # pytest shows it where a test fails, or with -rP
    assert process.returncode == 0, f"{name} ended with status {process.returncode}"
    return json.loads(out.splitlines()[-1])


def watch(bound: int) -> None:
    """End this process in `bound` seconds, and say where each thread is.

    By a signal and not by a thread, so that it does the same in a process that was forked.
    """
    faulthandler.enable()
    faulthandler.register(signal.SIGALRM, chain=True)
    signal.alarm(bound)


def main(name: str, bound: str, options: str) -> None:
    """Run a scenario and print what it returns."""
    watch(int(bound))
    module, _, function = name.partition(":")
    result = getattr(importlib.import_module(module), function)(**json.loads(options))
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
