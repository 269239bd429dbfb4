"""The checks of single words that several sections share: names, models, choices, addresses, files."""

import re
import ssl
from collections.abc import Collection
from pathlib import Path as FilePath
from typing import Final

from router.config.document import Document
from router.config.faults import Path, listed, suggest
from router.config.hosts import host_fault
from router.config.snapshot import Address

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_MODEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}", re.ASCII)
_BARE_REFERENCE: Final = re.compile(r"\$[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_VISIBLE: Final = re.compile(r"[!-~]+", re.ASCII)


def check_name(doc: Document, path: Path, name: str) -> None:
    """Names stand in logs, metrics, headers and ids of the form `endpoint/deployment`."""
    if not _NAME.fullmatch(name):
        doc.fault(path, "is no name: 1 to 64 letters, digits, `.`, `_` or `-`, a letter or digit first")


def check_model(doc: Document, path: Path, model: str) -> None:
    if not _MODEL.fullmatch(model):
        doc.fault(path, "is no model name: 1 to 128 letters, digits or `._:/@+-`, a letter or digit first")


def check_choice(doc: Document, path: Path, word: str, now: Collection[str], later: Collection[str] = ()) -> bool:
    """Whether `word` is one of `now`; otherwise a fault, which tells what comes later from what is unknown."""
    if word in now:
        return True
    if word in later:
        doc.fault(path, f"{doc.shown(path)} is not in this version yet; there is {listed(sorted(now))}")
    else:
        hint = suggest(word, (*now, *later)) if doc.literal(path) else ""
        doc.fault(path, f"{doc.shown(path)} is not {listed(sorted(now))}{hint}")
    return False


def check_secret(doc: Document, path: Path, text: str) -> None:
    """A credential becomes a header's value: visible ASCII, so no line end can follow it in."""
    if doc.literal(path) and _BARE_REFERENCE.fullmatch(text):
        # Not quoted: it could be a secret that begins so.
        doc.fault(path, "begins with `$`, but is no reference: write ${NAME}, with braces")
    elif not _VISIBLE.fullmatch(text):
        doc.fault(path, "has a character that a credential cannot have (a space, a line end, or not ASCII)")


def read_address(doc: Document, path: Path, text: str) -> Address | None:
    """Reads `host:port` or `[ipv6]:port`; port 0 is any that is free."""
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535 or (":" in bare and bare == host):
        doc.fault(path, f"{doc.shown(path)} is no address: write HOST:PORT, for example 127.0.0.1:8080")
        return None
    if reason := host_fault(bare.lower()):
        doc.fault(path, f"has a host that {reason}")
        return None
    return Address(bare.lower(), int(port))


def read_ca_file(doc: Document, path: Path, written: str | None) -> str | None:
    """The path of a file of trusted authorities. A relative one starts at the configuration's folder."""
    if written is None:
        return None
    file = FilePath(doc.file).parent / written
    try:
        ssl.create_default_context(cafile=str(file))
    except (OSError, ssl.SSLError):
        doc.fault(path, "is no readable file of PEM certificates")
    return str(file)
