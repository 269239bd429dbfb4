"""The form of the decision log: how records are chained, and how a reader finds what was done to them since.

A segment is a file of lines; what a process has not written yet is zero bytes. A line is

    <sequence> <record as a JSON array> <hash>

and its hash, in hex, is the SHA-256 of the hash of the line before, a newline, and the line's own text up to and with
the space before its hash: in a segment, these are bytes that stand side by side. The first line of a segment is a
`Header`, which says the hash that it goes on from. Lines of text, because `grep`, `jq` and `sha256sum` then read the
log without us; a frame with binary lengths would save 70 bytes a record, and no time that could be measured.

Knows nothing of files, clocks and keys: it is handed bytes and what was anchored.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

import msgspec

from router.model.decision import Decision, Leave

FORMAT: Final = 1
ORIGIN: Final = b"0" * 64
"""The hash before the first line of a chain."""
FRAME_BYTES_MAX: Final = 20 + 1 + 1 + 64 + 1
"""What a line has beside its record: sequence, two spaces, hash, newline."""

_LINE: Final = re.compile(rb"(\d{1,20}) ([^\0\n]+) ([0-9a-f]{64})")
_TORN_BYTES_MAX: Final = 1 << 20


class Header(msgspec.Struct, frozen=True, array_like=True, tag="segment"):
    """The first record of a segment: what it goes on from."""

    format: int
    writer: str
    segment: int
    at: float  # wall seconds
    previous_segment: int  # 0: there was none
    previous_sequence: int
    previous_hash: str
    torn_bytes: int = 0  # how much of an unfinished record the segment before ends with, and ...
    torn_sha256: str = ""  # ... which bytes, so that they cannot be changed afterwards either


class Event(msgspec.Struct, frozen=True, array_like=True, tag="event"):
    """What a reader has to know beside the requests: configurations, drops, deletions, the end of a process."""

    event: str
    at: float  # wall seconds
    fields: dict[str, object]


Record = Header | Event | Leave | Decision


class Chain:
    """Where a chain stands: the last line's sequence and hash (in hex)."""

    __slots__ = ("_before", "sequence")

    def __init__(self, sequence: int = 0, head: bytes = ORIGIN) -> None:
        self.sequence = sequence
        self._before = head + b"\n"  # what the next line's hash goes on from

    @property
    def head(self) -> bytes:
        return self._before[:-1]

    def seal(self, payload: bytes) -> bytes:
        """The next line, whole, for a record in JSON. Called for each request, so it allocates little."""
        self.sequence = sequence = self.sequence + 1
        text = b"%d %b " % (sequence, payload)
        self._before = end = hashlib.sha256(self._before + text).hexdigest().encode() + b"\n"
        return text + end


class End(msgspec.Struct, frozen=True):
    """Where the written part of a segment ends."""

    offset: int  # behind the last whole line
    sequence: int  # of that line; 0 where there is none
    hash: bytes
    left: bytes  # what stands behind it: nothing, a torn record, or damage

    @property
    def torn(self) -> bool:
        """Whether `left` is what a process that was killed leaves: a part of one record, the rest of it still zero."""
        if len(self.left) > _TORN_BYTES_MAX or b"\n" in self.left[:-1]:
            return False
        return b"\0" in self.left or not self.left.endswith(b"\n")


def end_of(data: bytes) -> End:
    """Finds the end of a segment's lines, without a look at any but the last."""
    written = data.rstrip(b"\0")
    end = len(written)
    while (stop := written.rfind(b"\n", 0, end)) >= 0:
        start = written.rfind(b"\n", 0, stop) + 1
        if match := _LINE.fullmatch(written, start, stop):
            return End(stop + 1, int(match[1]), match[3], written[stop + 1 :])
        end = stop
    return End(0, 0, b"", written)


class Finding(msgspec.Struct, frozen=True):
    """Something that a log which nobody touched would not have, and the place where it shows.

    `kind`: `changed`, `missing` (removed, cut off, or a segment that is gone), `out_of_order` (inserted, repeated,
    moved), `segment` (a segment that is not what its name or its successor says), `damaged` (bytes that are no
    record), `anchor` (another record than the anchored one: rewritten since).
    """

    kind: str
    text: str
    segment: int
    offset: int  # bytes from the segment's start
    sequence: int  # of the first record that is concerned


