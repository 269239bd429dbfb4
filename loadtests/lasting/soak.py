"""Half an hour at seven tenths of what the machine bears, with a round of faults every minute: nothing may grow."""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import click

from loadtests.bench import procfs
from loadtests.drills.fleet import API, REGIONS, Endpoint, Fleet, key_of
from loadtests.drills.load import Load, Traffic
from loadtests.drills.outcome import Drill, Outcome, Scale, failures
from loadtests.drills.site import Site, site
from loadtests.lasting.load import Held
from loadtests.lasting.slope import POINTS_MIN, theil_sen

WORKERS: Final = 2
SHARE: Final = 0.7  # of the most that programs of this machine bear together
MOST_S: Final = 10.0  # for so long that is looked for
CLIENTS: Final = 160  # which then ask without a pause
SAMPLE_S: Final = 5.0
SLOPE_MAX: Final = 2.0  # MiB an hour
FILES_MAX: Final = 16  # noise: connections that a fault of the moment has opened
IDLE_S: Final = 10.0  # then a pooled connection is closed
QUIET_S: Final = 30.0  # from the last answer until all counts must be 0
SEGMENT: Final = "256KiB"
OTHERS: Final = ("oracle", "softbank")
WORKLOADS: Final[Mapping[str, Any]] = {
    "api": {**API, "max_wait_ms": 500},
    "internal": {"placement": {"rule": "first_refusal", "holder": "azure", "then": list(OTHERS)}},
}
TIMEOUTS: Final[Mapping[str, float]] = {
    "connect_s": 1,
    "commit_stream_s": 2,
    "commit_json_s": 2,
    "idle_s": 2,
    "total_s": 10,
}
# What there is of while requests run, and of nothing else.
COUNTS: Final = (
    "router_requests_in_flight",
    "router_waiting_requests",
    "router_waiting_bytes",
    "router_buffered_bytes",
    "router_attempts_in_flight",
    "router_sessions_open",
    "router_client_connections",
    "router_clients_arriving",
)


class SoakFleet(Fleet):
    """All that a router can keep: ledger, decision log with anchors, limits on every key."""

    def config(self, folder: Path, ports: Mapping[str, int], port: int, admin_port: int) -> dict[str, Any]:
        limits = {"rpm": 10_000_000, "tpm": 1_000_000_000, "concurrent": 5000}
        document = super().config(folder, ports, port, admin_port)
        # Small segments: many are begun and deleted, and the part of one that is in memory is no growth.
        log = document["decision_log"]
        ledger = {"dir": str(folder / "ledger"), "store": f"sqlite:///{folder / 'ledger.db'}"}
        return {
            **document,
            "decision_log": {**log, "segment_bytes": SEGMENT, "keep_bytes": "32MiB"},
            "ledger": {**ledger, "segment_bytes": SEGMENT, "keep_bytes": "256MiB"},
            "keys": [{**key, "limits": limits} for key in document["keys"]],
        }


@dataclass(frozen=True, slots=True)
class Sample:
    """The router's whole process tree at one moment; memory by what its processes are called."""

    pss_mib: Mapping[str, float]
    files: int


@dataclass(slots=True)
class Round:
    """One round of faults; of memory and files the medians."""

    requests: int
    failed: int
    why: dict[str, int]
    pss_mib: float
    parts_mib: dict[str, float]
    files: float


