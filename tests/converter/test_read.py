"""Exports are read in a process of its own: what it gives, and what becomes of it going wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from deepchip.converter.readers import read
from deepchip.converter.readers.kinds import reader_of
from deepchip.converter.readers.read import read_network
from deepchip.formats.errors import InputError, InvalidModelError, UnsupportedError
from tests.attacks.exports import MEMORY
from tests.attacks.targets import digest
from tests.checks import data_folder, needs_memory_limits
from tests.converter.caffe_files import Stored, codebook, description, layer, net_file
from tests.converter.keras_files import KerasFile, weights_3, write_keras
from tests.converter.onnx_models import make_model, noise, one_node


def onnx_file(folder: Path) -> Path:
    path = folder / "net.onnx"
    path.write_bytes(one_node("Conv", (2, 5, 5), noise(3, 2, 3, 3)).SerializeToString())
    return path


def keras_file(folder: Path) -> Path:
    file = KerasFile()
    file.input("x", 3)
    file.add("ReLU", "relu", "x")
    return write_keras(folder / "net.keras", file.keras_3("relu"), weights_3({}))


def test_what_is_read_elsewhere_is_what_is_read_here(tmp_path: Path) -> None:
    text = description(
        layer("InnerProduct", "data", "fc", "inner_product_param { num_output: 2 }"), shape=(1, 20)
    )
    codes = np.arange(40, dtype=np.uint8).reshape(2, 20) % 16
    (tmp_path / "net.net").write_bytes(net_file(Stored(codebook(0, 4), codes, noise(2), 4)))
    (tmp_path / "net.prototxt").write_text(text)
    files: tuple[tuple[Path, Path | None], ...] = (
        (onnx_file(tmp_path), None),
        (keras_file(tmp_path), None),
        (tmp_path / "net.net", tmp_path / "net.prototxt"),
    )
    for path, described in files:
        assert digest(read_network(path, described)) == digest(reader_of(path, described)())


@pytest.mark.parametrize(
    "name",
    [
        "ttq_squeezenet/ttq_squeezenet.onnx",
        "qonnx_tfc/TFC_2W2A.onnx",
        "mlperf_tiny/pretrainedResnet.h5",
    ],
)
def test_real_networks_are_the_same(name: str) -> None:
    path = data_folder(name)
    assert digest(read_network(path)) == digest(reader_of(path)())


def test_errors_are_those_of_the_readers(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"none")
    with pytest.raises(InvalidModelError, match=r"^net\.onnx: not an ONNX file: "):
        read_network(path)
    path.write_bytes(one_node("LSTM", (2,)).SerializeToString())
    with pytest.raises(UnsupportedError, match=r"^net\.onnx: 1 unsupported operator: LSTM"):
        read_network(path)
    with pytest.raises(InputError, match=r"^other\.onnx: no such file$"):
        read_network(tmp_path / "other.onnx")
    with pytest.raises(InputError, match=r"^net\.onnx: ONNX files describe themselves"):
        read_network(path, path)
    with pytest.raises(UnsupportedError, match=r"^net\.pt: only \.onnx, "):
        read_network(tmp_path / "net.pt")


def test_data_beside_the_model_may_take_their_own_size(tmp_path: Path) -> None:
    """64 MB in a file of their own, which a model of 300 bytes may not take."""
    weight = np.arange(2**24, dtype=np.float32).reshape(2**12, 2**12)
    model = make_model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": ["N", 2**12]})
    stated = TensorProto(
        name="w",
        dims=weight.shape,
        data_type=TensorProto.FLOAT,
        data_location=TensorProto.EXTERNAL,
    )
    stated.external_data.add(key="location", value="weights.bin")
    model.graph.initializer.append(stated)
    (tmp_path / "weights.bin").write_bytes(weight.tobytes())
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    (layer,) = read_network(path).layers()
    np.testing.assert_array_equal(layer.tensors["weight"], weight.T)


# ---- What reads misbehaves


def misbehaving(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let the process do `code` where it would read an ONNX file."""
    function = f"def instead(path):\n    import os, signal, time\n    {code}"
    patch = (
        "import deepchip.converter.readers.onnx.read as reader; there = reader.read_onnx; "
        f"exec({function!r}); reader.read_onnx = instead; main("
    )
    monkeypatch.setattr(read, "_START", read._START.replace("main(", patch))


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "damaged: what reads it crashed (SIGSEGV)"),
        ("os.abort()", "damaged: what reads it crashed (SIGABRT)"),
        ("os._exit(3)", "damaged: what reads it crashed (exit status 3)"),
        ("os._exit(0)", "damaged: what reads it crashed (exit status 0)"),
        ("while True: pass", "reading it takes more time than its size accounts for"),
        ("bytes(2**27)", MEMORY),
        ("{}['x']", "cannot be read: KeyError: 'x'"),
        ("raise RecursionError", "cannot be read: RecursionError: "),
        ("raise OSError(5, 'gone')", None),
    ],
)
def test_what_reads_may_end_in_any_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, text: str | None
) -> None:
    if text == MEMORY:
        needs_memory_limits()
    path = onnx_file(tmp_path)
    misbehaving(monkeypatch, code)
    if text is None:
        with pytest.raises(OSError, match="gone"):
            read_network(path)
        return
    with pytest.raises(InvalidModelError) as found:
        read_network(path)
    assert str(found.value) == f"net.onnx: {text}"


def test_what_it_prints_is_not_taken_for_its_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = onnx_file(tmp_path)
    expected = digest(read_network(path))
    misbehaving(monkeypatch, "print('{}'); os.system('echo {}'); return there(path)")
    assert digest(read_network(path)) == expected
    assert capfd.readouterr() == ("", "")


def test_what_it_answers_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = onnx_file(tmp_path)
    lie = "import os; os.write(1, b'{\"error\": null}\\n' + bytes(100)); os._exit(0)"
    monkeypatch.setattr(read, "_START", lie)
    with pytest.raises(InvalidModelError, match=r"^net\.onnx: "):
        read_network(path)


def test_it_is_ended_after_the_longest_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time that it sleeps is no processor time."""
    path = onnx_file(tmp_path)
    misbehaving(monkeypatch, "time.sleep(600)")
    monkeypatch.setattr(read, "LONGEST", 2.0)
    with pytest.raises(InvalidModelError, match="gave no answer in 2 seconds: try again if"):
        read_network(path)


def test_modules_in_the_working_folder_are_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder with a model may hold a json.py too."""
    path = onnx_file(tmp_path)
    for name in ("json", "numpy", "onnx", "site", "deepchip", "os"):
        (tmp_path / f"{name}.py").write_text("open('imported', 'w')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    read_network(path)
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize(("name", "value"), [("executable", ""), ("frozen", True)])
def test_a_program_without_an_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    monkeypatch.setattr(sys, name, value, raising=False)
    with pytest.raises(UnsupportedError, match="this program has none"):
        read_network(onnx_file(tmp_path))