class Verifier:
    """Reads the segments of one writer in order, yields the records and gathers `findings`.

    `anchors`: by sequence, the hash (hex) that was anchored. `segment` for each file, then `finish`.
    A reader that only wants the records takes them all the same: damage is found, reading goes on behind it.
    """

    def __init__(self, writer: str, anchors: Mapping[int, str] | None = None) -> None:
        self.findings: list[Finding] = []
        self.number, self.offset = 0, 0  # the segment, and the place in it, of the line that is read
        self.first_segment, self.last_segment = 0, 0
        self.first_sequence, self.sequence = 0, 0  # of the lines that were read
        self.torn_bytes = 0  # behind the last record of all
        self.records = 0
        self.deleted_through = 0  # the last segment that the log itself says was deleted to keep within its bound
        self._writer = writer
        self._anchors = {sequence: anchored.encode() for sequence, anchored in (anchors or {}).items()}
        self._anchored, self._rewritten = 0, False
        self._hashes: tuple[bytes, ...] = ()  # of the line before, as stored and as it should be; none: not known
        self._left = End(0, 0, b"", b"")  # what the segment before ended with
        self._decode: Callable[[bytes], Record] = msgspec.json.Decoder(Record).decode

    def segment(self, number: int, data: bytes) -> Iterator[Record]:
        """The records of one segment file. `number`: by the file's name."""
        end = end_of(data)
        if not end.offset and not end.left:
            return  # prepared and not used; anywhere but at the end, it will be missed
        self.number, self.offset = number, 0
        if self.last_segment and number != self.last_segment + 1:
            self._find("missing", _missing_segments(self.last_segment + 1, number - 1), self.sequence + 1)
        self.first_segment = self.first_segment or number
        self.last_segment = number
        if end.offset:
            lines = data[: end.offset].split(b"\n")
            lines.pop()
            yield from self._lines(lines)
        elif self._left.left:
            self._find("damaged", "two segments in a row end with bytes that are no record", self.sequence)
        self.offset = end.offset
        if end.left and not end.torn:
            self._find("damaged", f"{len(end.left)} bytes that are no record", self.sequence + 1)
        self._left = end

    def _lines(self, lines: Iterable[bytes]) -> Iterator[Record]:
        expects_header = True
        for line in lines:
            record = self._line(line)
            if expects_header:
                expects_header = False
                self._check_header(record)
            elif isinstance(record, Header):
                self._find("out_of_order", "a segment's header in the middle of a segment", self.sequence)
            if record is not None:
                yield record
            self.offset += len(line) + 1

    def _line(self, line: bytes) -> Record | None:
        """Checks a line against the one before. None where it is no record."""
        self.records += 1
        try:
            sequence = int(line[: line.index(b" ")])
            payload = line[line.index(b" ") + 1 : -65]
            record = self._decode(payload)
        except (ValueError, RecursionError):  # msgspec's errors are ValueErrors, too
            self._find("changed", "a line that is no record", self.sequence + 1)
            self.sequence += 1
            self._hashes = (line[-64:],)
            return None
        stored, text = line[-64:], line[:-64]
        if not self.first_sequence:
            self.sequence = record.previous_sequence if type(record) is Header else sequence - 1
            self.first_sequence = self.sequence + 1
        if type(record) is Header and not self._hashes:
            self._hashes = (record.previous_hash.encode(errors="replace"),)
        if sequence == self.sequence + 1 and self._hashes and stored == _hash(self._hashes[0], text):
            self.sequence = sequence  # nearly always
            self._hashes = (stored,)
        else:
            self._examine(sequence, stored, text)
        if sequence in self._anchors:
            self._check_anchor(sequence, stored)
        if type(record) is Event and record.event == "segments_deleted":
            through = record.fields.get("through")
            self.deleted_through = max(self.deleted_through, through if isinstance(through, int) else 0)
        return record

    def _examine(self, sequence: int, stored: bytes, text: bytes) -> None:
        """A line that does not follow from the one before: says how."""
        follows = not self._hashes or any(stored == _hash(before, text) for before in self._hashes)
        numbered = b"%d%b" % (self.sequence + 1, text[text.index(b" ") :])
        if any(stored == _hash(before, numbered) for before in self._hashes) and not follows:
            self.sequence += 1
            self._find("changed", f"record {self.sequence} has another sequence written over its own", self.sequence)
            self._hashes = (stored,)
            return
        if sequence <= self.sequence:
            self._find("out_of_order", f"record {sequence} behind record {self.sequence}", sequence)
            # The line after it may well follow from the one before it.
            self._hashes = (*self._hashes[:1], stored)
            return
        if sequence > self.sequence + 1:
            self._find("missing", _missing_records(self.sequence + 1, sequence - 1), self.sequence + 1)
        elif not follows:
            self._find("changed", f"record {sequence} is not what was written", sequence)
        before, self.sequence = self._hashes, sequence
        # Where only the stored hash was changed, the next line follows from what it should have been.
        self._hashes = (stored, *(_hash(each, text) for each in before))

    def _check_header(self, record: Record | None) -> None:
        if not isinstance(record, Header):
            if record is not None:
                self._find("segment", "the segment does not begin with a header", self.sequence)
            return
        if record.format != FORMAT:
            self._find("segment", f"a segment of format {record.format}, and only {FORMAT} is known", self.sequence)
        if record.segment != self.number:
            text = f"the file's name says segment {self.number}, its header {record.segment}"
            self._find("segment", text, self.sequence)
        if record.writer != self._writer:
            self._find("segment", f"a segment of writer {record.writer}, in a chain of {self._writer}", self.sequence)
        left = self._left.left
        if left and (record.torn_bytes, record.torn_sha256) != (len(left), hashlib.sha256(left).hexdigest()):
            text = f"segment {self.number - 1} ends with {len(left)} bytes that were not there when it ended"
            self._find("damaged", text, self.sequence)
        elif not left and record.torn_bytes and self.first_segment != self.number:
            text = f"the torn record that segment {self.number - 1} ended with is gone"
            self._find("damaged", text, self.sequence)

    def _check_anchor(self, sequence: int, stored: bytes) -> None:
        if stored == self._anchors[sequence]:
            self._anchored, self._rewritten = max(self._anchored, sequence), False
        elif not self._rewritten:
            self._rewritten = True  # each anchor after it disagrees as well
            text = f"record {sequence} is not the anchored one: rewritten somewhere in {self._anchored + 1}..{sequence}"
            self._find("anchor", text, sequence)

    def finish(self) -> None:
        """What only the end shows: a log that was cut short, and segments that nobody says were deleted."""
        self.number, self.offset = self.last_segment, self._left.offset
        self.torn_bytes = len(self._left.left) if self._left.torn else 0
        last = max(self._anchors, default=0)
        if last > self.sequence:
            text = f"the log ends with record {self.sequence}, but record {last} was anchored"
            self._find("missing", text, self.sequence + 1)
        if self.first_segment > self.deleted_through + 1:
            self.number, self.offset = self.first_segment, 0
            text = _missing_segments(self.deleted_through + 1, self.first_segment - 1)
            self._find("missing", f"{text}, and no record says that they were deleted", 0)

    def unanchored(self) -> int:
        """How many records stand behind the last anchor that agrees: changes to these may go unnoticed."""
        return self.sequence - max(self._anchored, self.first_sequence - 1)

    @property
    def anchored(self) -> int:
        """The last sequence that an anchor agrees with; 0: none."""
        return self._anchored

    def _find(self, kind: str, text: str, sequence: int) -> None:
        self.findings.append(Finding(kind, text, self.number, self.offset, sequence))


def _hash(before: bytes, text: bytes) -> bytes:
    return hashlib.sha256(before + b"\n" + text).hexdigest().encode()


def _missing_segments(first: int, last: int) -> str:
    return f"segment {first} is missing" if first == last else f"segments {first} to {last} are missing"


def _missing_records(first: int, last: int) -> str:
    return f"record {first} is missing" if first == last else f"records {first} to {last} are missing"
