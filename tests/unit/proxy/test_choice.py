"""Who is asked next: a tier is passed only with a reason for each of its deployments, and nobody is asked twice."""

from math import inf
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.base.errors import PlacementViolationError, RefusedError
from router.model.decision import REFUSALS, Leave
from router.proxy.choice import choose, choose_hedge, may_choose, record_departure, wait_s
from tests.unit.proxy.fakes import FakeBackend, FakeTarget, Log, permit, request, runtime

CLOUDS = ("azure", "oracle", "cw")
reasons = st.sampled_from(["", "", *REFUSALS])
backends = st.builds(FakeBackend, standing=reasons, now=st.sampled_from(["", "", "busy", "over_quota"]))


@st.composite
def fleets(draw: st.DrawFn) -> tuple[list[list[FakeTarget]], int]:
    """Tiers, of which the first are the holder's (azure), and how many these are."""
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    holder_tiers = draw(st.integers(0, len(sizes)))
    numbers = iter(range(100))
    tiers = [
        [
            FakeTarget(
                f"t{next(numbers)}",
                "azure" if index < holder_tiers else draw(st.sampled_from(CLOUDS[1:])),
                draw(backends),
            )
            for _ in range(size)
        ]
        for index, size in enumerate(sizes)
    ]
    return tiers, holder_tiers


allowed = st.sets(st.sampled_from(CLOUDS)).map(lambda clouds: permit(*clouds))


@given(fleets(), allowed, st.data())
def test_whoever_is_passed_over_has_a_reason(fleet: Any, may: Any, data: st.DataObject) -> None:
    """Through all the attempts that a request could make: each choice, and what it says of those before it."""
    tiers, holder_tiers = fleet
    ctx = request(*tiers, holder="azure", holder_tiers=holder_tiers, attempts=data.draw(st.integers(1, 3)))
    asked = []
    while True:
        target: Any = choose(ctx, may, 0.0)
        passed = tiers if target is None else tiers[: ctx.tier]
        assert all(ctx.refusals.get(cast(Any, one)) in REFUSALS for tier in passed for one in tier)
        if target is None:
            break
        assert may.allows(target.cloud)
        assert target in tiers[ctx.tier]
        assert not target.backend.standing
        assert not target.backend.now
        assert target not in asked
        assert target not in ctx.refusals
        asked.append(target)
        # It is asked in vain.
        ctx.tried.append(target)
        ctx.refusals[target] = "failed"
        ctx.holder_failures += target.cloud == "azure"
    for tier in tiers:
        for one in tier:
            refused = ctx.refusals[cast(Any, one)]
            if one not in asked and may.allows(one.cloud) and refused != "failed":
                assert refused in (one.backend.standing, one.backend.now)


@given(fleets(), allowed)
def test_no_record_no_departure(fleet: Any, may: Any) -> None:
    """Whenever another cloud is chosen, the record that permits it has a reason of each of the holder's."""
    tiers, holder_tiers = fleet
    ctx = request(*tiers, holder="azure", holder_tiers=holder_tiers)
    target: Any = choose(ctx, may, 0.0)
    if target is None or target.cloud == "azure":
        return
    log = Log()
    record_departure(ctx, runtime(log), target)
    (leave,) = log.records
    assert isinstance(leave, Leave)
    assert (leave.to, leave.to_cloud) == (target.id, target.cloud)
    held = [one.id for tier in tiers[:holder_tiers] for one in tier]
    assert [offer.deployment for offer in leave.offers] == (held or [""])
    assert {offer.cloud for offer in leave.offers} == {"azure"}
    assert {offer.outcome for offer in leave.offers} <= set(REFUSALS)
    assert ctx.left_holder


def test_a_departure_without_all_reasons_is_our_bug_and_stopped() -> None:
    here, there = FakeTarget("here"), FakeTarget("there", "oracle")
    ctx, log = request([here], [there], holder="azure", holder_tiers=1), Log()
    with pytest.raises(PlacementViolationError):
        record_departure(ctx, runtime(log), cast(Any, there))
    assert log.records == []
    assert not ctx.left_holder


def test_what_cannot_be_recorded_is_not_allowed() -> None:
    there = FakeTarget("there", "oracle")
    ctx = request([there], holder="azure")
    with pytest.raises(RefusedError) as raised:
        record_departure(ctx, runtime(Log(full=True)), cast(Any, there))
    assert (raised.value.status, raised.value.code) == (503, "decision_log_full")
    assert not ctx.left_holder


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_the_rest_of_the_holder_counts_as_failed_after_its_attempts(failures: int) -> None:
    held = [FakeTarget(name) for name in "abc"]
    other = FakeTarget("other", "oracle")
    ctx = request(held[:2], held[2:], [other], holder="azure", holder_tiers=2)
    for target in held[:failures]:
        ctx.refusals[cast(Any, target)] = "throttled"
    ctx.holder_failures = failures

    target: Any = choose(ctx, permit("azure", "oracle"), 0.0)

    if failures < 2:
        assert target is held[failures]
    else:
        assert target is other
        assert [ctx.refusals[cast(Any, each)] for each in held] == ["throttled", "throttled", "failed"]


