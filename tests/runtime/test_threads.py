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
from deepchip.runtime.threads import Deserted, Team
from deepchip.runtime.workspace import Workspace
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


def test_who_was_late_for_an_interrupted_call_helps_the_next_once():
    """The thread is still busy with the first call when the second is interrupted."""
    team, go_on, meeting = Team(2), threading.Event(), threading.Barrier(2, timeout=10)

    def interrupted(index):
        if index == 0:
            raise KeyboardInterrupt
        assert go_on.wait(10)

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            team.run(interrupted, lambda: None)
    done = []

    def work(index):
        go_on.set()
        meeting.wait()
        done.append(index)
        meeting.wait()

    assert team.run(work, lambda: pytest.fail("gave up"))
    assert sorted(done) == [0, 1]
    time.sleep(0.2)
    assert meeting.n_waiting == 0


@pytest.fixture
def failures(monkeypatch):
    """The exceptions that ended threads."""
    seen = []
    monkeypatch.setattr(threading, "excepthook", lambda hook: seen.append(hook.exc_type))
    return seen


def test_a_thread_that_fails_is_replaced(failures):
    before, team, given_up = len(names()), Team(3), threading.Event()

    def work(index):
        if index == 1:
            raise MemoryError
        assert given_up.wait(10)
        if index == 0:
            raise Deserted

    with pytest.raises(Deserted):
        team.run(work, given_up.set)
    check_left(before)
    assert failures == [MemoryError]
    meeting = threading.Barrier(3, timeout=10)
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

    def fail_once(workspace, thread):
        if thread == 2:
            calls.append(thread)
            if len(calls) == 1:
                raise MemoryError
        work(workspace, thread)

    expected = Model(network)(images)
    monkeypatch.setattr(Workspace, "_work", fail_once)
    for _ in range(3):
        check_same_bits(model(images), expected)
    assert len(calls) == 3  # the first call went on alone, two were helped again
    assert failures == [MemoryError]


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
