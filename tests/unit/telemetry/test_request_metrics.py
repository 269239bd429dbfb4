"""Counts of finished requests, and the page that is made from them."""

import math
import re
from bisect import bisect_left
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from router.model.decision import Offer
from router.model.outcome import AttemptRecord, RequestRecord, Usage
from router.telemetry import names
from router.telemetry.exposition import render
from router.telemetry.metrics import GAP_BOUNDS_S, Histogram, RequestMetrics
from router.telemetry.names import FIRST_BYTE, METRICS, OVERHEAD, PROCESS, Kind
from router.telemetry.process import process_numbers
from router.telemetry.reading import Numbers, Reading

HISTOGRAMS = [metric for metric in METRICS if metric.kind is Kind.HISTOGRAM]

STATE: Numbers = {
    names.CONFIG.name: {("abc123",): 1},
    names.DRAINING.name: {(): 0},
    names.PLACEMENT_VIOLATIONS.name: {(): 0},
}


def served(**changes: object) -> RequestRecord:
    fields: dict[str, object] = {
        "id": "r1",
        "at": 1.0,
        "outcome": "ok",
        "status": 200,
        "total_ms": 120.0,
        "workload": "api",
        "model": "gpt-4o",
        "operation": "chat",
        "served_by": "eastus2/ptu",
        "cloud": "azure",
        "endpoint": "eastus2",
        "attempts": (AttemptRecord("eastus2/ptu", "azure", "served", 200, reused=True, first_byte_ms=30.0),),
        "first_byte_ms": 40.0,
        "overhead_ms": 0.05,
        "usage": Usage(10, 20, 4, 2),
    }
    return RequestRecord(**{**fields, **changes})  # type: ignore[arg-type]


def page_of(requests: RequestMetrics, accept: str = "") -> str:
    reading = requests.read()
    return render(Reading(reading.numbers | STATE, reading.histograms), accept)[0].decode()


