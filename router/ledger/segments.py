"""All of a ledger writer's work that may block: it prepares segments, lets go of full ones, and keeps to the bound.

What is in a writer's folder when it opens was written by a process before. It stays: only the bookkeeper deletes what
was written to, once it is in the store, and never a folder's newest. No segment's number comes twice, whatever a loss
of power takes: what the store has of a segment is never mistaken for a part of another.
"""

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from router.accounting.entries import frames
from router.base.segments import Segment, check_segments, is_begun, lock_folder, segment_path, segments_in, sync_folder
from router.ledger.settings import LedgerSettings

FIRST_SEGMENT_BYTES: Final = 4 << 20  # a start waits for it; the keeper makes the next one meanwhile
LOOK_EVERY_S: Final = 1.0
LATE_S: Final = 0.1
_OWN_SEGMENTS_MIN: Final = 3  # so many a writer may have beside the one it prepares, whatever the others leave
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class SegmentKeeper:
    """A thread for one writer's folder. `changed` is called on that thread: there may be news for the writer.

    Raises OSError where the folder cannot be opened, or another process has it; ValueError for settings that cannot
    work. A full disk, and a bound that is reached, are no error: `trouble` says so, and it goes on trying.
    """

    def __init__(self, settings: LedgerSettings, writer: str, changed: Callable[[], None]) -> None:
        check_segments(writer, settings.segment_bytes, settings.keep_bytes)
        self.trouble = ""  # with the segment that comes next
        self.missing = ""  # what was taken away under it: entries in a file that is gone are lost
        self.retired: list[tuple[Segment, int]] = []  # full ones, and how much of them is written
        self.files = threading.Lock()  # held while files are synced or closed
        self._settings, self._changed = settings, changed
        self._folder = Path(settings.folder) / writer
        for folder in (self._folder.parent, self._folder):
            folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._owner = lock_folder(self._folder, "the ledger")
        self._wanted = threading.Event()
        self._tried = threading.Event()  # to prepare one since the last was taken, with whatever success
        self._closing = self._late = False
        self._older_bytes, self._older_segments = 0, 0
        try:
            self._number, self.sequence, unused = _recover(self._folder)
            self._next = self._prepare(min(settings.segment_bytes, FIRST_SEGMENT_BYTES))
            if self._next is not None:  # else the highest number would be gone with them
                for path in unused:
                    path.unlink()
        except OSError:
            os.close(self._owner)
            raise
        self._thread = threading.Thread(target=self._keep, name="ledger", daemon=True)

    @property
    def older(self) -> tuple[int, int]:
        """Bytes and number of the folder's segments before the one that is written to, as of the last look."""
        return self._older_bytes, self._older_segments

    def start(self) -> None:
        self._thread.start()

    def swap(self, full: Segment | None, written: int) -> Segment | None:
        """Takes the prepared segment in place of a full one. None: there is none, and the full one stays.

        Where the disk is in order and the segment is only late, it is waited for, once: for 0.1 s the loop stands
        still, because what has no segment would be lost to a kill.
        """
        if self._next is None and not self.trouble and not self._late:
            self._tried.wait(LATE_S)
        segment = self._next
        if segment is None:
            self._late = True
            return None
        if full is not None:
            self.retired.append((full, written))
        self._late, self._number = False, segment.number
        self._tried.clear()
        self._next = None  # from here on the thread may prepare the one after
        self._wanted.set()
        return segment

    def close(self, current: Segment | None, written: int) -> None:
        """Ends the thread and lets go of everything. Blocks."""
        self._closing = True
        self._wanted.set()
        self._thread.join()
        if current is not None:
            self.retired.append((current, written))
        self._retire()
        if self._next is not None:
            self._next.mapping.close()
            self._next.discard()
        os.close(self._owner)

    # On the keeper's thread, but for the first `_prepare` and the last `_retire`.

    def _keep(self) -> None:
        while not self._closing:
            self._wanted.clear()
            if self._next is None:
                self._prepare_or_tell()
                self._tried.set()
                self._changed()
            self._retire()
            self._look()
            self._changed()
            self._wanted.wait(LOOK_EVERY_S)

    def _prepare_or_tell(self) -> None:
        try:
            self._next = self._prepare(self._settings.segment_bytes)
        except OSError as error:
            self.trouble = error.strerror or type(error).__name__

    def _prepare(self, size: int) -> Segment | None:
        """The next segment; None for a full disk or the bound, which `trouble` then names. Raises OSError otherwise."""
        own = len(segments_in(self._folder))
        if own >= _OWN_SEGMENTS_MIN and self._kept_bytes() + size > self._settings.keep_bytes:
            self.trouble = f"keep_bytes is reached: {self._settings.keep_bytes} bytes wait for the store"
            return None
        try:
            segment = self._new_segment(size)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            self.trouble = error.strerror or "the disk is full"
            return None
        self.trouble = ""
        return segment

    def _new_segment(self, size: int) -> Segment:
        segment = Segment(self._folder, self._number + 1, size, lasting=self._settings.durable)
        try:
            sync_folder(self._folder)  # its name: no loss of power must make the number be given again
        except OSError:
            segment.mapping.close()
            segment.discard()
            raise
        return segment

    def _kept_bytes(self) -> int:
        """Of the segments of all writers: they share one disk, and one bound."""
        return sum(_size(path) for path in Path(self._settings.folder).glob("*/*.seg"))

    def _retire(self) -> None:
        """Lets go of full segments. A disk that fails costs the trim and the sync: what was copied is in the file."""
        while self.retired:
            segment, written = self.retired[0]
            with self.files:
                try:
                    segment.finish(written, sync=self._settings.durable)
                except OSError as error:
                    self.trouble = error.strerror or type(error).__name__
                del self.retired[0]

    def _look(self) -> None:
        current = self._number
        try:
            found = segments_in(self._folder)
        except OSError as error:
            self.missing = f"{self._folder}: {error.strerror or type(error).__name__}"
            return
        sizes = [_size(path) for number, path in found if number < current]
        self._older_bytes, self._older_segments = sum(sizes), len(sizes)
        # One that was left meanwhile may be in the store, and deleted.
        gone = current > 0 and all(number != current for number, _ in found) and current == self._number
        self.missing = f"{segment_path(self._folder, current)} was removed" if gone else ""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # the bookkeeper was faster
        return 0


def _recover(folder: Path) -> tuple[int, int, list[Path]]:
    """The highest number in the folder, the sequence of its last whole frame, and segments that were never written to.

    Trims the last one that was written to. The unused may go once there is one with a higher number.
    """
    found = segments_in(folder)
    last = found[-1][0] if found else 0
    unused = []
    while found and not is_begun(found[-1][1]):
        unused.append(found.pop()[1])
    for number, path in reversed(found):
        end, sequence = 0, 0
        for each in frames(path.read_bytes()):
            end, sequence = each.end, each.sequence
        if number == found[-1][0]:
            os.truncate(path, end)
        if sequence:
            return last, sequence, unused
    return last, 0, unused
