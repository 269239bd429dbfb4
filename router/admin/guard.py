"""Who may use the control plane, and from where.

With a token: who shows it; who shows wrong ones is soon not heard any more. The console's own files are open, since a
browser that asks for them has no token yet; they hold no data. Without a token it listens on loopback only, where the
danger is a browser on this machine: a page whose name was rebound to 127.0.0.1 gives itself away by `Host`, one of
another origin by `Origin` and by what the browser says of it in `Sec-Fetch-Site`. A form gives itself away by its
content type, token or not.
"""

import hashlib
import hmac
import ipaddress
import math
import re
from collections.abc import Collection
from time import monotonic
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from router.admin.answers import error
from router.admin.console import FILES
from router.admin.headers import READER
from router.limits.strangers import Strangers
from router.model.fleet import Secret

# They tell nothing, and a load balancer's check has no token and may send no Host.
OPEN_PATHS: Final = frozenset({"/healthz", "/readyz"})
WRONG_TOKENS: Final = 10  # of one address, at once; a person's slips and a script's first rounds
WRONG_TOKENS_PER_S: Final = 0.1
PREFLIGHT_S: Final = 600

_READING: Final = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})
_JSON: Final = "application/json"
# What a page can send anywhere without being asked whether it may.
_FORMS: Final = frozenset({"application/x-www-form-urlencoded", "multipart/form-data", "text/plain"})
_AUTHORITY: Final = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<name>[^\[\]:/@]+))(?::\d*)?")


def is_loopback(host: str) -> bool:
    """Whether a name or an address (IPv6 without brackets) can only mean this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def guard(token: Secret | None, origins: Collection[str] = ()) -> Middleware:
    """Returns the middleware that turns away whoever may not ask. Raises ValueError for an empty token.

    `origins`: whose pages may ask and read the answers, as `server.cors_origins` has them.
    """
    if token is not None and not token.reveal():
        raise ValueError("the token of the control plane is empty")
    door = _TokenDoor(token) if token is not None else _LoopbackDoor(origins)

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in OPEN_PATHS and request.method in _READING:
            return await handler(request)
        if origins:
            request[READER] = origin if (origin := request.headers.get(hdrs.ORIGIN, "")) in origins else ""
            if request[READER] and _asks_whether_it_may(request):
                return door.misdirected(request) or _preflight()
        return door.refusal(request) or _form(request) or await handler(request)

    return check


class _TokenDoor:
    """Opens to who shows the token, under any name and from any page: no page has it that was not given it."""

    def __init__(self, token: Secret) -> None:
        # Digests are of one length: how long the token is does not show in the time that a comparison takes.
        self._expected = hashlib.sha256(token.reveal().encode()).digest()
        self._strangers = Strangers(WRONG_TOKENS, WRONG_TOKENS_PER_S)

    def misdirected(self, _: web.Request) -> web.Response | None:
        return None

    def refusal(self, request: web.Request) -> web.Response | None:
        if request.path in FILES and request.method in _READING:
            return None
        address, now = request.remote or "", monotonic()
        # Also for a right one, or each try would still be told whether it was right.
        if wait_s := self._strangers.wait_s(address, now):
            return _unheard(wait_s)
        scheme, _, shown = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        # Header text holds bytes that are not UTF-8 as surrogates.
        digest = hashlib.sha256(shown.strip().encode("utf-8", "surrogateescape")).digest()
        if hmac.compare_digest(digest, self._expected) and scheme.lower() == "bearer":
            return None
        if shown:  # to ask without any is no attempt
            self._strangers.failed(address, now)
        answer = error(401, "unauthorized", "Show the control plane's token: `Authorization: Bearer TOKEN`.")
        answer.headers[hdrs.WWW_AUTHENTICATE] = "Bearer"
        return answer


class _LoopbackDoor:
    """Opens to this machine, but not to pages of others that a browser on it shows."""

    def __init__(self, origins: Collection[str]) -> None:
        self._origins = origins

    def misdirected(self, request: web.Request) -> web.Response | None:
        hosts = request.headers.getall(hdrs.HOST, [])
        match = _AUTHORITY.fullmatch(hosts[0]) if len(hosts) == 1 else None
        if match is not None and is_loopback(match["v6"] or match["name"]):
            return None
        return error(421, "misdirected_request", "Without a token, ask for this machine by its loopback address.")

    def refusal(self, request: web.Request) -> web.Response | None:
        if refusal := self.misdirected(request):
            return refusal
        origin = request.headers.get(hdrs.ORIGIN)
        if origin in self._origins:
            return None
        own = f"http://{request.headers[hdrs.HOST].lower()}"
        reads = request.method in _READING
        if not reads and origin is not None and origin.lower() != own:
            return error(403, "foreign_origin", "A page of another origin may not change this router.")
        # Browsers say it of every request, also of those that have no Origin; `none` is what a person typed.
        if request.headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin"):
            return None
        if reads and (request.headers.get("Sec-Fetch-Mode"), request.headers.get("Sec-Fetch-Dest")) == _LINK:
            return None
        return error(403, "foreign_origin", "A page of another origin may not ask this router.")


_LINK: Final = ("navigate", "document")  # a person follows a link; the page that had it sees nothing of the answer


def _form(request: web.Request) -> web.Response | None:
    """Turns away what a page can make a browser send unasked, and whatever else is no JSON."""
    if request.method in _READING:
        return None
    kind = request.content_type if hdrs.CONTENT_TYPE in request.headers else ""
    if kind in _FORMS or (request.body_exists and kind != _JSON):
        return error(415, "unsupported_media_type", f"Send the body as `Content-Type: {_JSON}`, or none.")
    return None


def _unheard(wait_s: float) -> web.Response:
    answer = error(429, "too_many_wrong_tokens", "Too many wrong tokens came from this address. Wait, and try again.")
    answer.headers[hdrs.RETRY_AFTER] = str(math.ceil(wait_s))
    return answer


def _asks_whether_it_may(request: web.Request) -> bool:
    return request.method == hdrs.METH_OPTIONS and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers


def _preflight() -> web.Response:
    answer = web.Response(status=204)
    answer.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = "GET, POST"
    answer.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = "authorization, content-type"
    answer.headers[hdrs.ACCESS_CONTROL_MAX_AGE] = str(PREFLIGHT_S)
    return answer
