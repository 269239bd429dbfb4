"""Where a request's story is found: in memory, in the access log's tail, in the decision log."""

import asyncio
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.admin import stories
from router.admin.stories import Stories
from router.base.segments import SEGMENT_BYTES_MIN, written_segments
from router.model.decision import Decision, Leave, Offer
from router.model.outcome import AttemptRecord, RequestRecord
from router.telemetry.decision_log import DecisionLog, DecisionLogSettings
from router.telemetry.recent import Recent

AZURE = Offer("east/a", "azure", "throttled")


def record(name: str, client: str = "", **more: Any) -> RequestRecord:
    attempts = (AttemptRecord("ord/b", "coreweave", "served"),)
    return RequestRecord(name, 1.0, "ok", 200, 5.0, client, attempts=attempts, refusals=(AZURE,), **more)


def recent(*records: RequestRecord) -> Recent:
    ring = Recent()
    for each in records:
        ring.add(each)
    return ring


def logged(path: Path, *lines: object) -> Path:
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    return path


@pytest.fixture
def log(tmp_path: Path) -> Iterator[DecisionLog]:
    settings = DecisionLogSettings(str(tmp_path / "decisions"), SEGMENT_BYTES_MIN, 8 * SEGMENT_BYTES_MIN)
    log = DecisionLog(settings)
    yield log
    log.close()


def departure(log: DecisionLog, name: str) -> None:
    log.write(Leave(name, 1.0, "k", "internal", "m", "chat", "rule", "v", (AZURE,), "ord/b", "coreweave"))
    offers = AZURE, Offer("ord/b", "coreweave", "accepted")
    log.write(Decision(name, 1.0, "k", "internal", "m", "chat", "rule", "v", offers, "ord/b", "coreweave", "ok"))


async def test_memory_is_asked_before_the_log(tmp_path: Path) -> None:
    path = logged(tmp_path / "log", record("req_1", "theirs"), record("req_2"))
    found = await Stories(recent(record("req_2", "in memory")), str(path), None).find("req_2")
    assert found is not None
    assert (found["source"], found["decisions"]) == ("memory", [])
    assert found["record"] == msgspec.to_builtins(record("req_2", "in memory"))


@pytest.mark.parametrize("asked", ["req_1", "theirs"])
async def test_an_older_one_is_found_in_the_access_log(tmp_path: Path, asked: str) -> None:
    path = logged(tmp_path / "log", record("req_1", "theirs"), {"at": 1.0, "event": "reloaded", "was": "req_1"})
    found = await Stories(Recent(), str(path), None).find(asked)
    assert found is not None
    assert (found["source"], found["request"]) == ("access_log", "req_1")
    record_found: Any = found["record"]
    assert [list(offer) for offer in record_found["refusals"]] == [["east/a", "azure", "throttled"]]


@pytest.mark.parametrize("log_path", ["-", "off", "missing/log"])
async def test_what_nobody_knows_has_no_story(log_path: str) -> None:
    assert await Stories(recent(record("req_1")), log_path, Path("missing")).find("req_2") is None


async def test_the_decision_log_tells_of_the_departure_and_the_end(tmp_path: Path, log: DecisionLog) -> None:
    departure(log, "req_1")
    departure(log, "req_10")
    ring = recent(record("req_1", left_holder=True))
    found = await Stories(ring, "off", tmp_path / "decisions" / "0").find("req_1")
    assert found is not None
    decisions: Any = found["decisions"]
    assert [(each["kind"], each["sequence"]) for each in decisions] == [("leave", 2), ("request", 3)]
    assert decisions[0]["to"] == "ord/b"
    assert decisions[1]["offers"][0] == {"deployment": "east/a", "cloud": "azure", "outcome": "throttled"}
    assert len(decisions[1]["hash"]) == 64


async def test_a_request_that_only_the_decision_log_remembers_in_an_older_segment(
    tmp_path: Path, log: DecisionLog
) -> None:
    departure(log, "req_0")
    folder = tmp_path / "decisions" / "0"
    async with asyncio.timeout(10):  # the next segment is prepared by a thread: until it is, records are dropped
        while len(written_segments(folder)) == 1:
            departure(log, "req_1")
            await asyncio.sleep(0)
    found = await Stories(Recent(), "off", folder).find("req_0")
    assert found is not None
    decisions: Any = found["decisions"]
    assert (found["source"], found["record"]) == ("decision_log", None)
    assert [each["kind"] for each in decisions] == ["leave", "request"]


@given(
    names=st.lists(st.integers(1, 40), min_size=1, max_size=60),
    block=st.integers(1, 400),
    sought=st.integers(1, 40),
)
def test_lines_are_found_wherever_blocks_begin(
    tmp_path_factory: pytest.TempPathFactory, names: list[int], block: int, sought: int
) -> None:
    """All of them, whole, the last one first."""
    lines = [msgspec.json.encode({"id": f"req_{name}", "place": place}) for place, name in enumerate(names)]
    path = tmp_path_factory.getbasetemp() / "lines"
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stories, "_BLOCK_BYTES", block)
        found = list(stories._lines_with(path, f'"req_{sought}"'.encode()))
    assert found == [line for line, name in zip(lines, names, strict=True) if name == sought][::-1]


def test_what_is_read_is_bounded(tmp_path: Path) -> None:
    lines = [record(f"req_{number}") for number in range(100)]
    path = logged(tmp_path / "log", *lines)
    size = path.stat().st_size
    assert list(stories._lines_with(path, b'"req_0"', look_back=size - 1)) == []
    assert len(list(stories._lines_with(path, b'"req_0"', look_back=size))) == 1


def test_what_has_no_end_of_a_line_is_passed_over_in_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash may leave zero bytes where lines were: to gather them all took seconds, and ever longer pauses."""
    monkeypatch.setattr(stories, "_BLOCK_BYTES", 1 << 10)
    monkeypatch.setattr(stories, "_LINE_BYTES_MAX", 4 << 10)
    path = tmp_path / "log"
    path.write_bytes(b'{"id":"req_1"}\n' + bytes(100 << 10) + b'\n{"id":"req_2"}\n')
    tracemalloc.start()
    found = [list(stories._lines_with(path, sought)) for sought in (b'"req_1"', b'"req_2"')]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == [[b'{"id":"req_1"}'], [b'{"id":"req_2"}']]
    assert peak < 64 << 10


async def test_one_search_runs_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks a hundred times keeps no thread from those that serve."""
    running, most = 0, 0

    def search(*_: object) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.002)
        running -= 1

    known = Stories(Recent(), "off", None)
    monkeypatch.setattr(known, "_search", search)
    await asyncio.gather(*(known.find(f"req_{number}") for number in range(10)))
    assert most == 1
