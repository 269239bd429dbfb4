"""Keys of the store, read by the rules of the file: their terms are a key's section of it, as JSON."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from router.config.document import Document
from router.config.faults import Fault, dotted
from router.config.schema import KeySection
from router.config.shape import check_section
from router.config.snapshot import Snapshot
from router.config.traffic import check_key_models, read_keys
from router.model.keys import ApiKey, StoredKey

ITS_OWN: Final = frozenset({"name", "sha256"})
"""What of a key's section its terms do not have: the store keeps it beside them."""

_NOBODY: Final = "0" * 64


@dataclass(frozen=True, slots=True)
class Unusable:
    """A key of the store that this configuration cannot take, and why: it may be of another time, or another router."""

    name: str
    faults: tuple[Fault, ...]


class StoredKeys:
    """Reads them; what has been read is remembered for as long as neither the key nor the configuration changes."""

    def __init__(self) -> None:
        self._version = ""  # of the configuration that `_read` was made by
        self._read: dict[StoredKey, tuple[ApiKey, ...] | Unusable] = {}

    @property
    def unusable(self) -> list[Unusable]:
        return [each for each in self._read.values() if isinstance(each, Unusable)]

    def read(self, stored: Sequence[StoredKey], snapshot: Snapshot) -> tuple[ApiKey, ...]:
        """One for each secret; of keys that are revoked or unusable, none."""
        live = [key for key in stored if key.revoked_at is None]
        known = self._read if self._version == snapshot.version else {}
        made = _read([key for key in live if key not in known], snapshot)
        self._version, self._read = snapshot.version, {key: known.get(key) or made[key] for key in live}
        return tuple(key for keys in self._read.values() if not isinstance(keys, Unusable) for key in keys)


def check_terms(name: str, terms: Mapping[str, Any], snapshot: Snapshot) -> tuple[Fault, ...]:
    """What is wrong with a key that is to be made, in the words of the file's checks."""
    doc = Document(f"key {name!r}", {})
    others = sorted(ITS_OWN.intersection(terms))
    if others:
        return tuple(Fault(doc.file, 0, other, "is not one of the terms") for other in others)
    if any(key.name == name for key in snapshot.file_keys):
        return (Fault(doc.file, 0, "name", "is that of a key of the configuration, which would take its place"),)
    section = _section(doc, 0, name, [_NOBODY], terms)
    if section is not None:
        read_keys(
            doc, [section], snapshot.workloads, snapshot.aliases, known_by_certificate=snapshot.server.asks_clients
        )
        if section.workload in snapshot.workloads:
            schedule = snapshot.workloads[section.workload].schedule
            clouds = {cloud for period in schedule.periods for cloud in period.rule.clouds()}
            plans = [key for phase in snapshot.phases for key in phase.plans]
            placed = {model for workload, model, _ in plans if workload == section.workload}
            models = {deployment.model for deployment in snapshot.deployments.values()}
            check_key_models(doc, 0, section, clouds, placed, models)
    return tuple(map(_without_place, doc.faults))


def _read(stored: Sequence[StoredKey], snapshot: Snapshot) -> dict[StoredKey, tuple[ApiKey, ...] | Unusable]:
    doc = Document("the store", {})
    sections = [
        _section(doc, index, key.name, [secret.sha256 for secret in key.secrets], _parsed(doc, index, key.terms))
        for index, key in enumerate(stored)
    ]
    asked = snapshot.server.asks_clients
    made = read_keys(doc, sections, snapshot.workloads, snapshot.aliases, known_by_certificate=asked)
    faults: dict[str, list[Fault]] = {}
    for fault in doc.faults:
        faults.setdefault(fault.path.partition(".")[0], []).append(_without_place(fault))
    return {
        key: Unusable(key.name, tuple(faults[place])) if place in faults else _with_ends(key, made[index])
        for index, key in enumerate(stored)
        for place in (dotted(("keys", index)),)
    }


def _parsed(doc: Document, index: int, terms: str) -> Mapping[str, Any]:
    """Written by us, but for all we know somebody has changed it since."""
    try:
        parsed = orjson.loads(terms)
    except orjson.JSONDecodeError:
        parsed = None
    if isinstance(parsed, dict):
        return parsed
    doc.fault(("keys", index, "terms"), "is no JSON object")
    return {}


def _section(
    doc: Document, index: int, name: str, digests: Sequence[str], terms: Mapping[str, Any]
) -> KeySection | None:
    tree = {**terms, "name": name, "sha256": list(digests)}
    doc.take(tree, ("keys", index))
    return check_section(doc, KeySection, tree, ("keys", index))


def _with_ends(stored: StoredKey, keys: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
    """Each secret ends with its key, or before."""
    ends = (math.inf if secret.ends_at is None else secret.ends_at for secret in stored.secrets)
    return tuple(replace(key, expires_at=min(key.expires_at, end)) for key, end in zip(keys, ends, strict=True))


def _without_place(fault: Fault) -> Fault:
    return replace(fault, path=fault.path.partition(".")[2])
