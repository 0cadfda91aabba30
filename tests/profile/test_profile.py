"""Profiles of a network that can be counted by hand, in real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import deepchip
from deepchip.cli import main
from deepchip.formats.errors import InputError, UnsupportedError, UsageError
from deepchip.profiling import layers
from deepchip.profiling.pipe import Process
from deepchip.runtime.plan import BACKENDS
from tests.checks import patient

from .network import NONZEROS, PIXELS, graph, write, write_tiny

QUICK = {"runs": 25, "warmup": 2}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    found = write(tmp_path_factory.mktemp("profile"))
    deepchip.load(found)  # kernels are compiled
    return found


@pytest.fixture(scope="module")
def found(path):
    return deepchip.profile(path, threads=(1, 2), **QUICK)


def test_what_was_measured(path, found):
    assert found.schema == 1
    assert (found.deepchip, found.libraries["numpy"]) == (deepchip.__version__, np.__version__)
    assert (found.model.file, found.model.network) == ("small.dchip", "small")
    assert found.model.bytes == path.stat().st_size
    assert (found.settings.input, found.settings.batch) == ("random", 1)
    assert found.versus is None


def test_latency_is_what_numpy_makes_of_the_calls(found):
    assert [one.threads for one in found.latency] == [1, 2]
    for one in found.latency:
        assert len(one.runs_ms) == 25
        assert one.min_ms == min(one.runs_ms) > 0
        assert one.median_ms == pytest.approx(np.median(one.runs_ms))
        assert one.p95_ms == pytest.approx(np.percentile(one.runs_ms, 95))
        assert one.p99_ms == pytest.approx(np.percentile(one.runs_ms, 99))
        assert one.fps == pytest.approx(1000 / np.median(one.runs_ms))


def test_layers(found):
    """In the order of the network, with the additions and products of their shapes."""
    by_name = {layer.name: layer for layer in found.layers}
    assert list(by_name) == ["codes", "conv", "flat", "fc"]
    assert by_name["conv"].additions == NONZEROS * PIXELS
    assert by_name["conv"].macs == 2 * 9 * PIXELS
    assert by_name["fc"].additions == 10 * 72 * 2 // 3
    assert by_name["fc"].macs == 10 * 72
    assert by_name["flat"].kernels == ()
    assert by_name["flat"].ms == 0
    for name in ("codes", "conv", "fc"):
        assert by_name[name].ms > 0
        assert by_name[name].kernels
    for name in ("conv", "fc"):
        layer = by_name[name]
        assert layer.macs_per_s == pytest.approx(layer.macs / (layer.ms / 1000))
        assert layer.weight_bytes > 0
    assert by_name["codes"].macs_per_s is None
    assert sum(layer.share for layer in found.layers) == pytest.approx(1)


def test_memory(found):
    held = found.memory
    assert 10e6 < held.imported_bytes < held.numba_bytes <= held.loaded_bytes < held.peak_bytes * 2
    assert held.peak_bytes >= held.first_run_bytes
    assert held.model_bytes == held.peak_bytes - held.numba_bytes
    # Codes of the image and of both planes, at least.
    assert held.arena_bytes >= 64 + 72
    assert held.weights_bytes == sum(layer.weight_bytes for layer in found.layers)
    if sys.platform == "linux":
        assert len(found.samples) > 3
        seen = max(sample.resident_bytes for sample in found.samples)
        assert 0.5 * held.peak_bytes < seen <= 1.1 * held.peak_bytes
        assert [s.s for s in found.samples] == sorted(s.s for s in found.samples)


def test_start_and_phases(found):
    start = found.start
    parts = (start.python_s, start.numba_s, start.read_s, start.plan_s, start.kernels_s)
    assert min(*parts, start.first_run_s) >= 0
    assert start.total_s == pytest.approx(sum(parts) + start.first_run_s)
    assert (start.compiled, start.kept, found.first_start) == (0, True, None)
    names = ["imports", "load", "first run", "1 thread", "2 threads", "layers"]
    assert [phase.name for phase in found.phases] == names
    # What was watched from outside and what was timed inside agree.
    began = {phase.name: phase.s for phase in found.phases}
    inside = start.read_s + start.plan_s
    assert inside <= began["first run"] - began["load"] <= inside + start.kernels_s + 30


def test_numpy(path):
    found = deepchip.profile(path, backend="numpy", batch=3, runs=3, warmup=0)
    assert found.start.numba_s < 0.1
    assert found.memory.numba_bytes < found.memory.imported_bytes + 5e6
    assert [layer.name for layer in found.layers if layer.ms] == ["codes", "conv", "flat", "fc"]
    assert found.latency[0].fps == pytest.approx(3000 / found.latency[0].median_ms)


def test_kernels_that_are_compiled_first(tmp_path, monkeypatch):
    """In an empty folder: one process compiles, and the one that is measured does not."""
    monkeypatch.setenv("DEEPCHIP_CACHE_DIR", str(tmp_path / "cache"))
    found = deepchip.profile(write_tiny(tmp_path), runs=2)
    assert found.first_start.compiled == len(list(tmp_path.glob("cache/*/*.kernel"))) > 1
    assert found.start.compiled == 0


def test_kernels_that_cannot_be_kept(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DEEPCHIP_CACHE_DIR", str(tmp_path / "file" / "cache"))
    found = deepchip.profile(write_tiny(tmp_path), runs=2)
    assert (found.first_start, found.start.kept) == (None, False)
    assert found.start.compiled > 1


def test_models_that_are_no_path(path):
    for source in (path.read_bytes(), deepchip.load(path, backend="numpy")):
        found = deepchip.profile(source, backend="numpy", runs=1, warmup=0)
        assert found.model.network == "small"
        assert len(found.layers) == 4


def test_inputs(path, tmp_path):
    """Arrays, files of fewer items than a batch, and images."""
    from PIL import Image

    images = np.random.default_rng(0).random((3, 1, 8, 8), np.float32)
    np.save(tmp_path / "x.npy", images)
    (tmp_path / "photos").mkdir()
    Image.new("L", (20, 10), 128).save(tmp_path / "photos" / "a.png")
    given = ((images, "arrays"), (tmp_path / "x.npy", "x.npy"), (tmp_path / "photos", "photos"))
    for inputs, name in given:
        found = deepchip.profile(
            path, inputs=inputs, batch=4, backend="numpy", runs=2, warmup=0
        )  # fmt: skip
        assert (found.settings.input, len(found.latency[0].runs_ms)) == (name, 2)
    with pytest.raises(InputError, match=r"shape \(3, 1, 8, 7\)"):
        deepchip.profile(path, inputs=images[..., :7].copy(), batch=3, backend="numpy")
    with pytest.raises(InputError, match="0 items"):
        deepchip.profile(path, inputs=images[:0], backend="numpy")


@pytest.mark.parametrize("backend", BACKENDS)
def test_layers_of_a_batch_that_is_cut_into_slices(backend, monkeypatch):
    """The time of a call is that of all its slices; here a slice takes one second a layer."""
    plan = deepchip.Model(graph(), backend=backend).plan
    if backend == "numpy":  # whose slices are larger than is worth while here
        object.__setattr__(plan, "slice", 4)
    taken = []

    def timed(plan, inputs, passes):
        taken.append(len(inputs["image"]))
        return [{"codes": 1.0, "conv": 1.0, "fc": 1.0}] * passes

    monkeypatch.setattr(layers, "_steps" if backend == "numpy" else "_operations", timed)
    images = np.zeros((5 * plan.slice // 2, 1, 8, 8), np.float32)
    found, _ = layers.time_layers(plan, {"image": images}, 2)
    assert taken == [plan.slice]
    assert [layer.ms for layer in found] == [2500, 2500, 0, 2500]
    assert found[1].macs_per_s == pytest.approx(2 * 9 * PIXELS * len(images) / 2.5)


def test_what_is_refused(path, tmp_path):
    with pytest.raises(FileNotFoundError):
        deepchip.profile(tmp_path / "none.dchip")
    (tmp_path / "bad.dchip").write_bytes(b"no model")
    with pytest.raises(deepchip.InvalidModelError, match=r"bad\.dchip"):
        deepchip.profile(tmp_path / "bad.dchip", backend="numpy")
    for name, value in (("threads", (0,)), ("threads", ()), ("batch", 0), ("runs", 0),
                        ("warmup", -1), ("pause", -1.0), ("backend", "c"),
                        ("versus", "net.pb")):  # fmt: skip
        with pytest.raises(UsageError, match=name if name != "versus" else r"net\.pb"):
            deepchip.profile(path, **{name: value})


def test_versus_onnx_runtime(path, tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    ports = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 1, 32, 32])
        for name in "xy"
    ]
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    net = onnx.helper.make_graph([node], "net", ports[:1], ports[1:])
    opset = onnx.helper.make_opsetid("", 13)
    onnx.save(onnx.helper.make_model(net, opset_imports=[opset], ir_version=8), tmp_path / "n.onnx")
    found = deepchip.profile(path, versus=tmp_path / "n.onnx", backend="numpy", **QUICK).versus
    assert found.runtime.startswith("ONNX Runtime ")
    assert len(found.theirs.runs_ms) == len(found.ours.runs_ms) == 25
    assert found.peak_bytes > 20e6
    assert found.start_s > 0
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(deepchip.InvalidModelError, match=r"bad\.onnx: ONNX Runtime does not load"):
        deepchip.profile(path, versus=tmp_path / "bad.onnx", backend="numpy", **QUICK)


def test_versus_what_is_not_installed(path, tmp_path):
    (tmp_path / "net.tflite").write_bytes(b"")
    try:
        import ai_edge_litert  # noqa: F401
    except ImportError:
        with pytest.raises(UnsupportedError, match="pip install ai-edge-litert"):
            deepchip.profile(path, versus=tmp_path / "net.tflite", backend="numpy", **QUICK)


def test_a_process_that_dies_is_one_line(path):
    with Process("child", str(path), "numpy") as process:
        assert process.ask("imported")["resident"] > 10e6
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(deepchip.DeepChipError, match="killed by signal 9, maybe for want"):
            process.ask("load")


def test_no_process_is_left(path):
    with Process("child", str(path), "numpy") as process:
        process.ask("imported")
    assert not Path(f"/proc/{process.pid}").exists()


def test_a_process_ends_with_what_asked_it(path):
    """Also where that was killed and could do nothing."""
    code = (
        "import time; from deepchip.profiling.pipe import Process\n"
        f"process = Process('child', {str(path)!r}, 'numpy'); process.ask('imported')\n"
        "print(process.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as asking:
        pid = int(asking.stdout.readline())
        asking.kill()
    assert gone(pid)


def gone(pid):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def test_ctrl_c_leaves_no_file_and_no_process(path, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("older")
    arguments = ["profile", str(path), "--backend", "numpy", "--runs", "1000000", "--html"]
    process = subprocess.Popen(
        [sys.executable, "-m", "deepchip", *arguments, str(page)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        child = started_by(process.pid)
        assert os.getpgid(child) != os.getpgid(process.pid)  # a terminal interrupts a group
        time.sleep(1)  # it measures by then, or loads: either is to be left
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=patient(20))
    finally:
        process.kill()
    assert (process.returncode, out, err) == (130, "", "deepchip: interrupted\n")
    assert gone(child)
    assert page.read_text() == "older"
    assert os.listdir(tmp_path) == ["page.html"]


def started_by(pid):
    """Return the process that a process has started, once it has."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                if stat.read_text().rpartition(")")[2].split()[1] == str(pid):
                    return int(stat.parent.name)
            except OSError:
                continue
        time.sleep(0.02)
    raise AssertionError("no process was started")


