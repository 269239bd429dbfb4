"""A router that is followed by another: clients notice nothing, and nothing is lost or written twice."""

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from router.emulator import Distribution, Settings
from tests.adversity.client import Call, ask, chat, sent
from tests.e2e.test_process import ROOT, stream_begun
from tests.e2e.workers import Line, Workers, lives, until, workers
from tests.router_kit import API_KEY, Cloud

SLOW = {"tokens": Distribution(60.0), "token_gap_ms": Distribution(50.0)}  # streams of three seconds
ALONE_OR_NOT = pytest.mark.parametrize("count", [1, 2], ids=["one process", "workers"])


@contextlib.asynccontextmanager
async def upgradable(folder: Path, count: int, **config: Any) -> AsyncIterator[Workers]:
    """A router of so many workers; those that follow it are killed with it."""
    described = Cloud("azure", settings=Settings(**config.pop("settings", {})))
    server = {"workers": count, **config.pop("server", {})}
    async with workers(folder, described, server=server, **config) as r:
        yield r


def upgrade(pid: int) -> tuple[int, str]:
    """The command's exit status, and all that it says."""
    command = [sys.executable, "-m", "router", "upgrade", "--pid", str(pid)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    return done.returncode, done.stdout + done.stderr


async def upgraded(r: Workers, pid: int) -> int:
    """The next router's pid."""
    status, said = await asyncio.to_thread(upgrade, pid)
    assert status == 0, said
    r.pids.append(int(said.split()[2]))  # whose workers end with it
    return r.pids[-1]


async def gone(pid: int) -> None:
    await until(lambda: not lives(pid))


@ALONE_OR_NOT
async def test_streams_go_on_and_nobody_is_refused(tmp_path: Path, count: int) -> None:
    """Half-way through its streams a router is followed by another, which answers from then on."""
    async with upgradable(tmp_path, count, settings=SLOW) as r, contextlib.AsyncExitStack() as stack:
        calls: list[Call] = [await stack.enter_async_context(sent(r, chat(stream=True))) for _ in range(10)]
        await stream_begun(calls)
        kept = Line(r.port)
        r.lines.append(kept)
        before = (await kept.ask(chat(max_tokens=1))).id

        pid = await upgraded(r, r.process.pid)

        answers = [await ask(r, chat(max_tokens=1)) for _ in range(5)]
        assert [answer.status for answer in answers] == [200] * 5
        assert (await kept.ask(chat(max_tokens=1))).status == 200
        replies = await asyncio.gather(*(call.rest() for call in calls))
        assert all(reply.complete for reply in replies)
        assert (await r.process.wait()) == 0
        assert lives(pid)
        assert [line["pid"] for line in r.events("started")] == [r.process.pid, pid]
        assert before.rpartition("-")[0] not in {each.headers["x-request-id"].rpartition("-")[0] for each in answers}
        os.kill(pid, signal.SIGTERM)
        await gone(pid)


@ALONE_OR_NOT
async def test_one_that_was_followed_ends_its_idle_connections_when_it_is_told_to(tmp_path: Path, count: int) -> None:
    """They have their usual time else, which is theirs to use. What runs is still ended well."""
    async with (
        upgradable(tmp_path, count, settings=SLOW, server={"drain_s": 60}) as r,
        contextlib.AsyncExitStack() as s,
    ):
        call = await s.enter_async_context(sent(r, chat(stream=True)))
        await stream_begun([call])
        r.lines.append(idle := Line(r.port))
        await idle.ask(chat(max_tokens=1))
        await upgraded(r, r.process.pid)
        r.process.send_signal(signal.SIGTERM)
        assert (await call.rest()).complete
        async with asyncio.timeout(10):
            assert await r.process.wait() == 0
        assert (await ask(r, chat(max_tokens=1))).status == 200


@ALONE_OR_NOT
async def test_one_that_cannot_start_leaves_the_old_one_as_it_was(tmp_path: Path, count: int) -> None:
    async with upgradable(tmp_path, count) as r:
        r.write(lambda config: config.update(workloads=7))
        status, said = await asyncio.to_thread(upgrade, r.process.pid)

        assert status == 1
        assert f"{r.file}:" in said, "the fault, with its place"
        assert "workloads" in said
        assert f"router {r.process.pid} goes on" in said
        assert (await ask(r, chat())).status == 200
        assert (await r.admin("/readyz"))[0] == 200
        await until(lambda: r.events("upgrade_failed"))
        assert "workloads" in r.events("upgrade_failed")[0]["reason"]

        r.write(lambda config: config.update(workloads={"api": {"placement": {"rule": "exclusive", "cloud": "azure"}}}))
        r.write(lambda config: config.update(keys=config["keys"][:1]))
        await upgraded(r, r.process.pid)
        assert await r.process.wait() == 0
        assert (await ask(r, chat())).status == 200


async def test_one_that_hangs_or_dies_while_it_starts_is_not_waited_for(tmp_path: Path) -> None:
    """Of an installation that is broken, say: its standard error is the running router's."""
    async with upgradable(tmp_path, 1) as r:
        command = Path(f"/proc/{r.process.pid}/cmdline").read_bytes()
        assert b"router" in command
        r.write(lambda config: config["server"].update(access_log=str(tmp_path / "nowhere" / "access.log")))
        status, said = await asyncio.to_thread(upgrade, r.process.pid)
        assert status == 1
        assert "nowhere" in said
        assert (await ask(r, chat())).status == 200


@ALONE_OR_NOT
async def test_what_operators_said_holds_for_the_next_router_and_for_the_one_before(tmp_path: Path, count: int) -> None:
    """A drained deployment stays drained, also for the requests that the old router still has to place."""
    id_ = "azure/gpt-4o-dep"
    async with upgradable(tmp_path, count, settings=SLOW) as r, contextlib.AsyncExitStack() as stack:
        call = await stack.enter_async_context(sent(r, chat(stream=True)))
        await stream_begun([call])
        old = Line(r.port)
        r.lines.append(old)
        assert (await old.ask(chat(max_tokens=1))).status == 200
        assert (await r.admin(f"/deployments/{id_}/drain", "POST"))[0] == 200

        await upgraded(r, r.process.pid)

        status = await r.status()
        assert status["deployments"][0]["draining"]
        assert (await ask(r, chat())).status == 503
        assert status["predecessor"] is None or status["predecessor"]["pid"] == r.process.pid
        command = [sys.executable, "-m", "router", "drain", id_, "--admin", f"http://127.0.0.1:{r.admin_port}"]
        done = await asyncio.to_thread(subprocess.run, [*command, "--undo"], capture_output=True, text=True, cwd=ROOT)
        assert (done.returncode, done.stdout) == (0, f"{id_} is back in\n")
        assert (await ask(r, chat(max_tokens=1))).status == 200
        assert (await old.ask(chat(max_tokens=1))).status == 200, "the old router has heard of it too"
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, cwd=ROOT)
        assert "gets nothing new" in done.stdout
        assert (await ask(r, chat())).status == 503
        assert (await call.rest()).complete, "what runs there ends well"


