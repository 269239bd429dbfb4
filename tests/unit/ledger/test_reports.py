"""Reports against a plain sum over the same records, on both databases."""

import asyncio
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from math import inf
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from router.ledger.reports import PARTS, Usage, key_usage, usage
from router.ledger.rows import SUMS
from router.ledger.store import Position, Store
from router.model import outcome
from router.model.outcome import AttemptRecord, RequestRecord

HOUR = 3600
NOON = 1_924_992_000 + 12 * HOUR  # of 2031-01-01, UTC


def record(number: int, at: float, **more: Any) -> RequestRecord:
    """A request that failed once elsewhere, and was served."""
    told = outcome.Usage(100 + number, 10, 5, 1)
    attempts = (
        AttemptRecord("lost/dep", "azure", "timeout", usage=outcome.Usage(90), estimated=True, cost_nano_usd=1_000),
        AttemptRecord("ord/dep", "coreweave", "served", 200, usage=told, cost_nano_usd=5_000 + number),
    )
    return RequestRecord(
        **{
            "id": f"req-{number}",
            "at": at,
            "outcome": "ok",
            "status": 200,
            "total_ms": 10.0,
            "key": "acme",
            "workload": "internal",
            "model": "gpt-4o",
            "plan": "first_refusal:azure",
            "served_by": "ord/dep",
            "cloud": "coreweave",
            "attempts": attempts,
            "usage": told,
            "cost_nano_usd": 5_000 + number,
            "bytes_in": 1_000,
            "bytes_out": 600,
            **more,
        }
    )


async def add(store: Store, *records: RequestRecord) -> None:
    await store.add(records, Position("0", 1, 1))


def by(found: Usage, *names: str) -> dict[tuple[str, ...], tuple[int, ...]]:
    return {line.of: tuple(line.sums[name] for name in names) for line in found.lines}


async def test_requests_count_where_they_were_served_and_attempts_where_they_were_sent(store: Store) -> None:
    await add(store, record(1, NOON), record(2, NOON))
    found = await usage(store, ["cloud"], NOON)
    assert by(found, "requests", "attempts", "estimated", "cost_nano_usd", "charged_nano_usd") == {
        ("azure",): (0, 2, 2, 2_000, 0),
        ("coreweave",): (2, 2, 0, 10_003, 10_003),
    }


async def test_a_period_begins_and_ends_within_an_hour(store: Store) -> None:
    moments = [NOON - 0.5, NOON, NOON + 1799.5, NOON + 1800, NOON + HOUR, NOON + 2 * HOUR, NOON + 2 * HOUR + 900]
    await add(store, *(record(number, at) for number, at in enumerate(moments)))
    for since, until, count in (
        (NOON, inf, 6),
        (NOON + 1800, inf, 4),
        (NOON + 1800, NOON + 2 * HOUR + 1, 3),
        (NOON + 1800, NOON + 2 * HOUR, 2),
        (NOON + 1, NOON + 1800, 1),
        (NOON, NOON, 0),
        (NOON + 9 * HOUR, inf, 0),
    ):
        lines = (await usage(store, [], since, until)).lines
        assert sum(line.sums["requests"] for line in lines) == count, (since, until)


async def test_an_hour_whose_entries_have_left_is_told_whole(store: Store) -> None:
    await add(store, record(1, NOON), record(2, NOON + 120), record(3, NOON + HOUR))
    while await store.prune(NOON + HOUR):
        pass
    found = await usage(store, ["hour"], NOON + 60.0)
    assert found.since == NOON, "the period that it is of is said"
    assert by(found, "requests") == {("2031-01-01T12:00Z",): (2,), ("2031-01-01T13:00Z",): (1,)}


async def test_a_period_that_ends_in_an_hour_whose_entries_have_left_ends_with_it(store: Store) -> None:
    await add(store, record(1, NOON), record(2, NOON + 60), record(3, NOON + 5 * HOUR))
    while await store.prune(NOON + HOUR):
        pass
    found = await usage(store, ["hour"], NOON - HOUR, NOON + 1800)
    assert (found.since, found.until) == (NOON - HOUR, NOON + HOUR), "the period that it is of is said"
    assert by(found, "requests", "attempts") == {("2031-01-01T12:00Z",): (2, 4)}


