"""Many threads that call models at the same time: the same bits, and all of them go on."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.checks import patient

from .calls import Calls, helpers
from .child import run

LENGTHS = [2, pytest.param(60, marks=pytest.mark.slow)]


def eight_callers(seconds, threads):
    """One model from four threads, another network from four."""
    both = [Calls(seed) for seed in (1, 2)]
    models = [calls.load(threads) for calls in both]
    deadline = time.monotonic() + seconds
    with ThreadPoolExecutor(8) as pool:
        pairs = list(zip(both, models, strict=True)) * 4
        done = [pool.submit(calls.call_until, model, deadline) for calls, model in pairs]
        for one in done:
            one.result()
    for model in models:
        model.close()
    return {"calls": sum(calls.made for calls in both), "left": len(helpers())}


@pytest.mark.parametrize("seconds", LENGTHS)
@pytest.mark.parametrize("threads", [1, 3])
def test_two_models_called_from_eight_threads(seconds, threads):
    found = run(eight_callers, seconds + 60, seconds=patient(seconds), threads=threads)
    assert found["calls"] > 8 * seconds
    assert found["left"] == 0


def callers_that_load(seconds):
    """Each of four threads loads, calls and closes models of its own."""
    calls = Calls()
    deadline = time.monotonic() + seconds

    def serve():
        while time.monotonic() < deadline:
            with calls.load(threads=2) as model:
                calls.call(model, 0, 3)
                calls.call(model, 5, 2)

    with ThreadPoolExecutor(4) as pool:
        for one in [pool.submit(serve) for _ in range(4)]:
            one.result()
    return {"calls": calls.made, "left": len(helpers())}


@pytest.mark.parametrize("seconds", LENGTHS)
def test_models_loaded_and_closed_in_threads(seconds):
    found = run(callers_that_load, seconds + 60, seconds=patient(seconds))
    assert found["calls"] > 4
    assert found["left"] == 0


def event_loop(seconds):
    """Requests of an asyncio service; those that take longer than 2 ms are cancelled."""
    calls = Calls()
    cancelled, answered, ticks = 0, 0, 0

    async def ticker():
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    async def client(model, patience):
        nonlocal cancelled, answered
        while time.monotonic() < deadline:
            request = asyncio.to_thread(calls.call, model, 0, 4)
            try:
                await asyncio.wait_for(request, patience)
                answered += 1
            except asyncio.TimeoutError:
                cancelled += 1

    async def service():
        with calls.load(threads=2) as model:
            beside = asyncio.create_task(ticker())
            await asyncio.gather(*[client(model, None if i else 0.002) for i in range(6)])
            beside.cancel()

    deadline = time.monotonic() + seconds
    asyncio.run(service())
    return {
        "answered": answered,
        "cancelled": cancelled,
        "ticks": ticks,
        "calls": calls.made,
        "left": len(helpers()),
    }


@pytest.mark.parametrize("seconds", LENGTHS)
def test_an_asyncio_service(seconds):
    found = run(event_loop, seconds + 60, seconds=patient(seconds))
    assert found["answered"] > 5 * seconds
    assert found["cancelled"] > seconds
    assert found["ticks"] > seconds  # the event loop goes on while models compute
    assert found["left"] == 0