def samples(requests: RequestMetrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every series of the rendered page; a series that is there twice fails."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in parse_text(page_of(requests)):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def of(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


@given(st.lists(st.floats(min_value=0.0, max_value=1e7)), st.sampled_from(HISTOGRAMS))
def test_a_bucket_holds_what_is_at_most_its_bound(values_ms: list[float], metric: object) -> None:
    histogram = Histogram(metric)  # type: ignore[arg-type]
    for value_ms in values_ms:
        histogram.observe(value_ms)

    assert sum(histogram.counts) == len(values_ms)
    bounds = [*histogram.bounds_ms, math.inf]
    assert list(accumulate(histogram.counts)) == [sum(value <= bound for value in values_ms) for bound in bounds]
    assert histogram.sum_ms == pytest.approx(sum(values_ms))


def test_a_value_on_a_bound_belongs_to_that_bound() -> None:
    histogram = Histogram(OVERHEAD)
    histogram.observe(histogram.bounds_ms[3])
    assert histogram.counts[3] == 1


@given(st.lists(st.floats(min_value=0.001, max_value=500_000.0), min_size=1, max_size=40))
def test_the_page_says_what_was_observed(first_bytes_ms: list[float]) -> None:
    requests = RequestMetrics()
    for value_ms in first_bytes_ms:
        requests.record(served(first_byte_ms=value_ms))

    found = samples(requests)
    labels = {"workload": "api", "cloud": "azure"}
    for bound, bound_ms in zip(FIRST_BYTE.bounds, requests.first_byte["api", "azure"].bounds_ms, strict=True):
        expected = sum(value_ms <= bound_ms for value_ms in first_bytes_ms)
        assert found[of("router_first_byte_seconds_bucket", le=str(bound), **labels)] == expected
    assert found[of("router_first_byte_seconds_bucket", le="+Inf", **labels)] == len(first_bytes_ms)
    assert found[of("router_first_byte_seconds_count", **labels)] == len(first_bytes_ms)
    assert found[of("router_first_byte_seconds_sum", **labels)] == pytest.approx(sum(first_bytes_ms) / 1000)


def test_a_served_request_counts_everywhere_once() -> None:
    requests = RequestMetrics()
    requests.record(served())

    found = samples(requests)
    labels = {"workload": "api", "model": "gpt-4o", "cloud": "azure"}
    assert found[of("router_requests_total", operation="chat", outcome="ok", endpoint="eastus2", **labels)] == 1
    assert found[of("router_attempts_total", cloud="azure", deployment="eastus2/ptu", outcome="served")] == 1
    assert [found[of("router_tokens_total", kind=kind, **labels)] for kind in ("prompt", "completion")] == [10, 20]
    assert [found[of("router_tokens_total", kind=kind, **labels)] for kind in ("cached", "reasoning")] == [4, 2]
    assert found[of("router_request_seconds_sum", workload="api", operation="chat")] == pytest.approx(0.12)
    assert found[of("router_overhead_seconds_sum")] == pytest.approx(5e-5)
    assert found[of("router_overhead_seconds_count")] == 1


def test_offers_are_counted_by_what_became_of_them() -> None:
    requests = RequestMetrics()
    refusals = (Offer("eastus2/ptu", "azure", "throttled"), Offer("eastus2/std", "azure", "throttled"))
    requests.record(
        served(workload="internal", cloud="coreweave", served_by="ord/llama", refusals=refusals, left_holder=True)
    )
    requests.record(served(workload="internal", cloud="azure"))
    requests.record(served(workload="internal", cloud="", served_by="", outcome="refused", refusals=refusals[:1]))

    found = samples(requests)
    assert found[of("router_offers_total", workload="internal", cloud="azure", outcome="throttled")] == 3
    assert found[of("router_offers_total", workload="internal", cloud="azure", outcome="accepted")] == 1
    assert found[of("router_offers_total", workload="internal", cloud="coreweave", outcome="accepted")] == 1
    assert found[of("router_departures_total", workload="internal", cloud="coreweave")] == 1


def test_every_attempt_counts_for_its_own_deployment() -> None:
    requests = RequestMetrics()
    failed = AttemptRecord("westus/std", "azure", "throttled", 429)
    requests.record(served(attempts=(failed, AttemptRecord("eastus2/ptu", "azure", "served", 200))))
    requests.record(served(attempts=(failed,)))

    found = samples(requests)
    assert found[of("router_attempts_total", cloud="azure", deployment="westus/std", outcome="throttled")] == 2
    assert found[of("router_attempts_total", cloud="azure", deployment="eastus2/ptu", outcome="served")] == 1


def test_a_request_that_was_never_sent_names_no_cloud_and_no_first_byte() -> None:
    requests = RequestMetrics()
    requests.record(RequestRecord(id="r", at=1.0, outcome="client_error", status=401, total_ms=0.1))

    found = samples(requests)
    labels = {"workload": "other", "model": "other", "operation": "other", "cloud": "none", "endpoint": "none"}
    assert found[of("router_requests_total", outcome="client_error", **labels)] == 1
    assert found[of("router_first_byte_seconds_count", workload="other", cloud="none")] == 0


def test_a_model_that_is_called_other_shares_the_series_of_the_unknown_ones() -> None:
    requests = RequestMetrics()
    requests.record(served(model=""))
    requests.record(served(model="other"))
    requests.record(served(model=""))

    labels = {"workload": "api", "model": "other", "operation": "chat", "cloud": "azure", "outcome": "ok"}
    assert samples(requests)[of("router_requests_total", endpoint="eastus2", **labels)] == 3


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_label_holds_any_text_in_both_formats(name: str) -> None:
    requests = RequestMetrics()
    requests.record(served(model=name))
    for parse, accept in ((parse_text, ""), (parse_openmetrics, "application/openmetrics-text")):
        families = list(parse(page_of(requests, accept)))
        models = {s.labels["model"] for f in families for s in f.samples if s.name == "router_requests_total"}
        assert models == {name}


def test_disconnects_and_broken_streams_are_counted_by_whom_they_concern() -> None:
    requests = RequestMetrics()
    requests.record(served(outcome="client_gone", status=499))
    requests.record(served(outcome="client_gone", status=499, model="gpt-5"))
    requests.record(served(outcome="client_gone", status=499, workload="batch"))
    requests.record(served(outcome="stream_broken"))

    found = samples(requests)
    assert found[of("router_client_disconnects_total", workload="api")] == 2
    assert found[of("router_client_disconnects_total", workload="batch")] == 1
    assert found[of("router_truncated_streams_total", workload="api", cloud="azure")] == 1
    assert found[of("router_truncated_streams_total", workload="batch", cloud="azure")] == 0


def test_money_is_summed_in_whole_nano_dollars() -> None:
    requests = RequestMetrics()
    for _ in range(10):
        requests.record(served(cost_nano_usd=100_000_001))
    requests.record(served(operation="embeddings", cost_nano_usd=1))

    cost = of("router_cost_usd_total", workload="api", model="gpt-4o", cloud="azure")
    assert samples(requests)[cost] == 1.000000011


def test_a_dial_counts_once_for_the_attempt_that_made_it() -> None:
    requests = RequestMetrics()
    dialled = AttemptRecord("eastus2/ptu", "azure", "served", 200, first_byte_ms=30.0, connect_ms=4.0, tls_ms=11.0)
    requests.record(served(attempts=(dialled,)))
    requests.record(served())

    found = samples(requests)
    where = {"deployment": "eastus2/ptu"}
    assert found[of("router_upstream_connect_seconds_count", **where)] == 1
    assert found[of("router_upstream_connect_seconds_sum", **where)] == pytest.approx(0.004)
    assert found[of("router_upstream_tls_seconds_sum", **where)] == pytest.approx(0.011)
    assert found[of("router_attempt_first_byte_seconds_count", **where)] == 2
    assert found[of("router_attempts_total", cloud="azure", outcome="served", **where)] == 2


def test_only_who_waited_and_who_streamed_count_there() -> None:
    requests = RequestMetrics()
    requests.record(served())
    requests.record(served(queued_ms=250.0, first_token_ms=60.0))

    found = samples(requests)
    assert found[of("router_waited_seconds_sum", workload="api")] == 0.25
    assert found[of("router_waited_seconds_count", workload="api")] == 1
    streamed = {"workload": "api", "model": "gpt-4o", "cloud": "azure"}
    assert found[of("router_first_token_seconds_count", **streamed)] == 1
    assert found[of("router_first_token_seconds_sum", **streamed)] == 0.06


def test_gaps_are_counted_where_streams_of_a_workload_and_a_cloud_meet() -> None:
    requests = RequestMetrics()
    for gap_s in (0.02, 0.3):
        gaps = requests.gaps("api", "azure")
        gaps.counts[bisect_left(GAP_BOUNDS_S, gap_s)] += 1
        gaps.sum_s += gap_s

    found = samples(requests)
    labels = {"workload": "api", "cloud": "azure"}
    assert found[of("router_chunk_gap_seconds_bucket", le="0.025", **labels)] == 1
    assert found[of("router_chunk_gap_seconds_bucket", le="0.3", **labels)] == 2
    assert found[of("router_chunk_gap_seconds_sum", **labels)] == 0.32


def test_a_traced_request_can_be_found_by_its_bucket_and_only_in_openmetrics() -> None:
    requests = RequestMetrics()
    traced = (AttemptRecord("azure-a/gpt-4o", "azure", "served", reused=True, span_id="00f0"),)
    requests.record(served(trace_id="0af7", at=1700000000.5, first_byte_ms=40.0, attempts=traced))
    requests.record(served(first_byte_ms=41.0))
    requests.record(served(trace_id="b7ad", at=1700000001.5, first_byte_ms=42.0, attempts=traced))
    requests.record(served(trace_id="c0de", first_byte_ms=43.0))  # the client's own trace, and none of ours

    exemplars = {
        (sample.name, sample.labels["le"]): sample.exemplar
        for family in parse_openmetrics(page_of(requests, "application/openmetrics-text"))
        for sample in family.samples
        if sample.exemplar is not None
    }
    assert exemplars.keys() == {
        ("router_request_seconds_bucket", "0.16"),
        ("router_first_byte_seconds_bucket", "0.04"),
        ("router_first_byte_seconds_bucket", "0.06"),
    }
    last = exemplars["router_first_byte_seconds_bucket", "0.06"]
    assert (last.labels, last.value, float(last.timestamp)) == ({"trace_id": "b7ad"}, 0.042, 1700000001.5)
    assert "0af7" not in page_of(requests)
    assert "c0de" not in page_of(requests, "application/openmetrics-text")


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4"),
        ("text/plain;version=1.0.0;q=0.5,*/*;q=0.1", "text/plain; version=0.0.4"),
        ("application/openmetrics-text;version=nonsense\udcff", "application/openmetrics-text; version=1.0.0"),
        ("application/openmetrics-text;version=1.0.0;q=0.6,text/plain;q=0.3", "application/openmetrics-text;"),
    ],
)
def test_accept_chooses_the_format(accept: str, content_type: str) -> None:
    assert render(Reading(), accept)[1].startswith(content_type)


