"""Teams of threads, and programs that they share: same bits, no dead lock, asleep when idle."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time

import numpy as np
import pytest

from deepchip.converter.builder import Builder
from deepchip.formats.graph import Quantization
from deepchip.runtime.model import Model
from deepchip.runtime.program import Program
from deepchip.runtime.threads import Team
from deepchip.runtime.workspace import PIECES, Workspace
from tests.checks import needs_threads_after_fork

from .one_node import check_same_bits, weights_of
from .own_threads import names, watch  # noqa: F401 (a fixture)

PLAIN = {"strides": (1, 1), "dilations": (1, 1), "pads": (1, 1, 1, 1), "groups": 1}


pytestmark = pytest.mark.usefixtures("watch")


def test_each_thread_does_its_part_at_the_same_time():
    team, meeting = Team(4), threading.Barrier(4, timeout=10)
    found = []

    def work(index):
        meeting.wait()
        found.append((index, threading.get_ident()))
        meeting.wait()

    for _ in range(3):  # of which the first starts the threads
        found.clear()
        assert team.run(work, lambda: pytest.fail("gave up"))
        assert sorted(index for index, _ in found) == [0, 1, 2, 3]
        assert len({ident for _, ident in found}) == 4
    assert (0, threading.get_ident()) in found


def test_a_busy_team_leaves_the_work_to_the_caller():
    team, begun, over = Team(2), threading.Event(), threading.Event()

    def work(index):
        begun.set()
        assert over.wait(10)

    other = threading.Thread(target=team.run, args=(work, lambda: None))
    other.start()
    assert begun.wait(10)
    assert not team.run(lambda index: pytest.fail("ran"), lambda: None)
    over.set()
    other.join()
    assert team.run(lambda index: None, lambda: None)


def test_an_interrupted_call_lets_the_others_go():
    team, given_up, seen = Team(2), threading.Event(), threading.Event()

    def work(index):
        if index == 0:
            raise KeyboardInterrupt
        assert given_up.wait(10)
        seen.set()

    with pytest.raises(KeyboardInterrupt):
        team.run(work, given_up.set)
    assert seen.wait(10)
    assert team.run(lambda index: None, lambda: None)


def test_who_is_late_comes_to_each_call():
    """The thread is still busy with the first call when the second is over."""
    team, begun, go_on = Team(2), threading.Event(), threading.Event()
    found = []

    def first(index):
        if index == 1:
            begun.set()
            assert go_on.wait(10)
        found.append(("first", index))

    def third(index):
        found.append(("third", index))
        if index == 0:
            go_on.set()

    assert team.run(first, lambda: pytest.fail("gave up"))
    assert begun.wait(10)
    assert team.run(lambda index: found.append(("second", index)), lambda: pytest.fail("gave up"))
    assert team.run(third, lambda: pytest.fail("gave up"))
    team.close()
    calls = ["first", "second", "third"]
    assert found == [(call, thread) for thread in (0, 1) for call in calls]


@pytest.fixture
def failures(monkeypatch):
    """The exceptions that ended threads."""
    seen = []
    monkeypatch.setattr(threading, "excepthook", lambda hook: seen.append(hook.exc_type))
    return seen


def test_a_thread_that_fails_is_replaced(failures):
    before, team = len(names()), Team(3)
    meeting = threading.Barrier(3, timeout=10)

    def work(index):
        meeting.wait()
        if index == 1:
            raise MemoryError

    assert team.run(work, lambda: pytest.fail("gave up"))
    check_left(before + 1)
    assert failures == [MemoryError]
    assert team.run(lambda index: meeting.wait(), lambda: pytest.fail("gave up"))


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
@pytest.mark.parametrize("started", [0, 1])
def test_threads_that_cannot_be_started(monkeypatch, error, started):
    before = len(names())
    start, count = threading.Thread.start, iter(range(10))

    def refuse(thread):
        if next(count) >= started:
            raise error
        start(thread)

    team = Team(3)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.warns(RuntimeWarning, match=r"^threads=3, but no more can be started \("):
        assert not team.run(lambda index: pytest.fail("ran"), lambda: None)
    monkeypatch.undo()
    meeting = threading.Barrier(3, timeout=10)
    assert team.run(lambda index: meeting.wait(), lambda: pytest.fail("gave up"))
    team.close()
    check_left(before)


def test_a_closed_team_helps_nobody():
    before = len(names())
    team = Team(3)
    assert team.run(lambda index: None, lambda: None)
    team.close()
    assert len(names()) == before
    assert not team.run(lambda index: pytest.fail("ran"), lambda: None)
    team.close()


def test_a_team_that_is_closed_at_work():
    before = len(names())
    team = Team(3)
    meeting = threading.Barrier(3, action=team.close, timeout=10)
    assert team.run(lambda index: meeting.wait(), lambda: pytest.fail("gave up"))
    assert len(names()) == before
    assert not team.run(lambda index: pytest.fail("ran"), lambda: None)


def test_teams_that_a_garbage_collection_ends():
    """It may run in the middle of any statement, also of the threads that it ends."""
    before = len(names())
    thresholds = gc.get_threshold()
    gc.set_threshold(2, 2, 2)
    try:
        for _ in range(200):
            team = Team(3)
            team.cycle = team
            team.run(lambda index: [[] for _ in range(20)], lambda: None)
            del team
    finally:
        gc.set_threshold(*thresholds)
    gc.collect()
    check_left(before)


def check_left(expected):
    """Check how many threads are left after a while."""
    deadline = time.monotonic() + 10
    while len(names()) > expected and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(names()) == expected


def test_threads_end_with_their_team():
    gc.collect()
    before = len(names())
    team = Team(3)
    team.run(lambda index: None, lambda: None)
    assert len(names()) == before + 2
    del team
    gc.collect()
    check_left(before)


@pytest.fixture(scope="module")
def network():
    """Convolutions over 4-bit codes with work enough for several threads."""
    random = np.random.default_rng(1)
    builder = Builder("threads")
    x = builder.input("x", (16, 20, 20))
    form = Quantization(0.25, 1, 4)
    x = builder.add("Quantize", [x], "codes", quantization=form)
    for scale in (4.0, 80.0, 80.0, 80.0):  # about what is summed: codes spread over their range
        weight = weights_of(random.integers(0, 3, (150, builder.values[x].shape[0], 3, 3)), [-1, 1])
        tensors = {"weight": weight, "bias": random.standard_normal(150).astype("f")}
        form = Quantization(scale, 7, 4)
        x = builder.add("Conv", [x], "conv", PLAIN, tensors, quantization=form)
    return builder.finish([builder.add("Dequantize", [x], "y")])


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(2).random((3, 16, 20, 20), np.float32) * 4


def shared(network, threads):
    model = Model(network, threads=threads)
    assert isinstance(model.plan, Program)
    assert sum(operation.cost for operation in model.plan.operations) > Program.WORTH_WAKING
    return model


def test_a_call_goes_on_when_a_thread_fails(network, images, monkeypatch, failures):
    model, work, calls = shared(network, 3), Workspace._work, []

    def fail_once(workspace, call, threads, thread):
        if thread == 2:
            calls.append(thread)
            if len(calls) == 1:
                raise MemoryError
        work(workspace, call, threads, thread)

    expected = Model(network)(images)
    before = len(names())
    monkeypatch.setattr(Workspace, "_work", fail_once)
    check_same_bits(model(images), expected)
    check_left(before + 1)
    for _ in range(2):
        check_same_bits(model(images), expected)
    model.close()
    assert len(calls) == 3  # two were helped again
    assert failures == [MemoryError]


def test_a_call_waits_for_no_thread(network, images, monkeypatch):
    """Those that are late find that it is over, and help with the next one."""
    model, work, go_on, late = shared(network, 3), Workspace._work, threading.Event(), []

    def wait(workspace, call, threads, thread):
        if thread > 0:
            assert go_on.wait(10)
            late.append((call, thread))
        work(workspace, call, threads, thread)

    expected = Model(network)(images)
    monkeypatch.setattr(Workspace, "_work", wait)
    for _ in range(2):
        check_same_bits(model(images), expected)
    assert not late
    go_on.set()
    check_same_bits(model(images), expected)
    model.close()
    calls = sorted({call for call, _ in late})
    assert len(calls) == 3
    assert sorted(late) == [(call, thread) for call in calls for thread in (1, 2)]


def test_threads_that_come_take_pieces(network, images, monkeypatch):
    """The first of the operations is in the hands of another thread before this one begins."""
    model, work, found = shared(network, 2), Workspace._work, []
    meeting = threading.Barrier(2, timeout=10)

    def meet(workspace, call, threads, thread):
        meeting.wait()
        if thread == 0:
            deadline = time.monotonic() + 10
            while workspace._meeting[1] < PIECES * threads and time.monotonic() < deadline:
                time.sleep(0.001)
            found.append(int(workspace._meeting[1]))
        work(workspace, call, threads, thread)

    monkeypatch.setattr(Workspace, "_work", meet)
    check_same_bits(model(images), Model(network)(images))
    assert found == [2 * PIECES]


def test_an_interrupted_call_is_over_for_the_others(network, images, monkeypatch):
    """Control-C comes where Python sees it, before the call has begun in earnest."""
    model, work, seen = shared(network, 2), Workspace._work, threading.Event()
    begun = threading.Event()

    def interrupt(workspace, call, threads, thread):
        if thread == 0:
            assert begun.wait(10)
            raise KeyboardInterrupt
        begun.set()
        work(workspace, call, threads, thread)
        seen.set()

    monkeypatch.setattr(Workspace, "_work", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model(images)
    assert seen.wait(10)
    monkeypatch.undo()
    check_same_bits(model(images), Model(network)(images))


def test_memory_of_larger_batches_serves_smaller_ones(network, images):
    model, alone = shared(network, 2), Model(network)
    expected = Model(network, backend="numpy")(images)
    for one in (model, alone):
        for size in (1, 3, 2):
            check_same_bits(one(images[:size]), expected[:size])
        assert [kept.images for kept in one.plan._free] == [1, 4]


@pytest.mark.parametrize("threads", [2, 3, 9])
def test_more_threads_give_the_same_bits(network, images, threads):
    alone, together = Model(network), shared(network, threads)
    for _ in range(3):
        for batch in (1, 2, 3):
            check_same_bits(together(images[:batch]), alone(images[:batch]))


def test_callers_at_a_time_give_the_same_bits(network, images):
    expected = Model(network)(images)
    model, wrong = shared(network, 2), []

    def call():
        wrong.extend(1 for _ in range(20) if model(images).tobytes() != expected.tobytes())

    callers = [threading.Thread(target=call) for _ in range(5)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert not any(caller.is_alive() for caller in callers)
    assert not wrong


def test_little_work_wakes_nobody():
    gc.collect()
    before = len(names())
    builder = Builder("little")
    graph = builder.finish([builder.add("Relu", [builder.input("x", (4,))], "y")])
    model = Model(graph, threads=4)
    model(np.ones((2, 4), np.float32))
    assert len(names()) == before


def test_idle_threads_take_no_time(network, images):
    model = shared(network, 4)
    model(images)
    time.sleep(0.05)
    begin = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - begin < 0.1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_starts_threads_of_its_own(network, images):
    needs_threads_after_fork()
    model = shared(network, 2)
    expected = model(images).tobytes()
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        os._exit(0 if model(images).tobytes() == expected and len(names()) == 1 else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert model(images).tobytes() == expected
