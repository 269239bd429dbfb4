"""The decision log's writer: chained records, straight into memory that the kernel keeps when this process is killed.

A segment is a file, mapped shared. A record is encoded, sealed and copied into the mapping: no system call, and
whatever `kill -9` leaves is in the page cache of the machine and so in the file. It is not on the disk yet: a machine
that loses its power keeps what was synced, and an anchor is written only for what was.

A thread, the keeper, does all that may block: it reserves the blocks of the next segment ahead (a full disk shows
there, not as SIGBUS in a copy), syncs and trims the one before, and deletes the oldest beyond the bound. While there
is no segment to go on in, records are dropped and counted; the chain says from when, how many and until when.
"""

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import msgspec

from router.accounting.chain import FORMAT, FRAME_BYTES_MAX, ORIGIN, Chain, End, Event, Header, Record, end_of
from router.base.clock import Clock, SystemClock
from router.base.segments import Segment, check_segments, lock_folder, segments_in
from router.model.decision import Decision, Leave
from router.telemetry.anchors import AnchorFile, load_signing_key

CONFIGURATION: Final = "configuration"
"""The event that is written again at the start of each segment, since the one that has it may be deleted."""
ANCHORS_NAME: Final = "anchors.jsonl"
FIRST_SEGMENT_BYTES: Final = 8 << 20  # of each start: some seconds' worth
RETRY_S: Final = 1.0
# At a segment's end, for what the log has to say of itself when no record fits any more.
_RESERVE_BYTES: Final = 1 << 10
# A longer record than this share of a segment is dropped: what begins a segment must leave room for one.
_RECORDS_A_SEGMENT_MIN: Final = 4


@dataclass(frozen=True, slots=True)
class DecisionLogSettings:
    """Where decisions are written to. `folder` gets a folder for each writer, that is each worker.

    `anchors`: a file, best on another machine's disk or append-only; None: `anchors.jsonl` in `folder`.
    `signing_key`: an Ed25519 private key in PEM; None: anchors are not signed.
    """

    folder: str
    segment_bytes: int = 64 << 20
    keep_bytes: int = 1 << 30
    anchors: str | None = None
    anchor_every_s: float = 10.0
    signing_key: str | None = None


class DecisionSink(Protocol):
    """What the rooms above need of a decision log."""

    def write(self, record: Leave | Decision) -> bool: ...

    def write_event(self, event: str, /, **fields: object) -> None: ...

    def anchor(self) -> None: ...

    def close(self) -> None: ...


class NoDecisionLog:
    """Where none is configured."""

    sequence, head, dropped, unsynced_bytes = 0, ORIGIN, 0, 0

    def write(self, record: Leave | Decision) -> bool:  # noqa: ARG002 - as the log's
        return False  # nothing may be sent by what was not recorded

    def write_event(self, event: str, /, **fields: object) -> None: ...

    def anchor(self) -> None: ...

    def close(self) -> None: ...


