"""Durable mode: nothing that waits is told before the disk has it, and one sync serves all who wait."""

from __future__ import annotations

import errno
import os
import random
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from router.accounting.entries import walk
from router.base.segments import segments_in
from router.ledger import segments as segments_module
from tests.unit.ledger.desk import SEGMENT, Desk, record, write


class Disk:
    """What a loss of power would leave: of each file what it held at its last sync, if its folder has its name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.files: dict[str, bytes] = {}  # by path
        self.names: set[str] = set()
        self.syncs = 0
        self.error = 0
        self.gate = threading.Event()
        self.gate.set()
        self.asked = threading.Event()
        monkeypatch.setattr(segments_module, "LATE_S", 10.0)  # here a busy machine is no trouble
        monkeypatch.setattr(os, "fsync", self.fsync)
        monkeypatch.setattr(os, "fdatasync", self.fdatasync)

    def fsync(self, fd: int) -> None:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            self.names |= {str(each) for each in path.iterdir()}
        else:
            self.files[str(path)] = path.read_bytes()

    def fdatasync(self, fd: int) -> None:
        self.asked.set()
        assert self.gate.wait(10)
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        self.syncs += 1
        path = Path(f"/proc/self/fd/{fd}").readlink()
        self.files[str(path)] = path.read_bytes()

    def ids(self) -> set[str]:
        """Of the requests that would still be there."""
        found = set()
        for path in self.names & self.files.keys():
            for _, records in walk(self.files[path]):
                found |= {each.id for each in records}
        return found


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@pytest.fixture
def desk(tmp_path: Path, disk: Disk) -> Iterator[Desk]:
    desk = Desk(tmp_path / "ledger")
    yield desk
    disk.gate.set()
    desk.close()


def test_nobody_is_told_before_the_disk_has_it(desk: Desk, disk: Disk) -> None:
    ledger = desk.writer(durable=True)
    told: list[int] = []
    disk.gate.clear()
    write(ledger, range(1))
    ledger.when_durable(lambda: told.append(len(disk.ids())))
    assert disk.asked.wait(10)
    desk.turn()
    assert told == []
    disk.gate.set()
    desk.until(lambda: told)

    assert told == [1]


def test_those_who_come_during_a_sync_share_the_next(desk: Desk, disk: Disk) -> None:
    ledger = desk.writer(durable=True)
    told: list[int] = []
    disk.gate.clear()
    for number in range(50):
        write(ledger, range(number, number + 1))
        ledger.when_durable(lambda number=number: told.append(number))
        if number == 0:
            assert disk.asked.wait(10)
    disk.gate.set()
    desk.until(lambda: len(told) == 50)

    assert told == list(range(50))
    assert disk.syncs == 2


def test_what_is_on_the_disk_waits_for_nobody_but_those_before_it(desk: Desk, disk: Disk) -> None:
    ledger = desk.writer(durable=True)
    told: list[str] = []
    ledger.when_durable(lambda: told.append("nothing committed"))
    assert told == ["nothing committed"]
    write(ledger, range(1))
    ledger.when_durable(lambda: told.append("first"))
    ledger.when_durable(lambda: told.append("second"))
    assert len(told) == 1
    desk.until(lambda: len(told) == 3)
    ledger.when_durable(lambda: told.append("third"))

    assert told[1:] == ["first", "second", "third"]
    assert disk.syncs == 1


def test_the_default_waits_for_no_disk(desk: Desk, disk: Disk) -> None:
    ledger = desk.writer()
    told: list[int] = []
    write(ledger, range(1000))
    ledger.when_durable(lambda: told.append(1))
    ledger.close()

    assert told == [1]
    assert disk.syncs == 0


@pytest.mark.parametrize("seed", range(4))
def test_a_loss_of_power_takes_nothing_that_was_told(desk: Desk, disk: Disk, seed: int) -> None:
    """Over many segments, whatever the thread that lets go of them is doing."""
    rng = random.Random(seed)
    ledger = desk.writer(durable=True)
    number, told = 0, 0
    missing: list[set[str]] = []

    def check(upto: int) -> None:
        nonlocal told
        assert upto >= told
        told = upto
        missing.append({f"r{each}" for each in range(upto)} - disk.ids())

    while number < 1500:
        for _ in range(rng.randrange(1, 30)):
            ledger.add(record(number))
            number += 1
        ledger.commit()
        if rng.random() < 0.7:
            ledger.when_durable(lambda upto=number: check(upto))
        if rng.random() < 0.5:
            desk.turn()
    ledger.when_durable(lambda upto=number: check(upto))
    desk.until(lambda: told == number)

    assert len(segments_in(desk.folder / "0")) > 4
    assert {frozenset(each) for each in missing} == {frozenset()}


def test_a_disk_that_cannot_sync_keeps_nobody_waiting_and_is_told_of(
    desk: Desk, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments_module, "LOOK_EVERY_S", 0.01)
    ledger = desk.writer(durable=True)
    told: list[int] = []
    disk.error = errno.EIO
    write(ledger, range(1))
    ledger.when_durable(lambda: told.append(1))
    desk.until(lambda: told and desk.events)
    assert desk.events == [("ledger_trouble", {"reason": os.strerror(errno.EIO)})]
    disk.error = 0
    write(ledger, range(1, 2))
    ledger.when_durable(lambda: told.append(2))
    desk.until(lambda: told == [1, 2] and not ledger.trouble and len(desk.events) == 2)

    assert desk.events[1][0] == "ledger_recovered"


def test_what_a_full_disk_made_wait_in_memory_keeps_nobody_waiting(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    ledger = desk.writer(durable=True)
    told: list[int] = []
    write(ledger, range(3))
    ledger.when_durable(lambda: told.append(1))

    assert told == [1]
    assert ledger.held_bytes
    assert "No space left" in ledger.trouble


def test_the_end_syncs_what_was_committed(desk: Desk, disk: Disk) -> None:
    ledger = desk.writer(durable=True, segment_bytes=SEGMENT)
    write(ledger, range(10))
    ledger.close()

    assert len(disk.ids()) == 10
