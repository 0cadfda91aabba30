"""The check of one machine's results on another finds what differs, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.golden.logits import DIGESTS, check, make

pytest.importorskip("onnx", reason="onnx is not installed")

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make(tmp_path, ["lenet5"])
    return tmp_path


def test_compiled_kernels_and_numpy_give_the_same_bits(folder: Path) -> None:
    lines = list(check(folder, "numpy"))
    assert [line.partition(":")[0] for line in lines] == ["lenet5-4.dchip", "lenet5-8.dchip"]
    for line in lines:
        # Five layers: the codes that each of them reads at the least, and the logits.
        assert int(line.split()[1]) >= 6
        assert line.endswith(" 0 differ")


def test_what_differs_is_named(folder: Path) -> None:
    known = json.loads((folder / DIGESTS).read_text(encoding="utf-8"))
    values = known["lenet5-8.dchip"]
    another, *_, one = values
    values[one] = "0" * 64
    values["none"] = values.pop(another)
    (folder / DIGESTS).write_text(json.dumps(known), encoding="utf-8")
    same, other = check(folder, "numpy")
    assert same.endswith(" 0 differ")
    assert set(other.split(" 3 differ ")[1].split()) == {one, another, "none"}
    command = [sys.executable, "-m", "tests.golden.logits", "check", "--backend", "numpy"]
    found = subprocess.run(
        [*command, str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.returncode == 1
    assert found.stdout.splitlines() == [same, other]
