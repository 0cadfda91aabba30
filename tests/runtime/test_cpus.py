"""Threads that find themselves on the processor of another one of their call move."""

from __future__ import annotations

import os
import threading

import pytest

from deepchip.runtime import cpus
from deepchip.runtime.threads import Team

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="threads cannot be moved on this system"
)


def in_thread(work):
    """Return what `work` returns in a thread of its own, whose processors may be changed."""
    found = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


def needs_processors(count):
    if len(os.sched_getaffinity(0)) < count:
        pytest.skip(f"fewer than {count} processors")


def test_the_processor_is_told():
    def on(cpu):
        os.sched_setaffinity(0, {cpu})
        return cpus.current()

    for cpu in os.sched_getaffinity(0):
        assert in_thread(lambda cpu=cpu: on(cpu)) == cpu


def test_a_thread_leaves_the_processor_of_another():
    needs_processors(2)
    allowed = os.sched_getaffinity(0)

    def move():
        here = min(allowed)
        os.sched_setaffinity(0, {here})
        os.sched_setaffinity(0, allowed)  # it may go elsewhere, and has no reason to
        taken = [here]
        cpus.keep_apart(taken)
        return here, taken, os.sched_getaffinity(0)

    here, (first, own), after = in_thread(move)
    assert first == here
    assert own in allowed - {here}
    assert after == allowed


def test_a_thread_that_is_alone_stays(monkeypatch):
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: pytest.fail("moved"))
    taken = [-1]
    cpus.keep_apart(taken)
    assert len(taken) == 2


def test_a_thread_that_is_bound_to_one_processor_stays():
    cpu = min(os.sched_getaffinity(0))

    def move():
        os.sched_setaffinity(0, {cpu})
        taken = [cpu]
        cpus.keep_apart(taken)
        return taken, os.sched_getaffinity(0)

    assert in_thread(move) == ([cpu, cpu], {cpu})


def test_a_refusal_is_passed_over(monkeypatch):
    cpu = min(os.sched_getaffinity(0))
    bind, refused = os.sched_setaffinity, []

    def refuse(thread, elsewhere):
        refused.append(elsewhere)
        raise OSError(1, "Operation not permitted")

    def stay():
        bind(0, {cpu})
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {cpu, cpu + 1})
        monkeypatch.setattr(os, "sched_setaffinity", refuse)
        taken = [cpu]
        cpus.keep_apart(taken)
        return taken

    assert in_thread(stay) == [cpu, cpu]
    assert refused == [{cpu + 1}]


def test_threads_of_a_call_are_on_processors_of_their_own():
    needs_processors(2)
    team, meeting, found = Team(2), threading.Barrier(2, timeout=10), []

    def work(index):
        found.append(cpus.current())
        meeting.wait()

    seen = 0
    for _ in range(50):
        found.clear()
        assert team.run(work, lambda: pytest.fail("gave up"))
        seen += len(set(found)) == 2
    team.close()
    assert seen > 25  # Linux may move either at any time
