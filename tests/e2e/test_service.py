"""A router as a service of systemd: what it says to its manager, and sockets that were open before it."""

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from tests.adversity.client import ask, chat
from tests.e2e.test_process import ROOT, running
from tests.e2e.test_upgrade import ALONE_OR_NOT, upgrade
from tests.e2e.workers import until
from tests.router_kit import Cloud, write_config

# As systemd does it: descriptors from 3 on, and the pid of the process that they are for.
_ACTIVATE = """
import os, sys
for at, fd in enumerate(map(int, sys.argv[1:3]), 3):
    os.dup2(fd, at)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2", LISTEN_FDNAMES="clients:admin")
os.execv(sys.executable, [sys.executable, "-m", "router", "serve", "--config", sys.argv[3]])
"""


class Manager:
    """Hears what services say."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.setblocking(False)
        self.said: list[str] = []

    def hears(self, word: str) -> bool:
        with contextlib.suppress(BlockingIOError):
            while True:
                self.said += self._socket.recv(4096).decode().splitlines()
        return word in self.said

    async def until(self, word: str) -> None:
        await until(lambda: self.hears(word), 30.0)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path)
    yield made
    made.close()


async def test_systemd_hears_of_begin_reload_and_end_and_that_the_loop_runs(tmp_path: Path, manager: Manager) -> None:
    async with running(tmp_path, environ={"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "200000"}) as r:
        await manager.until("READY=1")
        await manager.until("WATCHDOG=1")
        manager.said.clear()
        r.process.send_signal(signal.SIGHUP)
        await manager.until("READY=1")
        assert manager.said.index("RELOADING=1") < manager.said.index("READY=1")
        assert any(word.startswith("MONOTONIC_USEC=") for word in manager.said)
        r.process.send_signal(signal.SIGTERM)
        await manager.until("STOPPING=1")
        assert (await r.ended())[0] == 0


@pytest.mark.timed
async def test_systemd_hears_of_the_next_router_before_the_first_one_ends(tmp_path: Path, manager: Manager) -> None:
    async with running(tmp_path, environ={"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "200000"}) as r:
        await manager.until("READY=1")
        manager.said.clear()
        status, said = await asyncio.to_thread(upgrade, r.process.pid)
        assert status == 0, said
        pid = int(said.split()[2])
        try:
            await manager.until("READY=1")
            assert manager.said.index(f"MAINPID={pid}") < manager.said.index("READY=1")
            assert await r.process.wait() == 0
            manager.said.clear()
            await manager.until("WATCHDOG=1")
            assert "STOPPING=1" not in manager.said, "the service does not end"
            assert (await ask(r, chat())).status == 200
        finally:
            os.kill(pid, signal.SIGKILL)


async def activated(file: Path, *sockets: socket.socket) -> Process:
    """A router that finds its listening sockets open."""
    # Above the ones that they are to have.
    fds = [fcntl.fcntl(each.fileno(), fcntl.F_DUPFD, 20) for each in sockets]
    try:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _ACTIVATE, *map(str, fds), str(file)),
            pass_fds=fds,
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        )
    finally:
        for fd in fds:
            os.close(fd)


@ALONE_OR_NOT
async def test_sockets_of_systemd_are_used_and_outlive_the_router(tmp_path: Path, count: int) -> None:
    """Who connects while no router runs waits in the queue for the next one."""
    file, log = tmp_path / "router.yaml", tmp_path / "access.log"
    log.touch()
    described = Cloud("azure")
    async with described.emulated() as cloud:
        write_config(file, {"azure": described.section(cloud.base_url)}, log, server={"workers": count, "drain_s": 5})
        with socket.create_server(("127.0.0.1", 0)) as clients, socket.create_server(("127.0.0.1", 0)) as admin:
            at = Port(clients.getsockname()[1])
            process = await activated(file, clients, admin)
            pid = 0
            try:
                assert [(await ask(at, chat())).status for _ in range(10)] == [200] * 10
                url = f"http://127.0.0.1:{admin.getsockname()[1]}/readyz"
                async with aiohttp.ClientSession() as session, session.get(url) as answer:
                    assert answer.status == 200

                process.terminate()
                assert await process.wait() == 0
                waiting = [asyncio.create_task(ask(at, chat(), within_s=30.0)) for _ in range(10)]
                await asyncio.sleep(0)
                process = await activated(file, clients, admin)
                assert [reply.status for reply in await asyncio.gather(*waiting)] == [200] * 10

                status, said = await asyncio.to_thread(upgrade, process.pid)
                assert status == 0, said
                pid = int(said.split()[2])
                assert await process.wait() == 0
                assert (await ask(at, chat())).status == 200
            finally:
                for each in (process.pid, pid):
                    with contextlib.suppress(ProcessLookupError):
                        if each:
                            os.kill(each, signal.SIGKILL)


@dataclass
class Port:
    port: int


async def test_what_is_no_listening_socket_is_not_taken_for_one(tmp_path: Path) -> None:
    file, log = tmp_path / "router.yaml", tmp_path / "access.log"
    described = Cloud("azure")
    async with described.emulated() as cloud:
        write_config(file, {"azure": described.section(cloud.base_url)}, log)
        with socket.socket() as silent, socket.create_server(("127.0.0.1", 0)) as admin:
            process = await activated(file, silent, admin)
            assert await process.wait() == 1
