"""Processes that are forked while another thread imports Numba or compiles."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace
from math import ceil

import pytest
from llvmlite.binding.ffi import lib
from numba.core import config
from numba.core.compiler_lock import global_compiler_lock

from deepchip.formats import jit
from tests.checks import patient
from tests.formats.networks import lenet5

from .processes import INPUTS, OUTPUTS, run_python, written

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is forked here"),
    pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing compiles: NUMBA_DISABLE_JIT"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),  # Python 3.12: threads live
]

WHILE_LOADING = f"""
import os, signal, sys, threading, time
import numpy as np
import deepchip
deepchip.Model
path, delays = sys.argv[1], sys.argv[2:]
x = np.array({INPUTS}, np.float32)
begin = threading.Event()

def load():
    begin.set()
    deepchip.load(path)

thread = threading.Thread(target=load)
thread.start()
begin.wait()
children = []
for delay in map(float, delays):
    time.sleep(delay)
    child = os.fork()
    if child == 0:
        signal.alarm({ceil(patient(100))})
        os._exit(deepchip.load(path)(x).tolist() != {OUTPUTS})
    children.append(child)
print([os.waitpid(child, 0)[1] for child in children])
thread.join()
"""


@pytest.mark.parametrize("state", ["cold", "warm"])
def test_forked_while_a_model_is_loaded(state, tmp_path):
    """The import takes half a second, compiling two kernels more than one."""
    model = written(tmp_path)
    cache = tmp_path / "cache"
    delays = [0.1, 0.6]
    if state == "warm":
        run_python(WHILE_LOADING, model, cache=cache)
    found = run_python(WHILE_LOADING, model, *delays, cache=cache)
    assert found.stdout == f"{[0] * len(delays)}\n"


def in_child(check):
    """Run a function in a forked process, and return how that ended; it is killed if it hangs."""
    child = os.fork()
    if child == 0:
        signal.alarm(ceil(patient(30)))
        os._exit(0 if check() else 1)
    return os.waitpid(child, 0)[1]


def is_free(lock):
    """Return whether another thread can take a lock, too."""
    taken = []

    def take():
        if lock.acquire(timeout=5):
            lock.release()
            taken.append(True)

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    return bool(taken)


@pytest.mark.parametrize("which", ["ours", "Numba's", "LLVM's"])
def test_a_lock_that_another_thread_holds_is_free_in_the_child(which):
    locks = {"ours": jit._lock, "Numba's": global_compiler_lock._lock, "LLVM's": lib._lock._lock}
    lock = locks[which]
    held = threading.Event()

    def compile_for_a_while():
        with lock:
            held.set()
            time.sleep(0.3)

    thread = threading.Thread(target=compile_for_a_while)
    thread.start()
    held.wait()
    # By the thread that is left: a new one may be given the number of the one that held it.
    assert in_child(lambda: lock.acquire(timeout=5)) == 0
    thread.join()
    assert is_free(lock)


def test_a_graph_is_asked_for_in_the_child_while_another_thread_asked():
    class Slow(dict):
        def __iter__(self):
            asked.set()
            over.wait()
            return super().__iter__()

    asked, over = threading.Event(), threading.Event()
    graph = lenet5()
    thread = threading.Thread(target=lambda: replace(graph, values=Slow(graph.values)).consumers)
    thread.start()
    asked.wait()
    ended = in_child(lambda: lenet5().consumers)
    over.set()
    thread.join()
    assert ended == 0


def test_a_thread_that_compiles_may_fork():
    """The lock is its own, in parent and child."""
    with jit.undivided():
        assert in_child(lambda: jit._lock.acquire(blocking=False)) == 0
    assert is_free(jit._lock)


HALF_IMPORTED = """
import os, sys, threading
from deepchip.formats import jit

def load():
    with jit.undivided():
        pass

thread = threading.Thread(target=load)
thread.start()
while "numba" not in sys.modules:
    pass
child = os.fork()
if child == 0:
    os._exit(not hasattr(sys.modules["numba"], "njit"))
print(os.waitpid(child, 0)[1])
"""


def test_a_fork_waits_for_an_import_to_end():
    assert run_python(HALF_IMPORTED).stdout == "0\n"
