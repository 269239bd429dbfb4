"""The ledger's hot half: what was answered is in a mapped segment before the last bytes of the answer leave.

The event loop adds each request's record, and commits all of a turn as one frame: an encoding, a checksum and two
copies, no system call. From then on `kill -9` cannot lose it. In durable mode the answer also waits for a sync of the
disk, one for all answers that wait, made by a thread.

While there is no segment to write to (a full disk, a bound that is reached) serving goes on: frames are kept in memory
up to a bound and written when there is room again; beyond it they are counted as lost. Both are told of.
"""

import asyncio
import mmap
import threading
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from router.accounting.entries import FRAME_BYTES, UNENCODABLE, checksum, encode, encode_mended, write_frame
from router.base.segments import SEGMENT_BYTES_MIN, Segment
from router.ledger.segments import SegmentKeeper
from router.ledger.settings import LedgerSettings
from router.ledger.syncing import Syncer
from router.model.outcome import RequestRecord
from router.model.stored import Home

HELD_BYTES_MAX: Final = 8 << 20
"""In memory while there is no segment: some 10,000 requests."""
_PAYLOAD_BYTES_MAX: Final = SEGMENT_BYTES_MIN // 2  # of a frame that is held, unless it is one request's


class Ledger(Protocol):
    """What the rooms above need of a ledger's writer."""

    add: Callable[[RequestRecord | Home], None]
    pending: list[RequestRecord | Home]
    durable: bool
    entries: int
    dropped: int
    held_bytes: int

    def commit(self) -> None: ...

    def when_durable(self, then: Callable[[], None]) -> None: ...

    def close(self) -> None: ...


class NoLedger:
    """Where none is configured."""

    durable = False
    entries, dropped, held_bytes, waiting_bytes, segments, trouble = 0, 0, 0, 0, 0, ""

    def __init__(self) -> None:
        self.pending: list[RequestRecord | Home] = []
        self.add: Callable[[RequestRecord | Home], None] = self._forget

    def _forget(self, record: RequestRecord | Home) -> None: ...

    def commit(self) -> None: ...

    def when_durable(self, then: Callable[[], None]) -> None:
        then()

    def close(self) -> None: ...


