"""Three regions of one cloud at steady load: one is killed, one slows, one recovers, one fails fast."""

import asyncio
import time
from collections.abc import Mapping
from typing import Final

from loadtests.drills.fleet import PACE, REGIONS, Endpoint, Fleet, key_of, regions
from loadtests.drills.load import Load, Traffic
from loadtests.drills.outcome import P99_WOBBLE, Drill, Outcome, Scale, failures, late_p99_ms, p99_first_ms, share_bins
from loadtests.drills.site import Site, site

VICTIM: Final = REGIONS[0]
WARM_S: Final = 1.0  # what is left out at the start: connections are dialled, and latencies are not known yet
BIN_S: Final = 0.25
RECOVERY: Final[Mapping[str, float]] = {"slow_start_s": 5.0, "open_s": 1.0, "open_s_max": 4.0}
SLOWER: Final = 10
RESUMED: Final = 0.9  # of its share before: a third of some hundred requests wobbles by more than a few percent
QUOTA_TIMES: Final = 2.0  # of a fair share: two regions carry all of the load, one alone could not
FAILING_OPEN_S: Final = 2.0


def _api(rate: float) -> Traffic:
    return Traffic("api", key_of("api"), rate)


def _arrivals(running: Site) -> dict[str, list[float]]:
    return {
        name: [one.at for one in running.journal(name) if one.operation == "chat"] for name in running.fleet.endpoints
    }


async def killed(scale: Scale) -> Outcome:
    outcome = Outcome()
    async with site(Fleet(regions())) as running:
        async with Load(running.port, [_api(scale.rate)]) as load:
            await asyncio.sleep(WARM_S + scale.before_s)
            at = time.monotonic()
            running.kill(VICTIM)
            await asyncio.sleep(scale.fault_s)
        before = load.between(load.began + WARM_S, at)
        during = load.between(at - 1.0, at + scale.fault_s)  # the ones in flight at the kill are due before it
        late = load.between(at + 2.0, at + scale.fault_s)
        ratio = p99_first_ms(late) / p99_first_ms(before)
        outcome.late_ms = late_p99_ms([*before, *during])
        outcome.none(
            "errors before the commit point", sum(one.failed_before_commit for one in during), f"{len(during):,}"
        )
        outcome.at_most("p99 to first byte, from 2 s after the kill on, ÷ before", ratio, P99_WOBBLE)
        outcome.figures |= {
            "p99_first_ms_before": p99_first_ms(before),
            "p99_first_ms_first_2_s": p99_first_ms(load.between(at, at + 2.0)),
            "p99_first_ms_from_2_s": p99_first_ms(late),
            "streams_broken_after_their_begin": sum(one.status == 200 and not one.ok for one in during),
            "failures": failures(load.shots),
            "left_late_p99_ms": late_p99_ms(load.shots),
        }
    return outcome


async def slow(scale: Scale) -> Outcome:
    outcome = Outcome()
    usual_ms = PACE["head_ms"]["median"] + PACE["first_token_ms"]["median"]
    async with site(Fleet(regions())) as running:
        async with Load(running.port, [_api(scale.rate)]) as load:
            await asyncio.sleep(WARM_S + scale.before_s)
            at = time.monotonic()
            await running.script(VICTIM, {"kind": "slow_head", "delay_ms": (SLOWER - 1) * usual_ms})
            await asyncio.sleep(scale.fault_s)
        before, during = load.between(load.began + WARM_S, at), load.between(at, at + scale.fault_s)
        bins = share_bins(_arrivals(running), VICTIM, at, at + scale.fault_s, BIN_S)
        late = bins[int(5.0 / BIN_S) :]
        ratio = p99_first_ms(during) / p99_first_ms(before)
        outcome.late_ms = late_p99_ms([*before, *during])
        outcome.at_most("its share from 5 s after the slowdown on", sum(late) / len(late) * 100, 5.0, " %")
        outcome.at_most("fleet p99 to first byte, from the slowdown on, ÷ before", ratio, 1.5)
        outcome.none("errors", sum(not one.ok for one in during), f"{len(during):,}")
        outcome.figures |= {
            "share_by_bin": [round(share, 3) for share in bins],
            "bin_s": BIN_S,
            "share_below_5_percent_after_s": _below(bins, 0.05),
            "p99_first_ms_before": p99_first_ms(before),
            "p99_first_ms_during": p99_first_ms(during),
            "failures": failures(load.shots),
            "left_late_p99_ms": late_p99_ms(load.shots),
        }
    return outcome


def _below(bins: list[float], share: float) -> float | None:
    """When the mean of a second of bins is below `share` for the first time, in seconds."""
    width = int(1 / BIN_S)
    means = (sum(bins[index : index + width]) / width for index in range(len(bins) - width + 1))
    return next((index * BIN_S for index, mean in enumerate(means) if mean < share), None)


