"""From the segments into the store: reads on where the store says that it is, and deletes what is in it whole.

A segment's writer may still write to it: a frame that is not whole yet is looked at again later. Nothing is kept here
that a kill could lose, since entries and the place that they were read up to are written in one transaction. Where that
place is lost, or a segment comes back from a copy, ids keep its entries from being counted twice.
"""

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Final

import msgspec

from router.accounting.entries import decode_all, frames
from router.base.segments import lock_folder, segments_in, sync_folder, written_segments
from router.ledger.store import Position, Store
from router.model.outcome import RequestRecord
from router.model.stored import Home

READ_BYTES: Final = 2 << 20  # some 4,000 requests: a transaction takes a tenth of a second, memory some 30 MB
_IDENTITY: Final = "identity"
_PAGE_BYTES: Final = 4096


class Drain:
    """Of one folder of segments, with one for each writer below it. Raises OSError where another process drains it."""

    def __init__(self, folder: Path, store: Store, event: Callable[..., None]) -> None:
        self.stored = 0  # requests and homes
        self.damaged = 0  # segments that were set aside
        self.moved_at = monotonic()  # the last time that something was asked of the store, or done
        self.event = event
        self._folder, self._store = folder, store
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._owner = lock_folder(folder, "the store from the segments")
        self._places: dict[Path, Position] = {}  # by the writer's folder, once the store has been asked
        self._whole_at = monotonic()

    @property
    def lag_s(self) -> float:
        """How long ago all that there was by then was in the store."""
        return monotonic() - self._whole_at

    def close(self) -> None:
        os.close(self._owner)

    async def run_once(self) -> int:
        """Stores what is there, a transaction at a time; returns how many requests. Raises StoreError, OSError."""
        began, stored = monotonic(), self.stored
        self.moved_at = began
        for folder in self._writers():
            await self._drain(folder)
        self._whole_at = began
        return self.stored - stored

    def waiting_bytes(self) -> int:
        """Of segments that are not in the store; to a page, of those that are written to. Raises OSError."""
        waiting = 0
        for folder in self._writers():
            place = self._places.get(folder, Position("", 0, 0))
            for number, path in segments_in(folder):
                if number >= place.segment:
                    waiting += max(0, _written_bytes(path) - place.bytes * (number == place.segment))
        return waiting

    def _writers(self) -> list[Path]:
        return sorted(path for path in self._folder.iterdir() if path.is_dir())

    async def _drain(self, folder: Path) -> None:
        """All that one writer had written when this was called."""
        found = written_segments(folder)
        if not found:
            return
        writer = _identity_of(folder)
        if folder not in self._places or self._places[folder].writer != writer:
            self._places[folder] = await self._store.position(writer)
        for number, path in found:
            place = self._places[folder]
            # One before that is there again, or still: its entries are most likely known. A store that says so is sure.
            start = place.bytes if number == place.segment else 0
            end = await self._drain_segment(path, number, start)
            if number != found[-1][0]:  # the newest is never deleted: its writer goes on from its number
                self._finish(path, end)

    async def _drain_segment(self, path: Path, number: int, start: int) -> int:
        """Returns the offset behind the last frame that is whole."""
        folder = path.parent
        with path.open("rb") as file:
            while True:
                length, records, homes = self._read(path, file.fileno(), start)
                if not length:
                    return start
                start += length
                place = self._places[folder]
                if (number, start) > (place.segment, place.bytes):
                    place = Position(place.writer, number, start)
                self.moved_at = monotonic()
                self.stored += await self._store.add(records, place, homes)
                self._places[folder], self.moved_at = place, monotonic()
                if length < READ_BYTES // 2:  # whoever writes to it is not far ahead: the others have their turn
                    return start

    def _read(self, path: Path, fd: int, start: int) -> tuple[int, list[RequestRecord], list[Home]]:
        """The whole frames from an offset on: their bytes, and what they hold. 0 where there is none."""
        size = READ_BYTES
        while True:
            data = os.pread(fd, size, start)
            end = 0
            records: list[RequestRecord] = []
            homes: list[Home] = []
            for frame in frames(data):
                try:
                    of_frame = decode_all(frame.payload)
                except msgspec.MsgspecError:  # whole, and of a router that writes otherwise: the others must go on
                    self._set_aside(path, start + end, data[end : frame.end])
                else:
                    records += of_frame[0]
                    homes += of_frame[1]
                end = frame.end
            if end or len(data) < size:
                return end, records, homes
            size *= 2  # a frame that is longer than that

    def _set_aside(self, path: Path, position: int, data: bytes) -> None:
        kept = path.with_name(f"{path.stem}-{position}.damaged")
        kept.write_bytes(data)
        self._tell_damaged(kept, position, len(data))

    def _tell_damaged(self, kept: Path, position: int, size: int) -> None:
        self.damaged += 1
        self.event("ledger_segment_damaged", file=str(kept), position=position, bytes=size)

    def _finish(self, path: Path, end: int) -> None:
        """Deletes a segment that nobody writes to any more, unless there is more in it than could be read."""
        with path.open("rb") as file:
            file.seek(end)
            left = file.read().rstrip(b"\0")
        if not left:
            path.unlink()
            return
        kept = path.rename(path.with_suffix(".damaged"))
        self._tell_damaged(kept, end, len(left))


def _written_bytes(path: Path) -> int:
    """Without the zero bytes that wait to be written over. 0: the segment is gone."""
    try:
        with path.open("rb") as file:
            fd, size = file.fileno(), os.fstat(file.fileno()).st_size
            low, high = 0, -(-size // _PAGE_BYTES)  # pages below `low` are written, those from `high` on are not
            while low < high:
                middle = (low + high) // 2
                if any(os.pread(fd, _PAGE_BYTES, middle * _PAGE_BYTES)):
                    low = middle + 1
                else:
                    high = middle
            return min(low * _PAGE_BYTES, size)
    except FileNotFoundError:
        return 0


def _identity_of(folder: Path) -> str:
    """Of a writer's folder, among all that are drained into one store; made at the first call.

    Writers of other machines have the same names, and one that lost its disk begins anew at the same numbers.
    """
    path = folder / _IDENTITY
    if path.exists() and (known := path.read_text(encoding="utf-8")):
        return known
    identity = f"{folder.name}-{secrets.token_hex(8)}"
    made = path.with_suffix(".new")
    with made.open("w", encoding="utf-8") as file:
        file.write(identity)
        file.flush()
        os.fsync(file.fileno())  # else a loss of power may leave it empty, as that of other routers
    made.rename(path)
    sync_folder(folder)
    return identity
