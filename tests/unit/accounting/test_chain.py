"""The chain of the decision log: an untouched one verifies, and whatever is done to one shows where it was done."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.accounting.chain import ORIGIN, Chain, Event, Finding, Header, Record, Verifier, end_of
from router.model.decision import Decision, Offer

OFFERS = (Offer("azure-1/ptu", "azure", "throttled"), Offer("azure-2/std", "azure", "accepted"))


def decision(number: int) -> Decision:
    return Decision(
        f"r{number}",
        10.0 + number,
        "acme",
        "api",
        "gpt-4o",
        "chat",
        "exclusive:azure",
        "v1",
        OFFERS,
        "x",
        "azure",
        "ok",
    )


@dataclass
class Log:
    """Segments as they would be on a disk, and the chain that wrote them."""

    segments: dict[int, bytes] = field(default_factory=dict)
    chain: Chain = field(default_factory=Chain)
    hashes: dict[int, str] = field(default_factory=dict)

    def begin(self, **changes: object) -> None:
        number = len(self.segments) + 1
        fields: dict[str, object] = {
            "format": 1,
            "writer": "0",
            "segment": number,
            "at": 1.0,
            "previous_segment": number - 1,
            "previous_sequence": self.chain.sequence,
            "previous_hash": self.chain.head.decode(),
        }
        self.segments[number] = b""
        self.write(Header(**{**fields, **changes}))  # type: ignore[arg-type]

    def write(self, record: Record) -> None:
        self.segments[max(self.segments)] += self.chain.seal(msgspec.json.encode(record))
        self.hashes[self.chain.sequence] = self.chain.head.decode()

    def lines(self) -> list[tuple[int, int, bytes]]:
        """Segment, offset and bytes of each line."""
        found = []
        for number, data in self.segments.items():
            offset = 0
            for line in data.splitlines(keepends=True):
                found.append((number, offset, line))
                offset += len(line)
        return found

    def put(self, lines: list[tuple[int, int, bytes]]) -> None:
        self.segments = {
            number: b"".join(line for each, _, line in lines if each == number) for number in self.segments
        }


def log_of(*sizes: int) -> Log:
    """A segment for each size, with that many decisions behind its header."""
    log = Log()
    for size in sizes:
        log.begin()
        for _ in range(size):
            log.write(decision(log.chain.sequence))
    return log


def verify(log: Log, anchors: dict[int, str] | None = None) -> Verifier:
    verifier = Verifier("0", anchors)
    for number in sorted(log.segments):
        for _ in verifier.segment(number, log.segments[number]):
            pass
    verifier.finish()
    return verifier


def findings(log: Log, anchors: dict[int, str] | None = None) -> list[Finding]:
    return verify(log, anchors).findings


@st.composite
def anchored_logs(draw: st.DrawFn) -> tuple[Log, dict[int, str], int]:
    """A log, its anchors, and the last anchored sequence (at least the fourth record)."""
    log = log_of(*draw(st.lists(st.integers(1, 5), min_size=2, max_size=4)))
    last = draw(st.integers(4, log.chain.sequence))
    sequences = {last, *draw(st.lists(st.integers(1, last), max_size=3))}
    return log, {sequence: log.hashes[sequence] for sequence in sequences}, last


@given(anchored_logs())
def test_an_untouched_log_verifies_and_states_its_tail(made: tuple[Log, dict[int, str], int]) -> None:
    log, anchors, last = made
    verifier = verify(log, anchors)

    assert verifier.findings == []
    assert (verifier.first_sequence, verifier.sequence) == (1, log.chain.sequence)
    assert verifier.anchored == last
    assert verifier.unanchored() == log.chain.sequence - last


@settings(max_examples=300)
@given(anchored_logs(), st.data())
def test_a_flipped_bit_is_found_at_its_record(made: tuple[Log, dict[int, str], int], data: st.DataObject) -> None:
    log, anchors, last = made
    index = data.draw(st.integers(0, last - 1))
    number, offset, line = log.lines()[index]
    at = data.draw(st.integers(0, len(line) - 1))
    bit = 1 << data.draw(st.integers(0, 7))
    changed = bytearray(log.segments[number])
    changed[offset + at] ^= bit
    log.segments[number] = bytes(changed)

    found = findings(log, anchors)
    assert found
    # A newline that is gone, or one that was not there, moves the break to the end of the record or behind it.
    assert found[0].sequence in (index + 1, index + 2)
    if found[0].segment == number:
        assert offset <= found[0].offset <= offset + len(line)


@given(anchored_logs(), st.data())
def test_a_removed_record_is_missed(made: tuple[Log, dict[int, str], int], data: st.DataObject) -> None:
    log, anchors, last = made
    lines = log.lines()
    index = data.draw(st.integers(0, last - 1))
    log.put([*lines[:index], *lines[index + 1 :]])

    found = findings(log, anchors)
    assert any(each.kind in ("missing", "segment", "changed") and each.sequence <= index + 2 for each in found)


@given(anchored_logs(), st.data())
def test_a_record_that_stands_twice_or_elsewhere_is_found(
    made: tuple[Log, dict[int, str], int], data: st.DataObject
) -> None:
    log, anchors, last = made
    lines = log.lines()
    source = data.draw(st.integers(0, last - 1))
    target = data.draw(st.integers(0, last - 1).filter(lambda index: index != source))
    if data.draw(st.booleans(), label="swap"):
        lines[source], lines[target] = (
            (*lines[source][:2], lines[target][2]),
            (*lines[target][:2], lines[source][2]),
        )
        expected = {min(source, target) + 1, max(source, target) + 1}
    else:
        lines.insert(target, (*lines[target][:2], lines[source][2]))
        expected = {target, target + 1, source + 1}
    log.put(lines)

    found = findings(log, anchors)
    assert found
    assert found[0].sequence in expected | {min(expected) + 1}


@given(anchored_logs(), st.data())
def test_an_inserted_record_is_found_however_well_it_is_forged(
    made: tuple[Log, dict[int, str], int], data: st.DataObject
) -> None:
    log, anchors, last = made
    lines = log.lines()
    index = data.draw(st.integers(1, last - 1))
    before = lines[index - 1][2][-65:-1]
    forged = Chain(index, before).seal(msgspec.json.encode(decision(99)))
    log.put([*lines[:index], (*lines[index][:2], forged), *lines[index:]])

    assert any(each.sequence in (index + 1, index + 2) for each in findings(log, anchors))


@given(anchored_logs(), st.data())
def test_a_log_that_was_rewritten_from_a_record_on_disagrees_with_the_anchors(
    made: tuple[Log, dict[int, str], int], data: st.DataObject
) -> None:
    """The forger recomputes each hash, headers included: the chain itself is without fault."""
    log, anchors, last = made
    index = data.draw(st.integers(0, last - 1))
    forged = Chain(index, log.lines()[index - 1][2][-65:-1] if index else ORIGIN)
    lines = log.lines()
    for at in range(index, len(lines)):
        number, offset, line = lines[at]
        record = msgspec.json.decode(line.split(b" ", 1)[1][:-66], type=Record)
        if isinstance(record, Header):
            record = msgspec.structs.replace(record, previous_hash=forged.head.decode(), at=2.0)
        elif at == index:
            record = decision(99)
        lines[at] = (number, offset, forged.seal(msgspec.json.encode(record)))
    log.put(lines)

    assert findings(log) == []
    found = findings(log, anchors)
    assert [each.kind for each in found] == ["anchor"]
    assert found[0].sequence == min(sequence for sequence in anchors if sequence > index)


@given(anchored_logs(), st.data())
def test_a_log_that_was_rolled_back_is_shorter_than_its_anchors(
    made: tuple[Log, dict[int, str], int], data: st.DataObject
) -> None:
    log, anchors, last = made
    keep = data.draw(st.integers(1, last - 1))
    log.put(log.lines()[:keep])
    log.segments = {number: kept for number, kept in log.segments.items() if kept}

    assert findings(log) == []
    found = findings(log, anchors)
    assert [(each.kind, each.sequence) for each in found] == [("missing", keep + 1)]
    assert f"record {last} was anchored" in found[0].text


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_segment_that_is_gone_is_named(number: int) -> None:
    log = log_of(3, 3, 3)
    anchors = {12: log.hashes[12]}
    del log.segments[number]

    assert any("missing" in each.kind for each in findings(log, anchors))
    if number < 3:
        assert any(each.text.startswith(f"segment {number} is missing") for each in findings(log))


def test_a_segment_that_was_prepared_and_never_used_is_no_fault() -> None:
    log = log_of(3)
    log.segments[1] += b'5 ["torn'
    log.segments[2] = bytes(1000)
    verifier = verify(log)
    assert verifier.findings == []
    assert (verifier.last_segment, verifier.torn_bytes) == (1, 8)


def test_a_segment_that_was_wiped_is_missed() -> None:
    log = log_of(3, 3, 3)
    log.segments[2] = bytes(len(log.segments[2]))
    assert [each.text for each in findings(log)] == ["segment 2 is missing", "records 5 to 8 are missing"]


def test_a_segment_under_another_number_is_named() -> None:
    log = log_of(3, 3, 3)
    log.segments[4] = log.segments.pop(3)

    assert {each.text for each in findings(log)} == {
        "segment 3 is missing",
        "the file's name says segment 4, its header 3",
    }


def test_two_segments_that_changed_places_are_named() -> None:
    log = log_of(3, 3, 3)
    log.segments[2], log.segments[3] = log.segments[3], log.segments[2]
    kinds = [each.kind for each in findings(log)]

    assert "segment" in kinds
    assert "out_of_order" in kinds


def test_a_segment_of_another_writer_is_named() -> None:
    log = Log()
    log.begin(writer="1")

    assert [each.text for each in findings(log)] == ["a segment of writer 1, in a chain of 0"]


def test_a_segment_of_a_later_format_is_named() -> None:
    log = Log()
    log.begin(format=2)

    assert [each.text for each in findings(log)] == ["a segment of format 2, and only 1 is known"]


def test_the_oldest_segments_may_go_once_the_chain_says_so() -> None:
    log = log_of(3, 3)
    log.write(Event("segments_deleted", 5.0, {"through": 1}))
    del log.segments[1]
    assert findings(log, {2: log.hashes[2], 9: log.hashes[9]}) == []

    log.segments = log_of(3, 3).segments
    del log.segments[1]
    assert [each.text for each in findings(log)] == ["segment 1 is missing, and no record says that they were deleted"]


@given(st.data())
def test_a_torn_tail_is_told_from_tampering(data: st.DataObject) -> None:
    """A copy that is interrupted leaves any part of the record, in any order of its bytes: the rest is still zero."""
    log = log_of(4)
    line = Chain(log.chain.sequence, log.chain.head).seal(msgspec.json.encode(decision(7)))
    arrived = data.draw(st.sets(st.integers(0, len(line) - 1), max_size=len(line) - 1))
    torn = bytes(byte if at in arrived else 0 for at, byte in enumerate(line))
    whole = log.segments[1]
    log.segments[1] = whole + torn + bytes(1000)

    verifier = verify(log, {5: log.hashes[5]})
    assert verifier.findings == []
    assert verifier.torn_bytes == len(torn.rstrip(b"\0"))
    end = end_of(log.segments[1])
    assert (end.offset, end.sequence, end.hash) == (len(whole), 5, log.chain.head)


def test_a_torn_tail_in_front_of_a_new_segment_is_vouched_for() -> None:
    log = log_of(4)
    torn = b'6 ["request","r'
    log.segments[1] += torn
    log.begin(torn_bytes=len(torn), torn_sha256=hashlib.sha256(torn).hexdigest())
    log.write(decision(1))
    assert findings(log) == []

    log.segments[1] = log.segments[1].replace(b'6 ["r', b'6 ["R')
    assert [each.text for each in findings(log)] == ["segment 1 ends with 15 bytes that were not there when it ended"]

    log.segments[1] = log.segments[1][: -len(torn)]
    assert [each.text for each in findings(log)] == ["the torn record that segment 1 ended with is gone"]


@pytest.mark.parametrize("left", [b"nothing of ours\n", b"two\nlines", b"a\nb\n\0"])
def test_bytes_that_no_kill_leaves_are_damage(left: bytes) -> None:
    log = log_of(4)
    log.segments[1] += left
    assert [each.kind for each in findings(log)] == ["damaged"]


def test_an_anchored_record_cannot_pass_for_torn() -> None:
    log = log_of(4)
    anchors = {5: log.hashes[5]}
    log.segments[1] = log.segments[1][:-10]

    assert findings(log) == []  # nothing but the anchor knows
    assert [(each.kind, each.sequence) for each in findings(log, anchors)] == [("missing", 5)]


@pytest.mark.parametrize("line", [b"[" * 100_000, b"1 [] x", b"", b'1 ["event"]', b"\xff" * 70])
def test_any_bytes_can_be_read(line: bytes) -> None:
    log = log_of(2, 2)
    log.segments[1] = log.segments[1].replace(b"\n", b"\n" + line + b"\n", 1)
    assert any(each.segment == 1 for each in findings(log))


@settings(max_examples=50)
@given(st.lists(st.binary(max_size=200), max_size=4))
def test_noise_is_read_without_an_error(segments: list[bytes]) -> None:
    log = Log(dict(enumerate(segments, 1)))
    verify(log, {3: "0" * 64})
