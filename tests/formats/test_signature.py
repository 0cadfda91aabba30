"""Signed model files, and the keys to them."""

from __future__ import annotations

import stat
import sys

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

import deepchip
from deepchip.formats.errors import (
    InputError,
    InvalidModelError,
    SignatureError,
    UnsupportedError,
)
from deepchip.formats.keys import check_signature, make_keys, sign
from deepchip.formats.model_file import read_model, sign_model, verify_model, write_model
from tests.formats.networks import check_same_graph, put_together, small, taken_apart

PEM = serialization.Encoding.PEM
PKCS8 = serialization.PrivateFormat.PKCS8
INFO = serialization.PublicFormat.SubjectPublicKeyInfo


@pytest.fixture
def keys(tmp_path):
    private, public = tmp_path / "release.pem", tmp_path / "release.pub.pem"
    make_keys(private, public)
    return private, public


@pytest.fixture
def signed(tmp_path, keys):
    path = tmp_path / "net.dchip"
    write_model(small(), path)
    sign_model(path, keys[0])
    return path


def test_rfc_8032():
    """Section 7.1, test 2: a message of one byte."""
    secret = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    known = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    signature = bytes.fromhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    private = ed25519.Ed25519PrivateKey.from_private_bytes(secret)
    public = ed25519.Ed25519PublicKey.from_public_bytes(known)
    pem = private.private_bytes(PEM, PKCS8, serialization.NoEncryption())
    assert sign(b"\x72", pem) == signature
    check_signature(b"\x72", signature, public.public_bytes(PEM, INFO))


def test_a_signed_file_is_read_with_its_key_and_without(signed, keys):
    _, public = keys
    for key in (None, public, str(public), public.read_bytes()):
        check_same_graph(read_model(signed, key=key), small())
        assert verify_model(signed, key)[1] == []
    x = np.ones((1, 3), np.float32)
    expected = deepchip.load(signed, backend="numpy")(x)
    assert (deepchip.load(signed, backend="numpy", key=public)(x) == expected).all()


def test_what_is_signed_is_what_the_specification_says(signed, keys):
    """Of the attributes format, version and index_sha256, as HDF5 itself reads them."""
    import h5py

    with h5py.File(signed) as file:
        parts = [file.attrs[name].tobytes() for name in ("format", "version", "index_sha256")]
        signature = file.attrs["signature"].tobytes()
    key = serialization.load_pem_public_key(keys[1].read_bytes())
    key.verify(signature, b"".join(parts))


def test_files_that_are_not_signed_or_by_another(tmp_path, signed, keys):
    plain = tmp_path / "plain.dchip"
    write_model(small(), plain)
    make_keys(tmp_path / "other.pem", tmp_path / "other.pub.pem")
    for path, key, text in (
        (plain, keys[1], "the file is not signed, and a key is demanded"),
        (signed, tmp_path / "other.pub.pem", "the signature is not of the demanded key"),
    ):
        with pytest.raises(SignatureError) as caught:
            deepchip.load(path, key=key)
        assert str(caught.value) == f"{path.name}: {text}"
        assert verify_model(path, key) == (None, [text])


def test_a_signature_does_not_fit_another_index(signed, keys):
    """With every digest made right, as an attacker would."""
    index, streams = taken_apart(signed.read_bytes())
    index["name"] = "another"
    import h5py

    with h5py.File(signed) as file:
        signature = file.attrs["signature"]

    def add(file):
        file.attrs["signature"] = signature

    data = put_together(index, streams, add)
    assert read_model(data).name == "another"
    with pytest.raises(SignatureError, match="not of the demanded key"):
        read_model(data, key=keys[1])


def test_every_byte_of_the_streams_is_vouched_for(signed, keys):
    data = signed.read_bytes()
    _, streams = taken_apart(data)
    at = data.index(streams)
    for place in range(at, at + len(streams)):
        changed = bytearray(data)
        changed[place] ^= 1
        with pytest.raises(InvalidModelError, match="does not match its SHA-256"):
            for node in read_model(bytes(changed), key=keys[1]).layers():
                node.tensors["weight"].decode()


def test_digests_can_be_left_out_but_not_with_a_key(signed, keys):
    data = bytearray(signed.read_bytes())
    _, streams = taken_apart(bytes(data))
    at = bytes(data).index(streams)
    data[at + len(streams) - 1] ^= 0x80  # the sign of the last bias
    graph = read_model(bytes(data), verify=False)
    assert graph.nodes[1].tensors["bias"].tolist() == [0.25, 1.0]  # -1 in small()
    with pytest.raises(InvalidModelError, match="bias: stream 'values' does not match"):
        read_model(bytes(data))
    with pytest.raises(InputError, match="a key is demanded, but digests are not"):
        read_model(bytes(data), verify=False, key=keys[1])


def test_a_damaged_file_is_not_signed(tmp_path, keys):
    path = tmp_path / "net.dchip"
    write_model(small(), path)
    data = bytearray(path.read_bytes())
    data[data.index(taken_apart(bytes(data))[1])] ^= 1
    path.write_bytes(data)
    with pytest.raises(InvalidModelError, match=r"net.dchip: .*; it is not signed"):
        sign_model(path, keys[0])
    assert path.read_bytes() == data


def test_keys_are_not_overwritten_and_the_private_one_is_for_its_owner(tmp_path, keys):
    private, public = keys
    if sys.platform != "win32":
        assert stat.S_IMODE(private.stat().st_mode) == 0o600
    before = private.read_bytes(), public.read_bytes()
    with pytest.raises(FileExistsError):
        make_keys(private, tmp_path / "new.pub.pem")
    with pytest.raises(FileExistsError):
        make_keys(tmp_path / "new.pem", public)
    assert (private.read_bytes(), public.read_bytes()) == before
    assert not list(tmp_path.glob("new*"))


def test_other_keys(signed, keys):
    private, public = keys
    ellipse = ec.generate_private_key(ec.SECP256R1())
    plain = serialization.NoEncryption()
    locked = serialization.BestAvailableEncryption(b"secret")
    key = ed25519.Ed25519PrivateKey.generate()
    for wrong, text in (
        (public, "release.pub.pem is no private key in PEM"),
        (b"", "the key is no private key in PEM"),
        (ellipse.private_bytes(PEM, PKCS8, plain), "the key is a key of another kind than Ed25519"),
        (key.private_bytes(PEM, PKCS8, locked), "the key is encrypted; decrypt it first"),
    ):
        with pytest.raises(InputError, match=text):
            sign_model(signed, wrong)
    for wrong, text in (
        (private, "release.pem is no public key in PEM"),
        (b"text", "the key is no public key in PEM"),
        (ellipse.public_key().public_bytes(PEM, INFO), "of another kind than Ed25519"),
    ):
        with pytest.raises(InputError, match=text):
            read_model(signed, key=wrong)
    with pytest.raises(FileNotFoundError):
        read_model(signed, key="nothing.pem")


def test_without_the_extra(signed, keys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    read_model(signed)
    with pytest.raises(UnsupportedError, match=r"pip install 'deepchip\[sign\]'"):
        read_model(signed, key=keys[1])
    with pytest.raises(UnsupportedError, match=r"pip install 'deepchip\[sign\]'"):
        sign_model(signed, keys[0])
