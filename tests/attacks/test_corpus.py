"""Files that found bugs, and a few that fuzzing found to reach most of the code: see fuzz/."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz import TARGETS, target
from tests.attacks.harness import worker

CORPUS = Path(__file__).parent / "corpus"
FOLDERS = sorted(path.name for path in CORPUS.iterdir())


def replay(case: tuple[str, bytes]) -> None:
    """Give bytes to a target, in a child process."""
    name, data = case
    target(name)(data)


def test_every_target_has_a_corpus():
    assert set(FOLDERS) == set(TARGETS)


@pytest.mark.parametrize("name", FOLDERS)
def test_corpus(name):
    child = worker("tests.attacks.test_corpus:replay")
    files = sorted((CORPUS / name).iterdir())
    assert files
    for path in files:
        outcome = child.run((name, path.read_bytes()))
        assert outcome.kind == "result", (path.name, outcome)
