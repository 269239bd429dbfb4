"""A router is followed by another, again and again, under open streams and short requests."""

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, Final

from loadtests.bench.processes import BenchError
from loadtests.drills.fleet import PACE, Endpoint, key_of
from loadtests.drills.load import Load, Shot, Traffic
from loadtests.drills.outcome import Drill, Outcome, Scale, late_p99_ms
from loadtests.drills.site import Site, site
from loadtests.lasting.load import Held, tally
from loadtests.lasting.site import SLOW, events, fleet_of
from router.jobs.commands import ask_upgrade

WORKERS: Final = 2
STREAM_S: Final = 12  # a stream has a chunk a second, so each meets several upgrades
IDLE_S: Final = 20  # until the old router closes a connection that asks for nothing more
PAUSE_S: Final = 1.5  # between the end of one and the begin of the next
SHORT_RATE: Final = 60.0  # requests a second
FOLLOWED_S: Final = 60.0
ROOM: Final = 8  # times what is open: how the kernel spreads clients over workers is not what is looked at


async def upgrades(scale: Scale) -> Outcome:
    """`scale.rate`: so many streams are open all the time. `scale.fault_s`: how many upgrades there are."""
    outcome, streams, count = Outcome(), int(scale.rate), int(scale.fault_s)
    fleet = fleet_of(WORKERS, more=_more(streams), drain_s=4 * STREAM_S, keepalive_timeout_s=IDLE_S)
    pace = {**PACE, "first_token_ms": 500, "token_gap_ms": 1000, "tokens": STREAM_S}
    slow = Endpoint(model=SLOW, emulator=pace, deployment={"connections_max": ROOM * streams})
    fleet = replace(fleet, endpoints={**fleet.endpoints, "azure-slow": slow}, recorded=True)
    async with site(fleet) as running:
        held = Held(running.port, Traffic("streams", key_of("api"), 1.0, model=SLOW, stream_every=1), streams)
        short = Load(running.port, _short())
        took: list[float] = []
        open_before: list[int] = []
        async with held, short:
            await _filled(held, streams)
            for _ in range(count):
                open_before.append(held.open)
                took.append(await _upgrade(running))
                await asyncio.sleep(PAUSE_S)
            await held.finish(3 * STREAM_S)
            await short.finish()
        ended = await _ended(running, count)
        await asyncio.to_thread(running.router.end)
        _judge(outcome, [*held.shots, *short.shots], ended, running, count)
        outcome.figures |= {"upgrades": count, "took_s": sorted(took), "streams_open": min(open_before)}
        code, said = await running.command("audit", "verify", str(running.folder / "decisions"))
        outcome.none("decision logs that do not verify", code)
        outcome.figures["audit"] = said.decode(errors="replace").strip().splitlines()[-1:]
    return outcome


def _more(streams: int) -> dict[str, Any]:
    """With room for all at the clouds: on a machine that is full, learned limits would turn some away, rightly."""
    return {
        "ledger": {"dir": "ledger"},
        "limits": {"concurrency_start": ROOM * streams, "concurrency_min": ROOM * streams},
    }


def _short() -> list[Traffic]:
    """On connections that stay, and on one each."""
    key = key_of("api")
    return [Traffic("kept", key, SHORT_RATE / 2), Traffic("fresh", key, SHORT_RATE / 2, stream_every=0, fresh=True)]


async def _filled(held: Held, streams: int) -> None:
    """Returns once they are spread over a stream's length: begun at once, they would also end at once."""
    await asyncio.sleep(STREAM_S)
    if held.open < 0.9 * streams:  # who has just ended is not there for a moment
        raise BenchError(f"only {held.open} of {streams} streams are open")


async def _upgrade(running: Site) -> float:
    """Seconds until the next router serves. Raises BenchError where it does not."""
    pid = running.router.pid
    if pid is None:
        raise BenchError("there is no router to be followed")
    began = time.monotonic()
    answer = await asyncio.to_thread(ask_upgrade, pid)
    if not answer.pid:
        raise BenchError(f"not upgraded: {answer.why}")
    running.router.follow(answer.pid)
    return time.monotonic() - began


async def _ended(running: Site, count: int) -> list[dict[str, Any]]:
    """The word of each router that was followed that it has nothing left to do."""
    deadline = time.monotonic() + FOLLOWED_S
    while time.monotonic() < deadline and len(found := _drained(running)) < count:
        await asyncio.sleep(0.1)
    return found


def _drained(running: Site) -> list[dict[str, Any]]:
    return [line for line in events(running, "drained") if "worker" not in line]


def _judge(outcome: Outcome, shots: Sequence[Shot], ended: Sequence[dict[str, Any]], running: Site, count: int) -> None:
    streams = [one for one in shots if one.traffic.name == "streams"]
    short = [one for one in shots if one.traffic.name != "streams"]
    outcome.late_ms = 0.0  # nothing is compared with another time
    outcome.none("broken streams", sum(not one.ok for one in streams), f"{len(streams)}")
    outcome.none("refused connections", sum(not one.begun for one in shots), f"{len(shots)}")
    outcome.none("failed short requests", sum(not one.ok for one in short), f"{len(short)}")
    outcome.none("routers that were cut off", len(events(running, "drain_timeout")))
    outcome.none("routers that were followed and did not end", count - len(ended), f"{count}")
    answered = {one.request_id for one in shots if one.ok}
    entries, counted = _ledger(running)
    outcome.none("answered requests that are not in the ledger", len(answered - entries), f"{len(answered)}")
    outcome.none("requests that the ledger counts twice", abs(counted - len(entries)), f"{counted}")
    logged = {record["id"] for record in running.records()}
    outcome.none("answered requests that are not in the access log", len(answered - logged))
    outcome.figures = {
        "workers": WORKERS,
        "kinds": {name: asdict(each) for name, each in tally(shots).items()},
        "left_late_p99_ms": late_p99_ms(shots),
    }


def _ledger(running: Site) -> tuple[set[str], int]:
    """The ids of all requests in the ledger's store, and how many its sums by hours say that there are."""
    with sqlite3.connect(running.folder / "ledger" / "ledger.db") as store:
        ids = {name for (name,) in store.execute("SELECT id FROM requests")}
        ((counted,),) = store.execute("SELECT sum(requests) FROM usage_hours")
        return ids, counted


DRILL: Final = Drill(
    "upgrades",
    f"{WORKERS} workers; so many streams of {STREAM_S} s are open all the time, and {SHORT_RATE:g} short requests a "
    "second come beside them, half of them on a connection each. Again and again the router is followed by another "
    f"({PAUSE_S:g} s after the last one served). At the end each answer must be in the ledger once, whoever gave it",
    upgrades,
    full=Scale(rate=1000, before_s=0, fault_s=20),
    quick=Scale(rate=50, before_s=0, fault_s=2),
)
