"""The job that keeps tokens fresh: when it asks, how it asks again, and what it lets go."""

import asyncio
import random
from collections.abc import Callable

from router.base.clock import ManualClock
from router.jobs.tokens import RETRY_MAX_S, TokenKeeper
from router.providers.credentials import Token, TokenIdentity
from router.providers.identity import Identity, IdentityError


class Tap:
    def __init__(self, clock: ManualClock) -> None:
        self.clock, self.count = clock, 0
        self.error: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self) -> Token:
        self.count += 1
        await self.open.wait()
        if self.error is not None:
            raise self.error
        return Token(f"t{self.count}", self.clock.wall() + 3600.0)


class Bench:
    """A keeper of one or two identities, whose time stands until it is told to go on."""

    def __init__(self, *names: str) -> None:
        self.clock = ManualClock()
        self.taps = {name: Tap(self.clock) for name in names}
        rng = random.Random(1)
        self.identities: dict[str, Identity] = {
            name: TokenIdentity(tap, self.clock, rng) for name, tap in self.taps.items()
        }
        self.failures: list[tuple[str, str]] = []
        self.refreshed: list[str] = []
        self.keeper = TokenKeeper(
            lambda: self.identities.items(),
            lambda name, text: self.failures.append((name, text)),
            self.refreshed.append,
            lambda job, error: self.failures.append((job, error)),
            self.clock,
            rng,
        )

    async def pass_s(self, seconds: float, step_s: float = 1.0, until: Callable[[], bool] = lambda: False) -> None:
        for _ in range(round(seconds / step_s)):
            if until():
                return
            self.clock.advance(step_s)
            await self.keeper.settle(within_s=1.0)


async def test_a_token_is_fetched_at_once_and_again_before_its_end() -> None:
    bench = Bench("a")
    await bench.keeper.settle(within_s=1.0)
    assert bench.identities["a"].tail == b"authorization: Bearer t1\r\n"

    await bench.pass_s(3600 - 361)
    assert bench.refreshed == ["a"]
    await bench.pass_s(122)
    assert bench.refreshed == ["a", "a"]
    assert bench.identities["a"].tail == b"authorization: Bearer t2\r\n"


async def test_an_outage_of_the_issuer_shorter_than_the_margin_costs_nothing() -> None:
    bench = Bench("a")
    await bench.keeper.settle(within_s=1.0)
    await bench.pass_s(3600 - 361)
    bench.taps["a"].error = IdentityError("down")
    await bench.pass_s(230)
    assert bench.failures
    assert set(bench.failures) == {("a", "down")}
    assert bench.identities["a"].tail == b"authorization: Bearer t1\r\n"

    bench.taps["a"].error = None
    await bench.pass_s(RETRY_MAX_S + 1)
    assert bench.refreshed == ["a", "a"]


async def test_a_longer_outage_drops_the_token_at_its_end_and_asks_ever_less() -> None:
    bench = Bench("a")
    await bench.keeper.settle(within_s=1.0)
    bench.taps["a"].error = IdentityError("down")
    await bench.pass_s(3599)
    assert bench.identities["a"].tail is not None
    await bench.pass_s(1)
    assert bench.identities["a"].tail is None

    asked = bench.taps["a"].count
    await bench.pass_s(600)
    assert 600 / (RETRY_MAX_S + 2) <= bench.taps["a"].count - asked <= 60  # half of 60 s on average


async def test_one_that_hangs_is_asked_once_and_holds_nobody_up() -> None:
    bench = Bench("hangs", "well")
    bench.taps["hangs"].open.clear()
    await bench.keeper.settle(within_s=0.01)
    await bench.pass_s(5, step_s=1.0, until=lambda: bool(bench.refreshed))
    assert bench.refreshed == ["well"]
    bench.keeper.look()
    bench.keeper.look()
    assert bench.taps["hangs"].count == 1

    bench.taps["hangs"].open.set()
    await bench.keeper.settle(within_s=1.0)
    assert bench.refreshed == ["well", "hangs"]


async def test_an_identity_that_is_no_longer_configured_is_not_fetched_on() -> None:
    bench = Bench("old", "kept")
    bench.taps["old"].open.clear()
    await bench.keeper.settle(within_s=0.01)
    del bench.identities["old"]
    await bench.keeper.settle(within_s=1.0)
    bench.taps["old"].open.set()
    await asyncio.sleep(0)

    assert bench.refreshed == ["kept"]
    assert bench.failures == []


async def test_a_library_that_breaks_is_a_failure_whose_text_is_not_shown() -> None:
    bench = Bench("a")
    bench.taps["a"].error = RuntimeError("canary")
    await bench.keeper.settle(within_s=1.0)

    assert bench.failures == [("a", "the refresh broke with RuntimeError")]


async def test_it_runs_by_itself_and_ends() -> None:
    bench = Bench("a")
    bench.keeper.start()
    while not bench.refreshed:
        await asyncio.sleep(0)
    await bench.keeper.stop()
    assert len(asyncio.all_tasks()) == 1
