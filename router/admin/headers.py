"""What every answer of the control plane tells a browser: to trust nothing of it beyond what the console needs."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from aiohttp import hdrs, web

CONSOLE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'"
)
"""Scripts, styles and connections of its own origin alone, none of them inline, and no text that becomes a script."""

NOTHING: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox"
"""For data: a browser that is led to take it for a page can do nothing with it."""

ALWAYS: Final[Mapping[str, str]] = MappingProxyType(
    {
        hdrs.CACHE_CONTROL: "no-store",
        "Content-Security-Policy": NOTHING,
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    }
)


READER: Final = web.RequestKey("reader", str)
"""Of a request, where pages of other origins are listed: the one of them that may read the answer, or nothing."""


async def set_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Called before each answer leaves; what an answer says for itself stays."""
    response.headers.pop(hdrs.SERVER, None)
    for name, value in ALWAYS.items():
        response.headers.setdefault(name, value)
    if (origin := request.get(READER)) is not None:
        response.headers[hdrs.VARY] = hdrs.ORIGIN
        if origin:
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
