"""The access log against sinks that take everything, nothing, and something now and then."""

import contextlib
import errno
import json
import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from router.base.clock import ManualClock
from router.model.fleet import Secret
from router.model.outcome import AttemptRecord, RequestRecord, Usage
from router.telemetry import access_log as module
from router.telemetry.access_log import AccessLog


def record(number: int = 0, **changes: object) -> RequestRecord:
    fields: dict[str, object] = {"id": f"r{number}", "at": 1.5, "outcome": "ok", "status": 200, "total_ms": 1.0}
    return RequestRecord(**{**fields, **changes})  # type: ignore[arg-type]


def lines_of(data: bytes) -> list[dict[str, object]]:
    assert data == b"" or data.endswith(b"\n")
    return [json.loads(line) for line in data.splitlines()]


def until(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


class Sink:
    """Stands in for `os.write`: takes `room` bytes, then fails with `error` until it is given more."""

    def __init__(self, room: int, error: int) -> None:
        self.taken, self.room, self.error, self.refusals = bytearray(), room, error, 0

    def write(self, fd: int, data: memoryview) -> int:
        if not self.room:
            self.refusals += 1
            raise OSError(self.error, os.strerror(self.error))
        size = min(len(data), self.room)
        self.taken += data[:size]
        self.room -= size
        return size


@pytest.fixture
def pipe() -> Iterator[tuple[int, Path]]:
    """A pipe's reading end, and a path that opens its writing end."""
    reading, writing = os.pipe()
    yield reading, Path(f"/proc/self/fd/{writing}")
    os.close(writing)
    os.close(reading)


def test_close_loses_nothing_and_keeps_the_order(tmp_path: Path) -> None:
    log = AccessLog(str(tmp_path / "log"), clock=ManualClock(wall_s=99.25))
    for number in range(5000):
        log.record(record(number))
    log.event("drain_started", running=3, deadline_s=600.0)
    log.close()

    lines = lines_of((tmp_path / "log").read_bytes())
    assert [line["id"] for line in lines[:-1]] == [f"r{number}" for number in range(5000)]
    assert lines[-1] == {"at": 99.25, "event": "drain_started", "running": 3, "deadline_s": 600.0}
    assert log.dropped == 0


def test_lines_reach_the_file_without_a_close(tmp_path: Path) -> None:
    log = AccessLog(str(tmp_path / "log"))
    log.record(record())
    until(lambda: b"r0" in (tmp_path / "log").read_bytes())
    log.close()


def test_a_line_says_what_the_record_says(tmp_path: Path) -> None:
    log = AccessLog(str(tmp_path / "log"))
    attempt = AttemptRecord("eastus2/ptu", "azure", "served", 200, reused=True)
    log.record(record(workload="api", attempts=(attempt,), usage=Usage(3, 4)))
    log.close()

    [line] = lines_of((tmp_path / "log").read_bytes())
    assert line == {
        "id": "r0",
        "at": 1.5,
        "outcome": "ok",
        "status": 200,
        "total_ms": 1.0,
        "workload": "api",
        "attempts": [
            {"deployment": "eastus2/ptu", "cloud": "azure", "outcome": "served", "status": 200, "reused": True}
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4},
    }


ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=30)


@settings(max_examples=60, deadline=None)
@example([("", 1.0, "\ud800")])  # nested in a tuple
@example([("\ud800 \x00\n\u2028", float("nan"), "")])
@given(st.lists(st.tuples(ANY_TEXT, st.floats(), ANY_TEXT), min_size=1, max_size=6))
def test_every_line_is_json_whatever_its_strings_hold(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, float, str]]
) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    log = AccessLog(str(path))
    for text, number, other in rows:
        log.record(record(client_request_id=text, total_ms=number, attempts=(AttemptRecord(other, "azure", text),)))
        log.event("reload_refused", reason=text, faults=[{"message": other}])
    log.close()

    lines = path.read_bytes().decode("utf-8").split("\n")
    assert lines.pop() == ""
    assert len(lines) == 2 * len(rows)
    for (text, _, other), request, event in zip(rows, lines[::2], lines[1::2], strict=True):

        def printable(value: str) -> str:
            return value.encode("utf-8", "replace").decode()

        assert json.loads(request).get("client_request_id", "") == printable(text)
        assert json.loads(event)["faults"] == [{"message": printable(other)}]


