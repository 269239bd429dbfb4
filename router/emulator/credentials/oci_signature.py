"""Verifies Oracle's request signatures: HTTP Signatures (draft-cavage-http-signatures-08) with RSA and SHA-256."""

import base64
import binascii
import hashlib
import re
from email.utils import parsedate_to_datetime
from typing import Final

from router.base.clock import Clock
from router.emulator.credentials.check import Problem
from router.emulator.credentials.known import OciKey
from router.emulator.credentials.rsa import is_signed
from router.emulator.received import Request

SKEW_MAX_S: Final = 300.0
_PART: Final = re.compile(r'([A-Za-z]+)="([^"]*)"')
_ALWAYS: Final = ("date", "(request-target)", "host")
_WITH_BODY: Final = (*_ALWAYS, "content-length", "content-type", "x-content-sha256")


class OciSignatureCheck:
    """Knows one user's key."""

    def __init__(self, key: OciKey, clock: Clock) -> None:
        self._key, self._clock = key, clock

    def problem(self, request: Request) -> Problem | None:
        scheme, _, rest = (request.header("authorization") or "").partition(" ")
        if scheme != "Signature":
            return Problem.MISSING
        parts = dict(_PART.findall(rest))
        if parts.get("keyId") != self._key.key_id:
            return Problem.UNKNOWN
        names = parts.get("headers", "").split(" ")
        if parts.get("algorithm") != "rsa-sha256" or not set(_must(request)) <= set(names):
            return Problem.SIGNATURE
        if not self._is_near(request.header("date")):
            return Problem.EXPIRED
        if not self._is_signed(request, names, parts.get("signature", "")):
            return Problem.SIGNATURE
        if self._key.compartment not in (None, request.header("opc-compartment-id")):
            return Problem.SCOPE
        return None

    def _is_near(self, date: str | None) -> bool:
        try:
            return abs(parsedate_to_datetime(date or "").timestamp() - self._clock.wall()) <= SKEW_MAX_S
        except ValueError:
            return False

    def _is_signed(self, request: Request, names: list[str], signature: str) -> bool:
        lines = []
        for name in names:
            value = f"{request.method.lower()} {request.target}" if name == "(request-target)" else request.header(name)
            if value is None:
                return False
            lines.append(f"{name}: {value}")
        if request.method == "POST" and not _is_of_body(request):
            return False
        try:
            return is_signed("\n".join(lines).encode(), base64.b64decode(signature), self._key.public_key)
        except binascii.Error:
            return False


def _must(request: Request) -> tuple[str, ...]:
    return _WITH_BODY if request.method == "POST" else _ALWAYS


def _is_of_body(request: Request) -> bool:
    digest = base64.b64encode(hashlib.sha256(request.body).digest()).decode("ascii")
    return (request.header("x-content-sha256"), request.header("content-length")) == (digest, str(len(request.body)))
