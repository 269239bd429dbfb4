"""Limits and shapes decide whether a load test passes: they are held against figures whose verdict is known."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.locust import limits
from loadtests.locust.host import why_not
from loadtests.locust.limits import Figures, LimitsError, Statistic, Verdict, Window, judged, percentile, read_limits
from loadtests.locust.shapes import STEP_S, Plan, Ramp, Stage, Totals, plan, spike
from loadtests.locust.soak import Sample
from loadtests.locust.soak import judged as grown
from loadtests.locust.summary import with_verdicts

FIGURES = Figures(
    (
        Statistic("POST", "chat", 90, 1, {100: 80, 400: 9, 900: 1}),
        Statistic("POST", "embeddings", 10, 0, {50: 10}),
        Statistic("TTFT", "chat stream", 50, 0, {20: 49, 700: 1}),
    ),
    {"RefusedError('429 rate_limit_exceeded')": 1},
)


def verdict_of(name: str, limit: float, figures: Figures = FIGURES) -> Verdict:
    (found,) = judged({name: limit}, figures)
    return found


@pytest.mark.parametrize(
    ("name", "figure"),
    [
        ("errors", 0.01),
        ("wrong", 0),
        ("POST.p50", 100),
        ("POST.p99", 400),
        ("POST:embeddings.p99", 50),
        ("TTFT.p95", 20),
        ("TTFT.p99", 700),
    ],
)
def test_a_limit_is_kept_up_to_the_figure_itself(name: str, figure: float) -> None:
    assert FIGURES.figure(name) == figure
    assert verdict_of(name, figure).kept
    assert not verdict_of(name, figure - 0.001).kept


def test_wrong_answers_are_told_from_honest_failures() -> None:
    errors = {"WrongAnswerError('a stream without [DONE]')": 3, "CutError('ended inside its answer')": 2}
    assert Figures((), errors).figure("wrong") == 3


@pytest.mark.parametrize("name", ["GAP.p99", "POST:images.p99", "after.p95", "knee.rate"])
def test_what_was_not_measured_does_not_keep_its_limit(name: str) -> None:
    found = verdict_of(name, 1e9)
    assert not found.kept
    assert found.figure == "not measured"


def test_no_request_at_all_is_no_success() -> None:
    assert not verdict_of("errors", 0.5, Figures(())).kept


def test_a_knee_must_be_reached_and_not_stayed_below() -> None:
    figures = Figures((), knee=Window("step 3", 40, 5.0, 500, 0, {10: 500}))
    assert verdict_of("knee.rate", 100, figures).kept
    assert not verdict_of("knee.rate", 101, figures).kept
    assert verdict_of("knee.users", 40, figures).kept


def test_after_a_spike_is_compared_with_before_it() -> None:
    windows = [Window(name, 1, 1, 10, 0, {ms: 10}) for name, ms in (("before", 100), ("spike", 900), ("after", 120))]
    figures = Figures((), windows=windows)
    assert figures.figure("after.p95") == pytest.approx(1.2)
    assert verdict_of("after.p95", 1.5, figures).kept
    assert not verdict_of("after.p95", 1.1, figures).kept


def test_limits_of_ones_own_are_read_and_never_allow_a_wrong_answer() -> None:
    assert read_limits("errors=0.02 TTFT.p99=900 POST:chat stream.p95=1500") == {
        "wrong": 0.0,
        "errors": 0.02,
        "TTFT.p99": 900.0,
        "POST:chat stream.p95": 1500.0,
    }


@pytest.mark.parametrize("text", ["errors", "errors=", "errors=few", "TTFT.p42=3", "LATENCY.p99=3", "TTFT=3"])
def test_limits_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(LimitsError):
        read_limits(text)


@pytest.mark.parametrize("shape", sorted(limits.LIMITS))
def test_every_shapes_limits_can_be_judged(shape: str) -> None:
    assert limits.LIMITS[shape]["wrong"] == 0
    assert len(judged(limits.LIMITS[shape], FIGURES)) == len(limits.LIMITS[shape])


@given(st.dictionaries(st.integers(0, 5000), st.integers(1, 50), min_size=1), st.floats(0.01, 1))
def test_a_percentile_was_seen_and_has_its_share_below_it(times: dict[int, int], share: float) -> None:
    found = percentile(times, share)
    assert found in times
    total = sum(times.values())
    assert sum(count for time, count in times.items() if time <= found) >= share * total - 1e-9
    assert sum(count for time, count in times.items() if time < found) < share * total + 1e-9


def test_the_verdict_stands_in_the_report_and_cannot_break_it() -> None:
    page = with_verdicts('<body><div id="root"></div></body>', [Verdict("a<b", "≤ 1", "2", kept=False)])
    assert page.index("a&lt;b") < page.index('<div id="root">')
    assert "broken" in page


# Shapes.


def driven(chosen: Plan, rate: float, p99_ms: dict[int, int], failed: dict[int, float] | None = None) -> list[int]:
    """Asks a plan each second; users answer `rate` requests a second each, in the time that goes with their number."""
    users: list[int] = []
    requests = failures = 0
    times: dict[int, int] = {}
    now = chosen.users(0, Totals(0, 0, {}))
    second = 0
    while now is not None:
        users.append(now)
        second += 1
        done = round(now * rate)
        requests += done
        failures += round(done * (failed or {}).get(now, 0.0))
        time = p99_ms.get(now, 100)
        times[time] = times.get(time, 0) + done
        now = chosen.users(second, Totals(requests, failures, dict(times)))
    return users


def test_a_spike_comes_and_goes() -> None:
    chosen = Plan(spike(40, 9))
    assert driven(chosen, 10, {40: 300}) == [10] * 3 + [40] * 3 + [10] * 3
    assert [window.stage for window in chosen.windows] == ["before", "spike", "after"]
    assert percentile(chosen.windows[1].times, 0.99) == 300
    assert chosen.windows[0].rate == chosen.windows[2].rate == 100


def test_a_window_leaves_out_the_second_in_which_users_come() -> None:
    chosen = Plan([Stage("one", 10, 5), Stage("two", 20, 5)])
    driven(chosen, 1, {})
    assert [(window.seconds, window.requests) for window in chosen.windows] == [(4, 40), (4, 80)]


def test_a_ramp_ends_where_answers_become_slow_and_the_step_before_is_the_knee() -> None:
    chosen = Ramp(160, 60)
    users = driven(chosen, 10, {34: 240, 51: 260})
    assert sorted(set(users)) == [10, 15, 22, 34, 51]
    assert chosen.knee is not None
    assert chosen.knee.users == 34
    assert "2.6 times" in chosen.stopped_by


def test_a_ramp_ends_where_requests_fail() -> None:
    chosen = Ramp(160, 60)
    driven(chosen, 10, {}, {22: 0.05})
    assert chosen.knee is not None
    assert chosen.knee.users == 15
    assert chosen.stopped_by == "5.0% of the requests failed"


def test_a_ramp_whose_first_step_fails_has_no_knee() -> None:
    chosen = Ramp(160, 60)
    driven(chosen, 10, {}, {10: 1.0})
    assert chosen.knee is None
    assert not verdict_of("knee.rate", 1, Figures((), knee=chosen.knee)).kept


def test_a_ramp_never_passes_its_most_users_nor_its_time() -> None:
    assert max(driven(Ramp(160, 600), 10, {})) == 160
    assert len(driven(Ramp(160, 20), 10, {})) == 20
    assert len(driven(Ramp(8, 2), 10, {})) == 2


def test_a_ramp_does_not_take_locusts_limit_for_the_routers() -> None:
    chosen = Ramp(160, 60)
    totals = Totals(0, 0, {})
    for second in range(int(STEP_S) + 1):
        totals = Totals(second * 100, 0, {100: second * 100})
        ended = chosen.users(second, totals, generator_cpu=0.95)
    assert ended is None
    assert "Locust itself" in chosen.stopped_by


@given(
    st.sampled_from(["steady", "ramp", "spike", "soak", "outage"]),
    st.integers(1, 500),
    st.floats(3, 90),
)
def test_every_shape_ends_in_its_time_with_its_users(shape: str, users: int, seconds: float) -> None:
    asked = driven(plan(shape, users, seconds), 5, {})
    assert len(asked) <= seconds + 3
    assert all(1 <= each <= users for each in asked)


# Soaks.


def samples(pss: list[float], files: int = 50, lag_ms: float = 1.0) -> list[Sample]:
    return [Sample(float(at), mib, files, lag_ms) for at, mib in enumerate(pss)]


def kept(found: list[Verdict]) -> dict[str, bool]:
    return {each.what: each.kept for each in found}


def test_a_leak_is_growth_and_a_cache_that_warms_is_none() -> None:
    warms = [60.0] * 20 + [100.0] * 80
    leaks = [100 + 0.2 * at for at in range(100)]
    assert kept(grown(samples(warms)))["growth of memory (PSS)"]
    assert not kept(grown(samples(leaks)))["growth of memory (PSS)"]


def test_one_high_sample_is_no_growth() -> None:
    assert all(kept(grown(samples([100.0] * 50 + [400.0] + [100.0] * 50))).values())


def test_files_and_lag_are_watched_too() -> None:
    begin, end = samples([100.0] * 60), samples([100.0] * 40, files=120, lag_ms=40.0)
    found = kept(grown([*begin, *end]))
    assert found == {"growth of memory (PSS)": True, "growth of open files": False, "growth of event-loop lag": False}


def test_too_few_samples_prove_nothing() -> None:
    assert not any(kept(grown(samples([100.0] * 5))).values())


# Hosts.


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080", "http://localhost", "http://[::1]:9", "", "https://127.9.9.9/x"]
)
def test_this_machine_may_be_loaded(url: str) -> None:
    assert why_not(url, "") == ""


@pytest.mark.parametrize("url", ["https://gateway.example", "http://10.0.0.1", "http://127.0.0.1.example", "gateway"])
def test_another_one_only_by_its_name(url: str) -> None:
    assert "--yes-i-may-load" in why_not(url, "")
    assert why_not(url, "other.example")


def test_who_says_so_may_load_it() -> None:
    assert why_not("https://Gateway.example:8443/v1", "gateway.example") == ""
    assert why_not("https://gateway.example", "Gateway.Example") == ""
