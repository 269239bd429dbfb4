"""The console's picture: differences of readings, and what several processes say as one."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.admin.live import LIMITS, OLD_S, RATE_S, SPARSE_S, SPREAD_S, Live, unjudged
from router.admin.picture import Brief, Placing, Scene, Stand, Standing
from router.admin.rates import quantile_ms
from router.telemetry import names
from router.telemetry.reading import Buckets, Reading

BOUNDS_S = names.FIRST_BYTE_BOUNDS_S


def scene(state: str = "up", for_s: float | None = None, at: float = 0.0, **more: Any) -> Scene:
    brief = Brief("req", at, "k", "api", "m", "chat", "ok", 200, "", "azure", "east/a", False, 1, [], 1.0, 2.0)
    stand = Stand("east/a", "azure", "", "m", Standing(state, "", for_s), "", draining=False)
    placing = Placing("api", "exclusive:azure", "v", ["azure"], {"m": ["east/a"]})
    return Scene(**{"config_version": "c", "decision_log": True, "signed": True, "workloads": [placing],
                    "deployments": [stand], "recent": [brief], "notable": [], **more})  # fmt: skip


def reading(requests: int, *, fast: int = 0, slow: int = 0, unserved: int = 0, strangers: int = 0) -> Reading:
    counts = [0] * (len(BOUNDS_S) + 1)
    counts[1], counts[9] = fast, slow
    refused = [unserved, *[0] * len(BOUNDS_S)]
    return Reading(
        {
            names.REQUESTS.name: {
                ("api", "m", "chat", "azure", "east", "ok"): requests,
                ("api", "m", "chat", "none", "none", "refused"): unserved,
                ("other", "other", "other", "none", "none", "client_error"): strangers,
            },
            names.OFFERS.name: {("api", "azure", "accepted"): requests, ("api", "azure", "throttled"): unserved},
            names.COST.name: {("api", "m", "azure"): requests / 1000},
        },
        {names.FIRST_BYTE.name: {("api", "azure"): Buckets(counts, 0.0), ("api", "none"): Buckets(refused, 0.0)}},
    )


def look(live: Live, at: float, numbers: Reading, *scenes: Scene) -> dict[str, Any]:
    return live.picture(numbers, scenes or (scene(),), at, 1000.0 + at)


def rate(picture: dict[str, Any]) -> float | None:
    return picture["workloads"][0]["outcomes"].get("ok")


def test_the_first_look_has_nothing_to_compare_with_and_the_second_has() -> None:
    live = Live()
    first = look(live, 0.0, reading(7))
    assert (first["over_s"], rate(first), first["first_byte"]["p50_ms"]) == (None, None, None)
    second = look(live, 2.0, reading(27, unserved=4, strangers=6))
    assert second["over_s"] == 2.0
    assert second["workloads"][0]["outcomes"] == {"ok": 10.0, "refused": 2.0}
    assert second["flows"] == [{"workload": "api", "cloud": "azure", "requests": 10.0}]
    assert second["strangers"] == 3.0
    assert second["refusals"] == [{"workload": "api", "cloud": "azure", "reason": "throttled", "rate": 2.0, "total": 4}]
    assert second["workloads"][0]["usd_per_h"] == pytest.approx(20 / 1000 / 2 * 3600)


def test_who_looks_often_sees_the_last_seconds_and_no_more() -> None:
    """100 requests a second for a while, then none: the rate is zero a little later."""
    live = Live()
    for second in range(20):
        look(live, float(second), reading(100 * min(second, 10)))
    assert rate(look(live, 20.0, reading(1000))) is None
    live = Live()
    pictures = [look(live, float(second), reading(100 * second)) for second in range(20)]
    assert [picture["over_s"] for picture in pictures[6:]] == [RATE_S] * 14
    assert all(rate(picture) == pytest.approx(100.0) for picture in pictures[1:])


def test_two_who_look_at_once_see_the_same() -> None:
    """The second is not compared with the first, who looked a moment ago."""
    live = Live()
    for second in range(10):
        one = look(live, second + 0.0, reading(100 * second))
        other = look(live, second + 0.1, reading(100 * second + 10))
    assert rate(one) == pytest.approx(100.0)
    assert rate(other) == pytest.approx(100.0)


def test_a_long_pause_is_either_the_time_that_rates_are_of_or_forgotten() -> None:
    live = Live()
    look(live, 0.0, reading(0))
    assert rate(look(live, 20.0, reading(200))) == pytest.approx(10.0)
    assert look(live, 20.0 + OLD_S + 1.0, reading(900))["over_s"] is None


def test_what_is_remembered_is_little_and_bounded() -> None:
    """A large fleet's reading takes megabytes, most of it of what no picture compares."""
    live = Live()
    for step in range(4000):
        numbers = reading(step)
        numbers.histograms[names.FIRST_TOKEN.name] = {("api", "m", "azure"): Buckets([], 0.0)}
        look(live, step / 10, numbers)
        assert len(live._looks) <= RATE_S / 0.9 + SPREAD_S / SPARSE_S + 3
    assert not any(names.FIRST_TOKEN.name in each.histograms for _, each in live._looks)
    assert live._looks[-1][0] - live._looks[0][0] >= SPREAD_S - SPARSE_S


def test_a_total_that_fell_is_no_rate() -> None:
    live = Live()
    look(live, 0.0, reading(1000, fast=100))
    picture = look(live, 1.0, reading(10, fast=10))
    assert (rate(picture), picture["first_byte"]["p50_ms"]) == (None, None)


