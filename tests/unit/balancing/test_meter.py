"""Outstanding tokens, first bytes that jump up and fade, and failures that cost more than slowness."""

import pytest

from router.balancing.meter import Meter, tokens_of
from router.balancing.peers import tell_peers
from tests.unit.balancing.fleet import Ask

NO_PROMPT = Ask(prompt_tokens=0)


def seen(first_byte_s: float, *, times: int = 20, until: float = 100.0, ask: Ask = NO_PROMPT) -> Meter:
    """A meter that saw so many equal answers, ten a second, up to `until`."""
    meter = Meter(100.0)
    for number in range(times):
        meter.observe(first_byte_s, ask, until - (times - 1 - number) * 0.1)
    return meter


def test_what_is_outstanding_comes_and_goes() -> None:
    meter = Meter(100.0)
    meter.begin(700.0)
    meter.begin(300.0)
    meter.progress(200.0)
    assert (meter.tokens, meter.requests) == (800.0, 2)
    meter.end(500.0, 1.0)
    assert (meter.tokens, meter.requests) == (300.0, 1)
    meter.end(300.0, 2.0)
    assert (meter.tokens, meter.requests) == (0.0, 0)


def test_an_answer_longer_than_its_estimate_owes_nothing() -> None:
    meter = Meter(100.0)
    meter.begin(100.0)
    meter.progress(250.0)
    assert meter.tokens == 0.0
    meter.end(0.0, 1.0)
    assert meter.tokens == 0.0


@pytest.mark.parametrize(("allowed", "counted"), [(0, 600.0), (50, 150.0), (16_000, 600.0)])
def test_what_a_client_allows_counts_only_where_it_is_little(allowed: int, counted: float) -> None:
    assert tokens_of(Ask(prompt_tokens=100, completion_tokens_max=allowed)) == counted


def test_load_is_outstanding_work_in_proportion_to_capacity() -> None:
    small, large = Meter(100.0), Meter(200.0)
    assert small.load(True, 0.0) == 2 * large.load(True, 0.0)
    large.begin(1000.0)
    assert small.load(True, 0.0) == large.load(True, 0.0)
    large.ramp = 0.1
    assert large.load(True, 0.0) == pytest.approx(10 * small.load(True, 0.0))
    small.engine = 3.0
    assert small.load(True, 0.0) == pytest.approx(0.3 * large.load(True, 0.0))


def test_a_slower_answer_moves_the_cost_at_once_and_a_faster_one_slowly() -> None:
    ask = Ask(prompt_tokens=0)
    up, down = seen(0.5), seen(5.0)
    up.observe(5.0, ask, 100.1)
    down.observe(0.5, ask, 100.1)
    assert up.cost_s(True, 100.1) == pytest.approx(0.5 + 4.5 / 4)
    assert down.cost_s(True, 100.1) > 4.9


def test_ten_times_slower_shows_within_a_few_answers() -> None:
    meter = seen(0.5)
    for number in range(5):
        meter.observe(5.0, Ask(prompt_tokens=0), 100.0 + number * 0.1)
    assert meter.cost_s(True, 100.5) > 0.7 * 5.0


def test_what_is_old_fades_to_the_view_of_the_peers() -> None:
    slow, usual, fast = seen(5.0), seen(0.5), seen(0.3)
    tell_peers([slow, usual, fast])
    assert slow.cost_s(True, 100.0) == pytest.approx(5.0)
    assert slow.cost_s(True, 110.0) == pytest.approx(0.5 + 4.5 / 2.718, rel=0.01)
    assert slow.cost_s(True, 200.0) == pytest.approx(0.5, rel=0.01)
    assert fast.cost_s(True, 200.0) == pytest.approx(0.5, rel=0.01)


def test_clearly_slower_than_the_peers_counts_twice() -> None:
    slow, usual = seen(5.0), seen(0.5)
    tell_peers([slow, usual])
    assert slow.load(True, 100.0) == pytest.approx(usual.load(True, 100.0) * 10 * (10 / 1.5))
    a_little = seen(0.7)
    tell_peers([a_little, usual])
    assert a_little.load(True, 100.0) == pytest.approx(usual.load(True, 100.0) * 1.4)


def test_an_unknown_one_is_taken_for_one_of_its_peers() -> None:
    new, known = Meter(100.0), seen(7.0)
    tell_peers([new, known])
    assert new.cost_s(True, 100.0) == pytest.approx(7.0)
    assert new.first_byte_s(True) == 0.0


def test_peers_that_know_nothing_say_nothing() -> None:
    meters = [Meter(1.0), Meter(1.0)]
    before = meters[0].cost_s(True, 0.0)
    tell_peers(meters)
    assert meters[0].cost_s(True, 0.0) == before > 0.0


def test_streams_and_whole_answers_are_apart() -> None:
    meter = seen(0.5)
    meter.observe(20.0, Ask(prompt_tokens=0, stream=False), 100.0)
    assert meter.first_byte_s(True) == pytest.approx(0.5)
    assert meter.first_byte_s(False) == pytest.approx(20.0)
    assert meter.cost_s(True, 100.0) == pytest.approx(0.5)


def test_long_prompts_do_not_make_a_deployment_slow() -> None:
    short, long = seen(0.5), seen(1.0, ask=Ask(prompt_tokens=4000))
    assert long.first_byte_s(True) == pytest.approx(short.first_byte_s(True))
    assert long.load(True, 100.0) == pytest.approx(short.load(True, 100.0))


def test_each_failure_doubles_the_cost_and_time_lets_it_fade() -> None:
    meter = seen(0.5)
    for count in range(1, 6):
        meter.failed(100.0)
        assert meter.penalty(100.0) == 2.0**count
    assert meter.cost_s(True, 100.0) == pytest.approx(16.0)
    assert meter.penalty(110.0) == pytest.approx(1 + 31 / 2.718, rel=0.01)
    assert meter.penalty(200.0) == pytest.approx(1.0, abs=0.01)


def test_penalties_have_an_end() -> None:
    meter = Meter(100.0)
    for _ in range(2000):
        meter.failed(1.0)
    assert meter.penalty(1.0) == 2.0**20


def test_a_few_successes_make_good_for_failures() -> None:
    meter = seen(0.5)
    for _ in range(3):
        meter.failed(100.0)
    for number in range(6):
        meter.observe(0.5, Ask(prompt_tokens=0), 100.1 + number * 0.01)
    assert meter.penalty(100.2) == 1.0


def test_forgiven_is_unknown_again() -> None:
    meter, peer = seen(5.0), seen(0.5)
    meter.failed(100.0)
    tell_peers([meter, peer, seen(0.5)])
    meter.forgive()
    assert meter.cost_s(True, 100.0) == pytest.approx(0.5)
    assert meter.first_byte_s(True) == 0.0


def test_quantiles_of_recent_first_bytes() -> None:
    meter = Meter(100.0)
    assert meter.quantile_s(0.95) == 0.0
    for number in range(1000):
        meter.observe(0.1 + number / 1000, Ask(), 10.0 + number / 1000)
    assert meter.quantile_s(0.5) == pytest.approx(0.6, rel=0.1)
    assert meter.quantile_s(0.95) == pytest.approx(1.05, rel=0.1)
    assert meter.quantile_s(0.5, stream=False) == 0.0


def test_quantiles_follow_what_changed() -> None:
    meter = seen(0.2, times=1000, until=100.0)
    for number in range(600):
        meter.observe(2.0, Ask(), 150.0 + number * 0.1)
    assert meter.quantile_s(0.5) == pytest.approx(2.0, rel=0.1)
