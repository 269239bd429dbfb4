"""A key's own figures, whichever worker answered it and whichever it asks."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp

from tests.adversity.client import chat
from tests.e2e.workers import workers
from tests.router_kit import API_KEY, INTERNAL_KEY, Cloud


async def told(port: int, key: str) -> Any:
    """A connection each time, so that both workers are asked. None while the ledger's own process starts."""
    url, headers = f"http://127.0.0.1:{port}/v1/usage", {"authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        assert answer.status in (200, 503), await answer.text()
        return (await answer.json())["total"]["requests"] if answer.status == 200 else None


async def test_every_worker_knows_what_all_have_answered(tmp_path: Path) -> None:
    async with workers(tmp_path, Cloud("azure"), ledger={"dir": str(tmp_path / "ledger")}) as r:
        for line in await r.lines_to_each():
            answers = [await line.ask(chat()) for _ in range(3)]
            assert {answer.status for answer in answers} == {200}
        async with asyncio.timeout(15):
            while await told(r.port, API_KEY) != 6:
                await asyncio.sleep(0.05)
        assert {await told(r.port, API_KEY) for _ in range(8)} == {6}
        assert {await told(r.port, INTERNAL_KEY) for _ in range(8)} == {0}
