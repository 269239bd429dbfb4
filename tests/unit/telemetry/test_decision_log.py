"""The decision log's writer: what it leaves on the disk, when it rolls, is restarted, or finds the disk full."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from router.accounting.chain import Event, Header, Record, Verifier
from router.base.clock import ManualClock
from router.base.segments import segments_in
from router.model.decision import Decision, Leave, Offer
from router.telemetry import decision_log as module
from router.telemetry.anchors import Anchor, load_public_keys, load_signing_key, new_key, objection, read_anchors
from router.telemetry.decision_log import DecisionLog, DecisionLogSettings

SEGMENT = 64 << 10


def decision(number: int, **changes: Any) -> Decision:
    offers = (Offer("azure-1/ptu", "azure", "throttled"), Offer("oracle-1/llama", "oracle", "accepted"))
    fields = {
        "request": f"r{number}",
        "at": 10.0 + number,
        "key": "acme",
        "workload": "internal",
        "model": "gpt-4o",
        "operation": "chat",
        "rule": "first_refusal:azure",
        "rule_version": "v1",
        "offers": offers,
        "served_by": "oracle-1/llama",
        "cloud": "oracle",
        "outcome": "ok",
    }
    return Decision(**{**fields, **changes})


def settings(folder: Path, **changes: Any) -> DecisionLogSettings:
    return DecisionLogSettings(
        **{"folder": str(folder), "segment_bytes": SEGMENT, "keep_bytes": 64 * SEGMENT, **changes}
    )


def until(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def prepared(log: DecisionLog) -> bool:
    return log._next is not None and not log._retired


def write_all(log: DecisionLog, numbers: range) -> None:
    """Writes at the pace at which segments are prepared: 64 KiB are full in no time."""
    for number in numbers:
        if log._position > SEGMENT // 2:
            until(lambda: prepared(log))
        log.write(decision(number))


def read(folder: Path, writer: str = "0") -> tuple[list[Record], Verifier]:
    """All records, once they are verified."""
    anchors = {}
    if (file := folder / "anchors.jsonl").exists():
        anchors = {
            each.sequence: each.hash
            for _, each in read_anchors(file.read_bytes())
            if each is not None and each.writer == writer
        }
    verifier = Verifier(writer, anchors)
    records = []
    for number, path in segments_in(folder / writer):
        records += list(verifier.segment(number, path.read_bytes()))
    verifier.finish()
    return records, verifier


def requests(records: list[Record]) -> list[str]:
    return [record.request for record in records if isinstance(record, Decision | Leave)]


def events(records: list[Record]) -> list[tuple[str, dict[str, object]]]:
    return [(record.event, record.fields) for record in records if isinstance(record, Event)]


def test_records_verify_in_order_across_segments(tmp_path: Path) -> None:
    log = DecisionLog(settings(tmp_path))
    write_all(log, range(1000))
    sequence, dropped = log.sequence, log.dropped
    log.close()

    records, verifier = read(tmp_path)
    assert verifier.findings == []
    assert requests(records) == [f"r{number}" for number in range(1000)]
    headers = [record for record in records if isinstance(record, Header)]
    assert len(headers) > 4
    assert [header.segment for header in headers] == list(range(1, len(headers) + 1))
    assert dropped == 0
    assert sequence == 1000 + len(headers)
    assert verifier.unanchored() == 0
    assert events(records) == [("closed", {"dropped": 0})]


def test_what_is_written_is_in_the_file_at_once(tmp_path: Path) -> None:
    """No flush, no close: a reader in another process sees it, so a kill would not lose it."""
    log = DecisionLog(settings(tmp_path))
    log.write(decision(1))
    path = tmp_path / "0" / "00000001.seg"
    seen = subprocess.run(["/bin/cat", path], capture_output=True, check=True).stdout
    assert b'"r1"' in seen
    assert seen.rstrip(b"\0").endswith(log.head + b"\n")
    log.close()
    assert not path.read_bytes().endswith(b"\0")  # trimmed


def test_what_is_not_on_the_disk_yet_is_known(tmp_path: Path) -> None:
    log = DecisionLog(settings(tmp_path))
    log.anchor()
    assert log.unsynced_bytes == 0
    written = log._position
    log.write(decision(1))
    assert log.unsynced_bytes == log._position - written > 100

    write_all(log, range(2, 400))
    until(lambda: prepared(log))
    assert log._segment.number > 1
    assert log.unsynced_bytes == log._position, "what was left behind is synced when it is let go"
    log.anchor()
    assert log.unsynced_bytes == 0
    log.close()


def test_a_restart_goes_on_where_the_chain_ended(tmp_path: Path) -> None:
    first = DecisionLog(settings(tmp_path))
    first.write(decision(1))
    first.close()
    ended = first.sequence
    second = DecisionLog(settings(tmp_path))
    assert second.sequence == ended + 1  # its segment's header
    second.write(decision(2))
    second.close()

    records, verifier = read(tmp_path)
    assert verifier.findings == []
    assert requests(records) == ["r1", "r2"]
    assert (verifier.first_segment, verifier.last_segment) == (1, 2)


@pytest.mark.parametrize("cut", [1, 10, 64, 65, 66, 100, 200])
def test_a_torn_tail_is_told_and_gone_on_behind(tmp_path: Path, cut: int) -> None:
    log = DecisionLog(settings(tmp_path))
    log.write(decision(1))
    log.write(decision(2))
    snapshot = (tmp_path / "0" / "00000001.seg").read_bytes()
    log.close()
    end = len(snapshot.rstrip(b"\0"))
    (tmp_path / "anchors.jsonl").unlink()
    (tmp_path / "0" / "00000001.seg").write_bytes(snapshot[: end - cut] + bytes(SEGMENT - end + cut))

    log = DecisionLog(settings(tmp_path))
    log.write(decision(3))
    log.close()
    records, verifier = read(tmp_path)
    assert verifier.findings == []
    assert requests(records) == ["r1", "r3"]
    header = records[2]
    assert isinstance(header, Header)
    assert header.torn_bytes > 0
    assert header.previous_sequence == 2


def test_a_kill_in_the_first_record_of_a_segment_is_gone_on_behind(tmp_path: Path) -> None:
    log = DecisionLog(settings(tmp_path))
    log.write(decision(1))
    log.close()
    (tmp_path / "0" / "00000002.seg").write_bytes(b'4 ["segm' + bytes(SEGMENT - 8))
    (tmp_path / "0" / "00000003.seg").write_bytes(bytes(SEGMENT))  # prepared, not used

    log = DecisionLog(settings(tmp_path))
    log.write(decision(2))
    log.close()
    records, verifier = read(tmp_path)
    assert verifier.findings == []
    assert requests(records) == ["r1", "r2"]
    assert verifier.last_segment == 3


def test_only_one_process_writes_a_chain(tmp_path: Path) -> None:
    log = DecisionLog(settings(tmp_path))
    with pytest.raises(OSError, match="another process writes the decision log"):
        DecisionLog(settings(tmp_path))
    other = DecisionLog(settings(tmp_path), writer="1")
    other.write(decision(1))
    other.close()
    log.close()
    DecisionLog(settings(tmp_path)).close()
    assert read(tmp_path, "1")[1].findings == []


def test_the_oldest_go_beyond_the_bound_and_the_chain_says_so(tmp_path: Path) -> None:
    log = DecisionLog(settings(tmp_path, keep_bytes=4 * SEGMENT))
    write_all(log, range(2000))
    until(lambda: prepared(log))
    sizes = [path.stat().st_size for _, path in segments_in(tmp_path / "0")]
    log.close()

    assert sum(sizes) <= 4 * SEGMENT
    records, verifier = read(tmp_path)
    assert verifier.findings == []
    assert verifier.first_segment > 1
    assert verifier.deleted_through >= verifier.first_segment - 1
    assert requests(records)[-1] == "r1999"


def test_each_segment_has_the_configuration_in_force(tmp_path: Path) -> None:
    log = DecisionLog(settings(tmp_path))
    log.write_event("configuration", version="a")
    write_all(log, range(400))
    log.write_event("configuration", version="b")
    write_all(log, range(400, 800))
    log.close()

    in_force: dict[int, object] = {}
    for number, path in segments_in(tmp_path / "0"):
        verifier = Verifier("0")
        records = list(verifier.segment(number, path.read_bytes()))
        event = next(record for record in records[1:] if isinstance(record, Event))
        assert records.index(event) == 1
        in_force[number] = event.fields["version"]
    assert len(in_force) > 3
    assert list(in_force.values()) == sorted(in_force.values(), key=str)
    assert set(in_force.values()) == {"a", "b"}


class Disk:
    """Stands in for `os.posix_fallocate`: refuses while it is full."""

    def __init__(self) -> None:
        self.full, self.refusals = False, 0
        self._real = os.posix_fallocate

    def fallocate(self, fd: int, offset: int, size: int) -> None:
        if self.full:
            self.refusals += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._real(fd, offset, size)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(os, "posix_fallocate", disk.fallocate)
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    return disk


def test_a_full_disk_drops_counts_and_is_told_of_in_the_chain(tmp_path: Path, disk: Disk) -> None:
    clock = ManualClock(wall_s=1000.0)
    log = DecisionLog(settings(tmp_path), clock=clock)
    until(lambda: prepared(log))
    disk.full = True
    number = 0
    while not log.dropped:
        log.write(decision(number))
        number += 1
    clock.advance(7.0)
    for _ in range(41):
        log.write(decision(0))
    assert log.dropped == 42
    until(lambda: disk.refusals > 2)
    disk.full = False
    until(lambda: prepared(log))
    clock.advance(5.0)
    log.write(decision(9999))
    log.close()

    records, verifier = read(tmp_path)
    assert verifier.findings == []
    assert requests(records) == [f"r{each}" for each in range(number - 1)] + ["r9999"]
    dropping, dropped, closed = events(records)
    assert dropping == ("records_dropping", {})
    assert dropped == ("records_dropped", {"records": 42, "since": 1000.0})
    assert closed == ("closed", {"dropped": 42})
    at = {record.event: record.at for record in records if isinstance(record, Event)}
    assert (at["records_dropping"], at["records_dropped"]) == (1000.0, 1012.0)


def test_a_log_that_ends_on_a_full_disk_still_says_what_it_dropped(tmp_path: Path, disk: Disk) -> None:
    log = DecisionLog(settings(tmp_path))
    until(lambda: prepared(log))
    disk.full = True
    while log.dropped < 10:
        log.write(decision(1))
    log.close()

    records, verifier = read(tmp_path)
    assert verifier.findings == []
    assert [name for name, _ in events(records)] == ["records_dropping", "records_dropped", "closed"]


def test_a_start_on_a_full_disk_is_refused_with_its_reason(tmp_path: Path, disk: Disk) -> None:
    disk.full = True
    with pytest.raises(OSError, match=r"65536 bytes for .*00000001\.seg: No space left") as caught:
        DecisionLog(settings(tmp_path))
    assert caught.value.errno == errno.ENOSPC
    disk.full = False
    DecisionLog(settings(tmp_path)).close()


def test_a_record_that_no_segment_has_room_for_is_dropped_alone(tmp_path: Path) -> None:
    log = DecisionLog(settings(tmp_path))
    until(lambda: prepared(log))
    log.write(decision(1, key="k" * SEGMENT))
    log.write_event("configuration", all="c" * SEGMENT)
    log.write(decision(2))
    log.close()

    records, verifier = read(tmp_path)
    assert verifier.findings == []
    assert requests(records) == ["r2"]
    assert log.dropped == 2
    assert len(segments_in(tmp_path / "0")) == 1


def test_strings_that_utf_8_cannot_hold_do_not_stop_it(tmp_path: Path) -> None:
    log = DecisionLog(settings(tmp_path))
    log.write(decision(1, key="a\ud800\n\0b"))
    log.write_event("odd", value="\udfff", thing=object())
    log.close()

    records, verifier = read(tmp_path)
    assert verifier.findings == []
    assert isinstance(records[1], Decision)
    assert records[1].key == "a?\n\0b"
    assert events(records)[0] == ("odd", {"value": "?", "thing": "object"})


def test_threads_share_one_chain(tmp_path: Path) -> None:
    log = DecisionLog(settings(tmp_path, segment_bytes=4 << 20, keep_bytes=16 << 20))
    threads = [
        threading.Thread(target=lambda: [log.write(decision(number)) for number in range(1000)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for _ in range(20):
        log.anchor()
        log.write_event("beside")
    for thread in threads:
        thread.join()
    log.close()

    records, verifier = read(tmp_path)
    assert verifier.findings == []
    assert len(requests(records)) == 4000
    assert verifier.unanchored() == 0


def test_writes_after_the_close_are_counted_as_dropped(tmp_path: Path) -> None:
    log = DecisionLog(settings(tmp_path))
    log.close()
    log.write(decision(1))
    log.write_event("late")
    log.close()
    assert log.dropped == 2
    assert read(tmp_path)[1].findings == []


def test_anchors_are_signed_and_written_once_for_each_head(tmp_path: Path) -> None:
    new_key(tmp_path / "key")
    file = tmp_path / "elsewhere" / "anchors"
    file.parent.mkdir()
    clock = ManualClock(wall_s=1_700_000_000.5)
    log = DecisionLog(settings(tmp_path, anchors=str(file), signing_key=str(tmp_path / "key")), clock=clock)
    log.write(decision(1))
    log.anchor()
    log.anchor()
    head, sequence = log.head.decode(), log.sequence
    log.close()

    anchors = [each for _, each in read_anchors(file.read_bytes())]
    assert len(anchors) == 2
    anchor = anchors[0]
    assert anchor is not None
    assert (anchor.writer, anchor.sequence, anchor.hash) == ("0", sequence, head)
    assert (anchor.at, anchor.wall()) == ("2023-11-14T22:13:20.500Z", 1_700_000_000.5)
    keys = load_public_keys([str(tmp_path / "key.pub")])
    assert objection(anchor, keys) == ""
    assert objection(msgspec.structs.replace(anchor, sequence=1), keys) == "its signature is wrong"
    assert objection(msgspec.structs.replace(anchor, signature="?"), keys) == "its signature is wrong"
    assert objection(msgspec.structs.replace(anchor, signature=""), keys) == "it is not signed"
    assert "which was not given" in objection(anchor, {})


def test_an_anchor_behind_half_a_line_stands_in_its_own(tmp_path: Path) -> None:
    (tmp_path / "anchors.jsonl").write_bytes(b'{"writer":"0","sequ')
    DecisionLog(settings(tmp_path)).close()
    anchors = list(read_anchors((tmp_path / "anchors.jsonl").read_bytes()))
    assert anchors[0] == (1, None)
    assert isinstance(anchors[1][1], Anchor)


def test_an_anchor_that_cannot_be_written_is_raised_and_tried_again(tmp_path: Path) -> None:
    log = DecisionLog(settings(tmp_path, anchors=str(tmp_path / "absent" / "file")))
    with pytest.raises(FileNotFoundError):
        log.anchor()
    (tmp_path / "absent").mkdir()
    log.anchor()
    assert (tmp_path / "absent" / "file").read_bytes().count(b"\n") == 1
    log.close()


def test_keys_are_private_and_never_written_over(tmp_path: Path) -> None:
    new_key(tmp_path / "key")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    before = (tmp_path / "key").read_bytes()
    with pytest.raises(FileExistsError):
        new_key(tmp_path / "key")
    assert (tmp_path / "key").read_bytes() == before
    with pytest.raises(ValueError, match="no Ed25519 private key"):
        load_signing_key(str(tmp_path / "key.pub"))
    with pytest.raises(ValueError, match="no Ed25519 public key"):
        load_public_keys([str(tmp_path / "key")])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"segment_bytes": 100}, "segment_bytes is 100: at least 65536"),
        ({"keep_bytes": SEGMENT}, "keep_bytes is 65536: at least 4 segments of 65536"),
        ({"anchor_every_s": 0}, "anchor_every_s is 0: more than 0"),
        ({"signing_key": "/dev/null"}, "/dev/null is no Ed25519 private key"),
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path: Path, changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        DecisionLog(settings(tmp_path, **changes))


@pytest.mark.parametrize("writer", ["", "..", "a/b", "a b"])
def test_a_writer_is_a_plain_name(tmp_path: Path, writer: str) -> None:
    with pytest.raises(ValueError, match="names no writer"):
        DecisionLog(settings(tmp_path), writer=writer)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
def test_it_gives_back_its_files(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    log = DecisionLog(settings(tmp_path))
    write_all(log, range(600))
    log.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert threading.active_count() == 1 or not any(each.name == "decision-log" for each in threading.enumerate())