@pytest.mark.parametrize("openmetrics", [False, True])
def test_the_page_holds_the_whole_table_and_nothing_else(openmetrics: bool) -> None:
    """A family that has no series yet is told of all the same."""
    accept = "application/openmetrics-text" if openmetrics else ""
    page = render(Reading(process_numbers()), accept)[0].decode()
    told = dict(re.findall(r"# TYPE (\S+) (\S+)", page))
    kinds = {metric.name: metric.kind.value for metric in (*METRICS, *PROCESS)}
    if openmetrics:
        assert told == {name.removesuffix("_total").removesuffix("_info"): kind for name, kind in kinds.items()}
        assert page.endswith("# EOF\n")
        assert set(re.findall(r"# UNIT \S+_(\S+) (\S+)", page)) == {(m.unit, m.unit) for m in METRICS if m.unit}
    else:  # Prometheus' older text has no kind for an info: it is a gauge there
        assert told == {name: "gauge" if kind == "info" else kind for name, kind in kinds.items()}


def test_what_the_library_knows_of_a_process_is_in_the_table() -> None:
    numbers = process_numbers()
    assert numbers.keys() == {metric.name for metric in PROCESS}
    assert numbers["process_resident_memory_bytes"][()] > 1e6
    assert set(numbers["python_gc_collections_total"]) == {("0",), ("1",), ("2",)}
