"""Which candidate is picked, by each of the balancers."""

import random
from collections import Counter

import pytest

from router.balancing.choice import Affinity, Balancer, Cheapest, Fastest, PowerOfTwo, Weighted, balancer_for
from router.balancing.meter import Meter
from router.balancing.peers import tell_peers
from router.model.policy import Prefer
from tests.unit.balancing.fleet import Ask, Drawn, Place, fleet

ASK = Ask()


def picked(balancer: Balancer, places: list[Place], times: int = 3000, now: float = 0.0) -> Counter[str]:
    return Counter(balancer.pick(places, ASK, now).id for _ in range(times))


class TestPowerOfTwo:
    def test_one_is_taken_without_a_draw(self) -> None:
        only = fleet(9.0)
        assert PowerOfTwo(Drawn()).pick(only, ASK, 0.0) is only[0]

    def test_the_worst_is_never_taken_where_there_is_another(self) -> None:
        places = fleet(5000.0, 1000.0, 2000.0, 3000.0)
        counts = picked(PowerOfTwo(random.Random(1)), places)
        assert counts["place-0"] == 0
        assert counts["place-1"] > counts["place-2"] > counts["place-3"] > 0

    @pytest.mark.parametrize("n", [2, 3, 7])
    def test_equal_ones_share_equally(self, n: int) -> None:
        counts = picked(PowerOfTwo(random.Random(n)), fleet(*[1000.0] * n), 3000 * n)
        assert all(abs(count - 3000) < 250 for count in counts.values()), counts

    def test_every_pair_is_compared_equally_often(self) -> None:
        """With strictly ordered loads the shares are known: of n = 4, 1/2, 1/3, 1/6 and none."""
        counts = picked(PowerOfTwo(random.Random(4)), fleet(1000.0, 2000.0, 3000.0, 4000.0), 12_000)
        for name, share in (("place-0", 1 / 2), ("place-1", 1 / 3), ("place-2", 1 / 6), ("place-3", 0.0)):
            assert abs(counts[name] / 12_000 - share) < 0.02

    def test_load_spreads_by_itself(self) -> None:
        """Each pick adds load and none is given back: no one is far ahead of the mean."""
        places, balancer = fleet(*[0.0] * 10), PowerOfTwo(random.Random(3))
        for _ in range(10_000):
            balancer.pick(places, ASK, 0.0).meter.begin(600.0)
        requests = [place.meter.requests for place in places]
        assert max(requests) - min(requests) < 12  # a single random choice would spread by about a hundred

    def test_capacity_is_filled_in_proportion(self) -> None:
        places = [Place("small", Meter(100.0)), Place("large", Meter(300.0))]
        balancer = PowerOfTwo(random.Random(3))
        for _ in range(4000):
            balancer.pick(places, ASK, 0.0).meter.begin(600.0)
        assert places[1].meter.requests == pytest.approx(3000, abs=30)


class TestAFastFailer:
    def test_it_gets_probes_only_beside_a_slow_healthy_one(self) -> None:
        """100 requests a second for a minute; the healthy one takes 10 s for each, the other fails at once."""
        failer, slow = Place("failer"), Place("slow")
        balancer = PowerOfTwo(random.Random(1))
        asked = 0
        pending: list[float] = []
        for step in range(6000):
            now = step * 0.01
            while pending and pending[0] <= now:
                pending.pop(0)
                slow.meter.observe(10.0, ASK, now)
                slow.meter.end(600.0, now)
            place = balancer.pick([failer, slow], ASK, now)
            place.meter.begin(600.0)
            if place is slow:
                pending.append(now + 10.0)
            else:
                asked += 1
                place.meter.end(600.0, now)
                place.meter.failed(now)
        assert asked < 40

    def test_one_that_fails_half_the_time_loses_most_of_its_share(self) -> None:
        rng = random.Random(5)
        half, well = Place("half"), Place("well")
        balancer = PowerOfTwo(rng)
        asked = 0
        for step in range(6000):
            now = step * 0.05
            place = balancer.pick([half, well], ASK, now)
            if place is half:
                asked += 1
            if place is half and rng.random() < 0.5:
                place.meter.failed(now)
            else:
                place.meter.observe(0.5, ASK, now)
        assert asked < 0.1 * 6000

    def test_it_is_asked_again_when_it_is_well(self) -> None:
        rng = random.Random(2)
        places, balancer = fleet(0.0, 0.0), PowerOfTwo(rng)
        for _ in range(10):
            places[0].meter.failed(0.0)
        assert picked(balancer, places, 100, now=5.0)["place-0"] == 0
        counts: Counter[str] = Counter()
        for step in range(4000):
            now = 5.0 + step * 0.05
            tell_peers(place.meter for place in places)
            place = balancer.pick(places, ASK, now)
            place.meter.observe(rng.lognormvariate(-0.7, 0.3), ASK, now)
            counts[place.id] += now > 105.0
        assert counts["place-0"] == pytest.approx(1000, rel=0.2)


class TestWeighted:
    def test_shares_follow_capacity(self) -> None:
        """Chi-square of 6,000 draws with 2 degrees of freedom: above 13.8 once in a thousand."""
        places = [Place("one", Meter(1.0)), Place("two", Meter(2.0)), Place("three", Meter(3.0))]
        counts = picked(Weighted(random.Random(1)), places, 6000)
        expected = {"one": 1000, "two": 2000, "three": 3000}
        assert sum((counts[name] - want) ** 2 / want for name, want in expected.items()) < 13.8

    def test_slow_start_counts(self) -> None:
        places = fleet(0.0, 0.0)
        places[0].meter.ramp = 0.1
        assert picked(Weighted(random.Random(1)), places, 11_000)["place-0"] == pytest.approx(1000, abs=120)

    def test_a_draw_at_the_very_end_is_somebodys(self) -> None:
        places = fleet(0.0, 0.0, 0.0)
        assert Weighted(Drawn(1.0)).pick(places, ASK, 0.0) is places[-1]


