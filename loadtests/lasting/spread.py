"""Connections over workers: many, few, and after a worker was killed."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Sequence
from typing import Final

from loadtests.drills.fleet import Endpoint, Fleet, key_of
from loadtests.drills.load import Traffic
from loadtests.drills.outcome import Drill, Outcome, Scale, failures
from loadtests.drills.site import Site, site
from loadtests.lasting.load import Held
from loadtests.lasting.site import WORKERS, client_ports, workers_of

FEW: Final = 16
RATIO_MAX: Final = 1.3
FEW_MAX: Final = 6  # on one worker, of sixteen: a hash alone puts seven to ten there every other time
ANSWER_MS: Final = 3000  # so that many connections are few requests


async def spread(scale: Scale) -> Outcome:
    """`scale.rate`: connections; `before_s`: from the first ones to the count; `fault_s`: from the kill, at most."""
    outcome, many = Outcome(), round(scale.rate)
    # Workers divide what a deployment takes at one time; nobody is to be refused since his worker has more clients.
    room = {"connections_max": 2 * many}
    endpoint = Endpoint(emulator={"head_ms": ANSWER_MS, "tokens": 1}, deployment=room)
    quick = Endpoint(emulator={"head_ms": 200, "tokens": 1}, model="quick")
    fleet = Fleet(
        {"azure-a": endpoint, "azure-b": quick},
        server={"workers": WORKERS},
        more={"limits": {"concurrency": "off"}},
    )
    key = key_of("api")
    async with site(fleet) as running:
        async with Held(running.port, Traffic("few", key, 1.0, model="quick", stream_every=0), FEW) as few:
            await asyncio.sleep(scale.before_s)
            of_few = await _counts(running)
        async with Held(running.port, Traffic("many", key, 1.0, stream_every=0), many) as load:
            await asyncio.sleep(scale.before_s)
            before = await _counts(running)
            killed_at = time.monotonic()
            os.kill(random.choice(list((await workers_of(running)).values())), signal.SIGKILL)
            after = await _even(running, killed_at + scale.fault_s)
            even_s = time.monotonic() - killed_at
    outcome.at_most(f"{many} connections: fullest ÷ emptiest worker", _ratio(before), RATIO_MAX)
    outcome.at_most(f"the same once one was killed, {even_s:.0f} s later", _ratio(after), RATIO_MAX)
    outcome.at_most(f"{FEW} connections: of the fullest worker", max(of_few), FEW_MAX)
    whole = [one for one in few.shots + load.shots if 0.0 < one.ended < killed_at]
    outcome.none("requests that failed before the kill", sum(not one.ok for one in whole), str(len(whole)))
    outcome.figures = {
        "few": of_few,
        "many": before,
        "after_the_kill": after,
        "requests": len(load.shots),
        "failures": failures(whole),
    }
    return outcome


async def _counts(running: Site) -> list[int]:
    return [len(client_ports(pid, running.port)) for _, pid in sorted((await workers_of(running)).items())]


async def _even(running: Site, until: float) -> list[int]:
    """Waits until they lie evenly, but not beyond that moment (monotonic seconds)."""
    while True:
        await asyncio.sleep(1.0)
        counts = await _counts(running)
        if time.monotonic() >= until or (len(counts) == WORKERS and _ratio(counts) <= RATIO_MAX):
            return counts


def _ratio(counts: Sequence[int]) -> float:
    return max(counts) / max(1, min(counts))


DRILL: Final = Drill(
    "spread",
    f"{WORKERS} workers; clients that keep their connections and ask again once they have an answer, {FEW} of them and "
    "many. Who has which connection is as the kernel says",
    spread,
    full=Scale(rate=1000, before_s=12, fault_s=40),
    quick=Scale(rate=200, before_s=6, fault_s=40),
)
