"""Where no thread can be started, calls go on with the one that there is."""

from __future__ import annotations

import resource
import threading
import warnings

import numpy as np

from deepchip.runtime.model import Model
from tests.checks import needs_memory_limits

from .calls import Calls, helpers
from .child import run

MB = 2**20


def without_room_for_stacks(threads, room):
    """Calls where the stacks of threads, 512 MB each, find room for `room` of them only."""
    calls = Calls()
    plain = Model(calls.graph, backend="numpy", threads=threads)
    with calls.load(1) as warm:
        calls.call(warm, 0, 20)
    model = calls.load(threads)
    with open("/proc/self/statm", encoding="ascii") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    threading.stack_size(512 * MB)
    unlimited = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + (512 * room + 256) * MB, unlimited[1]))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for turn in range(5):
            calls.call(model, turn, 3)
        found = plain(calls.x[:8])
    assert np.array_equal(found, calls.expected[:8])
    limited = len(helpers())
    resource.setrlimit(resource.RLIMIT_AS, unlimited)
    calls.call(model, 2, 3)
    later = len(helpers())
    model.close()
    texts = {str(one.message) for one in caught if one.category is RuntimeWarning}
    return {"texts": sorted(texts), "limited": limited, "later": later, "left": len(helpers())}


def test_without_room_for_threads():
    needs_memory_limits()
    found = run(without_room_for_stacks, 120, threads=4, room=1)
    (text,) = found["texts"]
    assert text.startswith("threads=4, but no more can be started (can't start new thread): ")
    assert found["limited"] == 0
    assert found["later"] == 3  # started as soon as that is possible
    assert found["left"] == 0
