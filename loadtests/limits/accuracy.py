"""How exactly four workers keep the limits of ten keys together, each of which sends three times what it may.

A request is taken somewhere between its client's write and its arrival at the cloud, and both are on one clock. So what
was written after a window's begin and arrived before its end was surely taken within it.
"""

import asyncio
import os
import random
import signal
from bisect import insort
from collections.abc import Iterable, Sequence
from typing import Any, Final

from loadtests.bench.procfs import workers
from loadtests.drills.fleet import Endpoint, Fleet, key_of
from loadtests.drills.load import Load, Shot, Traffic
from loadtests.drills.outcome import Drill, Outcome, Scale, failures, late_p99_ms
from loadtests.drills.site import Site, site
from router.config.keys import digest

WORKERS: Final = 4
RPM: Final = (300, 300, 600, 600, 600, 900, 900, 1200, 1500, 1800)
OFFERED: Final = 3.0  # times the limit
BURST_SHARE: Final = 0.1  # of a minute's limit: what the router has where nothing is said
USED_SHARE: Final = 0.99
BEYOND_MAX: Final = 1.0  # request a key
# Long answers spread each key over many connections, and so over all workers; the upstream itself limits nothing.
ENDPOINT: Final = Endpoint(emulator={"head_ms": 500, "tokens": 2})

KILLS: Final = 5
FULL: Final = Scale(rate=OFFERED * sum(RPM) / 60, before_s=0, fault_s=60)
QUICK: Final = Scale(rate=FULL.rate, before_s=0, fault_s=15)

Span = tuple[float, float]  # from a client's write to the arrival at the cloud, in monotonic seconds


async def accuracy(scale: Scale) -> Outcome:
    """`scale.rate`: of all keys together; `fault_s`: for how long they send."""
    return await _offered(scale, kills=0)


async def killed(scale: Scale) -> Outcome:
    """As `accuracy`, while workers die one after the other."""
    return await _offered(scale, kills=KILLS)


async def _offered(scale: Scale, kills: int) -> Outcome:
    outcome = Outcome()
    factor = scale.rate / (OFFERED * sum(RPM) / 60)
    limits = {f"k{index}": max(1, round(rpm * factor)) for index, rpm in enumerate(RPM)}
    fleet = Fleet({"azure": ENDPOINT}, more={"keys": _keys(limits)}, server={"workers": WORKERS})
    traffics = [Traffic(name, key_of(name), OFFERED * rpm / 60, stream_every=0) for name, rpm in limits.items()]
    async with site(fleet) as running:
        async with Load(running.port, traffics) as load:
            for _ in range(kills):
                await asyncio.sleep(scale.fault_s / (kills + 1))
                os.kill(random.choice(_workers(running)), signal.SIGKILL)
            await asyncio.sleep(scale.fault_s / (kills + 1))
        arrivals = {one.marker: one.at for one in running.journal("azure")}
        waits = await running.metric("router_limit_lease_waits_total")
    # With each death at most a slice is lost, of each key: nobody knows whether it was spent.
    lost = round(kills * BURST_SHARE / (2 * WORKERS) / (BURST_SHARE + scale.fault_s / 60), 3)
    _judge(outcome, limits, load.shots, arrivals, scale.fault_s, USED_SHARE - lost)
    broken = sum(one.status not in {200, 429} for one in load.shots)
    if kills:
        outcome.figures["broken_by_the_kills"] = broken
    else:
        outcome.none("answers that are neither 200 nor 429", broken, str(len(load.shots)))
    outcome.figures |= {
        "requests_that_waited_for_the_supervisor": waits,
        "load_left_late_p99_ms": late_p99_ms(load.shots),
        "failures": failures(load.shots),
    }
    return outcome


def _keys(limits: dict[str, int]) -> list[dict[str, Any]]:
    return [
        {"name": name, "workload": "api", "sha256": digest(key_of(name)).hex(), "models": ["*"], "limits": {"rpm": rpm}}
        for name, rpm in limits.items()
    ]


def _workers(running: Site) -> list[int]:
    """The processes of those that serve now."""
    assert running.router.pid is not None
    return workers(running.router.pid)


def _judge(
    outcome: Outcome,
    limits: dict[str, int],
    shots: Sequence[Shot],
    arrivals: dict[str, float],
    seconds: float,
    share: float,
) -> None:
    keys: dict[str, Any] = {}
    for name, rpm in limits.items():
        mine = [one for one in shots if one.traffic.name == name]
        spans = [(one.begun, arrivals[one.marker]) for one in mine if one.marker in arrivals]
        rate, burst = rpm / 60, max(1.0, rpm * BURST_SHARE)
        allowed = burst + rate * seconds
        keys[name] = {
            "rpm": rpm,
            "burst": burst,
            "offered": len(mine),
            "served": len(spans),
            "allowed": allowed,
            "used": len(spans) / allowed,
            "most_beyond": most_in_a_window(spans, rate) - burst,
            "most_beyond_by_arrival": most_in_a_window([(at, at) for _, at in spans], rate) - burst,
        }
    served, allowed = (sum(key[what] for key in keys.values()) for what in ("served", "allowed"))
    beyond = max(key["most_beyond"] for key in keys.values())
    outcome.at_most("requests beyond b + rate × T, any window of any key", beyond, BEYOND_MAX, form="{:.2f}")
    outcome.at_least("of b + rate × T used, all the time, all keys", served / allowed, share, form="{:.4f}")
    # One request is more than a hundredth of what the smallest key may have: the last one may be due after the end.
    least = min((key["served"] + 1) / key["allowed"] for key in keys.values())
    outcome.at_least("the same of the worst key, with the request that was due next", least, share, form="{:.4f}")
    outcome.figures["keys"] = keys


def most_in_a_window(spans: Iterable[Span], rate: float) -> float:
    """The most that any window of time held, less what `rate` allows in it: what the burst must cover.

    Only what is sure counts: requests that were neither written before it nor arrived after it.
    """
    most = 0.0
    arrivals: list[float] = []  # of all that were written since
    for begun, arrived in sorted(spans, reverse=True):
        insort(arrivals, arrived)
        most = max(most, max(count - rate * (end - begun) for count, end in enumerate(arrivals, 1)))
    return most


DRILLS: Final = (
    Drill(
        "accuracy",
        "four workers share an address; ten keys of 300 to 1800 requests a minute with the default burst, a tenth of "
        "it, send three times that, and each of their connections ends at whatever worker the kernel chose; what was "
        "served is what arrived at the cloud; used is measured against the burst and the rate over the whole time",
        accuracy,
        FULL,
        QUICK,
    ),
    Drill(
        "killed",
        f"as accuracy, while a worker is killed (-9) {KILLS} times and started again: its stock may be spent or not, "
        "so nobody spends it once more, and what is used may lack that",
        killed,
        FULL,
        QUICK,
    ),
)
