"""TLS with clients, by real handshakes, on both loops: who is let in, what is refused and counted, and how it ends."""

import asyncio
import contextlib
import itertools
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from router.emulator import Distribution, Settings
from router.transport.arrivals import Arrival, Arrivals
from router.transport.listening import close_sockets, open_sockets, withdraw
from tests.router_kit import API_KEY, INTERNAL_KEY, Cloud, RunningRouter, router
from tests.tls_kit import Authority, Issued, answer, connected, request

CHAT = b'{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}'
STREAM = b'{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"hi"}]}'
KEY = f"Authorization: Bearer {API_KEY}"


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@asynccontextmanager
async def tls_router(
    authority: Authority,
    *,
    tls: dict[str, Any] | None = None,
    settings: Settings | None = None,
    extra: dict[str, Any] | None = None,
    **more: Any,
) -> AsyncIterator[RunningRouter]:
    """`extra`: more keys of the only endpoint."""
    own = authority.issue("server")
    section = {"certificate": str(own.certificate), "key": str(own.key), **(tls or {})}
    server = {"tls": section, **more.pop("server", {})}
    cloud = Cloud("azure-east", settings=settings or Settings(), extra=extra or {})
    async with router(cloud, server=server, **more) as r:
        yield r


async def ask(r: RunningRouter, context: ssl.SSLContext, *fields: str, body: bytes = CHAT) -> tuple[int, bytes, bytes]:
    async with connected(r.port, context) as (reader, writer):
        writer.write(request(body, *fields))
        return await answer(reader)


