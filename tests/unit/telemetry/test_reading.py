"""Readings of several processes, added up: laws that hold for whatever they say."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from router.telemetry import names
from router.telemetry.exposition import render
from router.telemetry.names import METRICS, PROCESS, Across, Kind, Metric
from router.telemetry.reading import Buckets, Exemplar, Reading, lasting, merged, understood

TABLE = (*METRICS, *PROCESS)
# Floats whose sums are exact, so that the order of adding cannot show.
EXACT = st.integers(0, 1 << 20).map(lambda n: n / 16)
NUMBERS = st.one_of(st.integers(0, 1 << 40), EXACT)
EXEMPLARS = st.builds(Exemplar, EXACT, EXACT, st.text("0123456789abcdef", min_size=1, max_size=32))


def series(metric: Metric, values: st.SearchStrategy[object]) -> st.SearchStrategy[dict[tuple[str, ...], object]]:
    labels = st.tuples(*[st.sampled_from(["a", "b"]) for _ in metric.labels])
    return st.dictionaries(labels, values, max_size=3)


def buckets(metric: Metric) -> st.SearchStrategy[Buckets]:
    count = len(metric.bounds) + 1
    counts = st.lists(st.integers(0, 1 << 30), min_size=count, max_size=count)
    return st.builds(Buckets, counts, EXACT, st.dictionaries(st.integers(0, count - 1), EXEMPLARS, max_size=3))


def chosen(kinds: set[Kind], of: object) -> st.SearchStrategy[dict[str, object]]:
    optional = {m.name: series(m, of(m)) for m in TABLE if m.kind in kinds}  # type: ignore[operator]
    return st.lists(st.sampled_from(sorted(optional)), max_size=4, unique=True).flatmap(
        lambda some: st.fixed_dictionaries({name: optional[name] for name in some})
    )


READINGS = st.builds(
    Reading,
    chosen({*Kind} - {Kind.HISTOGRAM}, lambda metric: st.just(1) if metric.kind is Kind.INFO else NUMBERS),
    chosen({Kind.HISTOGRAM}, buckets),
)


@given(READINGS)
def test_one_alone_is_itself_and_nothing_adds_nothing(reading: Reading) -> None:
    assert merged([reading]) == reading
    assert merged([reading, Reading()]) == reading
    assert merged([]) == Reading()


@given(READINGS, READINGS, READINGS)
def test_neither_order_nor_grouping_shows(a: Reading, b: Reading, c: Reading) -> None:
    whole = merged([a, b, c])
    assert merged([c, a, b]) == whole
    assert merged([merged([a, b]), c]) == whole
    assert merged([a, merged([b, c])]) == whole


@given(READINGS, READINGS)
def test_histograms_and_counters_add_up(a: Reading, b: Reading) -> None:
    whole = merged([a, b])
    for metric in TABLE:
        parts = [part.histograms.get(metric.name, {}) for part in (a, b)]
        for labels, total in whole.histograms.get(metric.name, {}).items():
            found = [part[labels] for part in parts if labels in part]
            assert sum(total.counts) == sum(sum(part.counts) for part in found)
            assert total.sum == sum(part.sum for part in found)
            for bucket, exemplar in total.exemplars.items():
                assert exemplar == max(part.exemplars[bucket] for part in found if bucket in part.exemplars)
        for labels, number in whole.numbers.get(metric.name, {}).items():
            values = [n for part in (a, b) if (n := part.numbers.get(metric.name, {}).get(labels)) is not None]
            rule = {Across.SUM: sum, Across.MAX: max, Across.MIN: min}[metric.across]
            assert number == rule(values)


@given(READINGS, READINGS)
def test_merging_changes_none_of_its_parts(a: Reading, b: Reading) -> None:
    before = msgspec.msgpack.encode([a, b])
    merged([a, b])
    assert msgspec.msgpack.encode([a, b]) == before


@given(READINGS)
def test_a_reading_goes_between_processes_unchanged(reading: Reading) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(reading), type=Reading) == reading


@given(READINGS, READINGS)
def test_a_process_that_ended_takes_no_count_with_it(ended: Reading, alive: Reading) -> None:
    """So no total falls, which would look as if all had started anew."""
    before, after = merged([ended, alive]), merged([lasting(ended), alive])
    assert after.histograms == before.histograms
    for metric in TABLE:
        if metric.kind is Kind.COUNTER:
            assert after.numbers.get(metric.name) == before.numbers.get(metric.name)
        else:
            assert after.numbers.get(metric.name) == alive.numbers.get(metric.name)


@given(READINGS)
def test_whatever_it_says_the_page_can_be_read(reading: Reading) -> None:
    families = list(parse_openmetrics(render(reading, "application/openmetrics-text")[0].decode()))
    assert len(families) == len(TABLE)


def test_of_two_processes_with_different_configurations_both_are_told() -> None:
    old = Reading({names.CONFIG.name: {("v1",): 1}, names.CONFIG_LOADED.name: {(): 100.0}})
    new = Reading({names.CONFIG.name: {("v2",): 1}, names.CONFIG_LOADED.name: {(): 200.0}})

    both = merged([old, new])

    assert both.numbers[names.CONFIG.name] == {("v1",): 1, ("v2",): 1}
    assert both.numbers[names.CONFIG_LOADED.name] == {(): 100.0}


@given(READINGS)
def test_of_another_version_what_can_be_added_is_kept(reading: Reading) -> None:
    assert understood(reading) == reading
    known = names.REQUESTS.name
    strange = Reading(
        {**reading.numbers, "router_of_another_age": {("a",): 1}, known: {("too", "few"): 1}},
        {**reading.histograms, names.REQUEST_DURATION.name: {("a",): Buckets([1], 1.0)}},
    )
    left = understood(strange)
    assert "router_of_another_age" not in left.numbers
    assert not left.numbers[known]
    merged([left, reading])
