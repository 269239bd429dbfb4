"""Which requests are traced, and what a collector that is away may cost: spans, and nothing else."""

import itertools
import math
import random
import threading
import tracemalloc
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from router.model.decision import Offer
from router.model.outcome import AttemptRecord, RequestRecord, Usage
from router.telemetry import spans
from router.telemetry.spans import SpanExport, spans_of
from router.telemetry.trace_context import Parent, Trace
from router.telemetry.tracing import Sampler, TracingSettings

NOWHERE = "http://127.0.0.1:9/v1/traces"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
RECORDED, SILENT = Parent(TRACE, SPAN, 1), Parent(TRACE, SPAN, 0)


def sampler(sample: float, *respected: str, seed: int = 1) -> Sampler:
    return Sampler(TracingSettings(NOWHERE, sample=sample, respect_parent=frozenset(respected)), random.Random(seed))


def test_the_parent_decides_where_it_is_respected_and_nowhere_else() -> None:
    never, always = sampler(0.0, "internal"), sampler(1.0, "internal")
    for one in (never, always):
        assert one.admits(RECORDED, "internal")
        assert not one.admits(SILENT, "internal")
    for parent in (RECORDED, SILENT, None):
        assert not never.admits(parent, "api")
        assert always.admits(parent, "api")
    assert not never.admits(None, "internal")
    assert always.admits(None, "internal")


@settings(max_examples=30)
@given(st.sampled_from([0.001, 0.01, 0.1, 0.5, 0.9]), st.integers(0, 2**32))
def test_the_share_is_what_was_asked_for(sample: float, seed: int) -> None:
    """Within six standard deviations, so that one draw in a billion would fail."""
    one, requests = sampler(sample, seed=seed), 20_000
    traced = sum(one.admits(None, "api") for _ in range(requests))
    assert abs(traced - requests * sample) < 6 * math.sqrt(requests * sample * (1 - sample))


def test_what_is_traced_comes_without_a_rhythm() -> None:
    """The gaps are geometric: their deviation is as large as their mean, and a neighbour tells nothing."""
    one, sample = sampler(0.1), 0.1
    hits = [number for number in range(200_000) if one.admits(None, "api")]
    gaps = [later - earlier for earlier, later in itertools.pairwise(hits)]
    mean = sum(gaps) / len(gaps)
    deviation = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    assert deviation == pytest.approx(math.sqrt(1 - sample) / sample, rel=0.05)


def test_no_trace_id_is_more_likely_to_be_traced() -> None:
    """A client that sends ids of zeros and ones alone gains nothing by it."""
    one, chosen = sampler(0.01), Parent("0" * 31 + "1", SPAN, 1)
    assert sum(one.admits(chosen, "api") for _ in range(20_000)) < 400


def test_a_reload_changes_the_share_at_once() -> None:
    one = sampler(0.0)
    assert not any(one.admits(None, "api") for _ in range(1000))
    one.adopt(TracingSettings(NOWHERE, sample=1.0))
    assert all(one.admits(None, "api") for _ in range(1000))
    one.adopt(TracingSettings(NOWHERE, sample=0.0))
    assert not any(one.admits(None, "api") for _ in range(1000))


# -- from a record to spans


def attempt(deployment: str = "east/dep", outcome: str = "served", **more: Any) -> AttemptRecord:
    return AttemptRecord(deployment, "azure", outcome, **{"span_id": "1" * 16, **more})


def record(*attempts: AttemptRecord, **more: Any) -> RequestRecord:
    return RequestRecord(
        **{
            "id": "req_1",
            "at": 1_800_000_000.25,
            "outcome": "ok",
            "status": 200,
            "total_ms": 100.0,
            "model": "gpt-4o",
            "operation": "chat",
            "served_by": "east/dep",
            "cloud": "azure",
            "attempts": attempts,
            "trace_id": TRACE,
            **more,
        }
    )


def made(one: RequestRecord) -> list[ReadableSpan]:
    return spans_of(Trace(RECORDED, "POST /v1/x", random.Random(1)), one, {}, Resource({}))


@pytest.mark.parametrize(
    ("outcome", "status", "failed"),
    [
        ("ok", 200, False),
        ("client_error", 400, False),
        ("client_gone", 499, False),
        ("refused", 429, False),
        ("refused", 503, True),
        ("upstream_error", 502, True),
        ("stream_broken", 200, True),
        ("internal_error", 500, True),
    ],
)
def test_a_request_is_in_error_where_the_server_is_at_fault(outcome: str, status: int, failed: bool) -> None:
    [server] = made(record(outcome=outcome, status=status))
    assert (not server.status.is_ok) == failed
    assert ("error.type" in (server.attributes or {})) == (outcome != "ok")


