"""Models in processes: forked, spawned, from pools, in the middle of calls and of loading."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
import traceback
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest

from tests.checks import needs_threads_after_fork, patient

from .calls import Calls, helpers
from .child import run, watch

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system"),
]
LENGTHS = [2, pytest.param(60, marks=pytest.mark.slow)]


def forked(work, bound=60):
    """Return the id of a process that does `work` and ends with status 0, or 1 if that fails."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            watch(bound)
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return process


def failures(processes):
    """Wait for processes; return how many did not end with status 0."""
    return sum(os.waitpid(process, 0)[1] != 0 for process in processes)


def forks_between_calls(seconds):
    """Forks while four threads call two models; every child calls both, and loads one."""
    calls = Calls()
    models = [calls.load(threads) for threads in (2, 3)]
    deadline = time.monotonic() + seconds

    def work():
        inherited = helpers()
        for turn, model in enumerate(models * 2):
            calls.call(model, turn, 2)
        with calls.load(threads=2) as model:
            calls.call(model, 5, 3)
        models[0].close()
        calls.call(models[1], 4, 3)
        del models[:]
        assert not inherited

    children, failed = 0, 0
    with ThreadPoolExecutor(4) as pool:
        callers = [pool.submit(calls.call_until, model, deadline) for model in models * 2]
        while time.monotonic() < deadline:
            batch = [forked(work) for _ in range(2)]
            time.sleep(0.007)
            failed += failures(batch)
            children += len(batch)
        for caller in callers:
            caller.result()
    for model in models:
        model.close()
    return {"children": children, "failed": failed, "calls": calls.made, "left": len(helpers())}


@pytest.mark.parametrize("seconds", LENGTHS)
def test_forks_in_the_middle_of_calls(seconds):
    needs_threads_after_fork()
    found = run(forks_between_calls, seconds + 120, seconds=patient(seconds))
    assert found["children"] > seconds
    assert found["failed"] == 0
    assert found["calls"] > 10 * seconds
    assert found["left"] == 0


def forks_while_loading(moments, patience, folder=None):
    """Forks at moments after another thread began to load a model, the first of this process."""
    calls = Calls()
    assert "numba" not in sys.modules
    if folder is not None:
        os.environ["DEEPCHIP_CACHE_DIR"] = folder  # with nothing in it: kernels are compiled
    over = threading.Event()

    def work():
        with calls.load(threads=2) as model:
            calls.call(model, 5, 3)

    def load():
        work()
        over.set()

    loader = threading.Thread(target=load)
    loader.start()
    begin = time.monotonic()
    children, early = [], 0
    for moment in moments:
        time.sleep(max(0, moment - (time.monotonic() - begin)))
        early += not over.is_set()
        children.append(forked(work, patience))
    failed = failures(children)
    loader.join()
    return {"failed": failed, "early": early, "loaded": over.is_set()}


def test_forks_while_another_thread_imports_and_loads():
    """Of children that are forked while Numba is imported, and kernels come from their cache."""
    needs_threads_after_fork()
    found = run(forks_while_loading, 120, moments=[0, 0.02, 0.1, 0.3, 0.6, 1, 1.5], patience=60)
    assert found["early"] >= 2
    assert found["loaded"]
    assert found["failed"] == 0


@pytest.mark.slow
def test_forks_while_another_thread_compiles(tmp_path):
    needs_threads_after_fork()
    found = run(forks_while_loading, 500, moments=[1, 3, 6], patience=400, folder=str(tmp_path))
    assert found["early"] >= 2
    assert found["loaded"]
    assert found["failed"] == 0


_served = None


def open_shop(model):
    """Make a model what `serve` calls in this process."""
    global _served
    _served = model


def serve(items):
    """Call the model that the process was given when it started."""
    return _served(items)


def pools(method, calls_each):
    """A pool of two processes that call the model, while this one does."""
    calls = Calls()
    model = calls.load(threads=2)
    calls.call(model)  # its threads are there when processes are forked
    context = multiprocessing.get_context(method)
    over = threading.Event()

    def beside():
        while not over.is_set():
            calls.call(model, 1, 2)

    caller = threading.Thread(target=beside)
    caller.start()
    wrong = 0
    with ProcessPoolExecutor(
        2, mp_context=context, initializer=open_shop, initargs=(model,)
    ) as pool:
        firsts = [turn % 20 for turn in range(calls_each)]
        batches = [calls.x[first : first + 3] for first in firsts]
        for first, found in zip(firsts, pool.map(serve, batches), strict=True):
            wrong += found.tobytes() != calls.expected[first : first + 3].tobytes()
    with context.Pool(2, open_shop, (model,)) as pool:
        for first, found in zip(firsts, pool.map(serve, batches), strict=True):
            wrong += found.tobytes() != calls.expected[first : first + 3].tobytes()
    over.set()
    caller.join()
    model.close()
    return {"wrong": wrong, "beside": calls.made, "left": len(helpers())}


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_pools_of_processes(method):
    if method == "fork":
        needs_threads_after_fork()
    found = run(pools, 120, method=method, calls_each=40)
    assert found["wrong"] == 0
    assert found["beside"] > 10
    assert found["left"] == 0
