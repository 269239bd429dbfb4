"""The ledger's writer: what it leaves in the segments, when it rolls, is restarted, or finds the disk full."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from router.accounting.entries import FRAME_BYTES, encode, frames, walk
from router.base.segments import is_begun, segments_in, written_segments
from router.ledger import segments as module
from router.ledger import writer as writer_module
from router.ledger.writer import LedgerWriter, NoLedger
from tests.unit.ledger.desk import SEGMENT, Desk, ends_of, names, record, write


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(module, "LATE_S", 10.0)  # a busy machine is no trouble, but where a test says so
    desk = Desk(tmp_path / "ledger")
    yield desk
    desk.close()


def test_what_is_committed_is_in_the_file_at_once(desk: Desk) -> None:
    """No flush, no close: a reader in another process sees it, so a kill would not lose it."""
    ledger = desk.writer()
    ledger.add(record(1))
    ledger.add(record(2))
    assert ledger.pending
    assert desk.ids() == []
    ledger.commit()

    assert not ledger.pending
    seen = subprocess.run(["/bin/cat", desk.folder / "0" / "00000001.seg"], capture_output=True, check=True).stdout
    [(end, records)] = walk(seen)
    assert records == [record(1), record(2)]
    assert (ledger.entries, ledger.waiting_bytes, ledger.dropped) == (2, end, 0)


def test_a_turn_is_one_frame_and_an_idle_one_is_none(desk: Desk) -> None:
    ledger = desk.writer()
    for _ in range(3):
        ledger.commit()
    write(ledger, range(24), a_turn=8)
    ledger.commit()

    assert desk.sequences() == [1, 2, 3, 4]  # 0 | 1-8 | 9-16 | 17-23


def test_segments_follow_each_other_without_a_gap(desk: Desk) -> None:
    ledger = desk.writer()
    write(ledger, range(2000), a_turn=3)
    assert len(written_segments(desk.folder / "0")) > 3
    desk.until(lambda: ledger.segments == len(written_segments(desk.folder / "0")))
    written = sum(end for _, path in segments_in(desk.folder / "0") for end in ends_of(path))
    desk.until(lambda: ledger.waiting_bytes == written)
    ledger.close()

    assert desk.ids() == names(range(2000))
    assert desk.sequences() == list(range(1, len(desk.sequences()) + 1))
    assert ledger.entries == 2000
    found = segments_in(desk.folder / "0")
    assert [number for number, _ in found] == list(range(1, len(found) + 1))
    for _, path in found:  # trimmed: what was reserved and not used is given back
        assert path.stat().st_size == list(frames(path.read_bytes()))[-1].end
    assert desk.events == []


def test_a_restart_leaves_what_is_there_and_goes_on_behind_it(desk: Desk) -> None:
    first = desk.writer()
    write(first, range(5))
    first.close()
    second = desk.writer()
    write(second, range(5, 9))

    assert desk.ids() == names(range(9))
    assert desk.sequences() == list(range(1, 10))
    assert len(written_segments(desk.folder / "0")) == 2


def test_numbers_go_on_where_all_but_the_newest_was_stored_and_deleted(desk: Desk) -> None:
    first = desk.writer()
    write(first, range(1000))
    first.close()
    *stored, (newest, _) = segments_in(desk.folder / "0")
    for _, path in stored:
        path.unlink()
    second = desk.writer()
    write(second, range(1000, 1001))

    assert segments_in(desk.folder / "0")[1][0] > newest
    assert desk.sequences() == list(range(1001 - len(desk.sequences()) + 1, 1002))


def test_a_torn_frame_is_trimmed_and_its_sequence_given_again(desk: Desk) -> None:
    """A process that was killed within a copy had not released the answers of that turn."""
    first = desk.writer()
    write(first, range(3))
    torn = bytearray((desk.folder / "0" / "00000001.seg").read_bytes())
    first.close()
    ends = [each.end for each in frames(bytes(torn))]
    torn[ends[-1] - 5 : ends[-1]] = bytes(5)
    (desk.folder / "0" / "00000001.seg").write_bytes(torn)
    second = desk.writer()
    write(second, range(3, 4))

    assert desk.ids() == ["r0", "r1", "r3"]
    assert desk.sequences() == [1, 2, 3]
    assert (desk.folder / "0" / "00000001.seg").stat().st_size == ends[1]


def test_a_segment_of_torn_frames_alone_does_not_begin_the_sequence_anew(desk: Desk) -> None:
    first = desk.writer()
    write(first, range(3))
    first.close()
    (desk.folder / "0" / "00000002.seg").write_bytes(b"\x05" * 100)
    second = desk.writer()
    write(second, range(3, 4))

    assert desk.sequences() == [1, 2, 3, 4]
    assert [path.stat().st_size > 0 for _, path in written_segments(desk.folder / "0")] == [True, False, True]


def test_a_number_is_not_given_again_where_its_segment_was_lost(desk: Desk) -> None:
    """A loss of power may leave the name of a segment and none of what was in it, and of that is a part stored."""
    first = desk.writer()
    write(first, range(3))
    first.close()
    (desk.folder / "0" / "00000001.seg").write_bytes(bytes(SEGMENT))
    desk.writer().close()
    second = desk.writer()
    write(second, range(3, 4))

    assert [number for number, _ in written_segments(desk.folder / "0")] == [3]


def test_a_folder_has_one_writer_and_writers_have_a_folder_each(desk: Desk) -> None:
    first = desk.writer("worker-0")
    with pytest.raises(OSError, match="another process writes the ledger in"):
        desk.writer("worker-0")
    second = desk.writer("worker-1")
    write(first, range(2))
    write(second, range(2, 4))

    assert desk.ids("worker-0") == ["r0", "r1"]
    assert desk.ids("worker-1") == ["r2", "r3"]


@pytest.mark.parametrize(
    ("name", "changes", "complaint"),
    [
        ("..", {}, "names no writer"),
        ("a/b", {}, "names no writer"),
        ("0", {"segment_bytes": SEGMENT - 1}, "segment_bytes is 65535: at least 65536"),
        ("0", {"keep_bytes": 4 * SEGMENT - 1}, "keep_bytes is 262143: at least 4 segments of 65536"),
    ],
)
def test_settings_that_cannot_work_are_refused(desk: Desk, name: str, changes: dict[str, int], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        desk.writer(name, **changes)


def test_a_folder_that_cannot_be_made_is_refused(desk: Desk) -> None:
    desk.folder.write_text("a file")
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        desk.writer()


class Disk:
    """Refuses to reserve blocks, as long as it is told to."""

    def __init__(self) -> None:
        self.error = 0
        self.refusals = 0
        self.gate = threading.Event()
        self.gate.set()
        self._real = os.posix_fallocate

    def fallocate(self, fd: int, offset: int, size: int) -> None:
        self.gate.wait(10)
        if self.error:
            self.refusals += 1
            raise OSError(self.error, os.strerror(self.error))
        self._real(fd, offset, size)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(os, "posix_fallocate", disk.fallocate)
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.01)
    return disk


def fill(ledger: LedgerWriter) -> int:
    """Writes until something has to be held; how many records that took."""
    number = 0
    while not ledger.held_bytes:
        ledger.add(record(number))
        ledger.commit()
        number += 1
    return number


def test_a_folder_that_cannot_be_synced_leaves_no_segment_behind(
    desk: Desk, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = desk.writer()
    desk.until(lambda: ledger._keeper._next is not None)

    def fails(folder: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as broken:
        broken.setattr(module, "sync_folder", fails)
        held = fill(ledger)
        desk.until(lambda: ledger.trouble == os.strerror(errno.EIO))
    desk.until(lambda: not ledger.held_bytes and not ledger.trouble)
    assert desk.ids() == names(range(held))


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_a_disk_that_fails_holds_entries_until_it_is_well(desk: Desk, disk: Disk, error: int) -> None:
    ledger = desk.writer()
    desk.until(lambda: ledger._keeper._next is not None)
    disk.error = error
    held = fill(ledger)
    write(ledger, range(held, held + 500), a_turn=50)
    assert ledger.dropped == 0
    assert ledger.entries < held + 500
    desk.until(lambda: desk.events)
    [(event, fields)] = desk.events
    assert event == "ledger_trouble"
    assert os.strerror(error) in str(fields["reason"])
    assert ledger.trouble == fields["reason"]

    disk.error = 0
    desk.until(lambda: not ledger.held_bytes and not ledger.trouble)  # without a request that asks for it
    assert ledger.entries == held + 500
    assert sorted(desk.ids(), key=lambda name: int(name[1:])) == names(range(held + 500))
    assert desk.sequences() == list(range(1, len(desk.sequences()) + 1))
    assert desk.events[1:] == [("ledger_recovered", {"dropped": 0})]


def test_memory_is_bounded_and_what_is_beyond_it_is_counted(
    desk: Desk, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "HELD_BYTES_MAX", 20_000)
    ledger = desk.writer()
    desk.until(lambda: ledger._keeper._next is not None)
    disk.error = errno.ENOSPC
    number = 0
    while ledger.dropped < 100:
        ledger.add(record(number))
        ledger.commit()
        number += 1
        assert ledger.held_bytes <= 20_000
    disk.error = 0
    desk.until(lambda: not ledger.held_bytes and not ledger.trouble)

    assert ledger.entries == number - 100 == len(desk.ids())
    assert desk.events[-1] == ("ledger_recovered", {"dropped": 100})


def test_a_start_on_a_full_disk_serves(desk: Desk, disk: Disk) -> None:
    disk.error = errno.ENOSPC
    ledger = desk.writer()
    write(ledger, range(3))
    assert (ledger.entries, ledger.dropped, ledger.segments) == (0, 0, 0)
    disk.error = 0
    desk.until(lambda: ledger.entries == 3)

    assert desk.ids() == names(range(3))


def test_what_a_full_disk_never_took_is_counted_at_the_end(desk: Desk, disk: Disk) -> None:
    disk.error = errno.ENOSPC
    ledger = desk.writer()
    write(ledger, range(3))
    ledger.close()

    assert (ledger.entries, ledger.dropped, ledger.held_bytes) == (0, 3, 0)
    event, fields = desk.events[-1]
    assert (event, fields["dropped"]) == ("ledger_trouble", 3), "the page of metrics ends with the process"


def test_a_segment_that_is_late_is_waited_for(desk: Desk, disk: Disk) -> None:
    """A healthy disk that is slow costs a pause, and not the promise."""
    disk_opens = threading.Timer(0.05, disk.gate.set)
    ledger = desk.writer()
    desk.until(lambda: ledger._keeper._next is not None)
    disk.gate.clear()
    disk_opens.start()
    write(ledger, range(1000), a_turn=10)

    assert (ledger.held_bytes, ledger.dropped, ledger.entries) == (0, 0, 1000)
    assert desk.ids() == names(range(1000))


def test_a_disk_that_hangs_is_waited_for_once(desk: Desk, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LATE_S", 0.01)
    ledger = desk.writer()
    desk.until(lambda: ledger._keeper._next is not None)
    disk.gate.clear()
    waits = []
    real = ledger._keeper._tried.wait
    monkeypatch.setattr(ledger._keeper._tried, "wait", lambda timeout: waits.append(timeout) or real(timeout))
    write(ledger, range(fill(ledger), 800))
    assert waits == [0.01]
    disk.gate.set()
    desk.until(lambda: ledger.entries == 800)


def test_the_bound_of_what_waits_is_held_and_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is away: nothing that waits for it is deleted; what came last is what gets lost."""
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(writer_module, "HELD_BYTES_MAX", 10_000)
    ledger = desk.writer(keep_bytes=5 * SEGMENT)
    number = 0
    while not ledger.dropped:
        ledger.add(record(number))
        ledger.commit()
        number += 1
    desk.until(lambda: desk.events)
    assert desk.events == [
        ("ledger_trouble", {"reason": f"keep_bytes is reached: {5 * SEGMENT} bytes wait for the store"})
    ]
    assert sum(path.stat().st_size for _, path in segments_in(desk.folder / "0")) <= 5 * SEGMENT
    assert desk.ids()[:100] == names(range(100))

    for _, path in written_segments(desk.folder / "0")[:-1]:  # the store is back
        path.unlink()
    desk.until(lambda: not ledger.held_bytes and not ledger.trouble)
    dropped = ledger.dropped
    write(ledger, range(number, number + 200))
    assert ledger.dropped == dropped
    assert ledger.entries == number + 200 - dropped


