"""Everything is out, or one cloud is: what is sent meanwhile, who else notices, and how soon all is well again."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from loadtests.drills.fleet import API, REGIONS, Endpoint, Fleet, key_of, regions
from loadtests.drills.load import Load, Shot, Traffic
from loadtests.drills.outcome import P99_WOBBLE, Drill, Outcome, Scale, failures, late_p99_ms, p99_first_ms
from loadtests.drills.site import Site, site

WARM_S: Final = 1.0
GOOD_SHARE: Final = 0.99  # of a second's requests
BACK_S: Final = 10.0
AMPLIFICATION: Final = 1.2
# A black hole is known by its timeouts alone: these make one outage hold several of them.
TIMEOUTS: Final[Mapping[str, float]] = {"connect_s": 1, "commit_stream_s": 3, "commit_json_s": 3, "idle_s": 3}
CONNECTIONS_MAX: Final = 40
DEAD: Final = "coreweave"
_OPEN: Final = ("01", "02")  # established, or a SYN on its way; what a program has closed is the kernel's to bury


async def _refuse(running: Site) -> None:
    running.kill(*REGIONS)


async def _swallow(running: Site) -> None:
    running.stop(*REGIONS)


async def _fail(running: Site) -> None:
    for name in REGIONS:
        await running.script(name, {"kind": "status", "status": 503})


async def _end_refusal(running: Site) -> None:
    await running.revive(*REGIONS)


async def _end_swallow(running: Site) -> None:
    running.go_on(*REGIONS)


async def _end_failing(running: Site) -> None:
    await running.clear(*REGIONS)


_Act = Callable[[Site], Any]
KINDS: Final[Mapping[str, tuple[_Act, _Act]]] = {
    "refused": (_refuse, _end_refusal),
    "black hole": (_swallow, _end_swallow),
    "503": (_fail, _end_failing),
}


async def total(scale: Scale, kinds: Sequence[str] = tuple(KINDS), timeouts: Mapping[str, float] = TIMEOUTS) -> Outcome:
    outcome = Outcome()
    for kind in kinds:
        await _total(outcome, kind, scale, timeouts)
    return outcome


async def _total(outcome: Outcome, kind: str, scale: Scale, timeouts: Mapping[str, float]) -> None:
    begin_outage, end_outage = KINDS[kind]
    async with site(Fleet(regions(), more={"timeouts": timeouts}, groups=[REGIONS])) as running:
        async with Load(running.port, [Traffic("api", key_of("api"), scale.rate)]) as load:
            await asyncio.sleep(WARM_S + scale.before_s)
            dials_before = await running.metric("router_upstream_dials_total")
            at = time.monotonic()
            await begin_outage(running)
            await asyncio.sleep(scale.fault_s)
            dials = await running.metric("router_upstream_dials_total") - dials_before
            end = time.monotonic()
            await end_outage(running)
            await asyncio.sleep(scale.after_s)
        running.router.end()
        during = load.between(at, end)
        sends = _sends(running, during)
        back = back_after_s(load.between(end, end + scale.after_s), end)
        witnessed = _witnessed(running, during)
        outcome.at_most(f"{kind}: sends and connects a request", (sends + dials) / len(during), AMPLIFICATION)
        outcome.at_most(f"{kind}: full goodput after its end", back, BACK_S, " s")
        outcome.figures[kind] = {
            "requests": len(during),
            "sends": sends,
            "connects": dials,
            "sends_that_clouds_read": witnessed,
            "full_goodput_after_s": back,
            "failures": failures(during),
            "left_late_p99_ms": late_p99_ms(load.shots),
            "failures_after": failures(load.between(end, end + scale.after_s)),
            "p99_first_ms_before": p99_first_ms(load.between(load.began + WARM_S, at)),
        }


def _sends(running: Site, shots: Sequence[Shot]) -> int:
    """Attempts that got as far as a send, by the access log."""
    markers = {one.marker for one in shots}
    return sum(
        attempt["outcome"] != "connect"
        for record in running.records()
        if record.get("client_request_id") in markers
        for attempt in record.get("attempts", ())
    )


def _witnessed(running: Site, shots: Sequence[Shot]) -> int:
    """How many of their sends the clouds have read: a stopped one reads what came when it goes on."""
    markers = {one.marker for one in shots}
    return sum(one.marker in markers for name in running.fleet.endpoints for one in running.journal(name))


def back_after_s(shots: Sequence[Shot], end: float) -> float:
    """From the end of an outage to the first second from which on each one is good; `inf`: it never is."""
    seconds: dict[int, list[bool]] = {}
    for one in shots:
        seconds.setdefault(int(one.due - end), []).append(one.ok)
    bad = [second for second, oks in seconds.items() if sum(oks) < GOOD_SHARE * len(oks)]
    if not seconds or max(bad, default=-1) == max(seconds):
        return float("inf")
    return float(max(bad, default=-1) + 1)


# One cloud is dead, the others are not.


HOLES: Final[Mapping[str, Callable[[Site], None]]] = {
    "answers nothing": lambda running: running.stop(DEAD),
    "accepts nothing": lambda running: running.swallow(DEAD),
}


async def bulkhead(scale: Scale, kinds: Sequence[str] = tuple(HOLES)) -> Outcome:
    outcome = Outcome()
    for kind in kinds:
        await _bulkhead(outcome, kind, scale)
    return outcome


def bulkhead_fleet() -> Fleet:
    """Three workloads: one that may not go to the dead cloud, one that may when its holder refuses, one that must."""
    first_refusal = {"rule": "first_refusal", "holder": "azure", "then": [DEAD]}
    return Fleet(
        {**regions(), DEAD: Endpoint(DEAD, deployment={"connections_max": CONNECTIONS_MAX})},
        workloads={
            "api": API,
            "internal": {"placement": first_refusal},
            "batch": {"placement": {"rule": "exclusive", "cloud": DEAD}, "priority": "low"},
        },
        more={"timeouts": TIMEOUTS},
        groups=[REGIONS, [DEAD]],
        recorded=True,
    )


async def _bulkhead(outcome: Outcome, kind: str, scale: Scale) -> None:
    traffics = [Traffic(name, key_of(name), scale.rate / 3) for name in ("api", "internal", "batch")]
    async with site(bulkhead_fleet()) as running:
        async with Load(running.port, traffics) as load:
            await asyncio.sleep(WARM_S + scale.before_s)
            at = time.monotonic()
            HOLES[kind](running)
            async with _watched(running.ports[DEAD]) as counts:
                await asyncio.sleep(scale.fault_s)
            end = time.monotonic()
        outcome.late_ms = max(outcome.late_ms, late_p99_ms(load.between(load.began + WARM_S, end, "api", "internal")))
        for name in ("api", "internal"):
            before, during = load.between(load.began + WARM_S, at, name), load.between(at, end, name)
            ratio = p99_first_ms(during) / p99_first_ms(before)
            outcome.at_most(f"{kind}: {name}'s p99 to first byte ÷ before", ratio, P99_WOBBLE)
            outcome.none(f"{kind}: {name}'s errors", sum(not one.ok for one in during), f"{len(during):,}")
        outcome.at_most(f"{kind}: connections to it", max(counts), CONNECTIONS_MAX)
        outcome.figures[kind] = {
            "left_late_p99_ms": late_p99_ms(load.shots),
            "failures_of_its_own": failures(load.between(at, end, "batch")),
            "requests_of_its_own": len(load.between(at, end, "batch")),
            "p99_first_ms": {
                name: [
                    p99_first_ms(load.between(load.began + WARM_S, at, name)),
                    p99_first_ms(load.between(at, end, name)),
                ]
                for name in ("api", "internal")
            },
        }


@contextlib.asynccontextmanager
async def _watched(port: int) -> AsyncIterator[list[int]]:
    """How many sockets there are to this port, as the kernel says, some times a second."""
    counts = [sockets_to(port)]

    async def look() -> None:
        while True:
            counts.append(sockets_to(port))
            await asyncio.sleep(0.2)

    task = asyncio.create_task(look())
    try:
        yield counts
    finally:
        task.cancel()


def sockets_to(port: int) -> int:
    """Sockets whose peer has this port, connected or connecting."""
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return sum(int(row[2].rpartition(":")[2], 16) == port and row[3] in _OPEN for row in rows)


DRILLS: Final = (
    Drill(
        "outage",
        "three Azure regions, all out at once: their processes killed (connections refused), stopped (a black hole), "
        "or answering 503. Sends are the access log's attempts that were no failed connects, connects the dials of "
        "/metrics; both over all requests that were due from the outage's start to its end. Goodput is full from the "
        "first second on from which at least 99 % of each second's requests are answered well",
        total,
        Scale(rate=100, before_s=5, fault_s=60, after_s=25),
        Scale(rate=60, before_s=3, fault_s=15, after_s=15),
    ),
    Drill(
        "bulkhead",
        "one cloud of four endpoints black-holed: its process stopped, or its port's queue full, so that the kernel "
        "drops each SYN. A third of the requests are exclusive to it, a third may go there when Azure refuses, a "
        "third must not. Connections are sockets to its port, as the kernel counts them five times a second",
        bulkhead,
        Scale(rate=150, before_s=15, fault_s=30),
        Scale(rate=90, before_s=6, fault_s=10),
    ),
)