def first_message() -> bytes:
    """A ClientHello, whose client will say no more."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


async def handshakes(r: RunningRouter) -> dict[str, int]:
    return {name: count for name, count in r.worker.assembly.gateway.server.handshakes.items() if count}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_requests_and_streams_go_over_tls(ours: Authority, version: ssl.TLSVersion) -> None:
    context = ours.trusting()
    context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with tls_router(ours) as r, connected(r.port, context) as (reader, writer):
        tls = writer.get_extra_info("ssl_object")
        assert (tls.selected_alpn_protocol(), tls.version()) == ("http/1.1", version.name.replace("v1_", "v1."))
        for _ in range(2):  # a connection is kept
            writer.write(request(CHAT, KEY))
            status, _, body = await answer(reader)
            assert (status, b'"chat.completion"' in body) == (200, True), body
        writer.write(request(STREAM, KEY))
        status, _, body = await answer(reader)
        assert (status, body.endswith(b"data: [DONE]\n\n")) == (200, True)
        assert await handshakes(r) == {"ok": 1}
        assert await r.metric("router_tls_handshakes_total", result="ok") == 1
        assert await r.metric("router_certificate_left_seconds", certificate="server.tls.certificate") > 0


async def test_a_large_body_and_a_large_answer_pass_over_tls(ours: Authority) -> None:
    """On both sides. 16 MiB up; down, a stream that no buffer on the way holds, to a client that takes its time."""
    cloud = ours.issue("cloud")
    files = {"tls_cert": str(cloud.certificate), "tls_key": str(cloud.key)}
    big = orjson.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "x" * (16 << 20)}]})
    settings = Settings(tokens=Distribution(60_000.0), chunk_tokens=50, **files)  # type: ignore[arg-type]
    async with tls_router(ours, settings=settings, extra={"ca_file": str(ours.file)}) as r:
        assert (await ask(r, ours.trusting(), KEY, body=big))[0] == 200
        async with connected(r.port, ours.trusting()) as (reader, writer):
            writer.write(request(STREAM, KEY))
            await asyncio.sleep(0.3)  # nobody reads meanwhile
            status, _, body = await answer(reader)
            assert (status, body.endswith(b"data: [DONE]\n\n"), len(body) > 200_000) == (200, True, True)


async def test_a_socket_that_was_withdrawn_is_listened_at_again(ours: Authority) -> None:
    """As that of a worker whose place was empty for a while, or that an upgrade has added."""
    async with tls_router(ours) as r:
        (own,), *others = open_sockets("127.0.0.1", 0, 2)
        close_sockets(others)
        withdraw([own])
        arrivals = r.worker._listening[0]
        assert isinstance(arrivals, Arrivals)
        arrivals.listen(own)
        async with connected(own.getsockname()[1], ours.trusting()) as (reader, writer):
            writer.write(request(CHAT, KEY))
            assert (await answer(reader))[0] == 200


async def test_those_who_are_about_to_connect_are_bounded_by_address_too(ours: Authority) -> None:
    """Each of them may cost a signature; they are no connections yet, so they are counted by themselves."""
    async with tls_router(ours, server={"connections_per_address_max": 3}) as r:
        server = r.worker.assembly.gateway.server
        silent = [await asyncio.open_connection("127.0.0.1", r.port) for _ in range(3)]
        await r.until(lambda: len(server.arriving) == 3)
        with pytest.raises(ConnectionError):
            await ask(r, ours.trusting(), KEY)
        assert server.crowd.ends["connections_per_address_max"] == 1
        silent[0][1].close()
        await r.until(lambda: len(server.arriving) == 2)
        for _ in range(4):
            assert (await ask(r, ours.trusting(), KEY))[0] == 200
        for _, writer in silent:
            writer.close()
        await r.until(lambda: not server.arriving)
        arrivals = r.worker._listening[0]
        assert isinstance(arrivals, Arrivals)
        assert arrivals._by_source == {}


class TestRefusals:
    async def test_what_is_older_than_the_minimum_is_refused_with_an_alert(self, ours: Authority) -> None:
        async with tls_router(ours, tls={"tls_min": "1.3"}) as r:
            context = ours.trusting()
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            with pytest.raises(ssl.SSLError) as caught:
                await ask(r, context, KEY)
            assert "PROTOCOL_VERSION" in (caught.value.reason or "")
            assert await handshakes(r) == {"version": 1}

    async def test_tls_1_1_is_refused(self, ours: Authority) -> None:
        """Where the client's library still speaks it: by its first message, which is made by hand."""
        async with tls_router(ours) as r, connected(r.port) as (reader, writer):
            random, suites = bytes(32), b"\x00\x02\xc0\x09"
            body = b"\x03\x02" + random + b"\x00" + suites + b"\x01\x00"
            hello = b"\x01" + len(body).to_bytes(3) + body
            writer.write(b"\x16\x03\x01" + len(hello).to_bytes(2) + hello)
            assert await asyncio.wait_for(reader.read(), 5) == b"\x15\x03\x02\x00\x02\x02\x46"  # protocol_version
            assert await handshakes(r) == {"version": 1}

    async def test_who_speaks_http_in_the_clear_is_told_so(self, ours: Authority) -> None:
        async with tls_router(ours) as r, connected(r.port) as (reader, writer):
            writer.write(request(CHAT, KEY))
            status, _, body = await answer(reader)
            assert (status, b"https://" in body) == (400, True)
            assert await reader.read() == b""
            assert await handshakes(r) == {"no_tls": 1}

    async def test_a_hello_in_pieces_of_records_is_refused(self, ours: Authority) -> None:
        async with tls_router(ours) as r, connected(r.port) as (reader, writer):
            writer.write(b"\x16\x03\x01\x00\x10\x01\x00\x01\x00" + bytes(12))
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), 5) == b""
            assert await handshakes(r) == {"hello": 1}

    async def test_a_client_that_does_not_believe_us_is_counted(self, ours: Authority, tmp_path: Path) -> None:
        stranger = Authority(tmp_path, "stranger")
        async with tls_router(ours) as r:
            with pytest.raises(ssl.SSLCertVerificationError):
                await ask(r, stranger.trusting(), KEY)
            await r.until(lambda: not r.worker.assembly.gateway.server.arriving)
            assert set(await handshakes(r)) <= {"refused", "closed"}

    async def test_renegotiation_is_refused(self, ours: Authority) -> None:
        """By OpenSSL's own client, which is the one that still asks for it: `R` is its command."""
        async with tls_router(ours) as r:
            client = await asyncio.create_subprocess_exec(
                *("openssl", "s_client", "-connect", f"127.0.0.1:{r.port}", "-tls1_2", "-CAfile", str(ours.file)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            assert client.stdin is not None
            assert client.stdout is not None
            shown = await asyncio.wait_for(client.stdout.readuntil(b"Extended master secret"), 10)
            assert b"Verify return code: 0 (ok)" in shown
            client.stdin.write(b"R\n")
            rest = await asyncio.wait_for(client.stdout.read(), 10)
            await client.wait()
            assert b"RENEGOTIATING" in rest
            assert b"no renegotiation" in rest


class TestDeadline:
    async def test_a_silent_client_has_until_the_deadline(self, ours: Authority) -> None:
        async with tls_router(ours, server={"handshake_timeout_s": 0.3}) as r:
            async with connected(r.port) as (silent, _), connected(r.port) as (half, writer):
                writer.write(b"\x16\x03\x01\x02\x00\x01\x00")
                assert await asyncio.wait_for(silent.read(), 5) == b""
                with contextlib.suppress(ConnectionResetError):  # what it had sent was not read
                    assert await asyncio.wait_for(half.read(), 5) == b""
            assert await handshakes(r) == {"timeout": 2}

    async def test_who_stops_in_the_middle_has_no_more(self, ours: Authority) -> None:
        async with tls_router(ours, server={"handshake_timeout_s": 0.4}) as r, connected(r.port) as (reader, writer):
            writer.write(first_message())
            flight = await asyncio.wait_for(reader.read(), 5)
            assert flight[:3] == b"\x16\x03\x03", "it was answered"
            assert await handshakes(r) == {"timeout": 1}

    async def test_who_hangs_up_leaves_nothing_behind(self, ours: Authority) -> None:
        async with tls_router(ours) as r:
            server = r.worker.assembly.gateway.server
            for sent in (b"", b"\x16\x03\x01", b"\x16\x03\x01\x00\x40\x01\x00\x00\x3c" + bytes(10)):
                async with connected(r.port) as (_, writer):
                    writer.write(sent)
                    await r.until(lambda: server.arriving)
                    writer.write_eof()
                    await r.until(lambda: not server.arriving)
            assert await handshakes(r) == {"closed": 3}

    async def test_the_oldest_that_has_shown_nothing_makes_room(self, ours: Authority) -> None:
        """Silent connections, as many as there may be, keep nobody out."""
        async with tls_router(ours, server={"connections_max": 8}) as r, contextlib.AsyncExitStack() as stack:
            server = r.worker.assembly.gateway.server
            silent = [await stack.enter_async_context(connected(r.port)) for _ in range(8)]
            await r.until(lambda: len(server.arriving) == 8)
            assert (await ask(r, ours.trusting(), KEY))[0] == 200
            assert await asyncio.wait_for(silent[0][0].read(), 5) == b""
            assert await handshakes(r) == {"crowded": 1, "ok": 1}


class TestTurns:
    async def test_of_many_handshakes_one_begins_in_a_turn_of_the_loop(
        self, ours: Authority, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whatever else is ready is served between two of them."""
        loop, turns, begun = asyncio.get_running_loop(), [0], list[int]()
        begin = Arrivals._begin

        def count() -> None:
            turns[0] += 1
            if not done.is_set():
                loop.call_soon(count)

        def begin_counted(arrivals: Arrivals, arrival: Arrival) -> None:
            begun.append(turns[0])
            begin(arrivals, arrival)

        monkeypatch.setattr(Arrivals, "_begin", begin_counted)
        done = asyncio.Event()
        async with tls_router(ours) as r:
            loop.call_soon(count)
            try:
                assert await asyncio.gather(*(ask(r, ours.trusting(), KEY) for _ in range(40)))
            finally:
                done.set()
            assert await handshakes(r) == {"ok": 40}
        assert len(begun) == 40
        assert all(later > earlier for earlier, later in itertools.pairwise(begun))

    async def test_beyond_so_many_the_one_that_has_waited_longest_goes(
        self, ours: Authority, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Places cannot be held by clients that stop in the middle."""
        monkeypatch.setattr("router.transport.arrivals.HANDSHAKES_MAX", 3)
        hello = first_message()
        async with tls_router(ours) as r, contextlib.AsyncExitStack() as stack:
            held = []
            for _ in range(3):
                reader, writer = await stack.enter_async_context(connected(r.port))
                writer.write(hello)
                await reader.readexactly(3)  # it was answered, and says no more
                held.append(reader)
            assert (await ask(r, ours.trusting(), KEY))[0] == 200
            await asyncio.wait_for(held[0].read(), 5)
            assert await handshakes(r) == {"ok": 1, "crowded": 1}


class TestClientCertificates:
    """`acme` is in the file with the certificates of two clients, by subject and by fingerprint."""

    @asynccontextmanager
    async def started(
        self, ours: Authority, tmp_path: Path, how: str | None
    ) -> AsyncIterator[tuple[RunningRouter, dict[str, Issued]]]:
        clients = Authority(tmp_path, "clients")
        shown = {
            name: clients.issue(name, f"{name}.example", common_name=name, organization_name="Example")
            for name in ("subject", "print", "unmapped", "rotated")
        }
        shown["stranger"] = Authority(tmp_path, "strangers").issue("stranger", "stranger.example")
        tls = {"client_ca": str(clients.file), **({"client_certificates": how} if how else {})}
        names = [shown["subject"].subject, shown["print"].fingerprint]
        acme = {"name": "acme", "workload": "api", "certificates": names, "models": ["*"]}
        api = {"name": "api", "workload": "api", "sha256": _digest(API_KEY), "models": ["*"]}
        other = {"name": "internal", "workload": "internal", "sha256": _digest(INTERNAL_KEY), "models": ["*"]}
        other["certificates"] = [shown["rotated"].fingerprint]
        async with tls_router(ours, tls=tls, keys=[acme, api, other]) as r:
            yield r, shown

    async def who(self, r: RunningRouter, ours: Authority, shown: Issued | None, *fields: str) -> tuple[int, str]:
        """The status, and the key that the record names."""
        before = len(r.records())
        status, _, _ = await ask(r, ours.trusting(shown), *fields)
        await r.until(lambda: len(r.records()) > before)
        return status, r.records()[-1].get("key", "")

    async def test_a_certificate_stands_for_its_key(self, ours: Authority, tmp_path: Path) -> None:
        async with self.started(ours, tmp_path, None) as (r, shown):
            assert await self.who(r, ours, shown["subject"]) == (200, "acme")
            assert await self.who(r, ours, shown["print"]) == (200, "acme")
            assert await self.who(r, ours, shown["rotated"]) == (200, "internal")
            assert await self.who(r, ours, None) == (401, "")
            assert await self.who(r, ours, None, KEY) == (200, "api")

    async def test_one_that_stands_for_none_is_as_none(self, ours: Authority, tmp_path: Path) -> None:
        async with self.started(ours, tmp_path, "optional") as (r, shown):
            assert await self.who(r, ours, shown["unmapped"]) == (401, "")
            assert await self.who(r, ours, shown["unmapped"], KEY) == (200, "api")

    async def test_a_key_beside_it_must_be_the_same(self, ours: Authority, tmp_path: Path) -> None:
        async with self.started(ours, tmp_path, None) as (r, shown):
            internal = f"Authorization: Bearer {INTERNAL_KEY}"
            assert await self.who(r, ours, shown["rotated"], internal) == (200, "internal")
            assert await self.who(r, ours, shown["rotated"], KEY) == (401, "")
            assert await self.who(r, ours, shown["subject"], KEY) == (401, "")
            for wrong in ("Authorization: Bearer nobodys", "Authorization: Basic eDp5", "api-key: nobodys"):
                assert await self.who(r, ours, shown["subject"], wrong) == (401, "")

    async def test_a_strangers_is_refused_in_the_handshake(self, ours: Authority, tmp_path: Path) -> None:
        async with self.started(ours, tmp_path, None) as (r, shown):
            with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)) as caught:
                await ask(r, ours.trusting(shown["stranger"]), KEY)
            assert "UNKNOWN_CA" in str(caught.value), "an alert says why"
            assert await handshakes(r) == {"certificate": 1}

    async def test_who_must_have_one_and_has_none_is_refused(self, ours: Authority, tmp_path: Path) -> None:
        async with self.started(ours, tmp_path, "required") as (r, shown):
            with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)) as caught:
                await ask(r, ours.trusting(), KEY)
            assert "CERTIFICATE_REQUIRED" in str(caught.value), "an alert says why"
            assert await handshakes(r) == {"no_certificate": 1}
            assert await self.who(r, ours, shown["unmapped"], KEY) == (200, "api")

    async def test_a_reload_that_takes_the_certificate_away_ends_its_use(self, ours: Authority, tmp_path: Path) -> None:
        async with (
            self.started(ours, tmp_path, None) as (r, shown),
            connected(r.port, ours.trusting(shown["subject"])) as (reader, writer),
        ):
            writer.write(request(CHAT))
            assert (await answer(reader))[0] == 200
            text = json.loads(r.file.read_text())
            text["keys"][0]["certificates"].pop(0)
            r.file.write_text(json.dumps(text))
            assert not (await r.worker.reload()).faults
            writer.write(request(CHAT))
            assert (await answer(reader))[0] == 401

    async def test_an_authority_that_is_taken_away_is_believed_on_no_open_connection(
        self, ours: Authority, tmp_path: Path
    ) -> None:
        """One that is added is nothing to them: that is how authorities are changed without a gap."""
        clients, other = tmp_path / "clients.pem", Authority(tmp_path, "other")
        async with (
            self.started(ours, tmp_path, None) as (r, shown),
            connected(r.port, ours.trusting(shown["subject"])) as (idle, idle_writer),
            connected(r.port, ours.trusting(shown["print"])) as (busy, busy_writer),
            connected(r.port, ours.trusting()) as (reader, writer),
        ):
            for own, to, fields in (idle, idle_writer, ()), (busy, busy_writer, ()), (reader, writer, (KEY,)):
                to.write(request(CHAT, *fields))
                assert (await answer(own))[0] == 200
            both = clients.read_text() + other.file.read_text()
            for text in both, other.file.read_text():
                busy_writer.write(request(CHAT))
                assert (await answer(busy))[0] == 200, "it is kept while its authority is"
                clients.write_text(text)
                busy_writer.write(request(CHAT)[:-1])
                await r.until(lambda: r.worker.assembly.runtime.in_flight.get("api") == 1)
                assert not (await r.worker.reload()).faults
                busy_writer.write(request(CHAT)[-1:])
                assert (await answer(busy))[0] == 200, "what runs ends"
            assert await asyncio.wait_for(busy.read(), 5) == b""
            assert await asyncio.wait_for(idle.read(), 5) == b""
            writer.write(request(CHAT, KEY))
            assert (await answer(reader))[0] == 200, "a key alone is no certificate"