def test_all_writers_share_the_bound_and_each_may_have_a_few(desk: Desk) -> None:
    first = desk.writer("worker-0", keep_bytes=4 * SEGMENT)
    second = desk.writer("worker-1", keep_bytes=4 * SEGMENT)
    desk.until(lambda: first._keeper._next is not None and second._keeper._next is not None)
    assert fill(first) > 200  # two segments' worth
    assert fill(second) > 200
    assert "keep_bytes is reached" in first.trouble
    assert "keep_bytes is reached" in second.trouble


def test_a_record_that_no_segment_has_room_for_is_dropped_alone(desk: Desk) -> None:
    ledger = desk.writer()
    ledger.add(record(1))
    ledger.add(record(2, code="c" * SEGMENT))
    ledger.add(record(3))
    ledger.commit()

    assert (ledger.entries, ledger.dropped) == (2, 1)
    assert desk.ids() == ["r1", "r3"]


def test_a_turn_that_is_larger_than_a_segment_is_written_in_parts(desk: Desk) -> None:
    ledger = desk.writer()
    for number in range(1000):
        ledger.add(record(number))
    assert len(encode(ledger.pending)) > SEGMENT + FRAME_BYTES
    ledger.commit()

    assert ledger.dropped == 0
    assert desk.ids() == names(range(1000))


