"""Clients' keys, as operators see and change them: those of the file are shown, those of the store are changed.

A secret is made here, given to whoever asked for the key, and kept nowhere: the store and the log never see it.
"""

import asyncio
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import orjson

from router.base.clock import Clock
from router.config.faults import Fault
from router.config.keys import digest, new_key
from router.config.snapshot import Snapshot
from router.config.stored_keys import StoredKeys, check_terms
from router.model.keys import AddKey, ApiKey, KeyAnswer, KeyChange, RevokeKey, RotateKey, StoredKey, StoredSecret
from router.model.limits import UNLIMITED
from router.placement import written

OVERLAP_S: Final = 86_400.0  # in which a client changes its secret
OVERLAP_S_MAX: Final = 366 * 86_400.0
_SHOWN_DIGITS: Final = 12  # of a digest: enough to tell secrets apart
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_NANO: Final = 1e9


class KeyRefusedError(Exception):
    """The change is not made. The text says why, and may be shown."""

    def __init__(self, why: str, faults: Sequence[Fault] = ()) -> None:
        super().__init__(why)
        self.faults = tuple(faults)


class KeyStore(Protocol):
    """The store, however it is reached."""

    async def stored_keys(self) -> Sequence[StoredKey]:
        """What it has, or was last known to have."""
        ...

    async def change_key(self, change: KeyChange) -> KeyAnswer:
        """Raises LookupError where it has no such key, ClosedError, FailedError, TimeoutError where it is away."""
        ...


class KeyOffice:
    """Raises, from all that changes something, what `KeyStore` does, and KeyRefusedError."""

    def __init__(self, snapshot: Callable[[], Snapshot], store: KeyStore | None, clock: Clock) -> None:
        """`snapshot`: the configuration in force; `store` None: it has none."""
        self._snapshot, self._store, self._clock = snapshot, store, clock
        self._reader = StoredKeys()

    async def shown(self) -> list[dict[str, object]]:
        """All keys of the file and then of the store, as plain JSON values; never a secret."""
        snapshot, wall = self._snapshot(), self._clock.wall()
        shown = [_of_file(list(keys), wall) for keys in _by_name(snapshot.file_keys).values()]
        if self._store is not None:
            stored = await self._store.stored_keys()
            read = await asyncio.get_running_loop().run_in_executor(None, self._reader.read, stored, snapshot)
            names, usable = {key.name for key in snapshot.file_keys}, _by_name(read)
            shown += [_of_store(key, usable.get(key.name, []), wall, hidden=key.name in names) for key in stored]
        return shown

    async def add(self, name: str, terms: Mapping[str, Any], sha256: str | None = None) -> dict[str, object]:
        """Makes a key, and its secret where no digest of one is given; then that is the `key` of what is returned."""
        if faults := check_terms(name, terms, self._snapshot()):
            raise KeyRefusedError("; ".join(f"{fault.path}: {fault.message}" for fault in faults), faults)
        secret, kept = _secret(sha256)
        answer = await self._change(AddKey(name, orjson.dumps(terms).decode(), kept))
        return {"name": name, **secret, **answer}

    async def rotate(self, name: str, overlap_s: float = OVERLAP_S, sha256: str | None = None) -> dict[str, object]:
        """Gives a key another secret. Those before it end when so many seconds are over."""
        if not 0 <= overlap_s <= OVERLAP_S_MAX:  # NaN is not either
            raise KeyRefusedError(f"overlap_s must be from 0 to {OVERLAP_S_MAX:.0f} seconds")
        self._must_be_stored(name)
        secret, kept = _secret(sha256)
        answer = await self._change(RotateKey(name, kept, overlap_s))
        return {"name": name, **secret, **answer}

    async def revoke(self, name: str) -> dict[str, object]:
        """Ends a key for good."""
        self._must_be_stored(name)
        answer = await self._change(RevokeKey(name))
        return {"name": name, **answer}

    async def _change(self, change: KeyChange) -> dict[str, object]:
        if self._store is None:
            raise KeyRefusedError("the configuration has no `ledger`, so there is no store to keep keys in")
        answer = await self._store.change_key(change)
        if answer.key is None:
            raise KeyRefusedError(answer.refusal)
        return {"secrets": _secrets(answer.key.secrets)}

    def _must_be_stored(self, name: str) -> None:
        if any(key.name == name for key in self._snapshot().file_keys):
            raise KeyRefusedError(f"the key {name!r} stands in the configuration: change it there")