def test_percentiles_are_of_half_a_minute_and_of_served_requests_alone() -> None:
    live = Live()
    look(live, 0.0, reading(0))
    picture = look(live, 2.0, reading(0, fast=98, slow=2, unserved=1000))
    spread = picture["workloads"][0]["first_byte"]
    assert 1.0 <= spread["p50_ms"] <= 5.0
    assert BOUNDS_S[8] * 1000 <= spread["p99_ms"] <= BOUNDS_S[9] * 1000
    assert picture["first_byte"] == spread


def test_of_several_processes_the_gravest_verdict_is_shown_with_how_many_share_it() -> None:
    scenes = scene("up", at=1.0), scene("ejected", 3.0, at=3.0), scene("ejected", 9.0, at=2.0)
    picture = look(Live(), 0.0, reading(0), *scenes)
    (deployment,) = picture["deployments"]
    assert deployment["stand"]["standing"] == {"state": "ejected", "reason": "", "for_s": 9.0}
    assert deployment["states"] == {"up": 1, "ejected": 2}
    assert [brief["at"] for brief in picture["recent"]] == [3.0, 2.0, 1.0]


def test_where_no_process_answers_there_is_a_picture_all_the_same() -> None:
    down = Reading({names.WORKER_UP.name: {("0",): 0}, names.WORKER_RESTARTS.name: {("0",): 7}})
    picture: Any = Live().picture(down, [], 0.0, 0.0)
    assert picture["workers"] == [{"worker": "0", "up": False, "restarts": 7, "loop_lag_ms": 0.0}]
    assert (picture["deployments"], picture["proof"]["decision_log"]) == ([], False)


def test_a_deployment_without_traffic_in_one_process_is_what_the_others_know() -> None:
    picture = look(Live(), 0.0, reading(0), scene("unknown"), scene("up"))
    assert picture["deployments"][0]["stand"]["standing"]["state"] == "up"


@given(st.lists(st.integers(0, 1000), min_size=len(BOUNDS_S) + 1, max_size=len(BOUNDS_S) + 1), st.floats(0.01, 1.0))
def test_a_quantile_lies_in_the_bucket_that_holds_its_rank(counts: list[int], share: float) -> None:
    value = quantile_ms(counts, BOUNDS_S, share)
    total = sum(counts)
    if not total:
        assert value is None
        return
    assert value is not None
    bounds = [0.0, *(bound * 1000 for bound in BOUNDS_S), math.inf]
    at_most = sum(count for count, low in zip(counts, bounds, strict=False) if low < value or low == 0.0)
    assert at_most >= math.floor(share * total) or value == bounds[-2]
    higher = quantile_ms(counts, BOUNDS_S, min(1.0, share + 0.1))
    assert higher is not None
    assert higher >= value


def test_verdicts_of_processes_that_are_gone_are_not_shown_as_those_of_now() -> None:
    """All workers died: what is configured is still shown, and that nobody says of a deployment that it is up."""
    picture = look(Live(), 0.0, reading(0), unjudged(scene("up", at=9.0)))
    (shown,) = picture["deployments"]
    assert shown["stand"]["standing"] == {"state": "unknown", "reason": "no_worker", "for_s": None}
    assert (shown["stand"]["refusal"], shown["states"]) == ("no_worker", {"unknown": 1})
    assert [brief["at"] for brief in picture["recent"]] == [9.0]


def limits(refused: int, left: float = 0.5) -> Reading:
    """Of three keys: `a` refuses, `b` is near its end, `c` only counts, and `d` is well."""
    return Reading(
        {
            names.LIMIT_LEFT.name: {
                ("key", "a", "rpm"): left,
                ("key", "b", "tpm"): 0.01,
                ("key", "c", "rpm"): 1.0,
                ("key", "d", "rpm"): 0.1,
            },
            names.LIMIT_REFUSALS.name: {("key", "a", "rpm"): refused, ("key", "d", "rpm"): 0},
            names.LIMIT_SHADOWED.name: {("key", "c", "rpm"): 5},
        }
    )


def test_limits_are_shown_that_refuse_or_would_or_soon_will_the_worst_first() -> None:
    live = Live()
    look(live, 0.0, limits(3))
    shown = look(live, 2.0, limits(9))["limits"]
    assert [(each["name"], each["left"], each["refused"], each["total"], each["shadowed"]) for each in shown] == [
        ("a", 0.5, 3.0, 9, 0),
        ("b", 0.01, 0.0, 0, 0),
        ("c", 1.0, 0.0, 0, 5),
    ]
    assert look(live, 4.0, reading(0))["limits"] == []


def test_of_many_limits_a_few_are_shown() -> None:
    many = Reading({names.LIMIT_LEFT.name: {("key", str(number), "rpm"): 0.0 for number in range(10_000)}})
    assert len(look(Live(), 0.0, many)["limits"]) == LIMITS


def test_a_ledger_is_shown_where_one_is_kept() -> None:
    assert look(Live(), 0.0, reading(0))["ledger"] is None
    kept = Reading(
        {
            names.LEDGER_UP.name: {(): 0},
            names.LEDGER_LAG.name: {(): 61.5},
            names.LEDGER_WAITING.name: {(): 4096},
            names.LEDGER_HELD.name: {(): 10},
            names.LEDGER_DROPPED.name: {(): 2},
            names.LEDGER_COST_TODAY.name: {(): 12.25},
        }
    )
    assert look(Live(), 0.0, kept)["ledger"] == {
        "up": False,
        "lag_s": 61.5,
        "waiting_bytes": 4096,
        "held_bytes": 10,
        "dropped": 2,
        "cost_today_usd": 12.25,
    }