def test_a_secret_that_is_given_as_a_field_is_not_shown(tmp_path: Path) -> None:
    log = AccessLog(str(tmp_path / "log"))
    log.event("config_loaded", token=Secret("hunter2"), surrogate="\ud800", both=[Secret("hunter2")])
    log.event("config_loaded", token=Secret("hunter2"))
    log.close()

    data = (tmp_path / "log").read_bytes()
    assert b"hunter2" not in data
    assert [line["token"] for line in lines_of(data)] == ["Secret", "Secret"]


def test_off_writes_nothing_and_starts_no_thread() -> None:
    before = threading.active_count()
    log = AccessLog("off")
    log.record(record())
    log.event("drain_started")
    log.reopen()
    assert threading.active_count() == before
    log.close()
    assert log.dropped == 0


def test_a_file_that_cannot_be_opened_is_said_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        AccessLog(str(tmp_path / "missing" / "log"))


def test_standard_output_is_left_open(capfd: pytest.CaptureFixture[str]) -> None:
    log = AccessLog("-")
    log.record(record())
    log.reopen()
    log.close()
    assert json.loads(capfd.readouterr().out)["id"] == "r0"
    os.fstat(1)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EPIPE, errno.EIO])
def test_a_failing_sink_gets_everything_once_it_takes_bytes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    sink = Sink(room=150, error=error)  # fails in the middle of a line
    monkeypatch.setattr(module.os, "write", sink.write)
    log = AccessLog(str(tmp_path / "log"))
    for number in range(20):
        log.record(record(number))
    until(lambda: sink.refusals > 0)
    log.record(record(20))
    sink.room = 1 << 20
    log.close()

    assert [line["id"] for line in lines_of(bytes(sink.taken))] == [f"r{number}" for number in range(21)]
    assert log.dropped == 0


def test_a_stalled_sink_costs_whole_lines_which_are_counted_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = Sink(room=0, error=errno.ENOSPC)
    monkeypatch.setattr(module.os, "write", sink.write)
    log = AccessLog(str(tmp_path / "log"), buffer_bytes_max=1000)
    log.record(record(0))
    until(lambda: sink.refusals > 0)  # the writer holds r0 now, and the rest goes to the other buffer
    count = 3 * module.RECORDS_A_BATCH
    for number in range(1, count + 1):
        log.record(record(number))
    dropped = log.dropped
    assert 0 < dropped < count
    assert 1000 <= log.buffered_bytes < 10_000, "a full buffer's last batch, and the line that the writer holds"
    sink.room = 1 << 20
    until(lambda: b"access_log_dropped" in sink.taken)
    log.record(record(1000))
    log.close()

    lines = lines_of(bytes(sink.taken))
    kept = count - dropped
    assert [line.get("id") for line in lines] == [*(f"r{n}" for n in range(kept + 1)), None, "r1000"]
    assert lines[kept + 1]["lines"] == dropped == log.dropped
    assert log.buffered_bytes == 0


def flood(log: AccessLog, count: int) -> float:
    """Writes `count` long lines and closes. Returns the CPU seconds of the slowest call; the close must be in time."""
    slowest_s = 0.0
    for number in range(count):
        start = time.thread_time()
        log.record(record(number, client_request_id="x" * 1000))
        slowest_s = max(slowest_s, time.thread_time() - start)
    start = time.monotonic()
    log.close()
    assert time.monotonic() - start < module.CLOSE_S + 0.5
    return slowest_s


def drained(reading: int) -> bytes:
    """Everything that is in the pipe now."""
    os.set_blocking(reading, False)
    received = bytearray()
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(reading, 1 << 20):
            received += piece
    return bytes(received)


@pytest.mark.timed
def test_a_pipe_that_nobody_reads_costs_lines_and_no_time(pipe: tuple[int, Path]) -> None:
    reading, path = pipe
    log = AccessLog(str(path), buffer_bytes_max=256 << 10)
    assert flood(log, 3000) < 0.05

    received = drained(reading)
    whole = received[: received.rfind(b"\n") + 1]
    assert [line["id"] for line in lines_of(whole)] == [f"r{n}" for n in range(whole.count(b"\n"))]
    # The writer's own notice of dropped lines can be among the lost ones.
    assert whole.count(b"\n") + log.dropped - 3000 in (0, 1)


