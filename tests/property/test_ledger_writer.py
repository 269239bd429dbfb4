"""The ledger's writer against a simple model, through full disks, kills, restarts and a bookkeeper that deletes."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from pathlib import Path
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from router.accounting.entries import frames, walk
from router.base.segments import written_segments
from router.ledger import segments as segments_module
from tests.unit.ledger.desk import Desk, record

_fallocate = os.posix_fallocate


class WriterMachine(RuleBasedStateMachine):
    """The model: which entries were committed, which of them a kill may take, and which the bookkeeper has stored."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.full = False
        self.patches = [
            mock.patch.object(segments_module, "LATE_S", 10.0),
            mock.patch.object(segments_module, "LOOK_EVERY_S", 0.002),
            mock.patch.object(os, "posix_fallocate", self.fallocate),
        ]
        for patch in self.patches:
            patch.start()
        self.generation, self.number = 0, 0
        self.added: set[str] = set()  # not committed yet
        self.committed: set[str] = set()
        self.stored: set[str] = set()
        self.places: dict[tuple[int, int], int] = {}  # by segment and offset: the frame that was seen there
        self.sequence = 0  # the highest that was seen
        self.open()

    def fallocate(self, fd: int, offset: int, size: int) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        _fallocate(fd, offset, size)

    def open(self) -> None:
        self.desk = Desk(self.folder / str(self.generation))
        self.ledger = self.desk.writer(keep_bytes=1 << 30)

    def ids(self, folder: Path) -> set[str]:
        """Of all segments: in order, each entry once, and in no place that was another's."""
        found, last = set(), 0
        for number, path in written_segments(folder / "0"):
            data = path.read_bytes()
            for frame in frames(data):
                assert last in (0, frame.sequence - 1)
                last = frame.sequence
                assert self.places.setdefault((number, frame.end), frame.sequence) == frame.sequence
            for _, records in walk(data):
                ids = {each.id for each in records}
                assert not ids & found
                found |= ids
        assert last >= self.sequence
        self.sequence = last
        return found

    @rule(count=st.integers(1, 120))
    def add(self, count: int) -> None:
        for _ in range(count):
            self.number += 1
            self.ledger.add(record(self.number))
            self.added.add(f"r{self.number}")

    @rule()
    def commit(self) -> None:
        self.ledger.commit()
        self.committed |= self.added
        self.added = set()

    @rule()
    def turn(self) -> None:
        self.desk.turn()

    @rule(full=st.booleans())
    def fill_or_empty_the_disk(self, full: bool) -> None:
        self.full = full

    @precondition(lambda self: not self.full)
    @rule()
    def come_to_rest(self) -> None:
        """With room on the disk, nothing stays in memory."""
        self.desk.until(lambda: not self.ledger.held_bytes and not self.ledger.trouble)
        assert self.ids(self.desk.folder) | self.stored == self.committed

    @rule(count=st.integers(1, 3))
    def store(self, count: int) -> None:
        """As the bookkeeper does: all but the newest go, once they are read."""
        for _, path in written_segments(self.desk.folder / "0")[:-1][:count]:
            self.stored |= {each.id for _, records in walk(path.read_bytes()) for each in records}
            path.unlink()

    @rule()
    def restart(self) -> None:
        held = bool(self.ledger.held_bytes)
        self.desk.close()
        self.committed |= self.added
        self.added = set()
        if held or self.ledger.dropped:
            self.forget_what_a_full_disk_took()
        self.open()

    @rule()
    def kill(self) -> None:
        """What the page cache has at this moment is all that the next process finds."""
        self.generation += 1
        copy = self.folder / str(self.generation) / "0"
        copy.mkdir(parents=True)
        for path in (self.desk.folder / "0").iterdir():
            with contextlib.suppress(FileNotFoundError):  # of the segment that a full disk does not take
                shutil.copyfile(path, copy / path.name)
        self.added = set()
        if self.ledger.held_bytes:
            self.desk.folder = self.folder / str(self.generation)
            self.forget_what_a_full_disk_took()
        old, self.desk = self.desk, Desk(self.folder / str(self.generation))
        self.ledger = self.desk.writer(keep_bytes=1 << 30)
        old.close()

    def forget_what_a_full_disk_took(self) -> None:
        """Only what was in memory, for want of room, may be gone."""
        kept = self.ids(self.desk.folder) | self.stored
        assert kept <= self.committed
        self.committed = kept

    @invariant()
    def all_is_there_that_is_not_in_memory(self) -> None:
        there = self.ids(self.desk.folder) | self.stored
        assert there <= self.committed
        if not self.ledger.held_bytes:
            assert there == self.committed
        assert self.ledger.dropped == 0

    def teardown(self) -> None:
        self.full = False
        self.desk.close()
        for patch in self.patches:
            patch.stop()
        shutil.rmtree(self.folder)


WriterMachine.TestCase.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)
TestWriter = WriterMachine.TestCase
