"""What the supervisor hands out: of limits that there are, by the figures in force, and back from whoever has ended."""

import asyncio
from collections.abc import Collection, Sequence
from time import monotonic
from types import MappingProxyType
from typing import Any, cast

import pytest

from router.base.clock import ManualClock
from router.config.snapshot import Snapshot
from router.jobs.own_limits import OwnLimits
from router.limits.lease import Ask, Lease
from router.limits.pots import Pots
from router.limits.terms import Terms, source_of
from router.model.keys import ApiKey
from router.model.limits import Limits
from router.supervisor.limits import SharedLimits, parts_of
from router.telemetry import names

PLACES = "key/acme/concurrent"


def snapshot(models: dict[str, Limits] | None = None, **keys: Limits) -> Snapshot:
    """As far as limits go."""
    found = {name.encode(): ApiKey(name, "api", name.encode(), None, limits) for name, limits in keys.items()}
    made: dict[str, Any] = {"keys": found, "workloads": {}, "model_limits": MappingProxyType(models or {})}
    return cast(Snapshot, type("Some", (), made))


async def nobody_has_any(holders: Collection[str], limit_ids: Sequence[str]) -> None:
    """A call for what others hold, that brings nothing."""


def shared(found: Snapshot) -> SharedLimits:
    limits = SharedLimits(OwnLimits(cast(Any, None), ManualClock(), lambda *_: None), nobody_has_any)
    limits.adopt(found)
    return limits


async def asked(limits: SharedLimits, limit: str, wanted: float, holder: str = "0", held: float = 0.0) -> float:
    (grant,) = await limits.lend(holder, [Ask(limit, wanted, 0.0, held)])
    return grant.units


async def test_units_of_a_limit_are_given_to_whoever_asks_until_there_are_none() -> None:
    limits = shared(snapshot(acme=Limits(rpm=600)))

    assert await asked(limits, "key/acme/rpm", 40) == 40
    assert await asked(limits, "key/acme/rpm", 40, holder="1") == 20
    assert await asked(limits, "key/acme/rpm", 1, holder="1", held=20.0) == 0
    assert limits.left()[names.LIMIT_LEFT.name] == {("key", "acme", "rpm"): pytest.approx(1.0, abs=0.01)}, "all unspent"


@pytest.mark.parametrize("limit", ["key/gone/rpm", "key/acme/tpm", "model/x/rpm"])
async def test_what_is_not_limited_is_granted_nothing_and_makes_nothing(limit: str) -> None:
    limits = shared(snapshot(acme=Limits(rpm=600)))

    assert await asked(limits, limit, 1) == 0
    assert limits.left() == {names.LIMIT_LEFT.name: {}}


async def test_a_model_s_name_may_have_strokes() -> None:
    assert parts_of("model/org/llama/3/tpm") == ("model", "org/llama/3", "tpm")
    limits = shared(snapshot(models={"org/llama": Limits(concurrent=3)}))
    assert await asked(limits, "model/org/llama/concurrent", 5) == 3


async def test_places_come_back_from_a_worker_that_has_ended() -> None:
    limits = shared(snapshot(acme=Limits(concurrent=4)))
    assert await asked(limits, "key/acme/concurrent", 4) == 4
    assert await asked(limits, "key/acme/concurrent", 1, holder="1") == 0
    limits.forget("0")

    assert await asked(limits, "key/acme/concurrent", 4, holder="1") == 4


async def test_a_reload_changes_figures_and_takes_limits_away() -> None:
    limits = shared(snapshot(acme=Limits(concurrent=4, rpm=600)))
    assert await asked(limits, "key/acme/concurrent", 3) == 3
    assert await asked(limits, "key/acme/rpm", 1) == 1
    limits.adopt(snapshot(acme=Limits(concurrent=5)))

    assert await asked(limits, "key/acme/concurrent", 4, holder="1") == 2
    assert await asked(limits, "key/acme/rpm", 1, holder="1") == 0
    assert list(limits.left()[names.LIMIT_LEFT.name]) == [("key", "acme", "concurrent")]


async def test_what_others_hold_idle_is_called_back_before_a_request_is_refused() -> None:
    called: list[tuple[Collection[str], Sequence[str]]] = []

    async def call_back(holders: Collection[str], limit_ids: Sequence[str]) -> None:
        called.append((holders, limit_ids))
        await limits.lend("0", [Ask(PLACES, 0.0, 0.0, 5.0)])  # three of eight are free there

    limits = SharedLimits(OwnLimits(cast(Any, None), ManualClock(), lambda *_: None), call_back)
    limits.adopt(snapshot(acme=Limits(concurrent=8)))
    await limits.lend("0", [Ask(PLACES, 8.0, 0.0, 0.0, 1.0)])

    (grant,) = await limits.lend("1", [Ask(PLACES, 2.0, 0.0, 0.0)])
    assert (grant.units, called) == (0.0, []), "nobody waits for it"
    (grant,) = await limits.lend("1", [Ask(PLACES, 2.0, 0.0, 0.0, 1.0)])
    assert (grant.units, called) == (1.0, [({"0"}, [PLACES])]), "no more than it needs"


async def test_a_rate_is_called_back_once_a_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.supervisor.limits.monotonic", lambda: 5.0)
    called: list[Sequence[str]] = []

    async def call_back(holders: Collection[str], limit_ids: Sequence[str]) -> None:
        called.append(limit_ids)

    limits = SharedLimits(OwnLimits(cast(Any, None), ManualClock(), lambda *_: None), call_back)
    limits.adopt(snapshot(acme=Limits(rpm=1)))
    await limits.lend("0", [Ask("key/acme/rpm", 1.0, 0.0, 0.0, 1.0)])
    for _ in range(5):
        await limits.lend("1", [Ask("key/acme/rpm", 1.0, 0.0, 0.0, 1.0)])
    assert len(called) == 1


class Above(OwnLimits):
    """A supply of one lease, which a superior fills in slices of three: one trip for all who lack it."""

    def __init__(self) -> None:
        super().__init__(cast(Any, None), ManualClock(), lambda *_: None)
        self.pots = Pots()
        self.lease = Lease(PLACES, 3.0, full=8.0, borrows=True)
        self.trip: asyncio.Task[None] | None = None

    def source(self, limit_id: str, terms: Terms) -> Lease:
        self.pots.set(limit_id, source_of(terms))
        return self.lease

    async def fetch(self, limit_ids: object) -> None:
        assert limit_ids == {PLACES}
        if self.trip is None or self.trip.done():
            self.trip = asyncio.get_running_loop().create_task(self.ask_for_all())
        await self.trip

    async def ask_for_all(self) -> None:
        await asyncio.sleep(0.01)
        ask = self.lease.ask(monotonic())
        if ask is not None:
            self.lease.grant(self.pots.answer("this", [ask], monotonic())[0], monotonic())


async def test_who_finds_a_fetched_slice_gone_is_not_refused_while_there_is_more_above() -> None:
    limits = SharedLimits(Above(), nobody_has_any)
    limits.adopt(snapshot(acme=Limits(concurrent=8)))
    async with asyncio.TaskGroup() as group:
        asks = [group.create_task(limits.lend(str(holder), [Ask(PLACES, 1.0, 0.0, 0.0, 1.0)])) for holder in range(10)]
    units = [grant.units for ask in asks for grant in ask.result()]

    assert sum(units) == 8
