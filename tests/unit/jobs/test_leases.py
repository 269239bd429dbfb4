"""A worker's leases: who finds one empty asks with all of that turn, and a supervisor that is gone costs no loop."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic

from router.jobs.leases import Leases
from router.limits.lease import ASK, Ask, Grant
from router.limits.pots import Pots
from router.limits.terms import Places, Rate, Terms, source_of
from router.transport.channel import ClosedError

RPM, PLACES = "key/acme/rpm", "key/acme/concurrent"
TERMS: dict[str, Terms] = {RPM: Rate(1.0, 40.0), PLACES: Places(8)}


class Above:
    """A superior, which keeps what it was asked."""

    def __init__(self) -> None:
        self.pots = Pots()
        for limit, terms in TERMS.items():
            self.pots.set(limit, source_of(terms))
        self.asked: list[Sequence[Ask]] = []
        self.gone = False

    async def lend(self, asks: Sequence[Ask]) -> list[Grant]:
        self.asked.append(asks)
        if self.gone:
            raise ClosedError("lease")
        return self.pots.answer("0", asks, monotonic())


def leases(lend: Callable[[Sequence[Ask]], Awaitable[list[Grant]]], holders: int = 2) -> Leases:
    return Leases(asyncio.get_running_loop(), lend, holders, 0.05, lambda *what: None)


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_all_who_find_leases_empty_in_one_turn_ask_together() -> None:
    above = Above()
    here = leases(above.lend)
    sources = {limit: here.source(limit, terms) for limit, terms in TERMS.items()}
    woken: list[str] = []
    for limit in (RPM, RPM, PLACES):
        assert sources[limit].take(1.0, monotonic()) == ASK
        here.ask(limit, lambda limit=limit: woken.append(limit))  # type: ignore[misc]
    assert not above.asked, "others of this turn may come"
    await turns()

    assert [[ask.limit for ask in asks] for asks in above.asked] == [[RPM, PLACES]]
    assert woken == [RPM, RPM, PLACES]
    assert all(source.take(1.0, monotonic()) == 0.0 for source in sources.values())
    assert sources[RPM].take(1.0, monotonic()) == 0.0, "a slice came, and not what was wanted alone"


async def test_a_superior_that_is_gone_wakes_nobody_and_is_asked_anew() -> None:
    above = Above()
    here = leases(above.lend)
    source = here.source(RPM, TERMS[RPM])
    above.gone = True
    source.take(1.0, monotonic())
    waiting = here.ask(RPM, lambda: None)
    await turns()
    assert (len(above.asked), waiting.answered) == (1, False)

    above.gone = False
    source.take(1.0, monotonic())
    again = here.ask(RPM, lambda: None)
    await turns()
    assert again.answered
    assert source.take(1.0, monotonic()) == 0.0


async def test_other_figures_send_the_stock_back() -> None:
    above = Above()
    here = leases(above.lend)
    source = here.source(RPM, TERMS[RPM])
    source.take(1.0, monotonic())
    here.ask(RPM, lambda: None)
    await turns()
    assert above.pots.outstanding(RPM) > 1.0
    here.adapt(RPM, Rate(1.0, 4.0))
    assert source.take(1.0, monotonic()) == ASK
    here.ask(RPM, lambda: None)
    await turns()

    assert above.asked[-1][0].returned >= 9.0
    assert above.pots.outstanding(RPM) <= 2.0


async def test_what_nobody_needs_goes_back_by_itself_and_debts_are_told() -> None:
    above = Above()
    here = leases(above.lend)
    source = here.source(RPM, TERMS[RPM])
    await here.start()
    try:
        source.take(1.0, monotonic())
        here.ask(RPM, lambda: None)
        async with asyncio.timeout(10):
            while not above.pots.outstanding(RPM):
                await asyncio.sleep(0.01)
            while above.pots.outstanding(RPM):
                await asyncio.sleep(0.01)
            before = len(above.asked)
            source.put(-5.0, monotonic())
            while len(above.asked) == before:
                await asyncio.sleep(0.01)
        assert above.asked[-1][0].returned == -5.0
    finally:
        await here.stop()


async def test_a_limit_that_is_released_leaves_nobody_waiting() -> None:
    async def never(_: Sequence[Ask]) -> list[Grant]:
        await asyncio.Event().wait()
        return []

    here = leases(never)
    here.source(RPM, TERMS[RPM]).take(1.0, monotonic())
    waiting = here.ask(RPM, lambda: None)
    await turns()
    here.release(RPM)
    assert waiting.answered
    await here.stop()


async def test_what_was_held_of_a_limit_that_is_gone_here_comes_back_when_another_worker_needs_it() -> None:
    """A key's end takes its limits from workers at once; above they stay, for the key may be given more time."""
    above = Above()
    here = leases(above.lend)
    source = here.source(PLACES, TERMS[PLACES])
    source.take(1.0, monotonic())
    here.ask(PLACES, lambda: None)
    await turns()
    here.release(PLACES)
    assert above.pots.outstanding(PLACES) > 0
    await here.recall([PLACES])

    assert above.pots.outstanding(PLACES) == 0