@pytest.mark.timed
@ALONE_OR_NOT
async def test_every_answer_is_in_the_books_once(tmp_path: Path, count: int) -> None:
    """The old router's last ones too, though another one keeps the books by then; and totals do not fall."""
    ledger = {"ledger": {"dir": str(tmp_path / "ledger")}}
    async with upgradable(tmp_path, count, settings=SLOW, **ledger) as r, contextlib.AsyncExitStack() as stack:
        calls = [await stack.enter_async_context(sent(r, chat(stream=True))) for _ in range(4)]
        await stream_begun(calls)
        answered = [(await ask(r, chat(max_tokens=1))).headers["x-request-id"] for _ in range(5)]
        pid = await upgraded(r, r.process.pid)
        answered += [(await ask(r, chat(max_tokens=1))).headers["x-request-id"] for _ in range(5)]
        pid = await upgraded(r, pid)
        answered += [(await call.rest()).headers["x-request-id"] for call in calls]
        await until(lambda: len([line for line in r.events("drained") if "worker" not in line]) == 2)

        assert await r.process.wait() == 0
        await until(lambda: r.metric_is("router_requests_total", len(answered)))
        os.kill(pid, signal.SIGTERM)
        await gone(pid)
        with sqlite3.connect(tmp_path / "ledger" / "ledger.db") as store:
            stored = [name for (name,) in store.execute("SELECT id FROM requests")]
            ((counted,),) = store.execute("SELECT sum(requests) FROM usage_hours")
        assert sorted(stored) == sorted(answered)
        assert counted == len(answered)
        assert sorted(record["id"] for record in r.records()) == sorted(answered)
        command = [sys.executable, "-m", "router", "audit", "verify", str(tmp_path / "decisions")]
        audit = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, cwd=ROOT)
        assert audit.returncode == 0, audit.stdout + audit.stderr
        assert len(list((tmp_path / "decisions").glob("*/lock"))) <= 3 * count, "names are used again"