def test_the_command(path, tmp_path, capsys):
    arguments = ["profile", str(path), "--runs", "3", "--backend", "numpy"]
    page = tmp_path / "page.html"
    assert main([*arguments, "--html", str(page)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("small.dchip on ")
    assert page.read_text().startswith("<!doctype html>")
    assert main([*arguments, "--json"]) == 0
    (tmp_path / "other.json").write_text(capsys.readouterr().out)
    assert main([*arguments, "--compare", str(tmp_path / "other.json")]) == 0
    assert "FPS, 1 thread" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "status", "text"),
    [
        (["--threads", "1,x"], 2, "'x' is no number from 1 up"),
        (["--threads", "999"], 2, "999"),
        (["--warmup", "-1"], 2, "warmup"),
        (["--pause", "x"], 2, "pause"),
        (["--versus", "net.pb"], 2, "net.pb: expected a file of .onnx, .tflite"),
        (["--compare", "none.json"], 1, "none.json: No such file"),
        (["--input", "none.npy"], 1, "none.npy: No such file"),
    ],
)
def test_wrong_options_are_one_line(path, capsys, options, status, text):
    try:
        found = main(["profile", str(path), "--backend", "numpy", *options])
    except SystemExit as left:
        found = left.code
    out, err = capsys.readouterr()
    assert (found, out, err.count("\n")) == (status, "", 1)
    assert text in err
