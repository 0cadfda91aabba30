"""Ed25519 keys (RFC 8032) in PEM files, by the package `cryptography`, which is an extra."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import InputError, SignatureError, UnsupportedError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

Key = str | os.PathLike[str] | bytes
"""A key in PEM: the path of its file, or the file's bytes."""


def check_signature(message: bytes, signature: bytes | None, key: Key) -> None:
    """Raise SignatureError unless `signature` is of `message` by the private part of `key`.

    Raises
    ------
    InputError
        `key` is no public Ed25519 key in PEM.
    UnsupportedError
        The package `cryptography` is missing.
    """
    public = _public_key(key)
    if signature is None:
        raise SignatureError("the file is not signed, and a key is demanded")
    from cryptography.exceptions import InvalidSignature

    try:
        public.verify(signature, message)
    except InvalidSignature:
        raise SignatureError("the signature is not of the demanded key") from None


def sign(message: bytes, key: Key) -> bytes:
    """Return the signature, 64 bytes, by a private `key`; errors as of `check_signature`."""
    return _private_key(key).sign(message)


def make_keys(private: Path, public: Path) -> None:
    """Make a pair of keys, and write each in PEM to a file that is not there yet.

    Raises
    ------
    FileExistsError
        A file is there: keys are not overwritten. No file was written.
    """
    _needed()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    known = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with open(private, "xb", opener=_for_the_owner) as first:
        try:
            with open(public, "xb") as second:
                second.write(known)
        except OSError:
            private.unlink()
            raise
        first.write(secret)


def _for_the_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _private_key(key: Key) -> Ed25519PrivateKey:
    _needed()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    text, place = _text_of(key)
    try:
        found = load_pem_private_key(text, None)
    except TypeError:
        raise InputError(f"{place} is encrypted; decrypt it first (openssl pkey)") from None
    except ValueError:
        raise InputError(f"{place} is no private key in PEM") from None
    if not isinstance(found, Ed25519PrivateKey):
        raise InputError(f"{place} is a key of another kind than Ed25519")
    return found


def _public_key(key: Key) -> Ed25519PublicKey:
    _needed()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    text, place = _text_of(key)
    try:
        found = load_pem_public_key(text)
    except ValueError:
        raise InputError(f"{place} is no public key in PEM") from None
    if not isinstance(found, Ed25519PublicKey):
        raise InputError(f"{place} is a key of another kind than Ed25519")
    return found


def _text_of(key: Key) -> tuple[bytes, str]:
    """Return a key's PEM, and how to call it in an error."""
    if isinstance(key, bytes):
        return key, "the key"
    return Path(key).read_bytes(), Path(key).name


def _needed() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        raise UnsupportedError(
            f"signatures need the package cryptography ({error}): pip install 'deepchip[sign]'"
        ) from None
