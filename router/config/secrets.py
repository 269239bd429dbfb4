"""Secrets that stand in the file itself. They are used, and warned of: whoever reads the file has them."""

from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import urlsplit

from router.config.auth import written_secrets
from router.config.document import Document
from router.config.faults import Path, dotted
from router.config.schema import File
from router.model.fleet import Endpoint

TOKEN_CHARACTERS_MIN: Final = 16
"""Of the control plane's token. Ten tries, then one in ten seconds: what is longer than that nobody guesses."""


def secret_warnings(doc: Document, file: File, endpoints: Iterable[Endpoint]) -> list[str]:
    """A line for each secret that is written out, and for a token that is short. None shows any of it."""
    warnings = [
        f"{dotted(path)}: the secret stands in the file: write it as ${{NAME}} or file:PATH"
        for path in (*_secrets(file), *_of_endpoints(doc, file, endpoints))
        if doc.literal(path)
    ]
    if file.server.admin_token is not None and len(file.server.admin_token) < TOKEN_CHARACTERS_MIN:
        warnings.append(f"server.admin_token: is short: take {TOKEN_CHARACTERS_MIN} random characters or more")
    return warnings


def _secrets(file: File) -> Iterator[Path]:
    if file.server.admin_token is not None:
        yield "server", "admin_token"
    if file.tracing is not None:
        yield from (("tracing", "headers", name) for name in file.tracing.headers)
    if file.redis is not None and _has_password(file.redis.url):
        yield "redis", "url"
    if file.ledger is not None and file.ledger.store is not None and _has_password(file.ledger.store):
        yield "ledger", "store"


def _of_endpoints(doc: Document, file: File, endpoints: Iterable[Endpoint]) -> Iterator[Path]:
    for endpoint in endpoints:
        here: Path = ("endpoints", endpoint.id)
        if not endpoint.emulated:
            yield from ((*here, "auth", *key.split(".")) for key in written_secrets(doc, endpoint))
        if _has_password(file.endpoints[endpoint.id].proxy or ""):
            yield *here, "proxy"


def _has_password(url: str) -> bool:
    try:
        return bool(urlsplit(url).password)
    except ValueError:
        return False  # it has its fault
