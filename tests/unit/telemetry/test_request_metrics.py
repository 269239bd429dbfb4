"""Counts of finished requests, and the page that is made from them."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from router.model.decision import Offer
from router.model.outcome import AttemptRecord, RequestRecord, Usage
from router.telemetry.exposition import DeploymentReading, Gauges, MetricsPage, WorkloadReading
from router.telemetry.metrics import Histogram, RequestMetrics
from router.telemetry.names import FIRST_BYTE, METRICS, OVERHEAD, Kind

HISTOGRAMS = [metric for metric in METRICS if metric.kind is Kind.HISTOGRAM]

GAUGES = Gauges(
    config_version="abc123",
    draining=False,
    in_flight={"api": 3, "internal": 0},
    deployments=(
        DeploymentReading("eastus2/ptu", "azure", 2, 5, 2, True, "up", 100, 3),
        DeploymentReading("ord/llama", "coreweave", 0, 1, 0, False, "ejected", 4, 0),
    ),
    workloads=(WorkloadReading("internal", retries=4, hedges=1, budget_left=9.5),),
    waiting={"gpt-4o": 2},
    credential_failures={"eastus2": 1},
    decisions=1234,
    decisions_dropped=0,
    anchor_failures=0,
    client_connections=7,
    buffered_bytes=4096,
    dials=11,
    reuses=90,
    violations=0,
    reloads={"ok": 1, "refused": 2},
    access_log_dropped=0,
    loop_lag_s=0.0005,
)


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
        "cloud": "azure",
        "attempts": (AttemptRecord("eastus2/ptu", "azure", "served", 200),),
        "first_byte_ms": 40.0,
        "overhead_ms": 0.05,
        "usage": Usage(10, 20, 4, 2),
    }
    return RequestRecord(**{**fields, **changes})  # type: ignore[arg-type]


def samples(requests: RequestMetrics, gauges: Gauges = GAUGES) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every series of the rendered page; a series that is there twice fails."""
    page, _ = MetricsPage(requests, lambda: gauges).render("")
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in parse_text(page.decode()):
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
    assert histogram.cumulated() == [sum(value <= bound for value in values_ms) for bound in bounds]
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
    assert found[of("router_requests_total", operation="chat", outcome="ok", **labels)] == 1
    assert found[of("router_attempts_total", cloud="azure", deployment="eastus2/ptu", outcome="served")] == 1
    assert [found[of("router_tokens_total", kind=kind, **labels)] for kind in ("prompt", "completion")] == [10, 20]
    assert [found[of("router_tokens_total", kind=kind, **labels)] for kind in ("cached", "reasoning")] == [4, 2]
    assert found[of("router_request_seconds_sum", workload="api", operation="chat")] == pytest.approx(0.12)
    assert found[of("router_overhead_seconds_sum")] == pytest.approx(5e-5)
    assert found[of("router_overhead_seconds_count")] == 1


def test_offers_are_counted_by_what_became_of_them() -> None:
    requests = RequestMetrics()
    refusals = (Offer("eastus2/ptu", "azure", "throttled"), Offer("eastus2/std", "azure", "throttled"))
    requests.record(served(workload="internal", cloud="coreweave", refusals=refusals, left_holder=True))
    requests.record(served(workload="internal", cloud="azure"))
    requests.record(served(workload="internal", cloud="", outcome="refused", refusals=refusals[:1]))

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
    labels = {"workload": "other", "model": "other", "operation": "other", "cloud": "none", "outcome": "client_error"}
    assert found[of("router_requests_total", **labels)] == 1
    assert found[of("router_first_byte_seconds_count", workload="other", cloud="none")] == 0


def test_a_model_that_is_called_other_shares_the_series_of_the_unknown_ones() -> None:
    requests = RequestMetrics()
    requests.record(served(model=""))
    requests.record(served(model="other"))
    requests.record(served(model=""))

    labels = {"workload": "api", "model": "other", "operation": "chat", "cloud": "azure", "outcome": "ok"}
    assert samples(requests)[of("router_requests_total", **labels)] == 3


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_label_holds_any_text_in_both_formats(name: str) -> None:
    requests = RequestMetrics()
    requests.record(served(model=name))
    page = MetricsPage(requests, lambda: GAUGES)
    for parse, accept in ((parse_text, ""), (parse_openmetrics, "application/openmetrics-text")):
        families = list(parse(page.render(accept)[0].decode()))
        models = {s.labels["model"] for f in families for s in f.samples if s.name == "router_requests_total"}
        assert models == {name}


def test_disconnects_and_broken_streams_are_counted_over_all_labels() -> None:
    requests = RequestMetrics()
    requests.record(served(outcome="client_gone", status=499))
    requests.record(served(outcome="client_gone", status=499, workload="batch"))
    requests.record(served(outcome="stream_broken"))

    found = samples(requests)
    assert found[of("router_client_disconnects_total")] == 2
    assert found[of("router_truncated_streams_total")] == 1


def test_the_state_of_the_process_is_read_at_each_scrape() -> None:
    requests, state = RequestMetrics(), [GAUGES]
    page = MetricsPage(requests, lambda: state[0])
    assert b"router_draining 0\n" in page.render("")[0]

    state[0] = replace(GAUGES, draining=True, violations=1, config_version="def456")
    text = page.render("")[0]
    assert b"router_draining 1\n" in text
    assert b"router_placement_violations_total 1\n" in text
    assert b'router_config_info{version="def456"} 1\n' in text
    assert b"abc123" not in text


def test_what_must_always_be_zero_is_there_before_the_first_request() -> None:
    found = samples(RequestMetrics())
    assert found[of("router_placement_violations_total")] == 0
    assert found[of("router_deployment_available", deployment="eastus2/ptu", cloud="azure")] == 1
    assert found[of("router_deployment_available", deployment="ord/llama", cloud="coreweave")] == 0
    assert found[of("router_upstream_connections", deployment="eastus2/ptu", state="idle")] == 5
    assert found[of("router_requests_in_flight", workload="api")] == 3
    assert found[of("router_reloads_total", result="refused")] == 2


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
    assert MetricsPage(RequestMetrics(), lambda: GAUGES).render(accept)[1].startswith(content_type)


def test_both_formats_hold_the_whole_table_and_nothing_else() -> None:
    requests = RequestMetrics()
    requests.record(
        served(workload="internal", refusals=(Offer("eastus2/ptu", "azure", "throttled"),), left_holder=True)
    )
    page = MetricsPage(requests, lambda: GAUGES)
    text = page.render("")[0].decode()
    openmetrics = page.render("application/openmetrics-text")[0].decode()

    for families, strict in ((parse_text(text), False), (parse_openmetrics(openmetrics), True)):
        seen: dict[str, tuple[str, set[str], str]] = {}
        for family in families:
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            name = family.samples[0].name
            name = family.name if family.type == "histogram" else name
            if name.startswith("router_"):
                seen[name] = (family.type, labels, family.documentation)
            else:  # the library's own, of any process
                assert name.startswith(("process_", "python_gc_"))
        # Prometheus' older text has no kind for an info: it is a gauge there.
        kinds = {m.name: "gauge" if m.kind is Kind.INFO and not strict else m.kind.value for m in METRICS}
        assert seen == {m.name: (kinds[m.name], set(m.labels), m.help) for m in METRICS}
