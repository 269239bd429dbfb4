"""Laws of balancing that hold for any fleet."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from router.balancing.choice import ALWAYS_IN_FLIGHT, BOUND, Affinity, Balancer, PowerOfTwo, balancer_for
from router.balancing.meter import Meter, tokens_of
from router.balancing.prices import cost_nano_usd
from router.model.fleet import Price
from router.model.policy import Prefer
from tests.unit.balancing.fleet import Ask, Drawn, Place

TOKENS = st.floats(0.0, 200_000.0)
NOW = 100.0


@st.composite
def places(draw: st.DrawFn, least: int = 1, most: int = 12) -> list[Place]:
    """Any fleet: of any sizes, busy, pressed, slow and failing in any mixture."""
    fleet = []
    for number in range(draw(st.integers(least, most))):
        meter = Meter(draw(st.floats(0.001, 10_000.0)))
        for tokens in draw(st.lists(TOKENS, max_size=6)):
            meter.begin(tokens)
        for first_byte_s in draw(st.lists(st.floats(0.0, 700.0), max_size=3)):
            meter.observe(first_byte_s, Ask(stream=draw(st.booleans())), NOW - 1.0)
        for _ in range(draw(st.integers(0, 2))):
            meter.failed(NOW - 0.5)
        meter.ramp = draw(st.floats(0.1, 1.0))
        meter.engine = draw(st.floats(1.0, 20.0))
        fleet.append(Place(f"p{number}", meter, draw(st.booleans()), draw(st.integers(0, 3))))
    return fleet


ASKS = st.builds(Ask, st.integers(1, 200_000), st.integers(0, 100_000), st.booleans(), st.integers(0, 2**64 - 1))


@given(places(), ASKS, st.sampled_from(Prefer), st.booleans(), st.integers(0, 2**32))
def test_the_pick_is_one_of_the_candidates(
    fleet: list[Place], ask: Ask, prefer: Prefer, affinity: bool, seed: int
) -> None:
    assert balancer_for(prefer, affinity, random.Random(seed)).pick(fleet, ask, NOW) in fleet


@given(places(2), ASKS, st.floats(0.0, 1.0, exclude_max=True), st.floats(0.0, 1.0, exclude_max=True))
def test_of_its_two_the_less_loaded_is_picked(fleet: list[Place], ask: Ask, first: float, second: float) -> None:
    """Whichever two the draws stand for: they differ, and the other is no less loaded."""
    pick = PowerOfTwo(Drawn(first, second)).pick(fleet, ask, NOW)
    one = int(first * len(fleet))
    other = (one + 1 + int(second * (len(fleet) - 1))) % len(fleet)
    assert one != other
    tokens = tokens_of(ask)
    if fleet[one].meter.knows(ask.stream) and fleet[other].meter.knows(ask.stream):
        loads = [place.meter.load(ask.stream, NOW, tokens) for place in fleet]
    else:  # nobody is avoided, or flooded, for what is not known of one of them
        loads = [place.meter.fullness(NOW, tokens) for place in fleet]
    assert loads[fleet.index(pick)] == min(loads[one], loads[other])


def test_who_is_not_known_yet_gets_its_share() -> None:
    """From the first request on: before a sweep has told what peers need, the first one measured is no magnet."""
    known, unknown = Place("known", Meter(100.0)), Place("unknown", Meter(100.0))
    known.meter.observe(0.001, Ask(), NOW)
    balancer = PowerOfTwo(random.Random(1))
    picked = [balancer.pick([known, unknown], Ask(), NOW).id for _ in range(200)]
    assert 60 <= picked.count("unknown") <= 140


@given(places(), st.integers(1, 2**64 - 1), st.integers(0, 2**32))
def test_one_key_has_one_home(fleet: list[Place], key: int, seed: int) -> None:
    """The order of the candidates and the random source play no part."""
    quiet = [Place(place.id, Meter(place.meter.capacity)) for place in fleet]
    home = Affinity(PowerOfTwo(random.Random(seed))).pick(quiet, Ask(affinity=key), NOW)
    shuffled = random.Random(seed).sample(quiet, len(quiet))
    assert Affinity(PowerOfTwo(random.Random(0))).pick(shuffled, Ask(affinity=key), NOW) is home


@given(places(2), st.sets(st.integers(1, 2**64 - 1), min_size=1, max_size=30), st.data())
def test_one_that_goes_moves_its_own_keys_only(fleet: list[Place], keys: set[int], data: st.DataObject) -> None:
    quiet = [Place(place.id, Meter(place.meter.capacity)) for place in fleet]
    gone = data.draw(st.sampled_from(quiet))
    left = [place for place in quiet if place is not gone]
    balancer = Affinity(PowerOfTwo(random.Random(0)))
    for key in keys:
        before = balancer.pick(quiet, Ask(affinity=key), NOW)
        after = balancer.pick(left, Ask(affinity=key), NOW)
        assert after is before or before is gone


class Never(Balancer):
    """Says that the key decided nothing."""

    def pick(self, candidates, work, now):  # type: ignore[no-untyped-def]
        raise LookupError


@given(places(), ASKS.filter(lambda ask: ask.affinity != 0))
def test_a_cache_never_outweighs_load(fleet: list[Place], ask: Ask) -> None:
    """Whom affinity picks has few requests, or at most 1.25 times its share of all tokens; and is in no trouble."""
    try:
        pick = Affinity(Never()).pick(fleet, ask, NOW)
    except LookupError:
        return
    tokens = tokens_of(ask)
    whole = sum(place.meter.capacity * place.meter.ramp for place in fleet)
    share = pick.meter.capacity * pick.meter.ramp / whole
    outstanding = sum(place.meter.tokens for place in fleet) + tokens
    within = pick.meter.tokens + tokens <= BOUND * share * outstanding * (1 + 1e-9)
    assert pick.meter.requests < ALWAYS_IN_FLIGHT or within
    assert not pick.pressed
    assert pick.meter.penalty(NOW) < 2.0


@given(
    st.integers(0, 10**11),
    st.integers(0, 10**11),
    st.none() | st.integers(0, 10**11),
    st.integers(0, 10**7),
    st.integers(0, 10**7),
    st.data(),
)
def test_a_cost_is_whole_and_half_a_nano_dollar_from_the_true_one(
    prompt_price: int,
    completion_price: int,
    cached_price: int | None,
    prompt: int,
    completion: int,
    data: st.DataObject,
) -> None:
    cached = data.draw(st.integers(0, prompt))
    cost = cost_nano_usd(Price(prompt_price, completion_price, cached_price), prompt, completion, cached)
    each = prompt_price if cached_price is None else cached_price
    millionths = (prompt - cached) * prompt_price + cached * each + completion * completion_price
    assert isinstance(cost, int)
    assert -500_000 <= millionths - cost * 1_000_000 < 500_000


class MeterLaws(RuleBasedStateMachine):
    """Requests that begin, stream more or less than was estimated, and end."""

    def __init__(self) -> None:
        super().__init__()
        self.meter = Meter(100.0)
        self.left: list[float] = []
        self.now = 0.0

    @rule(tokens=TOKENS)
    def begin(self, tokens: float) -> None:
        self.meter.begin(tokens)
        self.left.append(tokens)

    @rule(data=st.data(), share=st.floats(0.0, 1.5))
    def progress(self, data: st.DataObject, share: float) -> None:
        if self.left:
            number = data.draw(st.integers(0, len(self.left) - 1))
            streamed = self.left[number] * share
            self.meter.progress(streamed)
            self.left[number] = max(0.0, self.left[number] - streamed)

    @rule(data=st.data(), failed=st.booleans(), seconds=st.floats(0.0, 100.0))
    def end(self, data: st.DataObject, failed: bool, seconds: float) -> None:
        self.now += seconds
        if self.left:
            self.meter.end(self.left.pop(data.draw(st.integers(0, len(self.left) - 1))), self.now)
            if failed:
                self.meter.failed(self.now)
            else:
                self.meter.observe(seconds, Ask(), self.now)

    @invariant()
    def nothing_is_owed_to_it(self) -> None:
        assert self.meter.tokens >= 0.0
        assert self.meter.requests == len(self.left)
        assert self.left or self.meter.tokens == 0.0

    @invariant()
    def its_load_is_a_number(self) -> None:
        assert 0.0 <= self.meter.load(True, self.now) < float("inf")
        assert 1.0 <= self.meter.penalty(self.now) <= 2.0**20

    @invariant()
    def more_work_is_more_load(self) -> None:
        before = self.meter.load(True, self.now)
        assert self.meter.load(True, self.now, 5000.0) >= before


TestMeterLaws = MeterLaws.TestCase
TestMeterLaws.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@pytest.mark.parametrize("stream", [True, False])
@given(times=st.lists(st.floats(0.0, 5000.0), min_size=10, max_size=200), q=st.floats(0.01, 0.99))
def test_a_quantile_is_within_a_bucket_of_the_true_one(stream: bool, times: list[float], q: float) -> None:
    meter = Meter(1.0)
    for first_byte_s in times:
        meter.observe(first_byte_s, Ask(stream=stream), NOW)
    ordered = sorted(min(max(each, 0.001), 2000.0) for each in times)
    rank = min(len(ordered) - 1, max(0, -int(-q * len(ordered) // 1) - 1))
    assert ordered[rank] / 1.2 <= meter.quantile_s(q, stream) <= ordered[min(rank + 1, len(ordered) - 1)] * 1.2 + 1e-9
