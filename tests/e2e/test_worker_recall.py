"""What lies idle with one worker is no reason for another to refuse."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.adversity.test_limits import keys
from tests.e2e.test_worker_limits import ONE
from tests.e2e.workers import workers
from tests.router_kit import Cloud


@pytest.mark.parametrize(
    "limits", [{"concurrent": 1}, {"concurrent": 4}, {"rpm": 60, "burst_share": 1.0}], ids=["one place", "four", "rate"]
)
async def test_one_request_at_a_time_is_never_refused_whichever_worker_it_meets(
    tmp_path: Path, limits: dict[str, float]
) -> None:
    async with workers(tmp_path, Cloud("azure"), keys=keys(limits=limits)) as r:
        lines = await r.lines_to_each()
        answers = [await lines[turn % 2].ask(ONE) for turn in range(60)]

        assert [answer.status for answer in answers] == [200] * 60


@pytest.mark.timed
async def test_nobody_is_refused_while_the_supervisor_is_busy_for_a_moment(tmp_path: Path) -> None:
    async with workers(tmp_path, Cloud("azure"), keys=keys(limits={"concurrent": 1})) as r:
        (line, _) = await r.lines_to_each()
        os.kill(r.process.pid, signal.SIGSTOP)
        try:
            asked = asyncio.create_task(line.ask(ONE))
            await asyncio.sleep(0.15)
        finally:
            os.kill(r.process.pid, signal.SIGCONT)

        assert (await asked).status == 200
