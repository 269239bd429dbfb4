"""Laws of the ledger's frames: what is written is read, and what is not whole is not read at all."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from router.accounting.entries import (
    FRAME_BYTES,
    UNENCODABLE,
    decode,
    encode,
    encode_mended,
    frame,
    frames,
    walk,
)
from router.model.decision import Offer
from router.model.outcome import AttemptRecord, RequestRecord, Usage

WORDS = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
TOKENS = st.integers(0, (1 << 63) - 1)
FLOATS = st.floats(allow_nan=False)
USAGES = st.none() | st.builds(Usage, TOKENS, TOKENS, TOKENS, TOKENS)
ATTEMPTS = st.builds(
    AttemptRecord,
    WORDS,
    WORDS,
    WORDS,
    st.integers(0, 999),
    st.booleans(),
    FLOATS,
    usage=USAGES,
    estimated=st.booleans(),
    cost_nano_usd=TOKENS,
    price=WORDS,
)
RECORDS = st.builds(
    RequestRecord,
    WORDS,
    FLOATS,
    WORDS,
    st.integers(0, 999),
    FLOATS,
    WORDS,
    WORDS,
    stream=st.booleans(),
    attempts=st.lists(ATTEMPTS, max_size=5).map(tuple),
    refusals=st.lists(st.builds(Offer, WORDS, WORDS, WORDS), max_size=4).map(tuple),
    bytes_in=TOKENS,
    usage=USAGES,
    cost_nano_usd=TOKENS,
)
TURNS = st.lists(st.lists(RECORDS, min_size=1, max_size=4), min_size=1, max_size=5)
SEQUENCES = st.integers(1, (1 << 64) - 100)


def segment(turns: list[list[RequestRecord]], sequence: int) -> tuple[bytes, list[int]]:
    """Its bytes, and the offsets at which its frames end."""
    data, ends = b"", []
    for number, turn in enumerate(turns):
        data += frame(turn, sequence + number)
        ends.append(len(data))
    return data, ends


@given(TURNS, SEQUENCES, st.integers(0, 40))
def test_what_is_written_is_read(turns: list[list[RequestRecord]], sequence: int, zeros: int) -> None:
    data, ends = segment(turns, sequence)

    assert list(walk(data + bytes(zeros))) == list(zip(ends, turns, strict=True))
    assert [each.sequence for each in frames(data)] == [sequence + number for number in range(len(turns))]


@given(TURNS, SEQUENCES, st.data())
def test_any_cut_leaves_a_prefix_of_whole_frames(
    turns: list[list[RequestRecord]], sequence: int, data: st.DataObject
) -> None:
    """Cut off, or zero from there on, as a process that was killed within a copy leaves it."""
    whole, ends = segment(turns, sequence)
    cut = data.draw(st.integers(0, len(whole)))
    kept = [pair for pair in zip(ends, turns, strict=True) if pair[0] <= cut]

    assert list(walk(whole[:cut])) == kept
    torn = list(walk(whole[:cut] + bytes(len(whole) - cut)))
    # A frame whose last bytes are zero is whole without them.
    assert torn == kept or whole[cut : torn[-1][0]].strip(b"\0") == b""
    assert torn == list(zip(ends, turns, strict=True))[: len(torn)]


@given(TURNS, SEQUENCES, st.data())
def test_a_reader_may_go_on_from_the_end_of_any_frame(
    turns: list[list[RequestRecord]], sequence: int, data: st.DataObject
) -> None:
    whole, ends = segment(turns, sequence)
    done = data.draw(st.integers(0, len(turns)))
    start = ends[done - 1] if done else 0

    assert [records for _, records in walk(whole, start)] == turns[done:]
    assert [records for _, records in walk(whole[start:])] == turns[done:]


@given(TURNS, SEQUENCES, st.data())
def test_no_changed_byte_is_read(turns: list[list[RequestRecord]], sequence: int, data: st.DataObject) -> None:
    """It ends the reading at its own frame; in the high half of the first sequence, behind it."""
    whole, ends = segment(turns, sequence)
    place, change = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(1, 255))
    changed = bytearray(whole)
    changed[place] ^= change

    pairs = list(zip(ends, turns, strict=True))
    read = 1 if place in range(12, FRAME_BYTES) else sum(end <= place for end in ends)
    assert list(walk(bytes(changed))) == pairs[:read]


@given(TURNS, SEQUENCES, st.data())
def test_frames_that_do_not_follow_end_the_reading(
    turns: list[list[RequestRecord]], sequence: int, data: st.DataObject
) -> None:
    """What an older file left on the same blocks is no part of this one."""
    whole, _ = segment(turns, sequence)
    gap = data.draw(st.integers(-sequence, 50).filter(lambda n: n != 0))
    stale = frame(turns[0], sequence + len(turns) + gap)

    assert [records for _, records in walk(whole + stale)] == turns


@given(st.binary(max_size=400))
def test_noise_is_no_frame(noise: bytes) -> None:
    assert list(frames(noise)) == []


def test_what_messagepack_cannot_hold_is_replaced() -> None:
    odd = RequestRecord(
        "r\ud8001", 1.0, "ok", 200, 2.0, attempts=(AttemptRecord("d\udfff", "c", "served"),), cost_nano_usd=1 << 80
    )
    try:
        encode([odd])
    except UNENCODABLE:
        pass
    else:
        raise AssertionError("it can hold that")
    [record] = decode(encode_mended([odd]))

    assert (record.id, record.attempts[0].deployment) == ("r?1", "d?")
    assert record.cost_nano_usd == (1 << 63) - 1
    assert record.attempts[0].reused is False


def test_routers_of_other_versions_are_understood() -> None:
    """A field that is not known is skipped, one that is missing takes its default."""
    other = {"id": "r1", "at": 1.0, "outcome": "ok", "status": 200, "total_ms": 2.0, "of_next_year": {"a": [1]}}

    assert decode(msgspec.msgpack.encode([other])) == [RequestRecord("r1", 1.0, "ok", 200, 2.0)]


def test_a_frame_is_small() -> None:
    """What a disk has to hold for each request is known, and bounded."""
    usage = Usage(900, 120)
    attempt = AttemptRecord("azure-eastus2/gpt-4o-ptu", "azure", "served", 200, True, 120.3, usage=usage, price="abc")
    record = RequestRecord("r" * 24, 1.7e9, "ok", 200, 812.4, "", "acme", "api", "gpt-4o", "chat", attempts=(attempt,))

    assert FRAME_BYTES + len(encode([record])) < 500
