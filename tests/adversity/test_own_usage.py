"""`GET /v1/usage`: a key's own figures, and a clear word where the ledger has none to tell."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from router.proxy import own_usage
from router.transport.channel import ClosedError, FailedError
from tests.adversity.client import ask, chat
from tests.router_kit import API_KEY, INTERNAL_KEY, Cloud, RunningRouter, router


class Ledger:
    """Keeps what it is asked, and answers as it is told to."""

    def __init__(self, r: RunningRouter) -> None:
        self.asked: list[tuple[str, float, float, str]] = []
        self.failure: Exception | None = None
        self.held = asyncio.Event()
        self.held.set()
        r.worker.assembly.runtime.own_usage.ask = self._ask

    async def _ask(self, key: str, since: float, until: float, bucket: str) -> dict[str, Any]:
        self.asked.append((key, since, until, bucket))
        await self.held.wait()
        if self.failure is not None:
            raise self.failure
        return {"object": "usage", "key": key, "data": []}


async def get(r: RunningRouter, query: str = "", *, key: str = API_KEY, base: str = "/v1") -> tuple[int, Any, Any]:
    url, headers = f"http://127.0.0.1:{r.port}{base}/usage{query}", {"authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        return answer.status, await answer.json(), answer.headers


def utc(year: int, month: int, day: int, hour: int = 0) -> float:
    return datetime(year, month, day, hour, tzinfo=UTC).timestamp()


async def test_whose_figures_they_are_follows_from_the_key_alone() -> None:
    async with router(Cloud("azure")) as r:
        ledger = Ledger(r)
        first, body, headers = await get(r, "?since=2031-01-01&until=2031-01-03&key=internal&name=internal")
        second, _, _ = await get(r, "?since=2031-01-01T09:00:00%2B01:00&until=1925024400&bucket=hour", key=INTERNAL_KEY)
        assert (first, second) == (200, 200)
        assert body["object"] == "usage"
        assert headers["x-request-id"].startswith("req_")
        (mine, *mine_period), (theirs, *their_period) = ledger.asked
        assert mine == body["key"] != theirs
        assert mine_period == [utc(2031, 1, 1), utc(2031, 1, 3), "day"]
        assert their_period == [utc(2031, 1, 1, 8), 1925024400.0, "hour"]
        await r.until(lambda: len(r.records()) == 2)
        assert {record["operation"] for record in r.records()} == {"usage"}
        assert {record["outcome"] for record in r.records()} == {"ok"}
        assert (await get(r, base="/openai/v1"))[0] == 200
        assert (await get(r, key="sk-nobody"))[0] == 401
        assert len(ledger.asked) == 3
        await r.assert_nothing_is_left(within_s=1)


async def test_the_last_thirty_days_are_told_where_none_are_named() -> None:
    async with router(Cloud("azure")) as r:
        ledger = Ledger(r)
        for query in ("", "?bucket=hour"):
            assert (await get(r, query))[0] == 200
        now = datetime.now(UTC).timestamp()
        for (_, since, until, _), days in zip(ledger.asked, (30, 1), strict=True):
            assert abs(until - now) < 60
            assert until - since == days * 86400


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("?since=yesterday", "since"),
        ("?since=9999-12-01&until=9999-12-31T23:59:59Z", "until"),
        ("?until=2031-02-30", "until"),
        ("?since=2031-01-01T00:00:00", "since"),
        ("?since=-1", "since"),
        ("?bucket=minute", "bucket"),
        ("?bucket=day&bucket=day", "bucket"),
        ("?since=2031-01-02&until=2031-01-01", "since"),
        ("?since=2029-01-01&until=2031-01-01", "since"),
        ("?since=2031-01-01&until=2031-03-01&bucket=hour", "since"),
        ("?since=%ff%fe", "since"),
    ],
)
async def test_a_period_that_is_none_is_said(query: str, param: str) -> None:
    async with router(Cloud("azure")) as r:
        ledger = Ledger(r)
        status, body, _ = await get(r, query)
        assert (status, body["error"]["code"], body["error"]["param"]) == (400, "invalid_period", param)
        assert not ledger.asked


async def test_no_ledger_and_one_that_is_away_are_told_apart() -> None:
    async with router(Cloud("azure")) as r:
        status, body, headers = await get(r)
        assert (status, body["error"]["code"], headers["x-should-retry"]) == (503, "usage_unavailable", "false")
        assert "keeps no usage ledger" in body["error"]["message"]
        ledger = Ledger(r)
        for failure in (ClosedError("gone"), FailedError("OperationalError: secret"), TimeoutError()):
            ledger.failure = failure
            status, body, _ = await get(r)
            assert (status, body["error"]["code"]) == (503, "usage_unavailable")
            assert "cannot be read at the moment" in body["error"]["message"]
            assert "secret" not in body["error"]["message"]
        await r.assert_nothing_is_left(within_s=1)


async def test_questions_are_few_at_a_time_and_end_with_their_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """They must not keep the ledger from its books, and one key's must not keep others out."""
    async with router(Cloud("azure")) as r:
        ledger = Ledger(r)
        ledger.held.clear()
        running = r.worker.assembly.runtime.own_usage._running
        first = asyncio.ensure_future(get(r))
        await r.until(lambda: len(ledger.asked) == 1)
        status, _, headers = await get(r)
        assert (status, headers["retry-after"]) == (503, "2")
        monkeypatch.setattr(own_usage, "AT_ONCE", 1)
        assert (await get(r, key=INTERNAL_KEY))[0] == 503
        monkeypatch.setattr(own_usage, "AT_ONCE", 2)
        second = asyncio.ensure_future(get(r, key=INTERNAL_KEY))
        await r.until(lambda: len(ledger.asked) == 2)
        first.cancel()
        await r.until(lambda: list(running) == ["internal"])
        ledger.held.set()
        assert (await second)[0] == 200
        assert (await get(r))[0] == 200
        assert not running
        await r.assert_nothing_is_left(within_s=1)


async def test_what_was_answered_is_told_a_moment_later(tmp_path: Path) -> None:
    """Through the ledger's own process: the figures are those of the answers, and each key sees its own alone."""
    async with router(Cloud("azure"), ledger={"dir": str(tmp_path / "ledger")}) as r:
        replies = [await ask(r, chat(stream=number == 1)) for number in range(3)]
        assert {reply.status for reply in replies} == {200}

        async def told(key: str) -> Any:
            status, body, _ = await get(r, key=key)
            assert status in (200, 503), body
            return body if status == 200 else None

        async def all_told() -> bool:
            mine = await told(API_KEY)
            return mine is not None and mine["total"]["requests"] == 3

        async with asyncio.timeout(10):
            while not await all_told():
                await asyncio.sleep(0.05)
        mine, theirs = await told(API_KEY), await told(INTERNAL_KEY)
        await r.until(lambda: len([each for each in r.records() if each["operation"] == "chat"]) == 3)
        usages = [each["usage"] for each in r.records() if each["operation"] == "chat"]
        assert mine["key"] == "api"
        assert mine["total"]["prompt_tokens"] == sum(usage["prompt_tokens"] for usage in usages)
        assert mine["total"]["completion_tokens"] == sum(usage["completion_tokens"] for usage in usages)
        assert [line["model"] for line in mine["data"]] == ["gpt-4o"]
        assert (theirs["data"], theirs["total"]["requests"]) == ([], 0)
