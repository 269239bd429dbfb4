"""Workers on one quota send together what one would, and beyond it no more than what was on its way between them."""

import asyncio
import heapq
import random
from types import SimpleNamespace
from typing import Any, cast

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from router.balancing.meter import Meter
from router.health.health import Health
from router.health.settings import HealthSettings
from router.jobs.sharing import SHARE_EVERY_S, Changes, Picture, Sharing
from router.limits.quota_twin import QuotaTwin
from router.proxy.backend import Quota, Standing

TPM = 60_000
RPM = 600
MARGIN = 0.02  # of the tokens that the twin leaves
TEN_S = 10.0
WAY_S = 0.06  # at most from a worker's word to its being heard
LAG_S = SHARE_EVERY_S + WAY_S
START = 1000.0


class World:
    """Time, workers, and words on their way between them, each as slow as is drawn."""

    def __init__(self, workers: int, rng: random.Random) -> None:
        self.now, self._rng = START, rng
        self._on_their_way: list[tuple[float, int, int, bytes]] = []
        self._sent = 0
        self.twins: list[QuotaTwin] = []
        self.sharings: list[Sharing] = []
        self.sends: list[tuple[float, int, int]] = []  # when, by whom, tokens
        for _ in range(workers):
            self.hire()

    def time(self) -> float:
        return self.now

    def hire(self) -> int:
        """One more worker, which begins with what the first one knows."""
        index = len(self.twins)
        twin = QuotaTwin(TPM, RPM, self.now)
        quota = Quota(twin, (TPM, RPM))
        backend = SimpleNamespace(
            quota=quota, cooldown=quota.cooldown, health=Health(HealthSettings(), self._rng), meter=Meter(1.0)
        )
        fleet = SimpleNamespace(standing=Standing(), backends={"a/1": backend}, plans={})

        def tell(changes: Changes) -> None:
            for other in range(len(self.sharings)):
                if other != index:
                    self._sent += 1
                    at = self.now + self._rng.uniform(0.0, WAY_S)
                    heapq.heappush(self._on_their_way, (at, self._sent, other, msgspec.msgpack.encode(changes)))

        loop = cast(asyncio.AbstractEventLoop, self)
        self.twins.append(twin)
        self.sharings.append(Sharing(loop, cast(Any, fleet), tell, lambda _job, _error: None))
        if index:
            picture = msgspec.msgpack.encode(self.sharings[0].picture())
            self.sharings[index].begin_with(msgspec.msgpack.decode(picture, type=Picture))
        return index

    def replace(self, index: int) -> None:
        """It dies, with what it has not told yet, and another sits down in its place."""
        self.hire()
        self.twins[index], self.sharings[index] = self.twins.pop(), self.sharings.pop()

    def go_on(self, seconds: float) -> None:
        """Lets time pass; everybody tells in turn, and words arrive."""
        until = self.now + seconds
        while self.now < until:
            self.now += SHARE_EVERY_S / 4
            while self._on_their_way and self._on_their_way[0][0] <= self.now:
                _, _, index, words = heapq.heappop(self._on_their_way)
                self.sharings[index].apply(msgspec.msgpack.decode(words, type=Changes))
            turn = round(self.now / (SHARE_EVERY_S / 4))
            for index in range(turn % 4, len(self.sharings), 4):
                self.sharings[index].share(self.now)

    def ask(self, worker: int, tokens: int) -> bool:
        """A request at one of them: sent where its twin says that it passes."""
        twin = self.twins[worker]
        if twin.wait_s(tokens, self.now):
            return False
        twin.charge(tokens, self.now)
        self.sends.append((self.now, worker, tokens))
        return True

    def unheard(self, worker: int) -> list[int]:
        """Tokens of what others sent so lately that this one need not know of it; a little is for the steps of time."""
        since = self.now - LAG_S - SHARE_EVERY_S / 2
        return [tokens for at, who, tokens in self.sends if at >= since and who != worker]


ASKS = st.lists(st.tuples(st.integers(0, 3), st.integers(100, 4000), st.floats(0.0, 0.12)), min_size=20, max_size=120)


@given(ASKS, st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_no_minute_holds_more_than_the_quota_and_what_was_on_its_way(
    asks: list[tuple[int, int, float]], rng: random.Random
) -> None:
    world = World(4, rng)
    for worker, tokens, later_s in asks:
        world.go_on(later_s)
        if world.ask(worker, tokens):
            minute = sum(tokens for _, _, tokens in world.sends)
            assert minute - sum(world.unheard(worker)) <= TPM * (1 - MARGIN)
    world.go_on(2 * LAG_S)
    left = {round(twin.tokens_left(world.now), 3) for twin in world.twins}
    assert len(left) == 1, "and in the end all have counted everything, once"
    assert left == {max(0.0, TPM * (1 - MARGIN) - sum(tokens for _, _, tokens in world.sends))}


@given(st.lists(st.integers(0, 3), min_size=100, max_size=220), st.randoms(use_true_random=False))
@settings(max_examples=25)
def test_no_ten_seconds_hold_more_requests_than_they_may(workers: list[int], rng: random.Random) -> None:
    world = World(4, rng)
    world.go_on(5.0)
    for worker in workers:
        world.go_on(SHARE_EVERY_S)
        if world.ask(worker, 0):
            in_ten = [at for at, _, _ in world.sends if at > world.now - TEN_S]
            assert len(in_ten) - len(world.unheard(worker)) <= RPM / 6


@given(st.integers(1, 3), st.floats(0.0, 50.0), st.integers(1, 20), st.randoms(use_true_random=False))
@settings(max_examples=25)
def test_one_that_takes_the_place_of_a_killed_one_has_no_quota_of_its_own(
    killed: int, at_s: float, requests: int, rng: random.Random
) -> None:
    """Whenever in the minute that is. Once it has ended, the quota is there for all again, at the same moment."""
    world = World(4, rng)
    world.now += at_s
    for worker in range(requests):
        world.ask(worker % 4, 2500)
    world.go_on(2 * LAG_S)

    world.replace(killed)

    now = world.now
    assert len({round(twin.tokens_left(now), 3) for twin in world.twins}) == 1
    assert len({round(twin.minute_ends_at(now), 6) for twin in world.twins}) == 1
    assert len({twin.requests_left(now) for twin in world.twins}) == 1
