"""What a cloud has seen: the witness that tests ask whether a byte ever arrived."""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

BODY_KEPT_BYTES: Final = 64 << 10


@dataclass(slots=True)
class Request:
    """One request as it was read. `headers`: lower-cased names, in order; `body` is whole once the request is."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytearray = field(default_factory=bytearray)

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    def header(self, name: str) -> str | None:
        """The first header of this lower-cased name."""
        return next((value for key, value in self.headers if key == name), None)


class Received:
    """Counts since the start or the last reset. The control path's own requests are not in them."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.connections_open = 0
        self.reset()

    def reset(self) -> None:
        """Forgets all but the connections that are open."""
        self.requests = self.bytes = self.connections = self.aborted = self.malformed = 0
        self.by_operation: Counter[str] = Counter()
        self.by_deployment: Counter[str] = Counter()
        self.last: Request | None = None
        self.last_aborted_at: float | None = None

    def abort(self) -> None:
        """A client's connection went away before its answer ended."""
        self.aborted += 1
        self.last_aborted_at = self._now()

    def as_json(self) -> dict[str, Any]:
        last = self.last
        return {
            "requests": self.requests,
            "bytes": self.bytes,
            "connections": self.connections,
            "connections_open": self.connections_open,
            "aborted": self.aborted,
            "last_aborted_at_monotonic": self.last_aborted_at,
            "malformed": self.malformed,
            "by_operation": dict(self.by_operation),
            "by_deployment": dict(self.by_deployment),
            "last": None
            if last is None
            else {
                "method": last.method,
                "target": last.target,
                "headers": last.headers,
                "body": bytes(last.body[:BODY_KEPT_BYTES]).decode("utf-8", "replace"),
                "body_bytes": len(last.body),
                "body_sha256": hashlib.sha256(last.body).hexdigest(),
            },
        }
