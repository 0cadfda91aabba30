"""Damaged files are refused, or what is damaged of them means nothing: never another network."""

from __future__ import annotations

from random import Random

import pytest

from bench.networks import build, images
from deepchip.converter.convert import convert
from tests.attacks.damage import continued, cut, flipped, misplaced, tried
from tests.attacks.forgeries import lenet
from tests.attacks.harness import worker

SEED = 5


@pytest.fixture(scope="module")
def decoded():
    return worker("tests.attacks.targets:decoded_by_numba", lenet())


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    """ResNet-20 with ternary weights and activations of 4 bits, 70 KB."""
    folder = tmp_path_factory.mktemp("resnet")
    (folder / "net.onnx").write_bytes(build("resnet20", 0.63).SerializeToString())
    settings = {"activations": 4, "calibration": images("resnet20", 8)}
    convert(folder / "net.onnx", folder / "net.dchip", **settings)
    return (folder / "net.dchip").read_bytes()


def show(what, tally):
    print(f"{what}: {tally}")  # pytest -s shows the figures


def test_flipped_bits(decoded):
    """Every bit of what HDF5 keeps about the data, and some of the rest."""
    data = lenet()
    bits = [*range(8 * 400), *Random(SEED).sample(range(8 * 400, 8 * len(data)), 500)]
    show("flipped bits of LeNet-5", tried(decoded, data, flipped(data, bits)))


@pytest.mark.slow
def test_every_flipped_bit(decoded):
    data = lenet()
    show("every bit of LeNet-5", tried(decoded, data, flipped(data, range(8 * len(data)))))


@pytest.mark.slow
def test_flipped_bits_of_a_larger_file(resnet):
    bits = Random(SEED).sample(range(8 * len(resnet)), 20_000)
    reader = worker("tests.attacks.targets:decoded_by_numba", resnet)
    show(
        f"20,000 bits of ResNet-20, {len(resnet)} bytes",
        tried(reader, resnet, flipped(resnet, bits)),
    )


def test_cut_files(decoded):
    data = lenet()
    lengths = [*range(500), *range(500, len(data), 29), len(data) - 1]
    show("LeNet-5, cut", tried(decoded, data, cut(data, lengths)))


@pytest.mark.slow
def test_files_cut_at_every_byte(decoded):
    data = lenet()
    show("LeNet-5, cut at every byte", tried(decoded, data, cut(data, range(len(data)))))


def test_continued_files(decoded):
    data = lenet()
    assert tried(decoded, data, continued(data)).outcomes == {"InvalidModelError": 5}


@pytest.mark.parametrize("count", [300, pytest.param(5000, marks=pytest.mark.slow)])
def test_misplaced_blocks(decoded, count):
    data = lenet()
    show("blocks of LeNet-5", tried(decoded, data, misplaced(data, Random(SEED), count)))


def test_what_is_not_compared_with_its_digest_is_within_bounds():
    """Without digests, wrong weights are read as if they were right; nothing worse."""
    data = lenet()
    runner = worker("tests.attacks.targets:ran_unverified", data)
    bits = Random(SEED).sample(range(8 * len(data)), 500)
    for outcome in runner.run_all(flipped(data, bits)):
        assert outcome.kind in ("result", "refused"), outcome