@pytest.mark.timed
def test_a_write_that_never_returns_keeps_neither_the_caller_nor_the_close(
    pipe: tuple[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Standard output is a pipe in blocking mode, so the writer's thread hangs inside of the write."""
    reading, path = pipe
    monkeypatch.setattr(module, "_STDOUT", int(path.name))
    monkeypatch.setattr(module, "CLOSE_S", 0.5)
    log = AccessLog("-", buffer_bytes_max=256 << 10)
    assert flood(log, 3000) < 0.05
    assert log._writer.is_alive()
    assert 2000 < log.dropped <= 3001

    while log._writer.is_alive():  # reading lets the write return, and the writer sees that its time is over
        drained(reading)
        log._writer.join(0.01)


def test_a_slow_reader_of_a_pipe_gets_every_line(pipe: tuple[int, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    reading, path = pipe
    log = AccessLog(str(path))
    log.event("start")
    until(lambda: bool(select.select([reading], [], [], 0)[0]))
    # From here on the writer has to go on as soon as there is room: a pause after each full pipe takes too long.
    monkeypatch.setattr(module, "FLUSH_S", 1.0)
    received = bytearray()

    def read_slowly() -> None:
        while not received.endswith(b'"event":"end"}\n'):
            received.extend(os.read(reading, 4096))

    reader = threading.Thread(target=read_slowly)
    for number in range(2000):
        log.record(record(number, client_request_id="x" * 200))
    reader.start()
    log.event("end")
    log.close()
    reader.join(10)
    assert [line.get("id") for line in lines_of(bytes(received))] == [None, *(f"r{n}" for n in range(2000)), None]
    assert log.dropped == 0


def test_a_dead_sink_is_given_up_in_time_and_its_lines_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = Sink(room=0, error=errno.EPIPE)
    monkeypatch.setattr(module.os, "write", sink.write)
    monkeypatch.setattr(module, "CLOSE_S", 0.3)
    log = AccessLog(str(tmp_path / "log"))
    log.record(record(0))
    until(lambda: sink.refusals > 0)
    log.record(record(1))
    start = time.monotonic()
    log.close()
    assert time.monotonic() - start < 1.0
    assert log.dropped == 2
    log.close()
    log.record(record(2))
    assert log.dropped == 2


def test_reopen_goes_on_in_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = AccessLog(str(path))
    log.record(record(0))
    until(lambda: path.stat().st_size > 0)
    path.rename(tmp_path / "log.1")
    log.reopen()
    log.record(record(1))
    log.close()

    assert [line["id"] for line in lines_of((tmp_path / "log.1").read_bytes())] == ["r0"]
    assert [line["id"] for line in lines_of(path.read_bytes())] == ["r1"]


def test_reopen_while_the_old_file_is_full_writes_the_torn_line_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = Sink(room=0, error=errno.ENOSPC)
    full_fd: list[int] = []

    def write(fd: int, data: memoryview) -> int:
        full_fd.append(fd)
        return sink.write(fd, data)

    monkeypatch.setattr(module.os, "write", write)
    first_line = len(b'{"id":"r0","at":1.5,"outcome":"ok","status":200,"total_ms":1.0}\n')
    sink.room = first_line + 10
    log = AccessLog(str(tmp_path / "log"))
    for number in range(3):
        log.record(record(number))
    until(lambda: sink.refusals > 0)
    old = bytes(sink.taken)
    sink.taken.clear()
    (tmp_path / "log").rename(tmp_path / "log.1")
    sink.room, before = 0, sink.refusals
    log.reopen()
    until(lambda: (tmp_path / "log").exists() and sink.refusals > before)
    sink.room = 1 << 20
    log.close()

    assert len(old) == first_line + 10
    assert [line["id"] for line in lines_of(bytes(sink.taken))] == ["r1", "r2"]


def test_a_reopen_that_fails_keeps_the_old_file_and_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    log = AccessLog(str(folder / "log"))
    folder.rename(tmp_path / "moved")
    log.reopen()
    until(lambda: b"access_log_reopen_failed" in (tmp_path / "moved" / "log").read_bytes())
    log.record(record(1))
    log.close()
    lines = lines_of((tmp_path / "moved" / "log").read_bytes())
    assert lines[0]["reason"] == "ENOENT"
    assert lines[1]["id"] == "r1"


def test_a_half_line_that_a_full_disk_left_does_not_spoil_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b'{"id":"r1","at')
    log = AccessLog(str(path))
    log.event("started")
    log.close()
    assert [json.loads(line)["event"] for line in path.read_bytes().splitlines()[1:]] == ["started"]
