"""Limits that several workers share through their supervisor: exact together, whoever has asked for what."""

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any

import pytest

from router.emulator import Distribution, Settings
from tests.adversity.client import Call, ask, chat, sent
from tests.adversity.test_limits import keys
from tests.e2e.test_workers import back, killed
from tests.e2e.workers import Line, workers
from tests.router_kit import Cloud

LONG = Settings(tokens=Distribution(1000.0), token_gap_ms=Distribution(60.0))  # a stream of a minute
ONE = chat(max_tokens=1)


async def served(line: Line, times: int) -> int:
    """How many of so many requests, one after the other; all others were refused for the limit."""
    answers = [await line.ask(ONE) for _ in range(times)]
    assert {answer.status for answer in answers} <= {200, 429}
    return sum(answer.status == 200 for answer in answers)


async def test_one_worker_may_use_all_and_all_together_not_more(tmp_path: Path) -> None:
    limited = keys(limits={"rpm": 60, "burst_share": 0.5})
    async with workers(tmp_path, Cloud("azure"), keys=limited) as r:
        lines = await r.lines_to_each()
        began = time.monotonic()
        count = await served(lines[0], 30)
        assert count == 30, "the burst of all is there for one"
        count += sum(await asyncio.gather(*(served(line, 20) for line in lines)))

        assert count <= 30 + (time.monotonic() - began) * 1.0 + 1
        assert await r.metric("router_limit_refusals_total", scope="key", limit="rpm") == 70 - count
        assert await r.metric("router_limit_left_ratio", scope="key", limit="rpm") < 0.2
        assert await r.metric("router_limit_lease_waits_total") >= 1


async def test_a_shadow_counts_whom_workers_together_would_refuse(tmp_path: Path) -> None:
    limited = keys(limits={"rpm": 60, "burst_share": 0.2, "shadow": ["rpm"]})
    async with workers(tmp_path, Cloud("azure"), keys=limited) as r:
        lines = await r.lines_to_each()
        began = time.monotonic()
        counts = await asyncio.gather(*(served(line, 30) for line in lines))

        refused = 60 - 12 - (time.monotonic() - began) * 1.0
        assert sum(counts) == 60, "nobody is refused yet"
        assert await r.metric("router_limit_shadowed_total", scope="key", limit="rpm") >= 0.8 * refused


async def test_a_rate_is_used_up_by_workers_together(tmp_path: Path) -> None:
    """Three times what is allowed comes to both: nearly all of it is served, and not more."""
    limited = keys(limits={"rpm": 1200, "burst_share": 0.01})
    async with workers(tmp_path, Cloud("azure"), keys=limited) as r:
        lines = await r.lines_to_each()
        until_at = time.monotonic() + 3.0

        async def press(line: Line) -> int:
            count = 0
            while time.monotonic() < until_at:
                count += (await line.ask(ONE)).status == 200
                await asyncio.sleep(0.02)
            return count

        began = time.monotonic()
        count = sum(await asyncio.gather(*map(press, lines)))

        allowed = 12 + 20 * (time.monotonic() - began)
        assert count <= allowed + 1
        assert count >= 0.8 * 20 * 3


@pytest.mark.timed
async def test_places_of_a_killed_worker_come_back(tmp_path: Path) -> None:
    """As many as it had: the others' streams have theirs, and no more are given away."""
    limited = keys(limits={"concurrent": 8})
    async with (
        workers(tmp_path, Cloud("azure", settings=LONG), keys=limited) as r,
        contextlib.AsyncExitStack() as stack,
    ):

        async def stream() -> Call | None:
            """One that runs; None where it was refused."""
            call = await stack.enter_async_context(sent(r, chat(stream=True)))
            await call.head()
            return call if call.reply.status == 200 else None

        running = [call for _ in range(8) if (call := await stream())]
        assert len(running) == 8
        assert (await ask(r, ONE)).status == 429, "all places are taken, whoever has them"
        await killed(r.pids[0])
        await back(r)
        broken = sum([await broke_off(call) for call in running])
        async with asyncio.timeout(5.0):
            # Who was refused just now may go by that for a tenth of a second, and a successor is back sooner.
            while broken:
                broken -= await stream() is not None

        for _ in range(4):
            assert await stream() is None, "the others still have theirs"


async def broke_off(call: Call) -> bool:
    """Whether a stream that would run for long has ended."""
    try:
        async with asyncio.timeout(0.3):
            return not (await call.rest()).whole
    except TimeoutError:
        return False


async def test_a_reload_lowers_what_is_leased_out_already(tmp_path: Path) -> None:
    def lower(config: dict[str, Any]) -> None:
        config["keys"] = keys(limits={"rpm": 60, "burst_share": 0.05})

    limited = keys(limits={"rpm": 60_000, "burst_share": 0.1})
    async with workers(tmp_path, Cloud("azure"), keys=limited) as r:
        lines = await r.lines_to_each()
        assert [await served(line, 5) for line in lines] == [5, 5], "both have a stock now"
        r.write(lower)
        status, body = await r.admin("/reload", "POST")
        assert status == 200, body
        began = time.monotonic()
        count = sum(await asyncio.gather(*(served(line, 20) for line in lines)))

        assert count <= 3 + (time.monotonic() - began) * 1.0 + 1


async def test_a_worker_that_is_started_anew_has_no_limits_of_its_own(tmp_path: Path) -> None:
    limited = keys(limits={"rpm": 60, "burst_share": 0.2})
    async with workers(tmp_path, Cloud("azure"), keys=limited) as r:
        began = time.monotonic()
        lines = await r.lines_to_each()
        count = sum(await asyncio.gather(*(served(line, 10) for line in lines)))
        await killed(r.pids[1])
        await back(r)
        lines = await r.lines_to_each()
        count += sum(await asyncio.gather(*(served(line, 10) for line in lines)))

        assert count <= 12 + (time.monotonic() - began) * 1.0 + 1