async def test_times_are_hours_days_and_months_of_utc(store: Store) -> None:
    moments = [NOON, NOON + HOUR, NOON + 12 * HOUR, NOON + 31 * 24 * HOUR]
    await add(store, *(record(number, at) for number, at in enumerate(moments)))
    days = by(await usage(store, ["day"], 0.0), "requests")
    assert days == {("2031-01-01",): (2,), ("2031-01-02",): (1,), ("2031-02-01",): (1,)}
    assert by(await usage(store, ["month"], 0.0), "requests") == {("2031-01",): (3,), ("2031-02",): (1,)}
    with_key = by(await usage(store, ["month", "key"], 0.0), "requests")
    assert with_key == {("2031-01", "acme"): (3,), ("2031-02", "acme"): (1,)}
    both = by(await usage(store, ["hour", "month"], 0.0), "requests")
    assert both["2031-01-01T13:00Z", "2031-01"] == (1,)
    assert len(both) == 4


async def test_a_keys_own_figures_are_its_answers_and_nobody_elses(store: Store) -> None:
    await add(
        store,
        record(1, NOON),
        record(2, NOON + HOUR, model="gpt-4o-mini"),
        record(3, NOON + 24 * HOUR),
        record(4, NOON, key="other"),
        record(5, NOON, model="", operation="usage"),
    )
    found = await key_usage(store, "acme", NOON, NOON + 30 * HOUR, "day")
    day_1 = {"prompt_tokens": 101, "cached_tokens": 5, "completion_tokens": 10, "reasoning_tokens": 1}
    mini, day_2 = {**day_1, "prompt_tokens": 102}, {**day_1, "prompt_tokens": 103}
    assert found["data"] == [
        {"day": "2031-01-01", "model": "gpt-4o", "requests": 1, **day_1, "cost_nano_usd": 5_001},
        {"day": "2031-01-01", "model": "gpt-4o-mini", "requests": 1, **mini, "cost_nano_usd": 5_002},
        {"day": "2031-01-02", "model": "gpt-4o", "requests": 1, **day_2, "cost_nano_usd": 5_003},
    ]
    assert (found["key"], found["since"], found["until"]) == ("acme", "2031-01-01T00:00:00Z", "2031-01-03T00:00:00Z")
    assert found["total"] == {
        "requests": 3,
        "prompt_tokens": 306,
        "cached_tokens": 15,
        "completion_tokens": 30,
        "reasoning_tokens": 3,
        "cost_nano_usd": 15_006,
    }


async def test_an_empty_store_says_so_by_no_lines(store: Store) -> None:
    assert (await usage(store, ["key", "day"], 0.0)).lines == []
    empty = await key_usage(store, "acme", NOON, NOON + HOUR, "hour")
    assert (empty["data"], empty["until"]) == ([], "2031-01-01T13:00:00Z")


def told_of(records: Iterable[RequestRecord], parts: list[str], since: float, until: float) -> Usage:
    """What a store says that holds these."""

    async def run(folder: str) -> Usage:
        store = Store(f"sqlite:///{folder}/ledger.db")
        try:
            await store.migrate()
            await add(store, *records)
            return await usage(store, parts, since, until)
        finally:
            await store.close()

    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(run(folder))


MOMENTS = st.integers(0, 4 * HOUR).map(lambda second: float(NOON + second))
NAMES = st.sampled_from(["a", "b"])
RECORDS = st.lists(st.tuples(MOMENTS, NAMES, NAMES, st.sampled_from(["ok", "client_gone"])), max_size=12)


@settings(max_examples=25)
@given(
    RECORDS,
    MOMENTS,
    st.one_of(st.just(inf), MOMENTS),
    st.lists(st.sampled_from(PARTS), unique=True, max_size=3),
)
def test_lines_are_what_a_plain_sum_over_the_requests_says(
    told: list[tuple[float, str, str, str]],
    since: float,
    until: float,
    parts: list[str],
) -> None:
    """Whatever the period and the parts: no entry of it is left out, none of another counts, none counts twice."""
    records = [
        record(number, at, key=key, model=model, outcome=ended) for number, (at, key, model, ended) in enumerate(told)
    ]
    found = told_of(records, parts, since, until)
    expected: dict[str, int] = defaultdict(int)
    for each in records:
        if found.since <= each.at < until:
            expected["requests"] += 1
            expected["ok"] += each.outcome == "ok"
            expected["charged_nano_usd"] += each.cost_nano_usd
            for attempt in each.attempts:
                expected["attempts"] += 1
                expected["cost_nano_usd"] += attempt.cost_nano_usd
                expected["prompt_tokens"] += attempt.usage.prompt_tokens if attempt.usage else 0
    for name in ("requests", "ok", "attempts", "cost_nano_usd", "charged_nano_usd", "prompt_tokens"):
        assert sum(line.sums[name] for line in found.lines) == expected[name], name
    assert len({line.of for line in found.lines}) == len(found.lines)
    assert all(set(line.sums) == set(SUMS) for line in found.lines)
