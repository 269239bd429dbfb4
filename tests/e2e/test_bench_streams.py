"""The benchmark's clients against a plain upstream on the same loop, well and ill: what they say is what happened."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from loadtests.bench.bodies import chat_body
from loadtests.bench.frames import Crowd, Fidelity, Script
from loadtests.bench.latency import serial
from loadtests.bench.open_loop import TooSlowError, open_loop
from loadtests.bench.processes import BenchError
from loadtests.bench.subjects import Target
from router.emulator.plain import PlainServer, PlainSettings

BODY = chat_body(1024, stream=True, usage=True)
GAP_MS = 20.0
PATH = "/v1/chat/completions"


def script_of(server: PlainServer) -> Script:
    """From the upstream's own chunks: `size CRLF event CRLF`, the last one with the end behind it."""
    return Script.of(
        [chunk.partition(b"\r\n")[2][: int(chunk.partition(b"\r\n")[0], 16)] for chunk in server.events_with_usage]
    )


async def watched(settings: PlainSettings, streams: int, seconds: float, *, lose: int | None = None) -> Fidelity:
    """Streams against an upstream that leaves out one event where it is told to."""
    server = PlainServer(settings)
    script = script_of(server)
    if lose is not None:
        del server.events_with_usage[lose]
    listening = await server.listen("127.0.0.1", 0, None)
    crowd = Crowd(Target("upstream", listening.sockets[0].getsockname()[1], PATH, 0), BODY, script)
    try:
        await crowd.start(streams, spread_s=0.1)
        return await crowd.watch(seconds)
    finally:
        await crowd.close()
        listening.close()


async def test_a_good_upstream_breaks_no_stream_and_starts_at_once() -> None:
    seen = await watched(PlainSettings(stream_events=10, gap_ms=GAP_MS, first_at_once=True), 20, 0.8)

    assert (seen.broken, seen.error) == (0, "")
    assert seen.events > 300  # 20 streams for 0.8 s at 50 a second are 800
    assert len(seen.first_s) > 20
    assert seen.first_s[len(seen.first_s) // 2] < GAP_MS / 1e3 / 2
    assert seen.late(GAP_MS / 1e3 / 100) > 0


async def test_the_first_event_waits_for_the_pace_unless_told_otherwise() -> None:
    seen = await watched(PlainSettings(stream_events=10, gap_ms=60.0), 5, 1.6)
    assert seen.first_s[len(seen.first_s) // 2] > 0.04


async def test_a_lost_frame_breaks_every_stream() -> None:
    seen = await watched(PlainSettings(stream_events=10, gap_ms=5.0), 4, 0.5, lose=4)
    assert seen.broken == 4
    assert "came" in seen.error


@pytest.fixture
def upstream() -> Iterator[Target]:
    """A plain upstream on a thread of its own: the generators below block theirs."""
    started: list[Target] = []
    ready, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        listening = await PlainServer(PlainSettings()).listen("127.0.0.1", 0, None)
        started.append(Target("upstream", listening.sockets[0].getsockname()[1], PATH, 0))
        ready.set()
        await asyncio.get_running_loop().run_in_executor(None, stop.wait)
        listening.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    try:
        yield started[0]
    finally:
        stop.set()
        thread.join(10)


def test_each_request_of_the_open_loop_is_answered_and_timed(upstream: Target) -> None:
    seen = open_loop(upstream, chat_body(1024), rate=400, seconds=0.5)
    assert seen.requests == pytest.approx(200, abs=1)
    assert 0 < seen.p50_ms <= seen.p99_ms
    assert seen.late_p99_ms >= 0


def test_one_connection_is_timed_request_by_request(upstream: Target) -> None:
    seen = serial(upstream, chat_body(1024), seconds=0.2)
    assert seen == sorted(seen)
    assert all(0 < each_s < 1.0 for each_s in seen)


def test_what_is_no_answer_gives_no_figure(upstream: Target) -> None:
    """A stream has no Content-Length: the open loop must not take it for an answer."""
    with pytest.raises(BenchError, match="200 OK"):
        open_loop(upstream, BODY, rate=100, seconds=0.1)


def test_answers_that_never_come_are_said_to_be_missing(upstream: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtests.bench.open_loop.DRAIN_S", 0.2)
    monkeypatch.setattr(
        "loadtests.bench.open_loop.raw_request", lambda *_: b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n"
    )
    with pytest.raises(TooSlowError, match="answers are missing"):
        open_loop(upstream, b"", rate=50, seconds=0.1)
