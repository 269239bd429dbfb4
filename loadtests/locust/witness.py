"""What the fleet itself says when all is over: a load test that only asks its clients sees half of the contract."""

import asyncio
import time
from typing import Final

from loadtests.drills.fleet import anchors, signing_key
from loadtests.drills.site import Site
from loadtests.locust.fleet import OTHERS
from loadtests.locust.limits import Verdict

QUIET_S: Final = 10.0  # for requests whose clients have left


async def judged(site: Site) -> list[Verdict]:
    """Ends the router, and reads the clouds' journals and the decision log. Raises BenchError where it does not end."""
    left = await _in_flight_at_rest(site)
    violations = await site.metric("router_placement_violations_total")
    site.router.end()
    elsewhere = [one for name in OTHERS for one in site.journal(name)]
    api = sum(one.traffic == "api" for one in elsewhere)
    log = str(site.folder / "decisions")
    proof = ("--anchors", str(anchors(site.folder)), "--public-key", f"{signing_key(site.folder)}.pub")
    code, said = await site.command("audit", "verify", log, *proof)
    return [
        Verdict("requests that never end", "0", f"{left:.0f}", left == 0),
        Verdict("exclusive requests that other clouds read", "0", f"{api} of {len(elsewhere):,}", api == 0),
        Verdict("sends that the last check had to stop", "0", f"{violations:.0f}", violations == 0),
        Verdict("the decision log", "verifies", "verifies" if code == 0 else _last_line(said), code == 0),
    ]


async def _in_flight_at_rest(site: Site) -> float:
    until = time.monotonic() + QUIET_S
    while (left := await site.metric("router_requests_in_flight")) and time.monotonic() < until:
        await asyncio.sleep(0.1)
    return left


def _last_line(said: bytes) -> str:
    lines = said.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "says nothing"
