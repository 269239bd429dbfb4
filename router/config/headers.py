"""Extra headers that an endpoint is sent: names and values that cannot change what the request is."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from router.config.document import Document
from router.config.faults import Path

# Azure answers 431 from eleven custom headers on; traceparent, tracestate and openai-beta may come from the client.
AZURE_MAX: Final = 10 - 3

_NAME: Final = re.compile(r"[!#$%&'*+.^`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[\t -~\x80-\xff]*")
_CREDENTIALS: Final = frozenset({"authorization", "api-key", "x-api-key", "ocp-apim-subscription-key", "cookie"})
_CONNECTION: Final = frozenset(
    {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "expect", "host", "http2-settings"}
)
_RELAYED: Final = frozenset({"accept", "traceparent", "tracestate", "openai-beta"})
_OVERRIDES: Final = frozenset({"x-http-method-override", "x-http-method", "x-method-override", "forwarded"})
SPILLOVER: Final = "x-ms-spillover-deployment"


def read_headers(doc: Document, path: Path, written: Mapping[str, str], *, azure: bool) -> Mapping[str, str]:
    """The headers with names in lower case; whatever could smuggle, override or leak is a fault."""
    headers: dict[str, str] = {}
    for name, value in written.items():
        here, low = (*path, name), name.lower()
        if low in headers:
            doc.fault(here, "stands here twice: header names differ by more than their case")
        elif reason := _refused(low):
            doc.fault(here, reason)
        elif not _VALUE.fullmatch(value) or value != value.strip():
            doc.fault(here, "has a value with a line end, a control character or spaces around it")
        headers[low] = value
    if azure and len(headers) > AZURE_MAX:
        doc.fault(path, f"are {len(headers)}: beside those that clients may send, Azure takes {AZURE_MAX} at most")
    return MappingProxyType(headers)


def _refused(name: str) -> str:
    if not _NAME.fullmatch(name):
        return "is no header name: letters, digits and hyphens"
    if name in _CREDENTIALS or name.startswith("proxy-"):
        return "is a credential: it belongs to `auth`"
    if name in _CONNECTION or name.startswith("content-") or name == "accept-encoding":
        return "is the router's own to write"
    if name in _RELAYED:
        return "comes from the client where it is sent at all"
    if name == SPILLOVER:
        return "would let Azure move a request to another deployment behind the router's back: it is never sent"
    if name in _OVERRIDES or name.startswith("x-forwarded-"):
        return "says where a request comes from or what it is: such headers are never sent"
    return ""
