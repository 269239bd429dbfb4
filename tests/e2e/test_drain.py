"""A router's end: nobody who got through to it is left without an answer, and nothing that was answered is lost."""

import asyncio
import contextlib
import os
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from router.emulator import Distribution
from tests.adversity.client import Reply, ask, chat, sent
from tests.e2e.test_process import serve, stream_begun
from tests.e2e.test_upgrade import ALONE_OR_NOT, SLOW, upgradable
from tests.e2e.workers import Workers, until

QUICK = {"tokens": Distribution(2.0), "head_ms": Distribution(5.0), "token_gap_ms": Distribution(1.0)}


@ALONE_OR_NOT
async def test_who_waits_to_be_accepted_when_a_drain_begins_is_answered(tmp_path: Path, count: int) -> None:
    """Hundreds of connections race the end of the listeners: each that the kernel let in has its answer."""
    async with upgradable(tmp_path, count, settings=QUICK) as r:
        answered: list[Reply] = []
        refused = asyncio.Event()

        async def knock() -> None:
            while not refused.is_set():
                try:
                    answered.append(await ask(r, chat()))
                except ConnectionRefusedError:
                    refused.set()

        knocking = [asyncio.create_task(knock()) for _ in range(40)]
        await until(lambda: len(answered) > 100)
        r.process.send_signal(signal.SIGTERM)
        await asyncio.gather(*knocking)

        assert await r.process.wait() == 0
        assert [(reply.status, reply.whole) for reply in answered] == [(200, True)] * len(answered)


async def test_a_request_on_a_connection_that_was_idle_is_answered_when_it_came_before_the_end(tmp_path: Path) -> None:
    """It lies unread in the kernel when the router looks for idle connections."""
    async with upgradable(tmp_path, 1, settings=QUICK) as r, contextlib.AsyncExitStack() as stack:
        lines = [await asyncio.open_connection("127.0.0.1", r.port) for _ in range(20)]
        for reader, writer in lines:
            stack.callback(writer.close)
            writer.write(chat().wire(close=False))
            assert b"connection: close" not in await _answer(reader)
        os.kill(r.process.pid, signal.SIGSTOP)
        for _, writer in lines:
            writer.write(chat().wire(close=False))
        r.process.send_signal(signal.SIGTERM)
        os.kill(r.process.pid, signal.SIGCONT)
        heads = await asyncio.gather(*(_answer(reader) for reader, _ in lines))
        assert all(head.startswith(b"HTTP/1.1 200 ") for head in heads)
        assert await r.process.wait() == 0


async def _answer(reader: asyncio.StreamReader) -> bytes:
    """Reads a whole answer that has a length, and returns its head. Raises IncompleteReadError where it is cut."""
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
    return head


@ALONE_OR_NOT
async def test_while_load_balancers_have_not_noticed_it_still_serves(tmp_path: Path, count: int) -> None:
    async with upgradable(tmp_path, count, settings=QUICK, server={"drain_delay_s": 1.5}) as r:
        r.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        await until(lambda: r.events("draining"))
        assert (await r.admin("/readyz"))[0] == 503
        reply = await ask(r, chat())
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        assert await r.process.wait() == 0
        assert time.monotonic() - began >= 1.5


@pytest.mark.parametrize("point", ["draining", "first answer", "all answers", "end"])
async def test_killed_at_any_point_of_its_end_nothing_that_was_answered_is_lost(tmp_path: Path, point: str) -> None:
    ledger = {"ledger": {"dir": str(tmp_path / "ledger")}}
    async with upgradable(tmp_path, 1, settings={**SLOW, "tokens": Distribution(12.0, 0.5)}, **ledger) as r:
        async with contextlib.AsyncExitStack() as stack:
            calls = [await stack.enter_async_context(sent(r, chat(stream=True))) for _ in range(8)]
            await stream_begun(calls)
            r.process.send_signal(signal.SIGTERM)
            await until(lambda: r.events("draining"))
            ends = [asyncio.create_task(call.rest()) for call in calls]
            if point == "first answer":
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            elif point != "draining":
                await asyncio.wait(ends)
            if point == "end":
                await r.process.wait()
            else:
                r.process.kill()
            replies = await asyncio.gather(*ends)
        answered = {reply.headers["x-request-id"] for reply in replies if reply.complete}
        assert len(answered) == 8 or point in ("draining", "first answer")
        assert answered or point == "draining"
        await _stored(r)
        with sqlite3.connect(tmp_path / "ledger" / "ledger.db") as store:
            stored = [name for (name,) in store.execute("SELECT id FROM requests")]
        assert answered <= set(stored)
        assert len(stored) == len(set(stored)) <= 8


async def _stored(r: Workers) -> None:
    """Starts the router once more, and ends it: what the one before wrote is in the store then."""
    await r.process.wait()
    process = await serve(r.file)
    try:
        await until(lambda: len(r.events("started")) == 2 or process.returncode is not None, within_s=30)
        process.terminate()
        assert await process.wait() == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
