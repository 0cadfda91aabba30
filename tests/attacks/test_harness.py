"""The harness sees what it is there to see."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from deepchip.formats.errors import InvalidModelError
from tests.attacks import child
from tests.attacks.child import Outcome
from tests.attacks.harness import SECONDS, Worker, check_bounds, check_refused, check_result, worker

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell the memory")


def target(what):
    """Do what an attack might."""
    if what == "refuse":
        raise InvalidModelError("layer 'a': is wrong")
    if what == "fail":
        raise KeyError("a")
    if what == "crash":
        ctypes.string_at(0)
    if what == "exit":
        os._exit(3)
    if what == "hang":
        time.sleep(100)
    if what == "spin":
        end = time.process_time() + 3 * SECONDS
        while time.process_time() < end:
            pass
    if what == "grow":
        return int(np.ones(2**24).sum())  # 128 MB
    if what == "explode":
        return np.ones(2**40)
    if what == "open":
        open("/etc/hostname").close()
    if what == "run":
        subprocess.run([sys.executable, "-c", ""], check=True)
    if what == "unpickle":
        import pickle

        return pickle.loads(pickle.dumps(os.getcwd)) is os.getcwd
    return what


def outcome(what: str) -> Outcome:
    return worker("tests.attacks.test_harness:target", "warm").run(what)


def test_results_and_refusals():
    check_result(outcome("fine"), "fine")
    check_refused(outcome("refuse"), InvalidModelError, "is wrong")
    for wrong in (outcome("fine"), replace(outcome("refuse"), error="InputError")):
        with pytest.raises(AssertionError):
            check_refused(wrong, InvalidModelError)
    with pytest.raises(AssertionError):
        check_refused(outcome("refuse"), InvalidModelError, "another text")


@pytest.mark.parametrize(("best", "times"), [(1e9, 1.0), (1e-9, 2.0)])
def test_a_slow_processor_excuses_twice_the_time_at_most(monkeypatch, best, times):
    monkeypatch.setattr(child, "REFERENCE", best)
    assert child.slowness() == times


@pytest.mark.parametrize(
    ("what", "kind", "text"),
    [
        ("fail", "fault", "KeyError: 'a'"),
        ("explode", "fault", "MemoryError"),
        ("crash", "crash", "SIGSEGV"),
        ("exit", "crash", "exit 3"),
    ],
)
def test_faults(what, kind, text):
    found = outcome(what)
    assert found.kind == kind
    assert text in found.text
    with pytest.raises(AssertionError):
        check_bounds(found, 0)
    assert outcome("fine").kind == "result"  # by the next child


def test_the_one_that_crashed_is_to_blame():
    """Of many that are sent ahead."""
    names = [*["fine"] * 3, "crash", *["refuse"] * 20, "exit", "fine"]
    found = worker("tests.attacks.test_harness:target", "warm").run_all(names)
    kinds = {"fine": "result", "refuse": "refused", "crash": "crash", "exit": "crash"}
    assert [outcome.kind for outcome in found] == [kinds[name] for name in names]


def test_hangs():
    found = Worker("tests.attacks.test_harness:target").run("hang", hang=1.0)
    assert found.kind == "hang"


def test_time():
    found = outcome("spin")
    assert found.kind == "result"
    with pytest.raises(AssertionError):
        check_bounds(found, 0)


@LINUX
def test_memory():
    found = outcome("grow")
    assert 126 <= found.megabytes <= 140
    with pytest.raises(AssertionError):
        check_bounds(found, 0)
    check_bounds(found, 2**27)
    assert outcome("fine").megabytes < 1  # of the call alone


@pytest.mark.parametrize(
    ("what", "reached"),
    [("open", "open /etc/"), ("run", "subprocess.Popen"), ("unpickle", "pickle.find_class")],
)
def test_what_it_reached_for(what, reached):
    found = outcome(what)
    assert any(reached in name for name in found.reached)
    with pytest.raises(AssertionError):
        check_bounds(found, 0)
