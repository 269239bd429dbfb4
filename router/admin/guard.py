"""Who may use the control plane.

With a token: who shows it. The console's own files are open, since a browser that asks for them has no token yet; they
hold no data. Without a token it listens on loopback only, where the danger is a browser on this machine: a page whose
name was rebound to 127.0.0.1 gives itself away by `Host`, a form posted across by `Origin`.
"""

import hmac
import ipaddress
import re
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from router.admin.answers import error
from router.admin.console import FILES
from router.model.fleet import Secret

# They tell nothing, and a load balancer's check has no token and may send no Host.
OPEN_PATHS: Final = frozenset({"/healthz", "/readyz"})

_AUTHORITY: Final = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<name>[^\[\]:/@]+))(?::\d*)?")


def is_loopback(host: str) -> bool:
    """Whether a name or an address (IPv6 without brackets) can only mean this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def guard(token: Secret | None) -> Middleware:
    """Returns the middleware that turns away whoever may not ask. Raises ValueError for an empty token."""
    if token is not None and not token.reveal():
        raise ValueError("the token of the control plane is empty")
    expected = token.reveal().encode() if token is not None else None

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in OPEN_PATHS:
            return await handler(request)
        if expected is None:
            refusal = _from_elsewhere(request)
        else:
            refusal = _wrong_token(request, expected) if request.path not in FILES else None
        return refusal if refusal is not None else await handler(request)

    return check


def _wrong_token(request: web.Request, expected: bytes) -> web.Response | None:
    scheme, _, shown = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    # Header text holds bytes that are not UTF-8 as surrogates.
    right = hmac.compare_digest(shown.strip().encode("utf-8", "surrogateescape"), expected)
    if right and scheme.lower() == "bearer":
        return None
    refusal = error(401, "unauthorized", "Show the control plane's token: `Authorization: Bearer TOKEN`.")
    refusal.headers[hdrs.WWW_AUTHENTICATE] = "Bearer"
    return refusal


def _from_elsewhere(request: web.Request) -> web.Response | None:
    hosts = request.headers.getall(hdrs.HOST, [])
    match = _AUTHORITY.fullmatch(hosts[0]) if len(hosts) == 1 else None
    if match is None or not is_loopback(match["v6"] or match["name"]):
        return error(421, "misdirected_request", "Without a token, ask for this machine by its loopback address.")
    origin = request.headers.get(hdrs.ORIGIN)
    if request.method not in ("GET", "HEAD") and origin is not None and origin.lower() != f"http://{hosts[0].lower()}":
        return error(403, "foreign_origin", "A page of another origin may not change this router.")
    return None