@pytest.mark.parametrize(
    ("operation", "expected"),
    [("chat", "chat"), ("responses", "chat"), ("completions", "text_completion"), ("speech", "speech")],
)
def test_operations_have_the_conventions_names(operation: str, expected: str) -> None:
    client, _ = made(record(attempt(), operation=operation))
    assert client.name == f"{expected} gpt-4o"


def test_tokens_and_the_first_of_them_stand_at_the_attempt_that_served() -> None:
    usage = Usage(prompt_tokens=9, completion_tokens=8, cached_tokens=4, reasoning_tokens=2)
    lost = attempt("west/dep", "server_error", waited_ms=20.0)
    won = attempt(began_ms=30.0, waited_ms=70.0)
    first, second, _ = made(record(lost, won, usage=usage, first_token_ms=50.0, stream=True))
    assert not [name for name in first.attributes or () if name.startswith(("gen_ai.usage", "gen_ai.response"))]
    expected = {
        "gen_ai.usage.input_tokens": 9,
        "gen_ai.usage.output_tokens": 8,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.reasoning.output_tokens": 2,
        "gen_ai.response.time_to_first_chunk": pytest.approx(0.02),
    }
    assert {name: (second.attributes or {})[name] for name in expected} == expected


@given(st.floats(0, 1e6), st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=4), st.floats(1e9, 4e9))
def test_an_attempt_lies_within_its_request(total_ms: float, shares: list[tuple[float, float]], at: float) -> None:
    attempts = []
    for begin, length in shares:
        began_ms = begin * total_ms
        attempts.append(attempt(began_ms=began_ms, waited_ms=length * (total_ms - began_ms)))
    *clients, server = made(record(*attempts, at=at, total_ms=total_ms))
    for client in clients:
        assert server.start_time <= client.start_time <= client.end_time <= server.end_time  # type: ignore[operator]


def test_an_attempt_that_was_never_sent_is_no_span() -> None:
    assert [span.name for span in made(record(attempt(span_id=""), attempt()))] == ["chat gpt-4o", "POST /v1/x"]


def test_refusals_are_events_of_the_request() -> None:
    [server] = made(record(refusals=(Offer("east/dep", "azure", "throttled"), Offer("", "azure", "no_deployment"))))
    assert [dict(event.attributes or {})["router.reason"] for event in server.events] == ["throttled", "no_deployment"]


# -- a collector that is away


class Stuck:
    """An exporter whose collector does not answer until it is let."""

    def __init__(self, *_: object, **__: object) -> None:
        self.go = threading.Event()
        self.result = SpanExportResult.SUCCESS

    def export(self, _spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.go.wait(10)
        return self.result

    def shutdown(self) -> None:
        self.go.set()


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Stuck:
    one = Stuck()
    monkeypatch.setattr(spans, "OTLPSpanExporter", lambda **_: one)
    return one


def test_memory_is_bounded_and_what_is_not_taken_is_counted(stuck: Stuck) -> None:
    export = SpanExport(TracingSettings(NOWHERE), lambda _: None, spans_max=200)
    trace, one = Trace(None, "POST /v1/x", random.Random(1)), record(attempt(), attempt())
    for _ in range(66):
        export.request(trace, one, {})
    assert export.dropped == 0
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(10_000):
            export.request(trace, one, {})
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert export.dropped == 30_000, "whole requests: half a tree helps nobody"
    assert after - before < 100_000
    stuck.result = SpanExportResult.FAILURE
    stuck.go.set()
    export.close()
    assert export.dropped == 30_000 + 198, "and those that were held in vain"


def test_what_was_sent_makes_room(stuck: Stuck) -> None:
    stuck.go.set()
    export = SpanExport(TracingSettings(NOWHERE), lambda _: None, spans_max=4)
    trace, one = Trace(None, "POST /v1/x", random.Random(1)), record(attempt())
    for _ in range(50):
        assert export._processor.force_flush()
        export.request(trace, one, {})
        export.request(trace, one, {})
    export.close()
    assert export.dropped == 0


def test_the_loss_is_told_of_once_and_so_is_the_return(stuck: Stuck) -> None:
    told: list[str] = []
    stuck.go.set()
    export = SpanExport(TracingSettings(NOWHERE), told.append)
    trace, one = Trace(None, "POST /v1/x", random.Random(1)), record()
    for result in (SpanExportResult.FAILURE, SpanExportResult.FAILURE, SpanExportResult.SUCCESS):
        stuck.result = result
        export.request(trace, one, {})
        export._processor.force_flush()
    export.close()
    assert told == ["spans_lost", "spans_restored"]
    assert export.dropped == 2
