"""A kept connection that its peer has closed costs nobody anything: neither an error nor a second answer."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest

from router.emulator import Settings
from router.transport.upstream import UpstreamConnection
from tests.adversity.client import Call, Reply, ask, chat, responses
from tests.router_kit import Cloud, RunningRouter, router

ANSWER = orjson.dumps({"choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "x"}}]})


class Forgetful:
    """An upstream on raw sockets that resets a connection when the n-th request on it has been read, unanswered."""

    def __init__(self, resets_at: int, delay_s: float = 0.0) -> None:
        self.resets_at, self.delay_s = resets_at, delay_s
        self.sent: list[int] = []  # requests by connection
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(self.sent)
        self.sent.append(0)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(next(line for line in head.split(b"\r\n") if line.startswith(b"content-length"))[15:])
                await reader.readexactly(length)
                self.sent[number] += 1
                if self.sent[number] == self.resets_at:
                    writer.transport.abort()
                    return
                await asyncio.sleep(self.delay_s)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ")
                writer.write(b"%d\r\n\r\n%b" % (len(ANSWER), ANSWER))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@asynccontextmanager
async def in_front_of(upstream: Forgetful, *others: Cloud) -> AsyncIterator[RunningRouter]:
    """A router whose first endpoint is that upstream."""
    listening = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    upstream.port = listening.sockets[0].getsockname()[1]
    described = Cloud("forgetful")
    section = {"endpoints": {"forgetful": described.section(f"http://127.0.0.1:{upstream.port}")}}
    async with router(described, *others) as r:
        # The kit's own emulator gives its place to the upstream.
        config = orjson.loads(r.file.read_bytes())
        config["endpoints"] |= section["endpoints"]
        r.file.write_bytes(orjson.dumps(config))
        assert (await r.worker.reload()).ok
        yield r
    listening.close()


def record_attempts(r: RunningRouter) -> list[list[tuple[str, bool]]]:
    return [[(a["outcome"], a.get("reused", False)) for a in record["attempts"]] for record in r.records()]


async def test_a_request_that_met_a_dead_connection_is_sent_again_on_a_fresh_one() -> None:
    upstream = Forgetful(resets_at=2)
    async with in_front_of(upstream) as r:
        for _ in range(6):
            assert (await ask(r, chat())).status == 200
        # Each connection answers once and resets at its second request, which then opens the next one.
        assert upstream.sent == [2, 2, 2, 2, 2, 1]
        await r.until(lambda: len(r.records()) == 6)
        assert record_attempts(r) == [[("served", False)]] * 6
        assert {record["outcome"] for record in r.records()} == {"ok"}


async def test_the_resend_does_not_go_on_another_kept_connection() -> None:
    """Where one of many idle connections is dead, the others most likely are."""
    upstream = Forgetful(resets_at=2, delay_s=0.05)
    async with in_front_of(upstream) as r:
        await asyncio.gather(*(ask(r, chat()) for _ in range(8)))
        opened = len(upstream.sent)
        assert opened == 8

        assert (await ask(r, chat())).status == 200

        assert sorted(upstream.sent) == [1] * opened + [2]


async def test_a_fresh_connection_that_dies_is_a_failed_send() -> None:
    upstream = Forgetful(resets_at=1)
    async with in_front_of(upstream, Cloud("other", tier=1)) as r:
        assert (await ask(r, chat())).status == 200

        assert upstream.sent == [1]
        assert r.clouds["other"].received.requests == 1


async def test_what_stores_is_not_sent_again_at_all() -> None:
    upstream = Forgetful(resets_at=2)
    async with in_front_of(upstream, Cloud("other", tier=1)) as r:
        assert (await ask(r, chat())).status == 200

        reply = await ask(r, responses(store=True))

        assert reply.status == 502
        assert upstream.sent == [2]
        assert r.clouds["other"].received.requests == 0


async def talk(r: RunningRouter, pauses: list[float], replies: list[Reply]) -> None:
    """Requests one after the other on one connection, so that only the pauses decide when the upstream idles."""
    reader, writer = await asyncio.open_connection("127.0.0.1", r.port)
    for pause in pauses:
        call = Call(reader, writer, chat())
        call.send()
        replies.append(await call.rest())
        await asyncio.sleep(pause)
    writer.transport.abort()


@pytest.mark.timed  # where others take the machine, a fresh connection has idled for 12 ms before it is used
@pytest.mark.parametrize("polled", [True, False], ids=["polled", "not polled"])
async def test_closes_of_idle_connections_race_with_requests(polled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cloud closes after 12 ms of idleness, and requests come about then: 0 errors and 0 duplicates.

    `not polled`: without the look at the socket before a reuse, so that only the free resend is there to help.
    """
    if not polled:
        monkeypatch.setattr(UpstreamConnection, "usable", _open)
    rng = random.Random(7)
    async with router(Cloud("azure", settings=Settings(idle_timeout_s=0.012))) as r:
        replies: list[Reply] = []
        pauses = [[rng.uniform(0.010, 0.014) for _ in range(50)] for _ in range(12)]
        await asyncio.gather(*(talk(r, each, replies) for each in pauses))

        assert Counter((reply.status, reply.whole) for reply in replies) == {(200, True): 600}
        assert r.clouds["azure"].received.requests == 600
        assert r.clouds["azure"].received.connections > 50, "there were closes to race with"


def _open(connection: UpstreamConnection) -> bool:
    return connection._transport is not None and not connection._transport.is_closing()
