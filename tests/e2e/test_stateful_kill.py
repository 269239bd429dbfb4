"""All workers are killed in the moment in which a client has read an id: those that come after know where it lives."""

import os
import signal
from pathlib import Path

import orjson

from tests.adversity.client import Ask
from tests.e2e.workers import Line, until, workers
from tests.router_kit import Cloud

KILLS = 3


async def test_an_id_that_a_client_has_read_outlives_all_workers(tmp_path: Path) -> None:
    ledger = {"dir": str(tmp_path / "ledger"), "segment_bytes": "1MiB"}
    async with workers(tmp_path, Cloud("azure-east"), Cloud("azure-west"), ledger=ledger) as r:
        name = ""
        for _ in range(KILLS):
            line = Line(r.port)
            made = await line.ask(respond({"previous_response_id": name} if name else {}))
            assert made.status == 200
            name = orjson.loads(made.body)["id"]
            pids = [worker["pid"] for worker in (await r.status())["workers"]]
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            await line.close()

            async def others(old: list[int] = pids) -> bool:
                now = (await r.status())["workers"]
                return all(worker["up"] and worker["pid"] not in old for worker in now)

            await until(others)
        r.pids = [worker["pid"] for worker in (await r.status())["workers"]]


def respond(more: dict[str, str]) -> Ask:
    return Ask("/v1/responses", orjson.dumps({"model": "gpt-4o", "input": "hi", **more}))
