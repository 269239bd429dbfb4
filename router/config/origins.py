"""Origins whose pages may ask the control plane and read its answers, as browsers write them."""

from collections.abc import Iterable

from router.config.document import Document
from router.config.faults import Path
from router.config.hosts import is_loopback, parse_base_url


def read_origins(doc: Document, path: Path, written: Iterable[str]) -> frozenset[str]:
    """What is no origin becomes a fault: one that no browser sends would be a rule that does nothing."""
    return frozenset(
        origin for index, text in enumerate(written) if (origin := _read_origin(doc, (*path, index), text))
    )


def _read_origin(doc: Document, path: Path, text: str) -> str:
    """The origin in a browser's form, without the port that its scheme has anyway."""
    url = parse_base_url(text.lower())
    if isinstance(url, str) or url.path or text.endswith("/"):
        doc.fault(path, "is no origin: write https://HOST or https://HOST:PORT, without a path; `*` is none either")
        return ""
    if not url.tls and not is_loopback(url.host):
        doc.fault(path, "must be https: whoever is on the way to an http page could use the control plane")
        return ""
    return f"{url.scheme}://{url.authority}"
