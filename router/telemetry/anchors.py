"""Anchors: signed heads of a decision log in a second place, so that what came before them cannot change unnoticed.

An anchor is a line of JSON. Its signature is Ed25519 over `signed_text`, which holds nothing but what the line says, so
that any tool can check it with the public key alone. Keys are PEM files, as `openssl` writes and reads them.
"""

import base64
import binascii
import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_FINGERPRINT_DIGITS: Final = 16


class Anchor(msgspec.Struct, frozen=True, omit_defaults=True):
    """That the record `sequence` of `writer` had this hash at that time."""

    writer: str
    sequence: int
    hash: str
    at: str  # UTC, ISO 8601
    key: str = ""  # fingerprint of the public key, for files that outlive a key
    signature: str = ""  # base64; empty: not signed

    def signed_text(self) -> bytes:
        """What the signature covers."""
        return f"inference-router anchor {self.writer} {self.sequence} {self.hash} {self.at}".encode()

    def wall(self) -> float:
        """`at` in wall seconds. Raises ValueError where it is no time."""
        return datetime.fromisoformat(self.at).timestamp()


class AnchorFile:
    """Appends anchors. Opens its file for each, so that the file may be rotated or moved at any time."""

    def __init__(self, path: str, signing_key: Ed25519PrivateKey | None) -> None:
        self._path, self._key = path, signing_key
        self._fingerprint = fingerprint(signing_key.public_key()) if signing_key is not None else ""

    def append(self, writer: str, sequence: int, head: bytes, wall_s: float) -> None:
        """Signs, writes and syncs one. Blocks. Raises OSError."""
        at = datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        anchor = Anchor(writer, sequence, head.decode(), at, self._fingerprint)
        if self._key is not None:
            signature = base64.b64encode(self._key.sign(anchor.signed_text())).decode()
            anchor = msgspec.structs.replace(anchor, signature=signature)
        line = msgspec.json.encode(anchor) + b"\n"
        fd = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            size = os.fstat(fd).st_size
            if size and os.pread(fd, 1, size - 1) != b"\n":
                line = b"\n" + line  # a full disk took half a line, once
            if os.write(fd, line) != len(line):
                raise OSError(f"{self._path} did not take a whole line")
            os.fdatasync(fd)
        finally:
            os.close(fd)


def read_anchors(data: bytes) -> Iterator[tuple[int, Anchor | None]]:
    """The lines of an anchors file by their number, from 1; None for one that is no anchor.

    A last line that is not whole is left out: it is just being written, or its writer was killed in it. It proves
    nothing either way, and the records it was for count as not anchored.
    """
    decode = msgspec.json.Decoder(Anchor).decode
    for number, line in enumerate(data.splitlines(keepends=True), 1):
        if line.strip():
            try:
                anchor = decode(line)
                anchor.wall()
            except ValueError:
                if line.endswith(b"\n"):
                    yield number, None
            else:
                yield number, anchor


def objection(anchor: Anchor, keys: Mapping[str, Ed25519PublicKey]) -> str:
    """Why an anchor proves nothing, in words; empty where one of `keys` (by fingerprint) has signed it."""
    if not anchor.signature:
        return "it is not signed"
    key = keys.get(anchor.key)
    if key is None:
        return f"it is signed with key {anchor.key}, which was not given"
    try:
        key.verify(base64.b64decode(anchor.signature, validate=True), anchor.signed_text())
    except (InvalidSignature, binascii.Error):
        return "its signature is wrong"
    return ""


def new_key(path: Path) -> str:
    """Writes a private key (mode 0600) to `path` and its public one beside it (`.pub`); returns the fingerprint.

    Raises OSError, FileExistsError above all: a key is never written over.
    """
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    for target, content, mode in ((path, pem, 0o600), (Path(f"{path}.pub"), public, 0o644)):
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            os.write(fd, content)
        finally:
            os.close(fd)
    return fingerprint(key.public_key())


def load_signing_key(path: str) -> Ed25519PrivateKey:
    """Raises OSError where the file cannot be read, ValueError where it holds something else."""
    with contextlib.suppress(ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it has a password
        key = serialization.load_pem_private_key(Path(path).read_bytes(), None)
        if isinstance(key, Ed25519PrivateKey):
            return key
    raise ValueError(f"{path} is no Ed25519 private key without a password; `audit new-key` makes one")


def load_public_keys(paths: Iterable[str]) -> dict[str, Ed25519PublicKey]:
    """By fingerprint. Raises OSError where a file cannot be read, ValueError where it holds something else."""
    return {fingerprint(key): key for key in map(_load_public_key, paths)}


def _load_public_key(path: str) -> Ed25519PublicKey:
    with contextlib.suppress(ValueError, UnsupportedAlgorithm):
        key = serialization.load_pem_public_key(Path(path).read_bytes())
        if isinstance(key, Ed25519PublicKey):
            return key
    raise ValueError(f"{path} is no Ed25519 public key")


def fingerprint(key: Ed25519PublicKey) -> str:
    """A short name for a public key: the beginning of the SHA-256 of its 32 bytes."""
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()[:_FINGERPRINT_DIGITS]