def _secret(sha256: str | None) -> tuple[dict[str, object], str]:
    """What is shown of a secret, once, and what is kept of it. `sha256`: of one that its owner has already."""
    if sha256 is None:
        key = new_key()
        return {"key": key}, digest(key).hex()
    if not _SHA256.fullmatch(sha256.lower()):
        raise KeyRefusedError("sha256: is no SHA-256: 64 hexadecimal digits")
    return {}, sha256.lower()


def _by_name(keys: Sequence[ApiKey]) -> dict[str, list[ApiKey]]:
    found: dict[str, list[ApiKey]] = {}
    for key in keys:
        found.setdefault(key.name, []).append(key)
    return found


def _of_file(keys: list[ApiKey], wall: float) -> dict[str, object]:
    key = keys[0]
    return {
        "name": key.name,
        "source": "file",
        "state": "expired" if key.expires_at <= wall else "active",
        "terms": _terms(key),
        "secrets": _secrets([StoredSecret(each.sha256.hex()) for each in keys]),
    }


def _of_store(stored: StoredKey, keys: list[ApiKey], wall: float, *, hidden: bool) -> dict[str, object]:
    """`keys`: as they are used, if they can be; `hidden`: the file has a key of this name."""
    if stored.revoked_at is not None:
        state = "revoked"
    elif hidden:
        state = "hidden"
    elif not keys:
        state = "unusable"
    else:
        state = "active" if any(key.expires_at > wall for key in keys) else "expired"
    live = [each for each in stored.secrets if each.ends_at is None or each.ends_at > wall]
    return {
        "name": stored.name,
        "source": "store",
        "state": state,
        "terms": _parsed(stored.terms),
        "secrets": _secrets(live if state != "revoked" else ()),
        "created": written(stored.created_at),
        "changed": written(stored.changed_at),
    }


def _parsed(terms: str) -> object:
    try:
        return orjson.loads(terms)
    except orjson.JSONDecodeError:  # somebody else's doing; the key's state says that it is unusable
        return None


def _secrets(secrets: Sequence[StoredSecret]) -> list[dict[str, object]]:
    """The one that ends first stands first."""
    ends = sorted((math.inf if each.ends_at is None else each.ends_at, each.sha256) for each in secrets)
    return [{"sha256": sha256[:_SHOWN_DIGITS], "ends": written(end)} for end, sha256 in ends]


def _terms(key: ApiKey) -> dict[str, object]:
    """A key of the file in its words, without what is as it would be anyway."""
    limits = key.limits
    rates = {"rpm": limits.rpm, "tpm": limits.tpm, "concurrent": limits.concurrent}
    money = {"day_usd": limits.day_nano_usd, "month_usd": limits.month_nano_usd}
    of_minutes: dict[str, object] = {name: value for name, value in rates.items() if value is not None}
    if of_minutes and limits.burst_share != UNLIMITED.burst_share:
        of_minutes["burst_share"] = limits.burst_share
    of_money: dict[str, object] = {name: value / _NANO for name, value in money.items() if value is not None}
    shadow = {name.replace("_nano_", "_") for name in limits.shadow}
    for section in (of_minutes, of_money):
        if counted := sorted(shadow & section.keys()):
            section["shadow"] = counted
    parts: dict[str, object] = {
        "limits": of_minutes,
        "budget": of_money,
        "weight": key.weight if key.weight != 1.0 else None,
        "priority": key.priority.name.lower() if key.priority is not None else None,
        "expires": written(key.expires_at) if key.expires_at != math.inf else None,
    }
    models = ["*"] if key.models is None else sorted(key.models)
    return {"workload": key.workload, "models": models, **{name: part for name, part in parts.items() if part}}