def test_odd_values_do_not_stop_it(desk: Desk) -> None:
    ledger = desk.writer()
    ledger.add(record(1, client_request_id="\ud800", cost_nano_usd=1 << 70))
    ledger.commit()
    ledger.add(record(2, code=object()))
    ledger.commit()
    ledger.add(record(3, code=object(), key="\ud800"))
    ledger.commit()
    for number in range(2000):  # and where they have to be held
        ledger.add(record(number, client_request_id="\ud800"))
    ledger.commit()

    assert ledger.dropped == 0
    assert len(desk.ids()) == 2003


def test_after_the_end_nothing_is_written_and_all_is_counted(desk: Desk) -> None:
    ledger = desk.writer()
    write(ledger, range(2))
    ledger.close()
    ledger.close()
    write(ledger, range(2, 5))

    assert ledger.dropped == 3
    assert desk.ids() == names(range(2))


def test_the_end_commits_what_was_added(desk: Desk) -> None:
    ledger = desk.writer()
    ledger.add(record(1))
    ledger.close()

    assert desk.ids() == ["r1"]
    assert [path.name for path in sorted((desk.folder / "0").iterdir())] == ["00000001.seg", "lock"]


def test_a_lock_ends_with_its_process(desk: Desk) -> None:
    code = (
        "import sys; from router.base.segments import lock_folder; from pathlib import Path;"
        "lock_folder(Path(sys.argv[1]), 'x'); print('locked', flush=True); sys.stdin.read()"
    )
    (desk.folder / "0").mkdir(parents=True)
    with subprocess.Popen(
        [sys.executable, "-c", code, desk.folder / "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(OSError, match="another process"):
            desk.writer()
        process.kill()
    desk.writer()


def test_a_folder_that_is_taken_away_is_told_of_and_used_again_once_it_is_back(desk: Desk) -> None:
    ledger = desk.writer()
    write(ledger, range(10))
    shutil.rmtree(desk.folder.rename(desk.folder.with_name("taken")))  # at once: its thread may just be adding to it
    desk.until(lambda: desk.events)
    told = [event for event, _ in desk.events]
    assert (told, "No such file" in ledger.trouble) == (["ledger_trouble"], True)

    (desk.folder / "0").mkdir(parents=True)
    desk.until(lambda: "removed" in ledger.trouble or not ledger.trouble)
    write(ledger, range(10, 2000))
    desk.until(lambda: not ledger.trouble and not ledger.held_bytes)
    write(ledger, range(2000, 2010))

    assert desk.ids()[-10:] == names(range(2000, 2010))
    assert ledger.dropped == 0
    assert desk.events[-1] == ("ledger_recovered", {"dropped": 0})


def test_a_segment_that_is_removed_under_the_writer_is_told_of(desk: Desk) -> None:
    ledger = desk.writer()
    write(ledger, range(10))
    path = desk.folder / "0" / "00000001.seg"
    path.unlink()
    desk.until(lambda: desk.events)

    assert desk.events == [("ledger_trouble", {"reason": f"{path} was removed"})]


def test_a_segment_that_vanishes_is_not_begun(tmp_path: Path) -> None:
    """On a full disk the next one comes and goes, while somebody reads the folder."""
    assert not is_begun(tmp_path / "00000001.seg")


def test_no_ledger_takes_everything_and_keeps_nothing() -> None:
    ledger, called = NoLedger(), []
    ledger.add(record(1))
    ledger.commit()
    ledger.when_durable(lambda: called.append(1))

    assert (ledger.pending, called, ledger.durable) == ([], [1], False)