class DecisionLog:
    """Writes one chain, and goes on where the last process with the same folder and writer ended.

    `write` and `write_event` never block on a disk and never raise for a full one. May be called from any thread.
    Raises OSError where the folder or the anchors cannot be written, ValueError for settings that cannot work.
    """

    def __init__(self, settings: DecisionLogSettings, *, clock: Clock | None = None, writer: str = "0") -> None:
        _check(settings, writer)
        self.dropped = 0  # records, since the start
        self._settings, self._clock, self._name = settings, clock or SystemClock(), writer
        self._folder = Path(settings.folder) / writer
        self._folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        key = load_signing_key(settings.signing_key) if settings.signing_key is not None else None
        self._anchors = AnchorFile(anchors_path(settings), key)
        self._owner = lock_folder(self._folder, "the decision log")
        self._encoder = msgspec.json.Encoder(enc_hook=_name_of_type)
        self._encode: Callable[[Record], bytes] = self._encoder.encode
        self._lock = threading.Lock()  # held for an append: nothing in it waits for a disk
        self._files = threading.Lock()  # held while files are synced, trimmed or deleted
        self._configuration = b""
        self._missed, self._missed_since = 0, 0.0
        self._retired: list[tuple[Segment, int]] = []  # full ones and how much of them is written, for the keeper
        self._next: Segment | None = None
        self._anchored = 0
        self._closing = False
        try:
            number, end = _recover(self._folder)
            # A small one, since a start waits for it; the keeper makes the next one meanwhile.
            segment = Segment(self._folder, number + 1, min(settings.segment_bytes, FIRST_SEGMENT_BYTES))
        except OSError:
            os.close(self._owner)
            raise
        self._chain = Chain(end.sequence, end.hash or ORIGIN)
        self._segment, self._mapping, self._position = segment, segment.mapping, 0
        self._limit = _limit(segment)
        self._synced = (segment.number, 0)  # all before this place is on the disk
        self._begin(end)
        self._wanted = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="decision-log", daemon=True)
        self._keeper.start()

    @property
    def sequence(self) -> int:
        """Of the last record."""
        return self._chain.sequence

    @property
    def head(self) -> bytes:
        """The hash of the last record, in hex."""
        return self._chain.head

    @property
    def unsynced_bytes(self) -> int:
        """Written, and not known to be on the disk yet: what a machine that loses its power may lose."""
        with self._lock:
            number, position = self._synced
            ends = {segment.number: written for segment, written in self._retired}
            ends[self._segment.number] = self._position
        return sum(end - (position if each == number else 0) for each, end in ends.items() if each >= number)

    def write(self, record: Leave | Decision) -> bool:
        """Chains a record. Whoever permits a send by it may send when this returns True; False: it was dropped."""
        try:
            payload = self._encode(record)
        except UnicodeEncodeError:
            payload = _replaced(record)
        with self._lock:
            position = self._position
            if position + len(payload) > self._limit:
                return self._write_into_next(payload)
            line = self._chain.seal(payload)
            self._position = end = position + len(line)
            self._mapping[position:end] = line
        return True

    def write_event(self, event: str, /, **fields: object) -> None:
        """Chains what a reader must know. The last `configuration` is repeated in each segment."""
        payload = self._event(event, fields)
        with self._lock:
            if event == CONFIGURATION and len(payload) <= self._segment.size // _RECORDS_A_SEGMENT_MIN:
                self._configuration = payload
            if self._position + len(payload) > self._limit:
                self._write_into_next(payload)
            else:
                self._append(payload)

    def anchor(self) -> None:
        """Syncs what was written and anchors the last of it, if it is new. Blocks. Raises OSError."""
        with self._files:
            with self._lock:
                sequence, head = self._chain.sequence, self._chain.head
                end = (self._segment.number, self._position)
                fds = [segment.fd for segment, _ in self._retired]
                fds.append(self._segment.fd)
            if sequence == self._anchored:
                return
            for fd in fds:
                os.fdatasync(fd)  # on Linux, that includes the pages of a shared mapping
            self._synced = end
            self._anchors.append(self._name, sequence, head, self._clock.wall())
            self._anchored = sequence

    def close(self) -> None:
        """Says that the log ends here, and anchors it. Blocks. Raises OSError where the last anchor cannot be."""
        if self._closing:
            return
        self._closing = True
        self._wanted.set()
        self._keeper.join()
        try:
            with self._lock:
                self._tell_missed()
                self._append_own(self._event("closed", {"dropped": self.dropped}))
                self._limit = -1  # what comes now is dropped
            self.anchor()
        finally:
            for segment, written in (*self._retired, (self._segment, self._position)):
                self._retire(segment, written)
            if self._next is not None:
                self._next.mapping.close()
                self._next.discard()
            os.close(self._owner)

    # Under `_lock`.

    def _begin(self, end: End) -> None:
        """Begins the segment. `end`: of the one before, as it was found."""
        header = Header(
            format=FORMAT,
            writer=self._name,
            segment=self._segment.number,
            at=self._clock.wall(),
            previous_segment=self._segment.number - 1,
            previous_sequence=self._chain.sequence,
            previous_hash=self._chain.head.decode(),
            torn_bytes=len(end.left),
            torn_sha256=hashlib.sha256(end.left).hexdigest() if end.left else "",
        )
        self._append(self._encode(header))

    def _append(self, payload: bytes) -> None:
        line = self._chain.seal(payload)
        position = self._position
        self._position = end = position + len(line)
        self._mapping[position:end] = line

    def _append_own(self, payload: bytes) -> bool:
        """What the log says of itself may use the reserve."""
        if self._position + len(payload) + FRAME_BYTES_MAX > self._segment.size:
            return False
        self._append(payload)
        return True

    def _write_into_next(self, payload: bytes) -> bool:
        """For a record that has no room in this segment: rolls if the next one is prepared, else drops it."""
        if self._closing:
            self.dropped += 1
            return False
        if self._next is not None and len(payload) <= self._next.size // _RECORDS_A_SEGMENT_MIN:
            self._roll(self._next)
            if payload is not self._configuration:
                self._append(payload)
            return True
        self.dropped += 1
        self._missed += 1
        if self._missed == 1:
            self._missed_since = self._clock.wall()
            self._append_own(self._event("records_dropping", {}))
        return False

    def _roll(self, segment: Segment) -> None:
        """Goes on in the prepared segment."""
        self._retired.append((self._segment, self._position))
        self._next = None
        self._segment, self._mapping, self._position = segment, segment.mapping, 0
        self._limit = _limit(segment)
        self._begin(_WHOLE)
        self._tell_missed()
        if self._configuration:
            self._append(self._configuration)
        self._wanted.set()

    def _tell_missed(self) -> None:
        if self._missed:
            fields: dict[str, object] = {"records": self._missed, "since": self._missed_since}
            if self._append_own(self._event("records_dropped", fields)):
                self._missed = 0

    def _event(self, event: str, fields: dict[str, object]) -> bytes:
        record = Event(event, self._clock.wall(), fields)
        try:
            return self._encode(record)
        except UnicodeEncodeError:
            return _replaced(record)

    # All that follows runs on the keeper's thread, `_retire` also at the end.

    def _keep(self) -> None:
        while True:
            self._wanted.clear()
            if self._closing:
                return
            prepared = self._next is not None or self._prepare()
            for segment, written in tuple(self._retired):
                self._retire(segment, written)
            self._wanted.wait(None if prepared else RETRY_S)

    def _retire(self, segment: Segment, written: int) -> None:
        """Syncs, trims and lets go. A disk that fails costs the sync: the file is as long as it was, and whole."""
        with self._files:
            with contextlib.suppress(OSError):
                segment.finish(written)
            with self._lock:
                self._retired = [pair for pair in self._retired if pair[0] is not segment]

    def _prepare(self) -> bool:
        """Makes room and the next segment; False where the disk does not have it."""
        try:
            self._prune()
            segment = Segment(self._folder, self._segment.number + 1, self._settings.segment_bytes)
        except OSError:
            return False
        with self._lock:
            self._next = segment
        return True

    def _prune(self) -> None:
        """Deletes the oldest segments beyond the bound, once the chain says so."""
        with self._files:
            found = [(number, path, path.stat().st_size) for number, path in segments_in(self._folder)]
            excess = sum(size for _, _, size in found) + self._settings.segment_bytes - self._settings.keep_bytes
            doomed = []
            for number, path, size in found:
                if excess <= 0 or number >= self._segment.number - len(self._retired):
                    break
                doomed.append((number, path))
                excess -= size
            if not doomed:
                return
            with self._lock:
                if not self._append_own(self._event("segments_deleted", {"through": doomed[-1][0]})):
                    return
            for _, path in doomed:
                path.unlink(missing_ok=True)


