"""Clients that hold what others need: slow heads, bodies and readers, idle ones, floods; and no files left for them."""

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import Iterator

import pytest

from loadtests.lasting import fuzz, slow_loris
from tests.adversity.client import ask, chat
from tests.router_kit import API_KEY, Cloud, RunningRouter, router

PARTIAL = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n"
HEAD = PARTIAL + f"Authorization: Bearer {API_KEY}\r\nContent-Type: application/json\r\n".encode()

SLOW = {
    "connections_max": (b"", {}),
    "head_timeout": (PARTIAL, {"head_timeout_s": 0.2}),
    "body_timeout": (HEAD + b"Content-Length: 100\r\n\r\n{", {"body_timeout_s": 0.2}),
    "keepalive_timeout": (b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n", {"keepalive_timeout_s": 0.2}),
    "head_too_large": (PARTIAL + b"x: " + b"y" * 70_000, {}),
    "too_many_fields": (PARTIAL + b"x: y\r\n" * 200, {}),
    "malformed_http": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + (b"1;" + b"x" * 9000 + b"\r\na\r\n") * 300, {}),
    "pipelined": (HEAD + b"Content-Length: 1\r\n\r\n{" + (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") * 50, {}),
    "waiting_bytes_max": (PARTIAL + b"x: " + b"y" * 60_000, {"waiting_bytes_max": 1 << 20}),
    "connections_per_address_max": (b"", {"connections_per_address_max": 21}),
}
"""Why they are ended: what each of them sends, and the settings that make it quick."""


@contextlib.contextmanager
def flood(r: RunningRouter, count: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            raw = stack.enter_context(socket.socket())
            raw.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                raw.connect(("127.0.0.1", r.port))
            found.append(raw)
        yield found


async def send_all(clients: list[socket.socket], sent: bytes) -> None:
    loop = asyncio.get_running_loop()
    for raw in clients:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(1.0):
                await loop.sock_sendall(raw, sent)


@pytest.mark.parametrize("reason", SLOW)
async def test_whoever_holds_what_others_need_is_ended_and_counted_and_others_are_served(reason: str) -> None:
    sent, settings = SLOW[reason]
    count = 20
    if reason == "connections_max":
        settings, count = {"connections_max": 20}, 30
    if reason == "connections_per_address_max":
        count = 40
    async with router(Cloud("azure"), server=settings) as r:
        crowd = r.worker.assembly.gateway.server.crowd
        with flood(r, count) as clients:
            await send_all(clients, sent)
            if reason not in ("connections_max", "connections_per_address_max"):
                answer = await ask(r, chat())
                assert answer.status == 200
            await r.until(lambda: crowd.ends[reason] > 0)
        await r.until(lambda: crowd.waiting_bytes == 0)
        assert (await ask(r, chat())).status == 200


async def test_silent_connections_do_not_lock_others_out() -> None:
    """All places are taken by clients that say nothing: a second later whoever asks for something has one."""
    async with router(Cloud("azure"), server={"connections_max": 10}) as r:
        crowd = r.worker.assembly.gateway.server.crowd
        with flood(r, 10) as clients:
            await send_all(clients, PARTIAL)
            await r.until(lambda: len(crowd.connections) == 10)
            await asyncio.sleep(1.1)  # a newcomer's time
            assert (await ask(r, chat())).status == 200
            assert crowd.ends["made_room"] >= 1


async def test_a_process_without_files_says_so_and_recovers() -> None:
    """Fewer files than `connections_max`: who is too many is told, with files kept for all else."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 160, hard))
    try:
        async with router(Cloud("azure")) as r:
            crowd = r.worker.assembly.gateway.server.crowd
            most = crowd.most(r.worker.assembly.gateway.server.bounds)
            assert most < 160
            with flood(r, most + 10) as clients:
                await r.until(lambda: crowd.ends["connections_max"] >= 5)
                assert len(crowd.connections) <= most
                refused = 0
                for raw in clients:
                    with contextlib.suppress(BlockingIOError, ConnectionError):
                        refused += raw.recv(12) == b"HTTP/1.1 503"
                assert refused >= 5
            await r.until(lambda: not crowd.connections)
            assert (await ask(r, chat())).status == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.timed
async def test_slow_clients_hurt_nobody_at_a_small_scale() -> None:
    outcome = await slow_loris.slow_loris(slow_loris.DRILL.quick)
    assert outcome.kept or outcome.void, outcome


async def test_a_short_fuzz_finds_nothing() -> None:
    outcome = await fuzz.fuzz(fuzz.DRILL.quick)
    assert outcome.kept, outcome.figures