class TestReload:
    async def test_the_same_files_change_nothing(self, ours: Authority) -> None:
        async with tls_router(ours) as r:
            changed = (await r.worker.reload()).changed
            assert changed is not None
            assert changed.changes == ()

    async def test_new_files_are_for_new_connections(self, ours: Authority, tmp_path: Path) -> None:
        async with tls_router(ours) as r:
            old, new = ours.trusting(), Authority(tmp_path, "new")
            async with connected(r.port, old) as (reader, writer):
                issued = new.issue("server")
                assert issued.certificate == tmp_path / "server.pem", "in place of the old one"
                assert (await ask(r, old, KEY))[0] == 200, "not before the reload"
                assert not (await r.worker.reload()).faults
                assert (await ask(r, new.trusting(), KEY))[0] == 200
                with pytest.raises(ssl.SSLCertVerificationError):
                    await ask(r, old, KEY)
                writer.write(request(CHAT, KEY))
                assert (await answer(reader))[0] == 200, "whoever was connected is served"

    async def test_bad_files_refuse_the_reload_and_change_nothing(self, ours: Authority, tmp_path: Path) -> None:
        async with tls_router(ours) as r:
            (tmp_path / "server.pem").write_text("-----BEGIN CERTIFICATE-----\nhalf")
            result = await r.worker.reload()
            assert [fault.path for fault in result.faults] == ["server.tls.certificate"]
            assert (await ask(r, ours.trusting(), KEY))[0] == 200
            ours.issue("other")
            (tmp_path / "other.pem").rename(tmp_path / "server.pem")
            result = await r.worker.reload()
            assert [fault.path for fault in result.faults] == ["server.tls.key"]
            assert "is not the key" in result.faults[0].message
            assert (await ask(r, ours.trusting(), KEY))[0] == 200

    async def test_tls_itself_needs_a_restart(self, ours: Authority) -> None:
        async with tls_router(ours) as r:
            text = json.loads(r.file.read_text())
            del text["server"]["tls"]
            r.file.write_text(json.dumps(text))
            assert [fault.path for fault in (await r.worker.reload()).faults] == ["server.tls"]


