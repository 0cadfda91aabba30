"""Hostile model files: those of the tables, and random changes that know a file's structure."""

from __future__ import annotations

import os
from random import Random

import pytest

from deepchip.formats.errors import InputError, InvalidModelError
from deepchip.formats.model_file import model_bytes
from tests.attacks.containers import CONTAINERS, secret
from tests.attacks.damage import Tally
from tests.attacks.harness import check_bounds, check_refused, opened_by, worker
from tests.attacks.model_files import TABLES, WARM, check_attack
from tests.attacks.mutation import mutated
from tests.formats.networks import lenet5, more_operators, operators, residual, small

CASES = [
    pytest.param(attack, targets, id=attack.name)
    for table, targets in TABLES.values()
    for attack in table.attacks
]
LARGEST = 2**15
"""Bytes of a file, about, that changes are made to."""
ENCODINGS = ("csr", "runlength", "huffman")
GRAPHS = {"small": small, "residual": residual, "lenet5": lenet5, "operators": operators,
          "more operators": more_operators}  # fmt: skip


@pytest.mark.parametrize(("attack", "targets"), CASES)
def test_attack(attack, targets):
    data = attack.make()
    for target in targets:
        outcome = worker(f"tests.attacks.targets:{target}", *WARM).run(data)
        check_attack(attack, outcome, len(data))


def test_names_differ():
    names = [case.id for case in CASES]
    assert len(set(names)) == len(names)


def test_no_other_file_is_opened():
    """By whatever code: the kernel says who opens what stands beside the file asked for."""
    reader = worker("tests.attacks.targets:decoded", *WARM)
    with opened_by(secret(), secret().parent) as opened:
        for attack in CONTAINERS.attacks:
            data = attack.make()
            opened()  # h5py may look at what it writes
            reader.run(data)
            assert opened() == []
        secret().read_bytes()
        assert str(secret()) in opened()  # the watch sees


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    """Nobody will ever write to it."""
    os.mkfifo(tmp_path / "net.dchip")
    outcome = worker("tests.attacks.targets:loaded", *WARM).run(str(tmp_path / "net.dchip"))
    check_refused(outcome, InputError, "net.dchip: a pipe")


@pytest.mark.parametrize("kind", ["a folder", "nothing", "/dev/zero", "/dev/null"])
def test_what_is_no_file(kind, tmp_path):
    path = {"a folder": str(tmp_path), "nothing": str(tmp_path / "net.dchip")}.get(kind, kind)
    outcome = worker("tests.attacks.targets:loaded", *WARM).run(path)
    if kind.startswith("/dev"):
        check_refused(outcome, InvalidModelError, "no HDF5 file")
    else:
        assert outcome.kind == "fault"
        assert outcome.error in ("IsADirectoryError", "FileNotFoundError", "PermissionError")


def changes(wholes, count, **most):
    """Files with random changes, each from a seed of its own."""
    for seed in range(count):
        random = Random(seed)
        yield mutated(random.choice(wholes), random, **most)


@pytest.mark.parametrize("count", [1000, pytest.param(50_000, marks=pytest.mark.slow)])
def test_random_changes_are_refused_or_read(count):
    """Sizes and digests are right, so that what is read is what the attacker chose."""
    wholes = [model_bytes(make(), encoding) for make in GRAPHS.values() for encoding in ENCODINGS]
    reader = worker("tests.attacks.targets:decoded", *WARM)
    tally = Tally()
    for seed, outcome in enumerate(reader.run_all(changes(wholes, count))):
        check_bounds(outcome, LARGEST)
        assert outcome.text.isprintable(), (seed, outcome)
        tally.add(outcome)
    print(f"random changes: {tally}")
    assert {"InvalidModelError", "UnsupportedError", "result"} == set(tally.outcomes)


@pytest.mark.parametrize("count", [300, pytest.param(20_000, marks=pytest.mark.slow)])
def test_what_is_read_runs_alike_on_both_backends(count):
    """Kernels that a network needs may have to be compiled first: no bound of two seconds here."""
    wholes = [model_bytes(make()) for make in GRAPHS.values()]
    runner = worker("tests.attacks.targets:ran_alike", *WARM)
    tally = Tally()
    for seed, outcome in enumerate(runner.run_all(changes(wholes, count, most=1))):
        assert outcome.kind in ("result", "refused"), (seed, outcome)
        tally.add(outcome)
    print(f"random changes, run: {tally}")
    assert tally.outcomes["result"] > count / 10
