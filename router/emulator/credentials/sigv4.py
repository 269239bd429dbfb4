"""Verifies AWS Signature Version 4, as AWS describes it for services other than S3."""

import hashlib
import hmac
import re
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

from router.base.clock import Clock
from router.emulator.credentials.check import Problem
from router.emulator.credentials.known import AwsKeys
from router.emulator.received import Request

SKEW_MAX_S: Final = 300.0
_AUTHORIZATION: Final = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/,\s]+)/(?P<date>\d{8})/(?P<region>[^/,\s]+)/(?P<service>[^/,\s]+)"
    r"/aws4_request, ?SignedHeaders=(?P<headers>[a-z0-9;-]+), ?Signature=(?P<signature>[0-9a-f]{64})"
)


class SigV4Check:
    """Knows one access key."""

    def __init__(self, keys: AwsKeys, clock: Clock) -> None:
        self._keys, self._clock = keys, clock

    def problem(self, request: Request) -> Problem | None:
        given, stamp = request.header("authorization"), request.header("x-amz-date")
        if given is None or stamp is None:
            return Problem.MISSING
        found = _AUTHORIZATION.fullmatch(given)
        if found is None:
            return Problem.SIGNATURE
        if (
            found["key"] != self._keys.access_key_id
            or request.header("x-amz-security-token") != self._keys.session_token
        ):
            return Problem.UNKNOWN
        if (found["region"], found["service"]) != (self._keys.region, self._keys.service):
            return Problem.SCOPE
        moment = _moment(stamp)
        if moment is None or not stamp.startswith(found["date"]):
            return Problem.SIGNATURE
        if abs(moment - self._clock.wall()) > SKEW_MAX_S:
            return Problem.EXPIRED
        names = found["headers"].split(";")
        return None if self._is_signed(request, names, stamp, found["signature"]) else Problem.SIGNATURE

    def _is_signed(self, request: Request, names: list[str], stamp: str, signature: str) -> bool:
        digest = hashlib.sha256(request.body).hexdigest()
        must = {"host", "x-amz-date", *(name for name, _ in request.headers if name == "x-amz-security-token")}
        if names != sorted(names) or not must <= set(names):
            return False
        if request.header("x-amz-content-sha256") not in (None, digest):
            return False
        path, _, query = request.target.partition("?")
        lines = [request.method, quote(path, safe="/-_.~"), "&".join(sorted(query.split("&")))]
        for name in names:
            values = [" ".join(value.split()) for key, value in request.headers if key == name]
            if not values:
                return False
            lines.append(f"{name}:{','.join(values)}")
        canonical = "\n".join([*lines, "", ";".join(names), digest])
        scope = f"{stamp[:8]}/{self._keys.region}/{self._keys.service}/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        key = f"AWS4{self._keys.secret_access_key}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        return hmac.compare_digest(hmac.digest(key, text.encode(), "sha256").hex(), signature)


def _moment(stamp: str) -> float | None:
    try:
        return datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
