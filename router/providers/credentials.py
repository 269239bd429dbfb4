"""The identities there are: the same lines each time, a token that ends, a signature on each request.

What differs between clouds is how a token is fetched and how a request is signed: a function each, given here.
"""

import asyncio
import random
import re
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from router.base.clock import Clock
from router.model.fleet import AuthKind, Credential

Body: TypeAlias = Sequence[bytes | memoryview]
Lines: TypeAlias = Sequence[tuple[bytes, bytes]]
Signer: TypeAlias = Callable[[bytes, bytes, bytes, Lines, Body], bytes]  # as `identity.Identity.sign`

REFRESH_BEFORE_S: Final = 300.0
_SHARE_LEFT_MAX: Final = 0.5  # of a token that lives for minutes only: earlier would be to fetch without end
_JITTER: Final = 0.2  # routers that started together must not all ask at once
_TEXT_MAX: Final = 300
_VISIBLE: Final = re.compile(r"[!-~]+", re.ASCII)

# The extra that has a credential's package, and a module that tells whether it is there.
EXTRAS: Final[Mapping[AuthKind, tuple[str, str]]] = MappingProxyType(
    {
        AuthKind.ENTRA: ("azure", "azure.identity"),
        AuthKind.GOOGLE: ("google", "google.auth"),
        AuthKind.SIGV4: ("aws", "botocore"),
        AuthKind.OCI: ("oci", "oci"),
    }
)


class IdentityError(Exception):
    """We cannot say who we are. The text is one line fit for logs: it holds no secret."""


def missing_extra(kind: AuthKind) -> str | None:
    """What installs the package that a credential needs; None where nothing is missing. It imports no cloud package."""
    if kind not in EXTRAS:
        return None
    extra, module = EXTRAS[kind]
    try:
        found = find_spec(module) is not None
    except ModuleNotFoundError:  # the package around it is missing
        found = False
    return None if found else f"pip install '.[{extra}]'"


def cloud_module(kind: AuthKind, name: str) -> Any:
    """Imports a module of a cloud's package: here and not above, since it takes a quarter of a second.

    Raises IdentityError that names the extra.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise IdentityError(f"{name} cannot be imported: {missing_extra(kind) or error}") from error


def described(error: BaseException, *secrets: str | None) -> str:
    """A library's error as one short line; `secrets` are taken out, wherever the library got them from."""
    text = " ".join(str(error).split()) or type(error).__name__
    for secret in secrets:
        if secret:
            text = text.replace(secret, "(secret)")
    return text if len(text) <= _TEXT_MAX else f"{text[:_TEXT_MAX]}…"


