"""Clients' keys: how they are made, and how they are kept (as a SHA-256 alone)."""

import hashlib
import secrets
from typing import Final

PREFIX: Final = "sk-ir-"


def new_key() -> str:
    """A fresh key of 256 random bits: enough that a plain SHA-256 of it cannot be searched."""
    return PREFIX + secrets.token_urlsafe(32)


def digest(key: str | bytes) -> bytes:
    """What is kept of a key, and what it is found by."""
    return hashlib.sha256(key.encode() if isinstance(key, str) else key).digest()
