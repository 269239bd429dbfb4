"""A whole router without a loop or a socket: what the client sends and the deployment answers, in any pieces.

one = Exchange(post("gpt-4o", stream=True))   # the request has been read, and sent to the deployment
one.answer(b"HTTP/1.1 200 OK...", [17, 40])   # in three reads
one.close()                                   # the deployment closes its connection
one.client.out                                # what the client has got
"""

import json
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from router.assembly import Assembly
from router.config.load import load
from router.config.snapshot import Snapshot
from router.model.outcome import RequestRecord
from router.telemetry.metrics import Gaps
from router.transport.upstream import UpstreamConnection
from tests.router_kit import API_KEY, write_config
from tests.wire.fakes import Client, FakeLoop, FakeTransport, pieces

ENDPOINT: dict[str, Any] = {
    "cloud": "azure",
    "provider": "azure_openai",
    "base_url": "http://127.0.0.1:9",
    "api_version": "v1",
    "auth": {"api_key": "secret"},
    "emulated": True,
    "deployments": [{"model": "gpt-4o", "name": "dep"}, {"model": "whisper-1", "name": "whisper-dep"}],
}
CLASSIC = "2024-10-21"  # the shape that has the deployment in its path


def body_of(*, stream: bool, **more: Any) -> bytes:
    return json.dumps(
        {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], "stream": stream, **more}
    ).encode()


def request(
    body: bytes,
    *,
    path: str = "/v1/chat/completions",
    version: str = "1.1",
    content_type: str = "application/json",
    fields: str = "",
) -> bytes:
    return (
        f"POST {path} HTTP/{version}\r\nHost: a\r\nAuthorization: Bearer {API_KEY}\r\n{fields}"
        f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


@cache
def snapshot(api_version: str) -> Snapshot:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "router.yaml"
        write_config(file, {"east": {**ENDPOINT, "api_version": api_version}}, Path("off"))
        return replace(load(str(file), {}), decision_log=None)  # a log on a disk is no part of the wire


class _Books:
    def __init__(self) -> None:
        self.records: list[RequestRecord] = []
        self.events: list[str] = []
        self.stream_gaps = Gaps()

    def request(self, record: RequestRecord) -> None:
        self.records.append(record)

    def gaps(self, workload: str, cloud: str) -> Gaps:
        return self.stream_gaps

    def event(self, event: str, /, **fields: object) -> None:
        self.events.append(event)


class Exchange:
    """One client, one request, one deployment, whose connection is open and idle when the request comes."""

    def __init__(self, sent: bytes, *, deployment: str = "dep", api_version: str = "v1") -> None:
        self.loop = FakeLoop()
        assembly = self.assembly = Assembly(snapshot(api_version), self.loop)  # type: ignore[arg-type]
        self.books = _Books()
        assembly.runtime.books = self.books
        self.backend = assembly.fleet.backends[f"east/{deployment}"]
        self.upstream: UpstreamConnection = self.backend.pool._new_connection()
        self.transport = FakeTransport(self.loop, self.upstream)
        self.upstream.connection_made(self.transport)
        self.backend.pool._open[self.upstream] = "127.0.0.1"
        self.backend.pool.give(self.upstream)
        self.client = Client(server=assembly.gateway.server)
        self.client.feed(sent)

    @property
    def sent(self) -> tuple[bytes, bytes]:
        """Head and body of what the deployment was sent; both empty where nothing was."""
        head, _, body = bytes(self.transport.out).partition(b"\r\n\r\n")
        assert not head or b"content-length: %d\r\n" % len(body) in head
        return head, body

    @property
    def refusal(self) -> tuple[int, str, str | None]:
        """Status, code and param of the router's own error, where nothing was sent."""
        assert not self.transport.out
        reply = self.client.answers[-1]
        error = json.loads(reply.body)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"]
        return reply.status, error["code"], error["param"]

    def answer(self, data: bytes, cuts: list[int] | None = None) -> "Exchange":
        for piece in pieces(data, cuts or []):
            if not self.transport.is_closing():
                self.upstream.data_received(piece)
                self.loop.run()
        return self

    def close(self, error: Exception | None = None) -> "Exchange":
        """The deployment's end of the connection goes away."""
        self.transport.lose(error)
        self.loop.run()
        return self

    @property
    def record(self) -> RequestRecord:
        assert len(self.books.records) == 1, "a request ends exactly once"
        return self.books.records[0]

    def check(self) -> None:
        """All that was taken is given back, and nothing was written where nobody may write."""
        self.client.check()
        assert self.record.outcome != "internal_error", self.books.events
        assert "internal_error" not in self.books.events
        assert not any(self.assembly.runtime.in_flight.values())
        assert self.backend.in_flight == 0
        assert self.backend.pool.busy == 0
        assert self.assembly.gateway.server.buffered_bytes == 0
