"""The end of the process, however models are used at that moment; and the import of modules."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import threading
import time

import pytest

from .calls import Calls
from .child import ROOT, run


def others_call():
    """Leave with daemon threads in the middle of calls."""
    calls = Calls()
    for threads in (1, 3):
        arguments = (calls.load(threads), time.monotonic() + 600)
        threading.Thread(target=calls.call_until, args=arguments, daemon=True).start()
    time.sleep(0.5)
    return calls.made


def a_thread_goes_on():
    """Leave with a thread that Python waits for."""
    calls = Calls()
    arguments = (calls.load(3), time.monotonic() + 1)
    threading.Thread(target=calls.call_until, args=arguments).start()
    return 1


def called_at_exit():
    """Call a model when Python is about to end: from 3.12 on it may start no thread then."""
    calls = Calls()
    model, fresh = calls.load(2), calls.load(2)
    calls.call(model)

    def last():
        calls.call(model, 3, 2)
        calls.call(fresh, 3, 2)
        os.write(1, b"\n4\n")

    atexit.register(last)
    return 1


kept = []


def kept_to_the_end():
    """Leave with models in a module, in a cycle, and one of them closed."""
    calls = Calls()
    kept.extend(calls.load(3) for _ in range(3))
    kept.append(kept)
    for model in kept[:3]:
        calls.call(model, 1, 4)
    kept[1].close()
    return 1


@pytest.mark.parametrize(
    "scenario", [others_call, a_thread_goes_on, called_at_exit, kept_to_the_end]
)
def test_the_process_ends(scenario):
    assert run(scenario, 120) >= 1


def test_a_model_that_is_called_while_a_module_is_imported(tmp_path):
    """Threads that import while the importing thread waits for them would wait for ever."""
    code = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(tmp_path)!r}]
from tests.services.child import watch
watch(120)
import service
print(service.calls.made)
"""
    service = """
from tests.services.calls import Calls
calls = Calls()
with calls.load(threads=3) as model:
    calls.call(model, 2, 5)
"""
    (tmp_path / "service.py").write_text(service)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["1"]
