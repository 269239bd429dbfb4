"""What is a `traceparent`, what is not, and what the next hop is told."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.telemetry.trace_context import Parent, Trace, read_traceparent

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("flags", "sampled"), [("00", False), ("01", True), ("02", False), ("03", True), ("fe", False), ("ff", True)]
)
def test_one_flag_says_that_the_client_records(flags: str, sampled: bool) -> None:
    parent = read_traceparent(f"00-{TRACE}-{SPAN}-{flags}".encode())
    assert parent is not None
    assert (parent.trace_id, parent.span_id, parent.sampled) == (TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"01-{TRACE}-{SPAN}-01", True),
        (f"fe-{TRACE}-{SPAN}-01-what-comes-later", True),
        (f"01-{TRACE}-{SPAN}-01-", True),
        (f"01-{TRACE}-{SPAN}-01.x", False),
        (f"00-{TRACE}-{SPAN}-01-", False),
        (f"ff-{TRACE}-{SPAN}-01", False),
        (f"0-{TRACE}-{SPAN}-01", False),
        (f"00-{TRACE[:-1]}-{SPAN}-01", False),
        (f"00-{TRACE}0-{SPAN}-01", False),
        (f"00-{TRACE}-{SPAN}-1", False),
        (f"00-{TRACE.upper()}-{SPAN}-01", False),
        (f"00-{TRACE}-{SPAN.upper()}-01", False),
        (f"00-{'0' * 32}-{SPAN}-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (f" 00-{TRACE}-{SPAN}-01", False),
        (f"00-{TRACE}-{SPAN}-01\n", False),
        (f"00-{TRACE}-{SPAN}-01, 00-{TRACE}-{SPAN}-01", False),
        ("", False),
    ],
)
def test_what_is_a_traceparent(value: str, valid: bool) -> None:
    assert (read_traceparent(value.encode()) is not None) == valid


def test_no_header_is_no_parent() -> None:
    assert read_traceparent(None) is None


@given(st.binary(max_size=80))
def test_anything_else_is_none(value: bytes) -> None:
    assert read_traceparent(value) is None


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 255), st.integers(0, 2**32))
def test_the_next_hop_reads_the_same_trace_and_the_attempt_as_its_parent(
    trace_id: int, span_id: int, flags: int, seed: int
) -> None:
    parent = read_traceparent(f"00-{trace_id:032x}-{span_id:016x}-{flags:02x}".encode())
    assert parent is not None
    trace = Trace(parent, "POST /v1/chat/completions", random.Random(seed))
    attempts = [trace.new_span_id() for _ in range(3)]
    assert len({parent.span_id, trace.span_id, *attempts}) == 5
    for attempt in attempts:
        told = re.fullmatch(rb"traceparent: (.*)\r\n", trace.line(attempt))
        assert told is not None
        read = read_traceparent(told[1])
        assert read is not None
        assert (read.trace_id, read.span_id, read.sampled) == (parent.trace_id, attempt, True)
        assert read.flags & 2 == flags & 2, "whether the id is random is not ours to say"
        assert read.flags & 0xFC == 0, "flags that nobody has defined are not passed on"


class Zero(random.Random):
    def getrandbits(self, _bits: int) -> int:
        return 0


def test_a_new_trace_is_random_sampled_and_never_all_zero() -> None:
    drawn = {Trace(None, "GET /v1/models", random.Random(seed)).trace_id for seed in range(100)}
    assert len(drawn) == 100
    trace = Trace(None, "GET /v1/models", Zero())
    read = read_traceparent(trace.line(trace.span_id)[len("traceparent: ") : -2])
    assert isinstance(read, Parent)
    assert (read.flags, trace.parent_id) == (3, "")
