"""An outage drill under the load of all users: one region slows, all throttle, one dies, and all come back.

The figures are those of a client; what is judged here is what the router must show while it happens.
"""

import asyncio
import time
from typing import Final

from loadtests.bench.processes import BenchError
from loadtests.drills.fleet import REGIONS
from loadtests.drills.site import Site
from loadtests.locust.fleet import MODEL
from loadtests.locust.limits import Verdict

SLOW_MS: Final = 1500
THROTTLED_S: Final = 3
SLOW, DEAD = REGIONS[1], REGIONS[2]
# Of the whole, from the start of one part to the start of the next: the load warms, a region is slow, it is well,
# all throttle, a region is dead, it is well again.
WARM, SLOWED, WELL, THROTTLED, DIED, BACK = 0.14, 0.2, 0.06, 0.14, 0.2, 0.26
SLOW_SHARE_MAX: Final = 0.15  # of the API's requests; a third is its share
BACK_SHARE_MIN: Final = 0.18


async def drill(site: Site, seconds: float) -> list[Verdict]:
    """Takes `seconds`, from the load's first second on. Raises BenchError where a cloud does not do as it is told."""
    await asyncio.sleep(WARM * seconds)
    await site.script(SLOW, {"kind": "slow_head", "delay_ms": SLOW_MS})
    slow = await _share_of_last_half(site, SLOW, SLOWED * seconds)
    await site.clear(SLOW)
    await asyncio.sleep(WELL * seconds)
    departures = await _throttled(site, THROTTLED * seconds)
    await _until_available(site, f"{DEAD}/{MODEL}", DIED * seconds)
    site.kill(DEAD)
    judged_s = await _until_judged(site, DEAD, DIED * seconds)
    await site.revive(DEAD)
    back = await _share_of_last_half(site, DEAD, BACK * seconds)
    return [
        _verdict("a slow region's share", f"≤ {SLOW_SHARE_MAX:.0%}", f"{slow:.1%}", slow <= SLOW_SHARE_MAX),
        _verdict("internal requests that left a throttled holder", "≥ 1", f"{departures:.0f}", departures >= 1),
        _verdict(
            "a dead region is judged out",
            f"within {DIED * seconds:.0f} s",
            "never" if judged_s is None else f"after {judged_s:.2f} s",
            judged_s is not None,
        ),
        _verdict("its share when it is back", f"≥ {BACK_SHARE_MIN:.0%}", f"{back:.1%}", back >= BACK_SHARE_MIN),
    ]


def _verdict(what: str, limit: str, figure: str, kept: bool) -> Verdict:
    return Verdict(what, limit, figure, kept)


async def _share_of_last_half(site: Site, name: str, for_s: float) -> float:
    """A region's share of what the API's users asked, in the second half of this time."""
    await asyncio.sleep(for_s / 2)
    since = time.monotonic()
    await asyncio.sleep(for_s / 2)
    counts = {region: sum(one.at >= since for one in site.journal(region)) for region in REGIONS}
    return counts[name] / (sum(counts.values()) or 1)


async def _throttled(site: Site, for_s: float) -> float:
    """How many internal requests went elsewhere while every region of the holder said 429."""
    before = await site.metric("router_departures_total")
    for name in REGIONS:
        fault = {"kind": "status", "status": 429, "retry_after": THROTTLED_S, "for_s": min(THROTTLED_S, for_s)}
        await site.script(name, fault)
    await asyncio.sleep(for_s)
    await site.clear(*REGIONS)
    return await site.metric("router_departures_total") - before


async def _until_judged(site: Site, name: str, for_s: float) -> float | None:
    """Waits so long; how long it took until the router sent nothing more there. None: it did not come to that."""
    began, judged_s = time.monotonic(), None
    while (passed := time.monotonic() - began) < for_s:
        if judged_s is None and not await _available(site, f"{name}/{MODEL}"):
            judged_s = passed
        await asyncio.sleep(0.1)
    return judged_s


async def _until_available(site: Site, deployment: str, for_s: float) -> None:
    """Raises BenchError where it is not: what is out already cannot be seen to be judged out."""
    until = time.monotonic() + for_s
    while not await _available(site, deployment):
        if time.monotonic() > until:
            raise BenchError(f"{deployment} did not come back after it was throttled")
        await asyncio.sleep(0.1)


async def _available(site: Site, deployment: str) -> bool:
    status = await site.status()
    return any(one["available"] for one in status["deployments"] if one["id"] == deployment)