class LedgerWriter:
    """One process's part of the ledger. All but `close` is for the loop's thread alone.

    `event` is told of trouble and of its end. Raises OSError where the folder cannot be opened or another process has
    it, ValueError for settings that cannot work; a full disk is no error.
    """

    def __init__(
        self,
        settings: LedgerSettings,
        loop: asyncio.AbstractEventLoop,
        *,
        writer: str = "0",
        event: Callable[..., None],
    ) -> None:
        self.pending: list[RequestRecord | Home] = []
        self.add: Callable[[RequestRecord | Home], None] = self.pending.append  # kept until `commit`
        self.durable = settings.durable
        self.entries = 0  # requests and homes that are in a segment, since the start
        self.dropped = 0  # those that are not, and never will be
        self.held_bytes = 0
        self.event = event
        self._loop = loop
        self._payload_bytes_max = settings.segment_bytes - FRAME_BYTES
        self._held: deque[tuple[bytes, int]] = deque()  # payloads without a segment, and how many requests each has
        self._writing = threading.RLock()  # `close` has a thread of its own, and the keeper's news may come meanwhile
        self._told = ""
        self._keeper = SegmentKeeper(settings, writer, self._news)
        self._sequence = self._keeper.sequence
        self._segment: Segment | None = None
        self._mapping, self._position, self._size = mmap.mmap(-1, mmap.PAGESIZE), 0, 0
        self._syncer = Syncer(self._keeper, loop) if settings.durable else None
        self._closed = False
        self._roll()
        self._keeper.start()

    @property
    def trouble(self) -> str:
        """Why entries are not safe; empty where they are."""
        keeper, syncer = self._keeper, self._syncer
        return keeper.missing or keeper.trouble or (syncer.trouble if syncer is not None else "")

    @property
    def waiting_bytes(self) -> int:
        """In this writer's folder, and not known to be in the store."""
        return self._keeper.older[0] + self._position

    @property
    def segments(self) -> int:
        return self._keeper.older[1] + (self._segment is not None)

    def commit(self) -> None:
        """Returns once all that was added is in the segment. What finds no room is held, or dropped and counted."""
        pending = self.pending
        if not pending:
            return
        try:
            payload = encode(pending)
        except UNENCODABLE:
            payload = encode_mended(pending)
        # As `_append`: a call for each turn would be a tenth of the cost.
        position = self._position
        begin = position + FRAME_BYTES
        end = begin + len(payload)
        if end <= self._size:
            self._sequence = sequence = self._sequence + 1
            mapping = self._mapping
            mapping[begin:end] = payload
            write_frame(mapping, position, len(payload), checksum(payload, sequence), sequence)
            self._position = end
            self.entries += len(pending)
        else:
            self._hold(pending)
            self._write_held()
        pending.clear()

    def when_durable(self, then: Callable[[], None]) -> None:
        """Calls `then` on the loop when all that was committed so far is on the disk; at once where it is already.

        In the order of the calls. Without durable mode a commit is all there is to wait for. What is held in memory,
        and a disk that cannot sync, are trouble, and keep nobody waiting.
        """
        if self._syncer is None:
            then()
        else:
            self._syncer.wait(self._sequence, self._segment, then)

    def close(self) -> None:
        """Writes what is left, and lets go of the folder. Blocks; nothing may be added any more."""
        if self._closed:
            return
        with self._writing:
            self.commit()
            self._write_held()
            self._closed, self._size = True, 0
            if self._held:
                self.dropped += sum(count for _, count in self._held)
                self.event("ledger_trouble", reason=self.trouble or "it ended first", dropped=self.dropped)
            self._held.clear()
            self.held_bytes = 0
        if self._syncer is not None:
            self._syncer.close()
        self._keeper.close(self._segment, self._position)

    def _append(self, payload: bytes, count: int) -> None:
        self._sequence = sequence = self._sequence + 1
        mapping, position = self._mapping, self._position
        begin = position + FRAME_BYTES
        self._position = end = begin + len(payload)
        mapping[begin:end] = payload
        # Last: a frame that a kill has cut short then has no length.
        write_frame(mapping, position, len(payload), checksum(payload, sequence), sequence)
        self.entries += count

    def _hold(self, records: list[RequestRecord | Home]) -> None:
        """Keeps records for a segment to come, in frames that leave room for others."""
        count = len(records)
        try:
            payload = encode(records)
        except UNENCODABLE:
            payload = encode_mended(records)
        if len(payload) > _PAYLOAD_BYTES_MAX and count > 1:
            self._hold(records[: count // 2])
            self._hold(records[count // 2 :])
        elif self._closed or len(payload) > self._payload_bytes_max or self.held_bytes + len(payload) > HELD_BYTES_MAX:
            self.dropped += count
        else:
            self._held.append((payload, count))
            self.held_bytes += len(payload)

    def _write_held(self) -> None:
        """As much as there is room for."""
        held = self._held
        with self._writing:
            while held:
                payload, count = held[0]
                if self._position + FRAME_BYTES + len(payload) <= self._size:
                    held.popleft()
                    self.held_bytes -= len(payload)
                    self._append(payload, count)
                elif not self._roll():
                    break
        self._tell()

    def _roll(self) -> bool:
        """Goes on in the prepared segment, if there is one."""
        segment = self._keeper.swap(self._segment, self._position)
        if segment is None:
            return False
        self._segment, self._mapping, self._position, self._size = segment, segment.mapping, 0, segment.size
        return True

    def _tell(self) -> None:
        trouble = self.trouble
        if trouble != self._told:
            self._told = trouble
            if trouble:
                self.event("ledger_trouble", reason=trouble)
            else:
                self.event("ledger_recovered", dropped=self.dropped)

    def _news(self) -> None:
        """On the keeper's thread: there may be a segment, or none."""
        if not self._closed:
            self._loop.call_soon_threadsafe(self._write_held)