class StaticIdentity:
    """The same lines each time: a key, or nothing."""

    __slots__ = ("tail",)
    signs: Final = False

    def __init__(self, credential: Credential) -> None:
        self.tail: bytes | None = b""
        if credential.secret is not None:
            line = b"api-key: %b\r\n" if credential.kind is AuthKind.API_KEY else b"authorization: Bearer %b\r\n"
            self.tail = line % credential.secret.reveal().encode("latin-1")

    def sign(self, _method: bytes, _host: bytes, _target: bytes, _headers: Lines, _body: Body) -> bytes:
        return self.tail or b""

    def refresh_in_s(self, _now_wall: float) -> float | None:
        return None

    def lapse(self, now_wall: float) -> None:
        """A key that is written down does not expire."""

    async def refresh(self) -> None:
        """There is nothing to fetch."""

    async def close(self) -> None:
        """There is nothing held open."""


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token. `expires_at`: seconds since the epoch."""

    text: str
    expires_at: float

    def __repr__(self) -> str:
        return f"Token(***, expires_at={self.expires_at})"


class TokenIdentity:
    """A bearer token that is fetched again before it ends. `more`: header lines that go with it."""

    __slots__ = ("_clock", "_expires_at", "_fetch", "_more", "_refresh_at", "_rng", "tail")
    signs: Final = False

    def __init__(
        self, fetch: Callable[[], Awaitable[Token]], clock: Clock, rng: random.Random, more: bytes = b""
    ) -> None:
        self.tail: bytes | None = None
        self._fetch, self._clock, self._rng, self._more = fetch, clock, rng, more
        self._refresh_at = self._expires_at = 0.0

    def sign(self, _method: bytes, _host: bytes, _target: bytes, _headers: Lines, _body: Body) -> bytes:
        if self.tail is None:
            raise IdentityError("there is no token now")
        return self.tail

    def refresh_in_s(self, now_wall: float) -> float | None:
        return self._refresh_at - now_wall

    def lapse(self, now_wall: float) -> None:
        if now_wall >= self._expires_at:
            self.tail = None

    async def refresh(self) -> None:
        token = await self._fetch()
        if not _VISIBLE.fullmatch(token.text):
            raise IdentityError("the token that came has characters that no header can carry")
        life_s = token.expires_at - self._clock.wall()
        if life_s <= 0:
            raise IdentityError("the token that came has expired already: is the clock right?")
        left_s = min(REFRESH_BEFORE_S, life_s * _SHARE_LEFT_MAX) * self._rng.uniform(1 - _JITTER, 1 + _JITTER)
        self._refresh_at, self._expires_at = token.expires_at - left_s, token.expires_at
        self.tail = b"authorization: Bearer %b\r\n%b" % (token.text.encode("ascii"), self._more)

    async def close(self) -> None:
        """Each fetch opens and closes what it needs."""


class SigningIdentity:
    """A signature on each request. `make_signer` blocks, on files or on the cloud's own services."""

    __slots__ = ("_clock", "_error", "_lock", "_make_signer", "_refresh_at", "_renew_s", "_signer", "tail")
    signs: Final = True

    def __init__(self, make_signer: Callable[[], Signer], renew_s: float | None, clock: Clock) -> None:
        """`renew_s`: the keys are read again after so many seconds; None: they stay what they are."""
        self.tail: bytes | None = None
        self._make_signer, self._renew_s, self._clock = make_signer, renew_s, clock
        self._signer: Signer | None = None
        self._error: IdentityError | None = None  # of the last attempt to make a signer
        self._refresh_at: float | None = 0.0
        self._lock = threading.Lock()

    def sign(self, method: bytes, host: bytes, target: bytes, headers: Lines, body: Body) -> bytes:
        signer = self._signer
        if signer is None:
            signer = self._first_signer()
        return signer(method, host, target, headers, body)

    def refresh_in_s(self, now_wall: float) -> float | None:
        return None if self._refresh_at is None else self._refresh_at - now_wall

    def lapse(self, now_wall: float) -> None:
        """Whether a signature still counts is for the cloud to say."""

    async def refresh(self) -> None:
        await asyncio.to_thread(self._renew)
        self._refresh_at = None if self._renew_s is None else self._clock.wall() + self._renew_s

    async def close(self) -> None:
        """The keys are memory only."""

    def _first_signer(self) -> Signer:
        """A request that comes before the first `refresh` makes the signer; one that comes after a failure does not."""
        with self._lock:
            if self._signer is None:
                if self._error is not None:
                    raise IdentityError(*self._error.args)
                self._signer = self._made()
            return self._signer

    def _renew(self) -> None:
        with self._lock:
            self._signer = self._made()

    def _made(self) -> Signer:
        try:
            signer = self._make_signer()
        except IdentityError as error:
            self._error = error
            raise
        self._error = None
        return signer


def header_lines(headers: Mapping[str, str]) -> bytes:
    """Header lines, each with its CRLF. Raises IdentityError for a value that would end its line."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    if lines.count("\n") != len(headers) or lines.count("\r") != len(headers) or not lines.isascii():
        raise IdentityError("a header of the signature has characters that no header can carry")
    return lines.encode("ascii")
