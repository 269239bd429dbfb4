"""The section `ledger`: where entries wait, and the database that they go to."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path as FilePath
from typing import Final
from urllib.parse import urlsplit

from router.base.segments import SEGMENT_BYTES_MIN, SEGMENTS_KEPT_MIN
from router.config.document import Document
from router.config.faults import Path
from router.config.hosts import is_loopback
from router.config.schema import LedgerSection
from router.ledger.settings import LedgerSettings
from router.model.fleet import Secret

_HERE: Final[Path] = ("ledger",)
_STORES: Final = (
    "sqlite, sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE, with `/`, `@` and `%` of a password as "
    "%2F, %40 and %25"
)
_STORE: Final[Path] = (*_HERE, "store")
_SQLITE: Final = "sqlite:///"


def read_ledger(doc: Document, section: LedgerSection | None) -> tuple[LedgerSettings | None, list[str]]:
    """Returns the settings, and warnings. Relative paths start at the file's folder."""
    if section is None:
        return None, []
    base = FilePath(doc.file).parent
    settings = replace(
        LedgerSettings(str(base / section.dir), _store(doc, base, section.store), section.durable),
        **section.model_dump(exclude_none=True, include={"segment_bytes", "keep_bytes", "retain_days"}),
    )
    if settings.segment_bytes < SEGMENT_BYTES_MIN:
        doc.fault((*_HERE, "segment_bytes"), f"must be at least {SEGMENT_BYTES_MIN // 1024}KiB")
    if settings.keep_bytes < SEGMENTS_KEPT_MIN * settings.segment_bytes:
        here = "keep_bytes" if "keep_bytes" in section.model_fields_set else "segment_bytes"
        doc.fault(
            (*_HERE, here),
            f"leaves room for fewer than {SEGMENTS_KEPT_MIN} segments: keep_bytes is {settings.keep_bytes} bytes, "
            f"segment_bytes {settings.segment_bytes}",
        )
    return settings, _warnings(settings)


def _store(doc: Document, base: FilePath, written: str | None) -> Secret | None:
    """The database's URL; None: the embedded one in the ledger's own folder."""
    if written is None or written == "sqlite":
        return None
    if written.startswith(_SQLITE):
        path = written.removeprefix(_SQLITE)
        if not path or "?" in path:
            doc.fault(_STORE, "names no file: write sqlite:///FILE, or leave `store` out")
        return Secret(f"{_SQLITE}{(base / path).absolute()}")
    try:
        url = urlsplit(written)
        database = url.path.strip("/")
        usable = url.scheme in ("postgresql", "postgres") and database != "" and (url.port or 1) > 0
        usable = usable and "/" not in database  # else it is most likely one of the password, and the host is wrong
    except ValueError:
        usable = False
    if not usable:
        doc.fault(_STORE, f"must be {_STORES}")
    elif find_spec("asyncpg") is None:
        doc.fault(_STORE, "needs a package that is not installed: pip install '.[postgres]'")
    return Secret(written)


def _warnings(settings: LedgerSettings) -> list[str]:
    if settings.store is not None and not settings.store.reveal().startswith("sqlite"):
        url = urlsplit(settings.store.reveal())
        if url.hostname is not None and "ssl" not in url.query and not is_loopback(url.hostname):
            return ["ledger.store: is reached without TLS where its server does not insist: add ?sslmode=verify-full"]
    return []
