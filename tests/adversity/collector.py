"""A collector of OpenTelemetry in the test's own loop: it reads OTLP over HTTP, with the vendor's own messages.

For a test:

    async with collector() as seen, router(Cloud("azure"), tracing=seen.section(sample=1.0)) as r:
        await ask(r, chat())
        server, *clients = await seen.tree(2)     # the spans of one request: itself, and its attempts in order
        server.name, server.attributes["router.workload"], clients[0].parent_id
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from opentelemetry.proto.trace.v1.trace_pb2 import Status

WITHIN_S = 5.0


@dataclass(frozen=True)
class Seen:
    """One span as it came."""

    message: SpanMessage
    resource: dict[str, Any]

    @property
    def name(self) -> str:
        return self.message.name

    @property
    def kind(self) -> str:
        return SpanMessage.SpanKind.Name(self.message.kind).removeprefix("SPAN_KIND_")

    @property
    def trace_id(self) -> str:
        return self.message.trace_id.hex()

    @property
    def span_id(self) -> str:
        return self.message.span_id.hex()

    @property
    def parent_id(self) -> str:
        return self.message.parent_span_id.hex()

    @property
    def attributes(self) -> dict[str, Any]:
        return values(self.message.attributes)

    @property
    def failed(self) -> bool:
        return self.message.status.code == Status.STATUS_CODE_ERROR

    @property
    def events(self) -> list[tuple[str, dict[str, Any]]]:
        return [(event.name, values(event.attributes)) for event in self.message.events]

    @property
    def times(self) -> tuple[int, int]:
        return self.message.start_time_unix_nano, self.message.end_time_unix_nano


def values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


class Collector:
    """What has come. `status`: how batches are answered; `hold`: they are not, until it is set."""

    def __init__(self) -> None:
        self.port = 0
        self.spans: list[Seen] = []
        self.raw = b""  # every batch as it was, decompressed
        self.headers: list[dict[str, str]] = []
        self.status = 200
        self.hold: asyncio.Event | None = None
        self._came = asyncio.Event()

    def section(self, **more: Any) -> dict[str, Any]:
        """The section `tracing` that sends here."""
        return {"endpoint": f"http://127.0.0.1:{self.port}/v1/traces", "sample": 1.0, **more}

    async def tree(self, count: int) -> list[Seen]:
        """The spans of the one trace that came, `count` in all: the request, then its attempts as they began."""
        async with asyncio.timeout(WITHIN_S):
            while len(self.spans) < count:
                self._came.clear()
                await self._came.wait()
        assert len(self.spans) == count, [span.name for span in self.spans]
        servers = [span for span in self.spans if span.kind == "SERVER"]
        clients = sorted((span for span in self.spans if span.kind == "CLIENT"), key=lambda span: span.times)
        assert len(servers) == 1
        assert len(clients) == count - 1
        assert {span.trace_id for span in self.spans} == {servers[0].trace_id}
        assert all(span.parent_id == servers[0].span_id for span in clients)
        began, ended = servers[0].times
        assert all(began <= span.times[0] <= span.times[1] <= ended for span in clients)
        return [*servers, *clients]

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()  # aiohttp has decompressed it
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        if self.hold is not None:
            await self.hold.wait()
        if self.status == 200:
            self.raw += body
            for part in ExportTraceServiceRequest.FromString(body).resource_spans:
                resource = values(part.resource.attributes)
                self.spans += [Seen(span, resource) for scope in part.scope_spans for span in scope.spans]
            self._came.set()
        return web.Response(status=self.status)


@asynccontextmanager
async def collector() -> AsyncIterator[Collector]:
    """One that listens on loopback."""
    seen = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", seen.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    seen.port = runner.addresses[0][1]
    try:
        yield seen
    finally:
        await runner.cleanup()
