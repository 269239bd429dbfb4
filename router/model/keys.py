"""Who asks."""

from dataclasses import dataclass
from math import inf
from typing import TypeAlias

import msgspec

from router.model.limits import UNLIMITED, Limits
from router.model.policy import Priority


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A client's key: known by its SHA-256, or by a client's certificate. Its workload follows from it alone.

    One that has certificates only has a `sha256` all the same, of no secret that there could be.

    While a key is rotated there are two of one name, which differ in `sha256` and `expires_at` alone.

    `models`: the canonical names that it may use, or None for all.
    """

    name: str
    workload: str
    sha256: bytes
    models: frozenset[str] | None
    limits: Limits = UNLIMITED
    weight: float = 1.0  # of its fair share, beside the other keys of its priority
    priority: Priority | None = None  # None: its workload's
    expires_at: float = inf  # wall seconds
    certificates: tuple[str, ...] = ()  # of clients, which stand for it: `sha256:…` (of its DER), or a subject

    def may_use(self, model: str) -> bool:
        return self.models is None or model in self.models


class StoredSecret(msgspec.Struct, frozen=True, array_like=True):
    """One secret of a key in the store. A key that is being rotated has two."""

    sha256: str  # in hexadecimal digits
    ends_at: float | None = None  # wall seconds; None: with its key


class StoredKey(msgspec.Struct, frozen=True):
    """A key as the store has it: what it may do is kept as the configuration writes it, and read by the same rules."""

    name: str
    terms: str  # JSON: all of a key's section of the configuration but its name and its digests
    secrets: tuple[StoredSecret, ...]
    created_at: float  # wall seconds
    changed_at: float
    revoked_at: float | None = None


class AddKey(msgspec.Struct, frozen=True, tag="add"):
    """A new key. `terms`: as a `StoredKey` has them."""

    name: str
    terms: str
    sha256: str


class RotateKey(msgspec.Struct, frozen=True, tag="rotate"):
    """A second secret; the ones before it end when so many seconds are over."""

    name: str
    sha256: str
    overlap_s: float


class RevokeKey(msgspec.Struct, frozen=True, tag="revoke"):
    """The end of a key, for good: its name is not given again, so what it used stays its own."""

    name: str


KeyChange: TypeAlias = AddKey | RotateKey | RevokeKey


class KeyAnswer(msgspec.Struct, frozen=True):
    """What came of a change: the key as it is now, or why it is not done, which may be shown."""

    key: StoredKey | None
    refusal: str = ""