async def soak(scale: Scale) -> Outcome:
    """`scale.before_s`: of warming up; `scale.fault_s`: of what is judged; `scale.after_s`: a round of faults."""
    outcome = Outcome()
    async with site(_fleet()) as running:
        most = await _most(running)
        await asyncio.sleep(2 * IDLE_S)
        before = _files(running)
        rounds = []
        async with Load(running.port, _traffics(most * SHARE)) as load, _watching(running) as samples:
            for number in range(round((scale.before_s + scale.fault_s) / scale.after_s)):
                await _round(running, number, scale.after_s)
                rounds.append(_closed(load, samples))
                _say(number, rounds[-1])
        counts, after = await _ended(running)
        restarts = await running.metric("router_worker_restarts_total")
    warm = rounds[round(scale.before_s / scale.after_s) :]
    outcome.none("requests, answers and connections that are still counted at the end", round(sum(counts.values())))
    outcome.at_most("open files at the end, over those before the load", after - before, FILES_MAX)
    outcome.none("workers that died", round(restarts))
    if len(warm) >= POINTS_MIN:
        _judge_growth(outcome, warm, scale.after_s)
    outcome.figures |= {
        "most_per_s": most,
        "rate_per_s": most * SHARE,
        "counts": counts,
        "rounds": [asdict(one) for one in rounds],
    }
    return outcome


def _judge_growth(outcome: Outcome, warm: Sequence[Round], round_s: float) -> None:
    hours = round_s / 3600
    memory = theil_sen([(number * hours, one.pss_mib) for number, one in enumerate(warm)])
    files = theil_sen([(number * hours, one.files) for number, one in enumerate(warm)])
    outcome.at_most("growth of memory (PSS), its upper bound", memory.upper, SLOPE_MAX, " MiB/h")
    third = len(warm) // 3
    first, last = (statistics.median(one.files for one in part) for part in (warm[:third], warm[-third:]))
    outcome.at_most("open files in the last third, over those in the first", last - first, FILES_MAX)
    outcome.figures["slopes_per_h"] = {"pss_mib": asdict(memory), "files": asdict(files)}


def _fleet() -> Fleet:
    regions = {name: Endpoint() for name in REGIONS}
    others = {name: Endpoint(cloud=name) for name in OTHERS}
    return SoakFleet(
        {**regions, **others},
        workloads=WORKLOADS,
        groups=[[REGIONS[2]], [*REGIONS[:2], *OTHERS]],
        server={"workers": WORKERS, "upstream_idle_s": IDLE_S},
        more={"timeouts": TIMEOUTS},
        recorded=True,
    )


def _traffics(rate: float) -> list[Traffic]:
    api, internal = key_of("api"), key_of("internal")
    return [
        Traffic("api", api, rate * 0.55, stream_every=4, leave_every=50),
        Traffic("fresh", api, rate * 0.05, stream_every=4, fresh=True),
        Traffic("internal", internal, rate * 0.4, stream_every=4, leave_every=50),
    ]


async def _most(running: Site) -> float:
    """Answers a second to clients who ask without a pause: what clouds, router and clients bear on these cores."""
    async with Held(running.port, Traffic("most", key_of("api"), 1.0, stream_every=4), CLIENTS) as load:
        await asyncio.sleep(MOST_S / 5)
        began = time.monotonic()
        await asyncio.sleep(MOST_S)
        ended = time.monotonic()
        return sum(one.ok and began <= one.ended < ended for one in load.shots) / MOST_S


async def _round(running: Site, number: int, seconds: float) -> None:
    """Each fault once, each for a part of the time, and a reload; the rest of the time all is well."""
    a, b, c = REGIONS
    part = seconds / 10
    busy: dict[str, Any] = {"kind": "status", "status": 429, "retry_after": part / 2, "for_s": part / 2}
    cut = {"share": 0.2, "for_s": part / 2}

    async def kill() -> None:
        running.kill(c)
        await asyncio.sleep(part / 2)
        await running.revive(c)

    steps: list[Callable[[], Awaitable[Any]]] = [
        lambda: running.clear(*REGIONS, *OTHERS),  # what has ended lies in the book all the same
        lambda: running.script(a, busy),
        lambda: running.script(b, {"kind": "slow_head", "delay_ms": 400, "for_s": part}),
        kill,
        lambda: asyncio.gather(*(running.script(name, busy) for name in REGIONS)),
        lambda: running.script(b, {"kind": "cut_at", "at_byte": 700, **cut}),
        lambda: running.script(a, {"kind": "stall_mid_stream", "after_events": 2, **cut}),
        lambda: running.script(a, {"kind": "status", "status": 500, **cut}, {"kind": "reset_before_head", **cut}),
        lambda: _reload(running, number),
    ]
    until = time.monotonic()
    for step in steps:
        await step()
        until += part
        await asyncio.sleep(max(0.0, until - time.monotonic()))
    await asyncio.sleep(part)


