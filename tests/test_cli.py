"""The command line as a stranger meets it: what it prints, where, and with which exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import deepchip
from deepchip.cli import main
from deepchip.converter.builder import Builder
from deepchip.formats.csr import CSR
from deepchip.formats.graph import LevelWeights
from deepchip.formats.model_file import write_model

F32 = np.float32


@pytest.fixture
def model(tmp_path):
    """One fully connected layer: y = [2 x0 - x2, 0.5 x1] + [0, 1]; LevelWeights of L = 2."""
    codes = np.array([[2, 0, 1], [0, 1, 0]], np.uint8)
    levels = np.array([[-1, 2], [0.5, 0.5]], F32)
    weight = LevelWeights.of((2, 3), levels, CSR.from_dense(codes))
    net = Builder("tiny")
    x = net.input("x", (3,))
    tensors = {"weight": weight, "bias": np.array([0, 1], F32)}
    graph = net.finish([net.add("FullyConnected", [x], "fc", tensors=tensors)])
    write_model(graph, tmp_path / "tiny.dchip")
    return tmp_path / "tiny.dchip"


def run(capsys, *arguments):
    """Return exit status, output and errors of one command."""
    try:
        status = main([str(argument) for argument in arguments])
    except SystemExit as left:
        status = left.code
    out, err = capsys.readouterr()
    return status, out, err


def check_one_line(status, out, err, expected_status, text):
    assert status == expected_status
    assert out == ""
    assert err.count("\n") == 1
    assert text in err


def test_run(capsys, model, tmp_path):
    np.save(tmp_path / "x.npy", F32([[1, 2, 3], [0, 0, 1]]))
    status, out, err = run(
        capsys, "run", model, "--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy"
    )
    assert (status, err) == (0, "")
    assert "float32 (2, 2)" in out
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), [[-1, 2], [-1, 1]])


def test_run_takes_arrays_by_name(capsys, model, tmp_path):
    np.savez(tmp_path / "x.npz", x=F32([[1, 2, 3]]), other=np.zeros(3))
    arguments = ("run", model, "--output", tmp_path / "y.npy", "--input")
    check_one_line(*run(capsys, *arguments, tmp_path / "x.npz"), 1, "expected ['x']")
    np.savez(tmp_path / "x.npz", x=F32([[1, 2, 3]]))
    assert run(capsys, *arguments, tmp_path / "x.npz")[0] == 0


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.zeros((1, 4), F32), "(1, 4)"),
        (np.zeros(3, F32), "x[None]"),
        (np.zeros((1, 3), np.int32), "int32"),
        (np.zeros((1, 3), "U3"), "<U3"),
    ],
)
def test_run_refuses_other_inputs_and_leaves_the_output(capsys, model, tmp_path, array, text):
    np.save(tmp_path / "x.npy", array)
    (tmp_path / "y.npy").write_text("older")
    found = run(capsys, "run", model, "--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy")
    check_one_line(*found, 1, text)
    assert "x.npy: " in found[2]
    assert (tmp_path / "y.npy").read_text() == "older"


def test_info(capsys, model):
    status, out, _ = run(capsys, "info", model)
    assert status == 0
    row = next(line for line in out.splitlines() if line.startswith("fc "))
    # 6 weights, 3 of them not zero: 3 additions, 2 rows times 2 levels multiplications.
    assert row.split()[:5] == ["fc", "FullyConnected", "2x3", "2", "50.0%"]
    assert row.split()[-6:-3] == ["6", "3", "4"]
    found = json.loads(run(capsys, "info", model, "--json")[1])
    assert found["layers"][0]["macs"] == 6
    assert found["file_bytes"] == model.stat().st_size
    assert found["inputs"] == [{"name": "x", "shape": [None, 3], "dtype": "float32"}]


def test_info_of_the_plan(capsys, model):
    status, out, _ = run(capsys, "info", "--plan", model)
    assert status == 0
    row = next(line for line in out.splitlines() if " fc " in line)
    assert row.split()[2] == "add_floats"
    assert row.endswith("float inputs")
    found = json.loads(run(capsys, "info", "--plan", "--json", model)[1])
    assert found["slice"] == 64
    assert [operation["layer"] for operation in found["operations"]] == ["fc"]
    assert found["executed_bytes"] == found["operations"][0]["constant_bytes"] > 0


def without_numba(*arguments):
    code = (
        "import sys; sys.modules['numba'] = None; from deepchip.cli import main; sys.exit(main())"
    )
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)


def test_info_needs_no_numba_and_the_plan_says_that_it_does(model):
    assert "FullyConnected" in without_numba("info", model).stdout
    found = without_numba("info", "--plan", model)
    check_one_line(found.returncode, found.stdout, found.stderr, 1, "backend 'numba' needs Numba")


def warm_up(model, folder):
    return subprocess.run(
        [sys.executable, "-m", "deepchip", "warmup", model], capture_output=True, text=True,
        env={**os.environ, "DEEPCHIP_CACHE_DIR": str(folder)},
    )  # fmt: skip


def test_warmup_leaves_kernels_behind(model, tmp_path):
    found = warm_up(model, tmp_path / "kernels")
    assert found.returncode == 0, found.stderr
    assert str(tmp_path / "kernels") in found.stdout
    kept = {path.name for path in (tmp_path / "kernels").rglob("*.kernel")}
    assert any("add_floats" in name for name in kept)
    assert any("execute" in name for name in kept)
    warm_up(model, tmp_path / "kernels")
    assert {path.name for path in (tmp_path / "kernels").rglob("*.kernel")} == kept


def test_warmup_says_where_nothing_can_be_kept(model):
    found = warm_up(model, os.devnull)
    assert found.returncode == 1
    assert "no folder" in found.stdout


def test_verify(capsys, model):
    status, out, err = run(capsys, "verify", model)
    assert (status, err) == (0, "")
    assert "sound" in out
    data = bytearray(model.read_bytes())
    bias = data.index(F32([0, 1]).tobytes())
    data[bias + 4] ^= 1
    model.write_bytes(data)
    check_one_line(*run(capsys, "verify", model), 1, "tiny.dchip: layer 'fc': bias")
    model.write_bytes(data[:-100])
    check_one_line(*run(capsys, "verify", model), 1, "tiny.dchip: the file has")


def test_keygen_sign_and_verify(capsys, model, tmp_path):
    name = tmp_path / "release"
    public = tmp_path / "release.pub.pem"
    status, out, err = run(capsys, "keygen", name)
    assert (status, err) == (0, "")
    assert out.splitlines()[0].endswith(
        "release.pem: private key, not encrypted; keep it where models are signed"
    )
    check_one_line(*run(capsys, "keygen", name), 1, "release.pem: File exists")
    unsigned = run(capsys, "verify", model, "--key", public)
    check_one_line(*unsigned, 1, "tiny.dchip: the file is not signed, and a key is demanded")
    status, out, err = run(capsys, "sign", model, "--key", tmp_path / "release.pem")
    assert (status, out, err) == (0, "tiny.dchip: signed with release.pem\n", "")
    status, out, err = run(capsys, "verify", model, "--key", public)
    assert (status, err) == (0, "")
    assert out.endswith(" bytes, signed with release.pub.pem\n")
    wrong = run(capsys, "sign", model, "--key", public)
    check_one_line(*wrong, 1, "tiny.dchip: release.pub.pem is no private key in PEM")


def save_onnx(path, nodes, tensors=()):
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 1, 4, 4]) for n in "xy"]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], list(tensors))
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), path)


def test_convert_prints_a_report(capsys, tmp_path):
    save_onnx(tmp_path / "net.onnx", [helper.make_node("Relu", ["x"], ["y"])])
    status, out, _ = run(capsys, "convert", tmp_path / "net.onnx", tmp_path / "net.dchip")
    assert status == 0
    assert "became a file of" in out
    model = deepchip.load(tmp_path / "net.dchip")
    np.testing.assert_array_equal(model(F32([[[[-1, 2]] * 2] * 4]).reshape(1, 1, 4, 4)).max(), 2)
    found = run(capsys, "convert", tmp_path / "net.onnx", tmp_path / "net.dchip", "--json")[1]
    assert json.loads(found)["layers"] == []


def test_errors_of_convert_are_one_line(capsys, tmp_path):
    (tmp_path / "text.onnx").write_text("hello\nworld\n" * 9)
    save_onnx(
        tmp_path / "lstm.onnx",
        [
            helper.make_node("LSTM", ["x", "w", "r"], ["z"], "rnn_1", hidden_size=1),
            helper.make_node("NonMaxSuppression", ["z", "z"], ["y"], "nms"),
        ],
    )
    for name, text in (
        ("missing.onnx", "missing.onnx"),
        ("text.onnx", "text.onnx: not an ONNX file"),
        ("lstm.onnx", "LSTM (node 'rnn_1'), NonMaxSuppression (node 'nms')"),
    ):
        found = run(capsys, "convert", tmp_path / name, tmp_path / "net.dchip")
        check_one_line(*found, 1, text)
        assert not (tmp_path / "net.dchip").exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "COMMAND"),
        (["polish"], "polish"),
        (["run", "x.dchip"], "--input"),
        (["convert", "a.onnx", "b.dchip", "--weights", "many"], "many"),
        (["convert", "a.onnx", "b.dchip", "--activations", "12"], "12"),
        (["convert", "a.onnx", "b.dchip", "--activations", "4"], "calibration"),
        (["convert", "a.onnx", "b.dchip", "--encoding", "zip"], "zip"),
        (["convert", "a.onnx", "b.dchip", "--mean-values", "1,x"], "1,x"),
        (["demo", "--threads", "0"], "'0' is no number"),
        (["run", "x.dchip", "--input", "x", "--output", "y", "--threads", "257"], "'257'"),
    ],
)
def test_bad_use_is_one_line_and_status_2(capsys, arguments, text):
    check_one_line(*run(capsys, *arguments), 2, text)


def test_missing_files_and_folders(capsys, model, tmp_path):
    check_one_line(*run(capsys, "info", tmp_path / "none.dchip"), 1, "none.dchip: No such file")
    check_one_line(*run(capsys, "verify", tmp_path / "none.dchip"), 1, "none.dchip: No such file")
    check_one_line(*run(capsys, "info", tmp_path), 1, "directory")
    np.save(tmp_path / "x.npy", np.zeros((1, 3), F32))
    arguments = ("run", model, "--input", tmp_path / "x.npy", "--output")
    check_one_line(*run(capsys, *arguments, tmp_path / "no" / "y.npy"), 1, "No such file")
    check_one_line(*run(capsys, *arguments, tmp_path / "y.txt"), 1, ".npy")


def test_the_installed_command():
    """`python -m deepchip` and its exit status, in a process of its own."""
    found = subprocess.run(
        [sys.executable, "-m", "deepchip", "info", "none.dchip"], capture_output=True, text=True
    )
    assert found.returncode == 1
    assert found.stderr == "deepchip: none.dchip: No such file or directory\n"
    version = subprocess.run(
        [sys.executable, "-m", "deepchip", "--version"], capture_output=True, text=True
    )
    assert version.stdout == f"deepchip {deepchip.__version__}\n"


def test_a_reader_that_goes_away_is_no_error(model):
    command = f"{sys.executable} -m deepchip info {model} | true"
    found = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert found.stderr == ""


def test_info_as_a_page(capsys, model, tmp_path):
    status, out, _ = run(capsys, "info", model, "--html", tmp_path / "info.html")
    assert (status, out) == (0, f"tiny.dchip: page in {tmp_path / 'info.html'}\n")
    html = (tmp_path / "info.html").read_text()
    assert html.startswith("<!doctype html>")
    assert ">FullyConnected</td>" in html
    assert run(capsys, "info", model, "--json", "--html", "x.html")[0] == 2


def test_the_efficiency_table_by_hand(capsys, model):
    """Three additions in float at 0.9 pJ, four multiplications at 3.7, and the bytes from DRAM."""
    (layer,) = json.loads(run(capsys, "info", model, "--json")[1])["layers"]
    assert (layer["macs"], layer["additions"], layer["multiplications"]) == (6, 3, 4)
    assert (layer["activations"], layer["bops"]) == (2, 3 * 2 * 32)
    assert layer["energy"] == pytest.approx(3 * 0.9 + 4 * 3.7 + layer["stored"] * 162.5)
    assert layer["float_energy"] == pytest.approx(6 * 4.6 + (6 + 2) * 4 * 162.5)


def test_diff(capsys, tmp_path):
    weight = numpy_helper.from_array(F32([[[[0.5]]], [[[-1.0]]]]), "w")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["y"], "pool"),
    ]
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape])
        for name, shape in (("x", (1, 4, 4)), ("y", (2, 1, 1)))
    ]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], [weight])
    opset = helper.make_opsetid("", 13)
    onnx.save(helper.make_model(graph, opset_imports=[opset]), tmp_path / "net.onnx")
    images = np.random.default_rng(0).standard_normal((8, 1, 4, 4)).astype("f")
    np.save(tmp_path / "x.npy", images)
    model, source = tmp_path / "net.dchip", tmp_path / "net.onnx"
    calibrate = ("--activations", 4, "--calibration", tmp_path / "x.npy", "--weights", "nary:2")
    assert run(capsys, "convert", source, model, *calibrate)[0] == 0

    status, out, err = run(capsys, "diff", model, source, "--input", tmp_path / "x.npy")
    assert (status, err) == (0, "")
    assert "output 'y' of 8 inputs: SNR " in out
    found = json.loads(
        run(capsys, "diff", model, source, "--input", tmp_path / "x.npy", "--json")[1]
    )
    maps = np.maximum(images * F32([[[0.5]], [[-1.0]]]), 0)
    ours = deepchip.load(model, backend="numpy")(images)
    error = np.abs(ours - maps.mean(axis=(2, 3), keepdims=True)).max()
    assert found["outputs"][0]["largest"] == pytest.approx(error, rel=1e-3)
    page = tmp_path / "diff.html"
    assert run(capsys, "diff", model, source, "--input", tmp_path / "x.npy", "--html", page)[0] == 0
    assert "<svg" in page.read_text()

    save_onnx(tmp_path / "other.onnx", [helper.make_node("Relu", ["x"], ["y"])])
    found = run(capsys, "diff", model, tmp_path / "other.onnx", "--input", tmp_path / "x.npy")
    check_one_line(*found, 1, "expected the network that the model was converted from")