def test_a_deployment_whose_cloud_was_taken_away_is_no_deployment() -> None:
    azure, oracle = FakeTarget("a"), FakeTarget("o", "oracle")
    ctx = request([azure], [oracle])
    assert choose(ctx, permit("oracle"), 0.0) is cast(Any, oracle)
    assert list(ctx.refusals.values()) == ["no_deployment"]
    assert choose(request([azure]), permit(), 0.0) is None


def test_what_the_twin_kept_away_is_counted() -> None:
    full, free = FakeTarget("full", backend=FakeBackend(now="over_quota")), FakeTarget("free")
    assert choose(request([full, free]), permit("azure"), 0.0) is cast(Any, free)
    assert (full.backend.avoided, free.backend.avoided) == (1, 0)
    assert (full.backend.quota.away, free.backend.quota.away) == (["acme"], [])


def test_a_key_beyond_its_part_of_a_short_minute_is_refused_as_over_quota() -> None:
    divided, free = FakeTarget("divided"), FakeTarget("free")
    divided.backend.quota.divide(7.0)
    ctx = request([divided, free])
    assert choose(ctx, permit("azure"), 0.0) is cast(Any, free)
    assert ctx.refusals == {cast(Any, divided): "over_quota"}
    assert wait_s(ctx, cast(Any, divided.backend), 0.0) == 7.0
    divided.backend.quota.divide(0.0)
    assert choose(request([divided, free]), permit("azure"), 0.0) is cast(Any, divided)
    assert wait_s(ctx, cast(Any, divided.backend), 0.0) == inf
    divided.backend.standing = "unhealthy"
    divided.backend.quota.divide(7.0)
    assert wait_s(ctx, cast(Any, divided.backend), 0.0) == inf, "what ails it is no quota"


class Waiting:
    """Others, who wait for some of the deployments."""

    def __init__(self, *promised: FakeBackend) -> None:
        self._promised = promised

    def promised(self, backend: object, _priority: int, _now: float) -> bool:
        return backend in self._promised


def test_what_others_wait_for_is_busy_and_the_rest_is_free() -> None:
    wanted, free = FakeTarget("wanted"), FakeTarget("free", "oracle")
    others = cast(Any, Waiting(wanted.backend))
    ctx = request([wanted], [free])
    assert choose(ctx, permit("azure", "oracle"), 0.0, others) is cast(Any, free)
    assert list(ctx.refusals.values()) == ["busy"]
    assert choose(request([wanted], [free]), permit("azure", "oracle"), 0.0) is cast(Any, wanted)


def attempt_at(target: FakeTarget) -> Any:
    return SimpleNamespace(target=target)


@given(fleets(), allowed)
def test_a_copy_is_another_of_the_same_tier(fleet: Any, may: Any) -> None:
    tiers, holder_tiers = fleet
    ctx = request(*tiers, holder="azure", holder_tiers=holder_tiers)
    first: Any = choose(ctx, may, 0.0)
    if first is None:
        return
    ctx.attempt = attempt_at(first)
    before = dict(ctx.refusals)

    copy: Any = choose_hedge(ctx, may, 0.0, None)

    assert ctx.refusals == before
    if copy is not None:
        assert copy is not first
        assert copy in tiers[ctx.tier]
        assert copy not in ctx.refusals
        assert may.allows(copy.cloud)
        assert not copy.backend.standing
        assert not copy.backend.now


def test_no_copy_takes_what_others_wait_for() -> None:
    first, second = FakeTarget("first"), FakeTarget("second")
    ctx = request([first, second])
    ctx.attempt = attempt_at(first)
    assert choose_hedge(ctx, permit("azure"), 0.0, None) is cast(Any, second)
    assert choose_hedge(ctx, permit("azure"), 0.0, cast(Any, Waiting(second.backend))) is None


@given(fleets(), allowed, st.integers(0, 2))
def test_who_may_be_given_up_has_somebody_who_is_then_chosen(fleet: Any, may: Any, failures: int) -> None:
    """`may_choose` is a promise: after the slow one is refused, `choose` finds another."""
    tiers, holder_tiers = fleet
    ctx = request(*tiers, holder="azure", holder_tiers=holder_tiers)
    ctx.holder_failures = failures
    slow: Any = choose(ctx, may, 0.0)
    if slow is None:
        return
    ctx.attempt = attempt_at(slow)
    before = dict(ctx.refusals)
    promised = may_choose(ctx, may, 0.0, slow)
    assert ctx.refusals == before

    ctx.attempt = None
    ctx.refusals[slow] = "slow"
    ctx.holder_failures += slow.cloud == "azure"
    assert (choose(ctx, may, 0.0) is not None) == promised


def test_a_copy_that_runs_is_nobody_to_give_up_for() -> None:
    first, second = FakeTarget("first"), FakeTarget("second")
    ctx = request([first, second])
    ctx.attempt, ctx.hedge = attempt_at(first), attempt_at(second)
    for slow in (first, second):
        assert not may_choose(ctx, permit("azure"), 0.0, cast(Any, slow))