async def _reload(running: Site, number: int) -> None:
    """One region more or less each time: its pool is closed or made anew."""
    config = running.config()
    if number % 2:
        del config["endpoints"][REGIONS[1]]
    running.write(config)
    assert await running.reload()


@asynccontextmanager
async def _watching(running: Site) -> AsyncIterator[list[Sample]]:
    samples: list[Sample] = []

    async def watch() -> None:
        while True:
            samples.append(await asyncio.to_thread(_sample, running))
            await asyncio.sleep(SAMPLE_S)

    task = asyncio.create_task(watch())
    try:
        yield samples
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _sample(running: Site) -> Sample:
    found: Counter[str] = Counter()
    for pid in procfs.tree(running.router.pid or 0):
        found[procfs.name(pid)] += procfs.pss_bytes([pid])
    return Sample({name: size / 2**20 for name, size in found.items()}, _files(running))


def _files(running: Site) -> int:
    return sum(map(procfs.open_files, procfs.tree(running.router.pid or 0)))


def _closed(load: Load, samples: list[Sample]) -> Round:
    """What the round came to. Its requests that have ended are forgotten: there are millions of them in the end."""
    done = [one for one in load.shots if one.ended]
    load.shots[:] = [one for one in load.shots if not one.ended]
    mine, why = list(samples), failures(done)
    samples.clear()
    return Round(
        requests=len(done),
        failed=sum(why.values()),
        why=why,
        pss_mib=statistics.median(sum(one.pss_mib.values()) for one in mine),
        parts_mib={name: statistics.median(one.pss_mib.get(name, 0.0) for one in mine) for name in mine[0].pss_mib},
        files=statistics.median(one.files for one in mine),
    )


def _say(number: int, one: Round) -> None:
    click.echo(
        f"  round {number + 1}: {one.requests:,} requests, {one.failed / max(1, one.requests):.2%} failed by faults; "
        f"{one.pss_mib:.2f} MiB, {one.files:.0f} open files"
    )


async def _ended(running: Site) -> tuple[dict[str, float], int]:
    """What is still counted once everything had time to end, by the metrics page; and the open files."""
    await asyncio.sleep(QUIET_S)
    page = await running.metrics()
    return {key: value for key, value in page.items() if value and _of_what_runs(key)}, _files(running)


def _of_what_runs(sample: str) -> bool:
    name = sample.partition("{")[0]
    return name in COUNTS or (name == "router_upstream_connections" and 'state="busy"' in sample)


DRILL: Final = Drill(
    "soak",
    f"{WORKERS} workers with a ledger, a decision log and limits on every key, before three emulated Azure regions and "
    f"two other clouds. {SHARE:.0%} of what {CLIENTS} clients without a pause get answered; a quarter are streams, one "
    "in twenty has a connection of its own, each fiftieth client hangs up. Each minute a region throttles, one is "
    "slow, one is killed and comes back, all throttle, streams are cut, stall, fail and are reset, and the "
    "configuration is read anew with a region more or less. Memory is the proportional set of the whole process tree, "
    "the median of each minute; its growth is the slope of Theil and Sen over the minutes after the warm-up, and the "
    "upper end of the 95 % interval is judged. Segments of both logs are small: the one that is written to lies in "
    "memory",
    soak,
    full=Scale(rate=0, before_s=20 * 60, fault_s=30 * 60, after_s=60),
    quick=Scale(rate=0, before_s=0, fault_s=20, after_s=10),
)