@ALONE_OR_NOT
async def test_a_router_that_was_followed_still_knows_what_its_clients_ask_of_the_books(
    tmp_path: Path, count: int
) -> None:
    """On a connection that has been idle since: the next router's bookkeeper answers, through both."""
    ledger = {"ledger": {"dir": str(tmp_path / "ledger")}}
    async with upgradable(tmp_path, count, settings=SLOW, **ledger) as r, contextlib.AsyncExitStack() as stack:
        call = await stack.enter_async_context(sent(r, chat(stream=True)))
        await stream_begun([call])
        lines = [aiohttp.ClientSession(headers={"authorization": f"Bearer {API_KEY}"}) for _ in range(4)]
        for line in lines:
            await stack.enter_async_context(line)
            async with line.get(f"http://127.0.0.1:{r.port}/v1/models") as answer:
                assert answer.status == 200
        await upgraded(r, r.process.pid)
        await asyncio.sleep(2.0)  # the old bookkeeper has ended
        assert lives(r.process.pid)
        for line in lines:
            async with line.get(f"http://127.0.0.1:{r.port}/v1/usage") as answer:
                assert (answer.status, answer.headers.get("connection")) == (200, "close")
        assert (await call.rest()).complete


async def test_a_signal_upgrades_and_the_log_says_so(tmp_path: Path) -> None:
    async with upgradable(tmp_path, 1) as r:
        r.process.send_signal(signal.SIGUSR2)
        assert await r.process.wait() == 0
        (event,) = r.events("upgraded")
        r.pids.append(event["successor"])
        assert event["pid"] == r.process.pid
        await until(lambda: len(r.events("started")) == 2)
        assert event["successor"] == r.events("started")[1]["pid"]
        assert (await ask(r, chat())).status == 200


async def test_nobody_else_is_heard(tmp_path: Path) -> None:
    """Not even asked whether there is a router: another user's command finds none, and is not answered by one."""
    async with upgradable(tmp_path, 1) as r:
        code = (
            "import os, sys; sys.path.insert(0, sys.argv[1])\n"
            "from router.jobs.commands import ask_upgrade, running_routers\n"
            "pid = int(sys.argv[2]); os.setuid(65534); print(pid in running_routers())\n"
            "try: print(ask_upgrade(pid))\n"
            "except OSError as error: print(type(error).__name__)"
        )
        if os.geteuid():
            pytest.skip("only root can be somebody else")
        command = [sys.executable, "-c", code, str(ROOT), str(r.process.pid)]
        said = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
        assert said.stdout.split() == ["False", "PermissionError"], said.stderr
        assert not r.events("upgrade_began")


@ALONE_OR_NOT
async def test_more_or_fewer_workers_come_with_an_upgrade(tmp_path: Path, count: int) -> None:
    """Each socket has somebody who accepts from it, whoever had it before."""
    async with upgradable(tmp_path, count) as r:
        r.write(lambda config: config["server"].update(workers=3 - count))
        pid = await upgraded(r, r.process.pid)
        assert await r.process.wait() == 0
        answers = await asyncio.gather(*(ask(r, chat(max_tokens=1)) for _ in range(40)))
        assert {answer.status for answer in answers} == {200}
        processes = {answer.headers["x-request-id"].rpartition("-")[0] for answer in answers}
        assert len(processes) == 3 - count
        r.write(lambda config: config["server"].update(listen="localhost:0"))
        await upgraded(r, pid)
        await gone(pid)
        await until(lambda: len(r.events("started")) == 3)
        r.port = r.events("started")[2]["port"]
        assert (await ask(r, chat(max_tokens=1))).status == 200
