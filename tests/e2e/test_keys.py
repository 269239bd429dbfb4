"""Keys in the store, with real processes: taken by all workers within a second, and known while the store is away."""

import asyncio
import contextlib
import os
import re
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from router.base.clock import SystemClock
from router.cli import main
from router.config.keys import digest, new_key
from router.ledger.key_desk import key_desk
from router.model.keys import AddKey, RevokeKey
from tests.adversity.client import chat
from tests.e2e.workers import Line, Workers, until, workers
from tests.postgres_kit import PostgresServer
from tests.router_kit import API_KEY, Cloud

WITHIN_S = 1.0


async def command(*words: str) -> str:
    """What `inference-router keys …` prints."""
    result = await asyncio.to_thread(CliRunner().invoke, main, ["keys", *words])
    assert result.exit_code == 0, result.output
    return result.output


def secret_in(printed: str) -> str:
    (secret,) = re.findall(r"sk-ir-[\w-]+", printed)
    return str(secret)


async def statuses(lines: list[Line], *keys: str) -> list[list[int]]:
    """Of each key, at each worker."""
    return [[(await line.ask(chat(key=key))).status for line in lines] for key in keys]


async def take_effect(check: Callable[[], Awaitable[bool]]) -> float:
    """How long it took, in seconds."""
    began = time.monotonic()
    await until(check)
    return time.monotonic() - began


def at(r: Workers) -> list[str]:
    return ["--admin", f"http://127.0.0.1:{r.admin_port}"]


@contextlib.asynccontextmanager
async def two(folder: Path, run: str = "first", **ledger: Any) -> AsyncIterator[tuple[Workers, list[Line]]]:
    """Two workers, and a connection to each. Of several runs in one folder each has its own log, and all one ledger."""
    (folder / run).mkdir()
    async with workers(folder / run, Cloud("azure"), ledger={"dir": str(folder / "ledger"), **ledger}) as r:
        yield r, await r.lines_to_each()


async def become(lines: list[Line], expected: Mapping[str, int]) -> None:
    """What a command has changed holds on all workers in a moment; how soon, a test that runs alone asks."""
    for key, status in expected.items():
        await until(partial(_all, lines, key, status))


async def test_a_key_is_made_changed_and_ended_on_all_workers_by_command(tmp_path: Path) -> None:
    async with two(tmp_path) as (r, lines):
        shop = secret_in(await command("add", "shop", "--workload", "api", "--models", "gpt-4o", *at(r)))
        await become(lines, {shop: 200, "sk-ir-wrong": 401})

        printed = await command("rotate", "shop", "--overlap", "1h", *at(r))
        newer = secret_in(printed)
        assert "ends at" in printed
        await become(lines, {shop: 200, newer: 200})

        newest = secret_in(await command("rotate", "shop", "--overlap", "0", *at(r)))
        await become(lines, {shop: 401, newer: 401, newest: 200})

        assert "shop" in await command("list", *at(r))
        await command("revoke", "shop", *at(r))
        await become(lines, {newest: 401, API_KEY: 200})
        assert [key["state"] for key in orjson.loads(await command("list", "--json", "--all", *at(r)))] == [
            "active",
            "active",
            "revoked",
        ]
        # The log is written in batches: the last word says that all before it are there.
        await until(lambda: len(r.events("key_revoked")) == 1)
        assert [len(r.events(name)) for name in ("key_added", "key_rotated")] == [1, 2]
        logged = r.log.read_text()
        assert not any(each in logged for each in (shop, newer, newest))


@pytest.mark.timed
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_what_somebody_else_writes_into_the_store_takes_effect_within_a_second(tmp_path: Path, kind: str) -> None:
    with contextlib.ExitStack() as stack:
        more = {"store": stack.enter_context(PostgresServer()).url} if kind == "postgresql" else {}
        url = more.get("store", f"sqlite:///{tmp_path}/ledger/ledger.db")
        async with two(tmp_path, **more) as (_, lines), key_desk(url, SystemClock()) as desk:
            for number in range(4):
                shop = new_key()
                terms = '{"workload":"api","models":["*"]}'
                await desk.change_key(AddKey(f"shop-{number}", terms, digest(shop).hex()))
                assert await take_effect(partial(_all, lines, shop, 200)) < WITHIN_S
                await desk.change_key(RevokeKey(f"shop-{number}"))
                assert await take_effect(partial(_all, lines, shop, 401)) < WITHIN_S