class TestEnds:
    async def test_an_answer_to_a_bad_request_is_read_whole(self, ours: Authority) -> None:
        """The rest of what was sent must not make a reset of the close."""
        async with tls_router(ours) as r, connected(r.port, ours.trusting()) as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n bad: folded\r\n\r\n" + bytes(100_000))
            status, _, _ = await answer(reader)
            assert status == 400
            assert await asyncio.wait_for(reader.read(), 5) == b""

    async def test_a_connection_is_closed_at_once_with_a_client_that_says_no_goodbye(self, ours: Authority) -> None:
        """uvloop would wait for 30 seconds; the kernel's end of it is closed as soon as ours is said."""
        async with tls_router(ours) as r:
            loop, context = asyncio.get_running_loop(), ours.trusting()
            plain = socket.create_connection(("127.0.0.1", r.port))
            sock = await loop.run_in_executor(None, lambda: context.wrap_socket(plain, server_hostname="localhost"))
            with sock:
                data = request(CHAT, KEY, "Connection: close")
                await loop.run_in_executor(None, sock.sendall, data)
                await r.until(lambda: not r.worker.assembly.gateway.server.connections, within_s=2.0)

    async def test_an_aborted_stream_over_tls_frees_all(self, ours: Authority) -> None:
        settings = Settings(tokens=Distribution(2000.0), token_gap_ms=Distribution(5.0))
        async with tls_router(ours, settings=settings) as r:
            async with connected(r.port, ours.trusting()) as (reader, writer):
                writer.write(request(STREAM, KEY))
                await reader.readuntil(b"data: ")
            await r.assert_nothing_is_left()
            await r.until(lambda: [record["outcome"] for record in r.records()] == ["client_gone"])

    async def test_a_drain_lets_streams_and_handshakes_finish(self, ours: Authority) -> None:
        settings = Settings(tokens=Distribution(40.0), token_gap_ms=Distribution(10.0))
        async with tls_router(ours, settings=settings) as r, connected(r.port, ours.trusting()) as (reader, writer):
            server = r.worker.assembly.gateway.server
            writer.write(request(STREAM, KEY))
            await reader.readuntil(b"data: ")
            async with connected(r.port) as (_, late):
                await r.until(lambda: server.arriving)
                draining = asyncio.ensure_future(r.worker.drain())
                await r.until(lambda: server.ending)
                await late.start_tls(ours.trusting(), server_hostname="localhost")
            rest = await asyncio.wait_for(reader.read(), 10)
            assert rest.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
            await asyncio.wait_for(draining, 10)


def _digest(key: str) -> str:
    from router.config.keys import digest

    return digest(key).hex()