def _limit(segment: Segment) -> int:
    """The length of a record's JSON up to which a line is sure to end before the reserve, from position 0."""
    return segment.size - _RESERVE_BYTES - FRAME_BYTES_MAX


_WHOLE: Final = End(0, 0, b"", b"")


def anchors_path(settings: DecisionLogSettings) -> str:
    """The anchors file of these settings."""
    return settings.anchors if settings.anchors is not None else str(Path(settings.folder) / ANCHORS_NAME)


def _check(settings: DecisionLogSettings, writer: str) -> None:
    check_segments(writer, settings.segment_bytes, settings.keep_bytes)
    if settings.anchor_every_s <= 0:
        raise ValueError(f"anchor_every_s is {settings.anchor_every_s}: more than 0")


def _recover(folder: Path) -> tuple[int, End]:
    """The last segment that was written to, and where the chain ended. Deletes what was prepared and never used."""
    found = segments_in(folder)
    last, left = 0, None
    while found:
        number, path = found.pop()
        end = end_of(path.read_bytes())
        if not end.offset and not end.left:
            path.unlink()
            continue
        os.truncate(path, end.offset + len(end.left))
        last, left = last or number, end.left if left is None else left
        if end.offset:
            return last, End(end.offset, end.sequence, end.hash, left)
    return last, End(0, 0, b"", left or b"")


def _replaced(record: Record) -> bytes:
    """JSON with `?` for lone surrogates, which UTF-8 has no bytes for."""
    plain = msgspec.to_builtins(record, enc_hook=_name_of_type)
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _name_of_type(value: object) -> str:
    return type(value).__name__