class TestCheapest:
    def test_price_decides_until_pressure_does(self) -> None:
        places = [Place("dear", price=9), Place("cheap", price=1), Place("usual", price=5)]
        balancer = Cheapest(random.Random(1))
        assert balancer.pick(places, ASK, 0.0).id == "cheap"
        places[1].pressed = True
        assert balancer.pick(places, ASK, 0.0).id == "usual"

    def test_where_all_are_pressed_price_decides_again(self) -> None:
        places = [Place("dear", price=9, pressed=True), Place("cheap", price=1, pressed=True)]
        assert Cheapest(random.Random(1)).pick(places, ASK, 0.0).id == "cheap"

    def test_equal_prices_are_balanced(self) -> None:
        places = fleet(5000.0, 0.0, 2000.0)
        counts = picked(Cheapest(random.Random(1)), places)
        assert counts["place-0"] == 0
        assert counts["place-1"] > counts["place-2"] > 0


class TestFastest:
    def known(self, *first_bytes_s: float) -> list[Place]:
        places = fleet(*[0.0] * len(first_bytes_s))
        for place, first_byte_s in zip(places, first_bytes_s, strict=True):
            for _ in range(3):
                place.meter.observe(first_byte_s, Ask(prompt_tokens=0), 100.0)
        return places

    def test_the_fastest_is_taken_and_those_as_good_share(self) -> None:
        places, balancer = self.known(0.5, 0.55, 2.0), Fastest(random.Random(1))
        for _ in range(200):
            balancer.pick(places, ASK, 100.0).meter.begin(600.0)
        assert [place.meter.requests for place in places] == [pytest.approx(105, abs=5), pytest.approx(95, abs=5), 0]

    def test_a_pressed_one_is_left(self) -> None:
        places = self.known(0.5, 2.0)
        places[0].pressed = True
        assert Fastest(random.Random(1)).pick(places, ASK, 100.0) is places[1]

    def test_a_failing_one_is_not_fast(self) -> None:
        places = self.known(0.1, 1.0)
        for _ in range(5):
            places[0].meter.failed(100.0)
        assert Fastest(random.Random(1)).pick(places, ASK, 100.0) is places[1]


class TestAffinity:
    def balancer(self) -> Balancer:
        return Affinity(PowerOfTwo(random.Random(1)))

    def test_one_key_goes_to_one_place_while_loads_are_equal(self) -> None:
        places = fleet(*[0.0] * 5)
        homes = {key: self.balancer().pick(places, Ask(affinity=key), 0.0).id for key in range(1, 200)}
        balancer = self.balancer()
        for key, home in homes.items():
            assert balancer.pick(places[::-1], Ask(affinity=key), 0.0).id == home
        assert len(set(homes.values())) == 5

    def test_keys_share_by_capacity(self) -> None:
        places = [Place("small", Meter(100.0)), Place("large", Meter(300.0))]
        balancer = self.balancer()
        counts = Counter(balancer.pick(places, Ask(affinity=key), 0.0).id for key in range(1, 4001))
        assert counts["large"] == pytest.approx(3000, abs=150)

    def test_a_loaded_home_is_skipped_for_the_next_of_the_keys_own_order(self) -> None:
        places, balancer, ask = fleet(*[0.0] * 4), self.balancer(), Ask(affinity=77)
        home = balancer.pick(places, ask, 0.0)
        others = [place for place in places if place is not home]
        second = balancer.pick(others, ask, 0.0)
        for _ in range(4):
            home.meter.begin(600.0)
        assert {balancer.pick(places, ask, 0.0).id for _ in range(20)} == {second.id}

    def test_a_few_in_flight_are_no_load(self) -> None:
        places, balancer, ask = fleet(0.0, 0.0), self.balancer(), Ask(affinity=77)
        home = balancer.pick(places, ask, 0.0)
        for _ in range(3):
            home.meter.begin(600.0)
        assert balancer.pick(places, ask, 0.0) is home

    @pytest.mark.parametrize("trouble", ["pressed", "failing"])
    def test_a_home_in_trouble_is_left(self, trouble: str) -> None:
        places, balancer, ask = fleet(0.0, 0.0), self.balancer(), Ask(affinity=77)
        home = balancer.pick(places, ask, 0.0)
        if trouble == "pressed":
            home.pressed = True
        else:
            home.meter.failed(0.0)
        assert balancer.pick(places, ask, 0.0) is not home

    def test_where_all_are_pressed_the_inner_one_decides(self) -> None:
        places = fleet(5000.0, 0.0)
        for place in places:
            place.pressed = True
        assert all(self.balancer().pick(places, Ask(affinity=key), 0.0) is places[1] for key in range(1, 20))

    def test_without_a_key_the_inner_one_decides(self) -> None:
        places = fleet(5000.0, 0.0)
        assert self.balancer().pick(places, Ask(affinity=0), 0.0) is places[1]


@pytest.mark.parametrize("prefer", Prefer)
@pytest.mark.parametrize("affinity", [False, True])
def test_there_is_a_balancer_for_every_preference(prefer: Prefer, affinity: bool) -> None:
    balancer = balancer_for(prefer, affinity, random.Random(1))
    assert isinstance(balancer, Affinity) is affinity
    assert balancer.pick(fleet(0.0, 1.0), Ask(affinity=5), 0.0).id
