"""Closing models: threads, memory and files go, calls in progress do not suffer."""

from __future__ import annotations

import os
import pickle
import threading
import weakref

import numpy as np
import pytest

import deepchip
from deepchip.formats.errors import InputError
from deepchip.formats.model_file import model_bytes
from deepchip.runtime.model import Model
from deepchip.runtime.program import Program

from .one_node import BACKENDS, check_same_bits, one_node
from .own_threads import names, watch  # noqa: F401 (a fixture)

X = np.array([[-1, 2], [3, -4], [5, 6]], np.float32)
Y = np.array([[0, 2], [3, 0], [5, 6]], np.float32)


def relu():
    return one_node("Relu", [(2,)])


pytestmark = pytest.mark.usefixtures("watch")


@pytest.fixture
def every_call_wakes(monkeypatch):
    monkeypatch.setattr(Program, "WORTH_WAKING", 0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_closed_model_refuses_calls(backend):
    model = Model(relu(), backend=backend, threads=2)
    check_same_bits(model(X), Y)
    model.close()
    model.close()
    expected = r"^model 'one' is closed; load it again$"
    for use in (
        lambda: model(X),
        lambda: model.run({"x": X}),
        lambda: model.graph,
        lambda: model.__enter__(),
        lambda: pickle.dumps(model),
    ):
        with pytest.raises(InputError, match=expected):
            use()
    assert [port.shape for port in model.inputs + model.outputs] == [(None, 2), (None, 2)]
    assert repr(model).endswith(", closed>")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_with_block_closes(backend):
    with Model(relu(), backend=backend) as model:
        check_same_bits(model(X), Y)
    with pytest.raises(InputError, match="is closed"):
        model(X)
    with pytest.raises(KeyError), Model(relu(), backend=backend) as model:
        raise KeyError
    with pytest.raises(InputError, match="is closed"):
        model(X)


def test_closing_joins_the_threads(every_call_wakes):
    before = len(names())
    model = Model(relu(), threads=4)
    check_same_bits(model(X), Y)
    assert len(names()) == before + 3
    model.close()
    assert len(names()) == before


@pytest.mark.parametrize("backend", BACKENDS)
def test_closing_lets_memory_and_file_go(backend, tmp_path, every_call_wakes):
    path = tmp_path / "net.dchip"
    path.write_bytes(model_bytes(relu()))
    model = deepchip.load(path, backend=backend, threads=2)
    check_same_bits(model(X), Y)
    held = [weakref.ref(model.graph), weakref.ref(model.plan)]
    model.close()
    assert [one() for one in held] == [None, None]
    if os.path.exists("/proc/self/fd"):
        links = [f"/proc/self/fd/{one}" for one in os.listdir("/proc/self/fd")]
        assert str(path) not in [os.readlink(link) for link in links if os.path.islink(link)]


def test_a_call_in_progress_is_finished(monkeypatch, every_call_wakes):
    """The model is closed in the middle of a call of two slices, from another thread."""
    model = Model(relu(), threads=3)
    model.plan.slice = 2
    run_slice, closed = Program._run_slice, []

    def run_and_close(*arguments):
        workspace = run_slice(*arguments)
        if not closed:
            closer = threading.Thread(target=model.close)
            closer.start()
            closer.join(10)
            closed.append(not closer.is_alive())
        return workspace

    before = len(names())
    monkeypatch.setattr(Program, "_run_slice", run_and_close)
    check_same_bits(model(X), Y)
    assert closed == [True]
    assert len(names()) == before
    with pytest.raises(InputError, match="is closed"):
        model(X)


def test_closing_while_the_threads_work(monkeypatch, every_call_wakes):
    """They end with the call that they help."""
    begun, go_on = threading.Event(), threading.Event()
    model = Model(relu(), threads=2)
    check_same_bits(model(X), Y)
    work = threads_work()

    def slow(workspace, call, threads, thread):
        if thread == 0:
            begun.set()
            assert go_on.wait(10)
        work(workspace, call, threads, thread)

    monkeypatch.setattr("deepchip.runtime.workspace.Workspace._work", slow)
    found = []
    caller = threading.Thread(target=lambda: found.append(model(X)))
    before = len(names()) - 1
    caller.start()
    assert begun.wait(10)
    model.close()
    assert len(names()) == before + 1
    go_on.set()
    caller.join(10)
    check_same_bits(found[0], Y)
    assert len(names()) == before


def threads_work():
    from deepchip.runtime.workspace import Workspace

    return Workspace._work
