"""How fast what one worker finds out holds at all others, by what a cloud then gets, and by their own metric."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from tests.adversity.client import chat
from tests.e2e.workers import Line, Workers, until, workers
from tests.router_kit import Cloud

WORKERS = 4
WITHIN_S = 0.1
SLOWEST_S = 0.4  # of one try, on a machine that others use; a tenth where it is quiet
CHANGES = 100
FLEET = 2000


def cloud(deployments: int) -> Cloud:
    return Cloud("azure", deployments={f"d{index}": f"m{index}" for index in range(deployments)})


async def late_share(r: Workers) -> float:
    """Of all news that a worker took over, how much was, or may have been, older than it should."""
    name = "router_worker_news_age_seconds"
    told = await r.metric(f"{name}_count")
    assert told > 0
    return 1.0 - await r.metric(f"{name}_bucket", le="0.1") / told


async def refused_after_s(line: Line, index: int) -> float:
    """From now until a worker asks none of them any more; each time it is asked for another model."""
    began = time.monotonic()
    for number in range(index, FLEET, WORKERS):
        if (await line.ask(chat(model=f"m{FLEET - 1 - number}"))).status == 503:
            break
    return time.monotonic() - began


@pytest.mark.timed
async def test_a_429_holds_at_all_others_within_a_tenth_of_a_second(tmp_path: Path) -> None:
    """One worker sees it; a tenth of a second after its answer each of the others is asked for the same model."""
    async with workers(tmp_path, cloud(CHANGES), server={"workers": WORKERS}) as r:
        lines = await r.lines_to_each(WORKERS)
        r.clouds["azure"].faults.add("status", status=429, retry_after=60)
        for index in range(CHANGES):
            model = f"m{index}"
            first, *others = lines[index % WORKERS :] + lines[: index % WORKERS]
            assert (await first.ask(chat(model=model))).status == 429
            await asyncio.sleep(WITHIN_S)
            answers = await asyncio.gather(*(other.ask(chat(model=model)) for other in others))
            assert {answer.status for answer in answers} == {429}

        came_through = r.clouds["azure"].received.requests - CHANGES
        assert came_through <= 0.01 * CHANGES * (WORKERS - 1), "p99"
        assert await late_share(r) <= 0.01


@pytest.mark.timed
async def test_two_thousand_deployments_that_go_out_at_once_are_out_for_all(tmp_path: Path) -> None:
    """One credential is refused, which is that of a whole endpoint."""
    async with workers(tmp_path, cloud(FLEET), server={"workers": WORKERS}) as r:
        lines = await r.lines_to_each(WORKERS)
        r.clouds["azure"].faults.add("status", status=401, times=1)
        assert (await lines[0].ask(chat(model="m0"))).status == 502
        out_s = await asyncio.gather(*(refused_after_s(line, index) for index, line in enumerate(lines)))
        assert max(out_s) < SLOWEST_S
        came_through = r.clouds["azure"].received.requests

        known = {await line.worker() for line in lines}
        os.kill(r.pids[0], signal.SIGKILL)
        await until(lambda: r.events("worker_started"), within_s=20)
        (new,) = [line for line in await r.lines_to_each(WORKERS) if await line.worker() not in known]
        assert (await new.ask(chat(model="m7"))).status == 503, "who starts knows it from the others"
        assert r.clouds["azure"].received.requests == came_through