async def test_a_command_needs_no_router(tmp_path: Path) -> None:
    async with two(tmp_path) as (r, lines):
        here = ["--config", str(r.file)]
        shop = secret_in(await command("add", "shop", "--workload", "api", *here))
        await until(partial(_all, lines, shop, 200))
        newer = secret_in(await command("rotate", "shop", "--overlap", "1h", *here))
        await until(partial(_all, lines, newer, 200))
        assert await _all(lines, shop, 200)
        await command("revoke", "shop", *here)
        await until(partial(_all, lines, newer, 401))
        assert "revoked" in await command("list", "--all", *here)


async def test_the_limits_of_a_stored_key_are_shared_by_the_workers(tmp_path: Path) -> None:
    async with two(tmp_path) as (r, lines):
        words = ["--workload", "api", "--rpm", "10", "--burst-share", "1", *at(r)]
        shop = secret_in(await command("add", "shop", *words))
        for line in lines:
            await until(partial(line.knows, shop))
        answers = [await line.ask(chat(key=shop)) for _ in range(10) for line in lines]
        served = sum(answer.status == 200 for answer in answers)
        assert {answer.status for answer in answers} == {200, 429}
        assert 10 <= served <= 12


async def test_while_the_store_is_away_keys_are_known_also_to_who_starts(tmp_path: Path) -> None:
    with PostgresServer() as server:
        url = server.url
        async with two(tmp_path, store=url) as (r, lines):
            shop = secret_in(await command("add", "shop", "--workload", "api", *at(r)))
            await until(lambda: (tmp_path / "ledger" / "keys.json").exists())
            server.kill()
            await become(lines, {shop: 200, "sk-ir-wrong": 401})

            os.kill(r.pids[0], 9)  # the next one is told by its supervisor
            await until(lambda: r.events("worker_started"), within_s=30)
            assert await statuses(await r.lines_to_each(), shop) == [[200, 200]]

        async with two(tmp_path, "second", store=url) as (r, lines):  # this one by the file
            assert await statuses(lines, shop, "sk-ir-wrong") == [[200, 200], [401, 401]]
            server.start()
            await until(lambda: _revoked(r))
            await until(lambda: _all(lines, shop, 401))


async def _revoked(r: Workers) -> bool:
    try:
        await command("revoke", "shop", *at(r))
    except AssertionError:  # the store is not back yet
        return False
    return True


async def _all(lines: list[Line], key: str, status: int) -> bool:
    return await statuses(lines, key) == [[status] * len(lines)]


async def test_who_cannot_know_any_key_of_the_store_calls_none_invalid(tmp_path: Path) -> None:
    """A first start, without the file, while the database is away: the file's keys are served."""
    with PostgresServer() as server:
        async with two(tmp_path, store=server.url) as (r, _):
            shop = secret_in(await command("add", "shop", "--workload", "api", *at(r)))
        server.kill()
        shutil.rmtree(tmp_path / "ledger")
        async with two(tmp_path, "second", store=server.url) as (r, lines):
            assert await statuses(lines, shop, API_KEY) == [[503, 503], [200, 200]]
            await until(lambda: len(r.events("stored_keys_unknown")) == 2)
            server.start()
            await until(lambda: _all(lines, shop, 200), within_s=30)
            assert await statuses(lines, "sk-ir-wrong") == [[401, 401]]


async def test_of_many_changes_in_a_row_the_last_is_what_holds(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger/ledger.db"
    async with two(tmp_path) as (r, lines), key_desk(url, SystemClock()) as desk:
        secrets = [new_key() for _ in range(30)]
        for number, secret in enumerate(secrets):
            await desk.change_key(AddKey(f"shop-{number}", '{"workload":"api","models":["*"]}', digest(secret).hex()))
            if number:
                await desk.change_key(RevokeKey(f"shop-{number - 1}"))
        await until(partial(_all, lines, secrets[-1], 200))
        await until(partial(_all, lines, secrets[-2], 401))  # the last change of all: it may be told by a later word
        assert await statuses(lines, *secrets[:-1]) == [[401, 401]] * 29
        assert await r.metric("router_keys", source="store") == 1