async def recovery(scale: Scale, health: Mapping[str, float] = RECOVERY) -> Outcome:
    """The quota of each region is twice its fair share: the whole load on the recovered one would be refused."""
    outcome = Outcome()
    third = scale.rate / len(REGIONS)
    quota = {"emulator": {**PACE, "quota": True}, "deployment": {"rpm": int(third * QUOTA_TIMES * 60)}}
    fleet = Fleet(
        {name: Endpoint(**quota) for name in REGIONS},  # type: ignore[arg-type]
        more={"health": health},
    )
    async with site(fleet) as running:
        async with Load(running.port, [_api(scale.rate)]) as load:
            await asyncio.sleep(WARM_S + scale.before_s)
            at = time.monotonic()
            running.kill(VICTIM)
            await asyncio.sleep(scale.fault_s)
            await running.revive(VICTIM)
            end = time.monotonic()
            await asyncio.sleep(scale.after_s)
        arrivals = _arrivals(running)
        first = next((moment for moment in arrivals[VICTIM] if moment >= end), end + scale.after_s)
        full_at, until = first + health["slow_start_s"], end + scale.after_s
        (before,) = share_bins(arrivals, VICTIM, load.began + WARM_S, at, at - load.began - WARM_S) or [0.0]
        (after,) = share_bins(arrivals, VICTIM, full_at, until, until - full_at) or [0.0]
        throttled = sum(one.status == 429 for name in REGIONS for one in running.journal(name) if one.at >= first)
        outcome.at_least("its share once the slow start is over, ÷ before", after / before, RESUMED)
        outcome.at_most("first request after the end of the outage", first - end, 6.0, " s")
        outcome.none("429s from its first request on", throttled)
        outcome.none(
            "errors before the commit point",
            sum(one.failed_before_commit for one in load.shots),
            f"{len(load.shots):,}",
        )
        outcome.figures |= {
            "share_before": before,
            "share_after": after,
            "first_request_after_s": first - end,
            "slow_start_s": health["slow_start_s"],
            "share_by_second_from_first": share_bins(arrivals, VICTIM, first, until, 1.0),
            "failures": failures(load.shots),
            "left_late_p99_ms": late_p99_ms(load.shots),
        }
    return outcome


async def fast_failer(scale: Scale) -> Outcome:
    """What fails in a millisecond has little in flight, and must not look idle for that."""
    outcome = Outcome()
    slow_pace = {**PACE, "head_ms": {"median": 200, "sigma": 0.2}}
    fleet = Fleet(
        {"azure-a": Endpoint(emulator={"tokens": 5}), "azure-b": Endpoint(emulator=slow_pace)},
        more={"health": {"open_s": FAILING_OPEN_S}},
    )
    async with site(fleet) as running:
        await running.script("azure-a", {"kind": "status", "status": 500})
        async with Load(running.port, [_api(scale.rate)]) as load:
            await asyncio.sleep(scale.before_s)
            at = time.monotonic()
            await asyncio.sleep(scale.fault_s)
        sent = sum(at <= moment < at + scale.fault_s for moment in _arrivals(running)["azure-a"])
        # Its breaker opens for `open_s`, twice as long each time, and may come early by half: two probes more at most.
        allowed = 2 + int(scale.fault_s / FAILING_OPEN_S)
        during = load.between(at, at + scale.fault_s)
        outcome.at_most("requests to the failing one: a probe each time its breaker cools", sent, allowed)
        outcome.none("errors that clients saw", sum(not one.ok for one in load.shots), f"{len(load.shots):,}")
        outcome.figures |= {
            "requests": len(during),
            "sent_to_the_failing_one": sent,
            "failures": failures(load.shots),
            "left_late_p99_ms": late_p99_ms(load.shots),
        }
    return outcome


DRILLS: Final = (
    Drill(
        "region-killed",
        "three Azure regions, exclusive traffic, half of it streams; SIGKILL of one region's process, so that the "
        "kernel ends its connections and refuses new ones. p99 from the moment a request was due to the first byte "
        "of its body; the one from 2 s on may be 15 % above the earlier one, which is what p99s of this size wobble",
        killed,
        Scale(rate=150, before_s=15, fault_s=20),
        Scale(rate=100, before_s=6, fault_s=8),
    ),
    Drill(
        "region-slow",
        f"as region-killed, but one region's answers begin {SLOWER} times later, with no errors; its share is what "
        "reached it, by its own journal, of what reached all",
        slow,
        Scale(rate=150, before_s=15, fault_s=60),
        Scale(rate=100, before_s=6, fault_s=20),
    ),
    Drill(
        "recovery",
        "as region-killed, and the region comes back; each region's quota (1 s slices) is twice its fair share, "
        "so that a herd on the recovered one would be refused. Its share is taken from `slow_start_s` after its "
        "first request on",
        recovery,
        Scale(rate=150, before_s=10, fault_s=10, after_s=25),
        Scale(rate=100, before_s=5, fault_s=5, after_s=16),
    ),
    Drill(
        "fast-failer",
        "two regions: one answers 500 at once, the other well after 200 ms; counted after a first while in which "
        "its breaker opens",
        fast_failer,
        Scale(rate=100, before_s=3, fault_s=30),
        Scale(rate=60, before_s=3, fault_s=8),
    ),
)
