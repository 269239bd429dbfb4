"""Limits that several workers share through their supervisor: exact together, whoever has asked for what."""

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any

from router.emulator import Distribution, Settings
from tests.adversity.client import Ask, chat, sent
from tests.adversity.test_limits import keys
from tests.e2e.test_workers import back, killed
from tests.e2e.workers import Answer, Line, Workers, until, workers
from tests.router_kit import Cloud

SLOW = Settings(tokens=Distribution(40.0), token_gap_ms=Distribution(50.0))  # a stream of 2 s
ONE = chat(max_tokens=1)


async def asked(line: Line, times: int) -> int:
    """How many of so many requests, one after the other, were served; all others were refused for the limit."""
    answers = [await line.ask(ONE) for _ in range(times)]
    assert {answer.status for answer in answers} <= {200, 429}
    return sum(answer.status == 200 for answer in answers)


async def test_one_worker_may_use_all_and_all_together_not_more(tmp_path: Path) -> None:
    limited = keys(limits={"rpm": 60, "burst_share": 0.5})
    async with workers(tmp_path, Cloud("azure"), keys=limited) as r:
        lines = await r.lines_to_each()
        began = time.monotonic()
        served = await asked(lines[0], 30)
        assert served == 30, "the burst of all is there for one"
        served += sum(await asyncio.gather(*(asked(line, 20) for line in lines)))
        assert served <= 30 + (time.monotonic() - began) * 1.0 + 1
        assert await r.metric("router_limit_refusals_total", scope="key", limit="rpm") == 70 - served
