"""The drills' own arithmetic and witnesses: a drill that counts wrongly says nothing about the router."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import h11
import orjson
import pytest

from loadtests.drills import chaos
from loadtests.drills.cloud import read_journal
from loadtests.drills.decisions import Departure, departures
from loadtests.drills.load import Load, Shot, Traffic
from loadtests.drills.outages import back_after_s
from loadtests.drills.outcome import Outcome, failures, share_bins

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT = b'data: {"choices":[]}\n\n'
DONE = b"data: [DONE]\n\n"
END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def traffic(rate: float = 50, stream_every: int = 1) -> Traffic:
    return Traffic("api", "secret", rate, stream_every=stream_every)


@asynccontextmanager
async def server(answer: Callable[[int], bytes], *, close: bool = False) -> AsyncIterator[int]:
    """Answers the n-th request with `answer(n)`, byte by byte, so that every split is met."""
    count = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                await reader.readexactly(length)
                for byte in answer(count):
                    writer.write(bytes([byte]))
                    await writer.drain()
                count += 1
                if close:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


async def fired(port: int, seconds: float = 0.2) -> list[Shot]:
    async with Load(port, [traffic()]) as load:
        await asyncio.sleep(seconds)
    return load.shots


async def test_a_whole_stream_is_a_success() -> None:
    async with server(lambda _: HEAD + chunk(EVENT) + chunk(DONE) + END) as port:
        shots = await fired(port)

    assert len(shots) >= 5
    assert all(one.ok and one.due <= one.begun <= one.first <= one.ended for one in shots)


@pytest.mark.parametrize(
    ("answer", "close"),
    [
        (HEAD + chunk(EVENT) + END, False),
        (HEAD + chunk(EVENT) + chunk(DONE), True),
        (HEAD + chunk(EVENT) + chunk(b'data: {"error":{"code":"x"}}\n\n') + chunk(DONE) + END, False),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n" + EVENT, True),
    ],
    ids=["no [DONE]", "cut", "told", "short"],
)
async def test_what_breaks_after_its_begin_is_no_success_and_no_early_error(answer: bytes, close: bool) -> None:
    async with server(lambda _: answer, close=close) as port:
        shots = await fired(port)

    assert not any(one.ok or one.failed_before_commit for one in shots)
    assert failures(shots) == {"broken after its begin": len(shots)}


async def test_errors_are_counted_by_what_they_say() -> None:
    body = b'{"error":{"message":"m","code":"no_capacity"}}'
    answer = b"HTTP/1.1 503 Unavailable\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    async with server(lambda _: answer) as port:
        shots = await fired(port)
    nobody = await fired(port)

    assert failures(shots) == {"503 no_capacity": len(shots)}
    assert failures(nobody) == {"0 no answer": len(nobody)}
    assert all(one.failed_before_commit for one in nobody)


async def test_a_slow_answer_holds_up_no_other_request() -> None:
    arrived = 0

    async def serve(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        nonlocal arrived
        await reader.readuntil(b"\r\n\r\n")
        arrived += 1
        await asyncio.sleep(60)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        load = Load(listening.sockets[0].getsockname()[1], [traffic(100)])
        await load.__aenter__()
        await asyncio.sleep(0.5)
        await load.finish(0.0)
        await load.__aexit__(None, None, None)

    assert len(load.shots) >= 40
    assert arrived >= len(load.shots) - 3
    assert not any(one.ok for one in load.shots)


@pytest.mark.parametrize("azure_key", [False, True])
def test_a_request_is_one_that_h11_reads(azure_key: bool) -> None:
    shot = Shot(Traffic("api", "secret", 1.0, azure_key=azure_key), 8, 0.0)
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(shot.wire())

    request, data, end = (connection.next_event() for _ in range(3))

    assert isinstance(request, h11.Request)
    assert isinstance(data, h11.Data)
    assert isinstance(end, h11.EndOfMessage)
    assert orjson.loads(bytes(data.data))["user"] == shot.marker == "api-0000008"
    assert orjson.loads(bytes(data.data))["stream"] is True
    assert dict(request.headers)[b"api-key" if azure_key else b"authorization"].endswith(b"secret")


def test_shares_are_of_what_arrived_in_a_bin() -> None:
    counts = {"a": [0.1, 0.2, 1.6, 9.0], "b": [0.3, 1.7, 1.8, 1.9], "c": [-1.0]}

    assert share_bins(counts, "a", 0.0, 3.0, 1.0) == [pytest.approx(2 / 3), 0.25, 0.0]


@pytest.mark.parametrize(
    ("bad", "back"), [([], 0.0), ([0], 1.0), ([0, 3], 4.0), ([9], float("inf")), (range(10), float("inf"))]
)
def test_goodput_is_back_when_no_bad_second_follows(bad: range, back: float) -> None:
    shots = [Shot(traffic(), number, 100.0 + number / 10) for number in range(100)]
    for shot in shots:
        shot.status, shot.done = 200, int(shot.due - 100.0) not in bad

    assert back_after_s(shots, 100.0) == back


def test_bars_say_whether_they_are_kept() -> None:
    outcome = Outcome()
    outcome.at_most("ratio", 1.2, 1.2)
    outcome.at_least("share", float("inf"), 0.9)
    outcome.none("errors", 0, "12")
    assert outcome.kept

    outcome.at_most("never", float("inf"), 10.0, " s")
    assert not outcome.kept
    assert [bar.figure for bar in outcome.bars] == ["1.2", "inf", "0 of 12", "inf s"]


def test_a_journal_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "one.journal"
    file.write_text("12.500000 1700000000.250000 api-0000007 chat 200 -\n13.0 1700000001.0 - models 429 refuse\n")

    first, second = read_journal(file)

    assert (first.at, first.traffic, first.marker, first.status, first.fault) == (12.5, "api", "api-0000007", 200, "")
    assert (second.marker, second.traffic, second.operation, second.fault) == ("-", "", "models", "refuse")
    assert read_journal(tmp_path / "none") == []


def test_a_departure_is_read_by_the_form_of_its_line(tmp_path: Path) -> None:
    leave = (
        '["leave","r1",1.5,"k","w","m","chat","first_refusal:azure","v1",[["a/m","azure","throttled"]],"o/m","oracle"]'
    )
    segment = f'1 ["segment",1,"0",1,1.0,0,0,"{"0" * 64}"] {"a" * 64}\n2 {leave} {"b" * 64}\n'
    (tmp_path / "00000001.seg").write_bytes(segment.encode() + bytes(64))

    found = departures(tmp_path)

    offers = (("a/m", "azure", "throttled"),)
    assert found == {"r1": Departure("r1", 2, "first_refusal:azure", offers, "o/m", "oracle")}
    assert chaos.explains(offers, "azure")
    assert not chaos.explains((), "azure")
    assert not chaos.explains((*offers, ("b/m", "azure", "accepted")), "azure")
    assert not chaos.explains((("o/m", "oracle", "throttled"),), "azure")
