"""Bytes of files: what is read where, after what has happened to the file."""

from __future__ import annotations

import gc
import io
import multiprocessing
import os
import sys
import threading

import numpy as np
import pytest

from deepchip.formats.errors import InputError, InvalidModelError
from deepchip.formats.storage import storage_of

DATA = np.random.default_rng(0).bytes(100_000)


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "file"
    found.write_bytes(DATA)
    return found


@pytest.fixture(params=["path", "bytes", "bytearray", "memoryview", "file object"])
def storage(request, path):
    makers = {
        "path": lambda: path,
        "bytes": lambda: DATA,
        "bytearray": lambda: bytearray(DATA),
        "memoryview": lambda: memoryview(DATA),
        "file object": lambda: io.BytesIO(DATA),
    }
    return storage_of(makers[request.param]())


@pytest.mark.parametrize(("start", "count"), [(0, 100_000), (7, 9), (99_999, 1), (100_000, 0)])
def test_bytes_are_read_from_anywhere(storage, start, count):
    found = storage.read(start, count)
    assert found.dtype == np.uint8
    assert found.tobytes() == DATA[start : start + count]
    assert storage.size == len(DATA)


def test_bytes_are_not_copied():
    found = storage_of(DATA).read(10, 20)
    assert np.shares_memory(found, np.frombuffer(DATA, np.uint8))


def test_a_file_object_is_read_from_its_beginning():
    file = io.BytesIO(DATA)
    file.seek(77)
    assert storage_of(file).read(0, 5).tobytes() == DATA[:5]


def test_text_is_refused():
    with pytest.raises(InputError, match="a file object gives str; open it in binary mode"):
        storage_of(io.StringIO("text"))


def test_a_folder_is_an_error_of_the_system(tmp_path):
    with pytest.raises(OSError, match=r"directory|denied"):
        storage_of(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be replaced on Windows")
def test_a_file_that_is_replaced_stays_readable(path):
    storage = storage_of(path)
    other = path.with_name("other")
    other.write_bytes(b"other")
    os.replace(other, path)
    assert storage.read(0, len(DATA)).tobytes() == DATA


def test_a_file_that_is_cut_off(path):
    storage = storage_of(path)
    os.truncate(path, 10)
    assert storage.read(0, 10).tobytes() == DATA[:10]
    with pytest.raises(InvalidModelError) as caught:
        storage.read(3, 10)
    assert str(caught.value) == (
        "the file ends 3 bytes too early: it was cut off while it was in use"
    )


def test_a_short_read_is_gone_on_with(path, monkeypatch):
    """POSIX lets pread give fewer bytes than were asked for, as Linux does from 2 GiB on."""
    if not hasattr(os, "pread"):
        pytest.skip("no pread on this system")
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, count, start: pread(fd, min(count, 999), start))
    assert storage_of(path).read(5, 5000).tobytes() == DATA[5:5005]


def test_without_pread(path, monkeypatch):
    storage = storage_of(path)
    monkeypatch.setattr(sys, "platform", "win32")
    assert storage.read(5, 5000).tobytes() == DATA[5:5005]
    assert storage.read(1, 2).tobytes() == DATA[1:3]


@pytest.mark.parametrize("platform", [sys.platform, "win32"])
def test_threads_read_at_once(path, monkeypatch, platform):
    storage = storage_of(path)
    monkeypatch.setattr(sys, "platform", platform)
    wrong = []

    def read(number):
        for start in range(number, 50_000, 97):
            if storage.read(start, 31).tobytes() != DATA[start : start + 31]:
                wrong.append(start)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_reads_the_same_file(path):
    storage = storage_of(path)
    forked = multiprocessing.get_context("fork")
    receiver, sender = forked.Pipe(duplex=False)

    def child():
        sender.send(all(storage.read(i, 9).tobytes() == DATA[i : i + 9] for i in range(3000)))

    process = forked.Process(target=child)
    process.start()
    assert all(storage.read(i, 9).tobytes() == DATA[i : i + 9] for i in range(3000))
    assert receiver.recv()
    process.join()
    assert storage.read(0, 9).tobytes() == DATA[:9]  # the child closed its own descriptor only


def open_descriptors():
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="open files are counted in /proc")
def test_the_file_is_closed_with_the_storage(path):
    gc.collect()
    before = open_descriptors()
    storage = storage_of(path)
    storage.read(0, 9)
    assert open_descriptors() == before + 1
    del storage
    assert open_descriptors() == before
