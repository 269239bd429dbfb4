"""Who may ask for what: aliases and keys."""

import hashlib
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Final

from router.config.allowances import read_allowance
from router.config.document import Document
from router.config.faults import Path, listed, suggest
from router.config.moments import read_moment
from router.config.schema import KeySection
from router.config.tls import read_subject
from router.config.words import check_model, check_name
from router.model.keys import ApiKey
from router.model.policy import Priority

ALL: Final = "*"
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_FINGERPRINT: Final = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)


def check_aliases(doc: Document, aliases: Mapping[str, str], models: Collection[str] | None) -> None:
    """Each alias is a new name for a model that is served. `models`: None where the fleet has faults of its own."""
    for alias, target in aliases.items():
        path = ("aliases", alias)
        check_model(doc, path, alias)
        if models is not None and alias in models:
            doc.fault(path, "is the name of a model that is served: it cannot mean another")
        if target in aliases:
            doc.fault(path, f"{doc.shown(path)} is an alias itself: name the model")
        elif models is not None and target not in models:
            hint = suggest(target, models) if doc.literal(path) else ""
            doc.fault(path, f"{doc.shown(path)} is served by no deployment{hint}")


def read_keys(
    doc: Document,
    sections: list[KeySection | None],
    workloads: Collection[str] | None,
    aliases: Mapping[str, str],
    *,
    known_by_certificate: bool,
) -> dict[int, tuple[ApiKey, ...]]:
    """The sound keys, by their place in the list: of one that is being rotated both, which have one name.

    `workloads`: None where some were lost to faults of their own. `known_by_certificate`: clients are asked for one.
    """
    names: dict[str, int] = {}
    digests: dict[str, int] = {}
    certificates: dict[str, int] = {}
    keys: dict[int, tuple[ApiKey, ...]] = {}
    for index, section in enumerate(sections):
        if section is None:
            continue
        path: Path = ("keys", index)
        check_name(doc, (*path, "name"), section.name)
        if (first := names.setdefault(section.name, index)) != index:
            doc.fault((*path, "name"), f"{doc.shown((*path, 'name'))} is the name of keys[{first}] already")
        if workloads is not None and section.workload not in workloads:
            hint = suggest(section.workload, workloads) if doc.literal((*path, "workload")) else ""
            doc.fault((*path, "workload"), f"{doc.shown((*path, 'workload'))} is no workload of this file{hint}")
        shown = _read_certificates(doc, path, section, index, certificates, asked=known_by_certificate)
        own = _read_digests(doc, (*path, "sha256"), section.sha256 or [], index, digests)
        if section.sha256 is None:
            if section.certificates is None and not doc.has_fault((*path, "sha256")):
                doc.fault((*path, "sha256"), "is missing")
            own = [_no_secret(section.name)] if shown else []
        if not own:
            continue
        _check_models(doc, path, section.models, aliases)
        key = ApiKey(
            section.name,
            section.workload,
            own[0],
            models=None if section.models == [ALL] else frozenset(section.models),
            limits=read_allowance(doc, path, section.limits, section.budget),
            weight=section.weight,
            priority=Priority[section.priority.upper()] if section.priority is not None else None,
            expires_at=read_moment(doc, (*path, "expires"), section.expires) if section.expires else math.inf,
            certificates=shown,
        )
        keys[index] = (key, *(replace(key, sha256=digest) for digest in own[1:]))
    return keys


def _read_certificates(
    doc: Document, path: Path, section: KeySection, index: int, known: dict[str, int], *, asked: bool
) -> tuple[str, ...]:
    """Those that are sound, in the form that they are found by. `known`: as of `_read_digests`."""
    found: list[str] = []
    path = (*path, "certificates")
    if section.certificates is not None and not asked:
        doc.fault(path, "would never be seen: that needs `server.tls` with `client_ca`")
    for place, text in enumerate(section.certificates or ()):
        here = (*path, place)
        name = text.lower() if _FINGERPRINT.fullmatch(text.lower()) else read_subject(text)
        if name is None:
            doc.fault(here, "is neither a subject, as in CN=batch,O=Example, nor sha256: and 64 hexadecimal digits")
        elif name in known:
            doc.fault(here, f"is that of keys[{known[name]}] already: a certificate stands for one key")
        else:
            known[name] = index
            found.append(name)
    return tuple(found)


def _no_secret(name: str) -> bytes:
    """What stands for the digest of a key that has none. It is no SHA-256, so nothing is known that has it for one."""
    return hashlib.blake2b(name.encode(), digest_size=32, person=b"certificate").digest()


def _read_digests(doc: Document, path: Path, written: list[str], index: int, known: dict[str, int]) -> list[bytes]:
    """Those that are sound. `known`: all that were read so far, and whose they are; takes these up."""
    found: list[bytes] = []
    for place, text in enumerate(written):
        here, digest = (*path, place) if len(written) > 1 else path, text.lower()
        if not _SHA256.fullmatch(digest):
            # Never shown: whoever gets this wrong has most likely put the key itself here.
            doc.fault(here, "is no SHA-256: 64 hexadecimal digits, as `keys new` prints them")
        elif digest in known:
            doc.fault(here, f"is that of keys[{known[digest]}] already: a key has one workload")
        else:
            known[digest] = index
            found.append(bytes.fromhex(digest))
    return found


def _check_models(doc: Document, path: Path, models: list[str], aliases: Mapping[str, str]) -> None:
    if not models and not doc.has_fault((*path, "models")):
        doc.fault((*path, "models"), "lists nothing, so this key can do nothing; ['*'] allows all")
    if ALL in models and len(models) > 1:
        doc.fault((*path, "models"), "has '*' beside others: it stands alone, for all")
    for index, model in enumerate(models):
        if model in aliases:
            target = (*path, "models", index)
            doc.fault(target, f"{doc.shown(target)} is an alias: list the model, and its aliases are allowed too")


def check_key_models(
    doc: Document,
    index: int,
    section: KeySection,
    clouds: Collection[str],
    placed: Collection[str],
    models: Collection[str],
) -> None:
    """Each model that a key lists must at some time be served where its workload may go.

    `clouds`: those of the workload's rules; `placed`: models with a plan in it. Both are empty where the workload has
    a fault of its own. `models`: all that are served anywhere.
    """
    for position, model in enumerate(section.models):
        path = ("keys", index, "models", position)
        if model == ALL or model in placed:
            continue
        if model not in models:
            hint = suggest(model, models) if doc.literal(path) else ""
            doc.fault(path, f"{doc.shown(path)} is served by no deployment{hint}")
        elif placed:
            where = listed(sorted(clouds))
            message = f"has no deployment at {where}, where the workload {section.workload} must stay"
            doc.fault(path, f"{doc.shown(path)} {message}")
