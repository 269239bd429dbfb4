"""Sessions over WebSocket: opened, placed, limited, billed and ended like requests, and never quietly."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import WSMsgType

from router.accounting.entries import walk
from router.base.errors import RefusedError
from router.emulator import Distribution, Settings
from router.model.plan import Permit
from router.proxy.realtime import session as sessions
from router.transport.answer_outbox import End
from tests.adversity.test_reload import File
from tests.router_kit import API_KEY, CANARY, INTERNAL_KEY, Cloud, RunningRouter, heal, held, router

VOICE = {"rt-dep": "gpt-realtime"}
SLOW = Settings(tokens=Distribution(200.0), token_gap_ms=Distribution(20.0))
SHORT = Settings(tokens=Distribution(3.0))
PRICE = {"prompt_usd_per_mtok": 4.0, "completion_usd_per_mtok": 16.0, "audio_completion_usd_per_mtok": 64.0}


def azure(name: str = "azure", **more: Any) -> Cloud:
    return Cloud(name, deployments=VOICE, **{"settings": SHORT, **more})


def other(**more: Any) -> Cloud:
    return Cloud("cw", "coreweave", "openai", deployments={"voice": "gpt-realtime"}, **{"settings": SHORT, **more})


def text_cloud(**more: Any) -> Cloud:
    operations = {"llm": ["chat", "responses", "responses_websocket"]}
    return Cloud("azure", deployments={"llm": "gpt-4o"}, operations=operations, **{"settings": SHORT, **more})


class Talk:
    """A client's end of a session."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws

    @property
    def transport(self) -> asyncio.Transport:
        """Of the client's own end, to do with it what a library does not."""
        connection = self.ws._response.connection
        assert connection is not None
        assert connection.transport is not None
        return connection.transport

    async def say(self, kind: str, **fields: Any) -> None:
        await self.ws.send_str(orjson.dumps({"type": kind, **fields}).decode())

    async def hear(self) -> dict[str, Any]:
        message = await asyncio.wait_for(self.ws.receive(), 10)
        assert message.type is WSMsgType.TEXT, (message, self.ws.close_code)
        return dict(orjson.loads(message.data))

    async def until(self, *kinds: str) -> dict[str, Any]:
        while (event := await self.hear())["type"] not in kinds:
            pass
        return event

    async def close_code(self) -> tuple[int | None, str]:
        """What the router closes with; an error event that comes before is left out."""
        while (message := await asyncio.wait_for(self.ws.receive(), 10)).type is WSMsgType.TEXT:
            pass
        assert message.type is WSMsgType.CLOSE, message
        return message.data, message.extra or ""


@asynccontextmanager
async def talk(
    r: RunningRouter, path: str = "/v1/realtime?model=gpt-realtime", key: str = API_KEY, **more: Any
) -> AsyncIterator[Talk]:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with (
        aiohttp.ClientSession() as client,
        client.ws_connect(r.url + path, headers=headers | more.pop("headers", {}), autoclose=False, **more) as ws,
    ):
        yield Talk(ws)


async def refused(
    r: RunningRouter, path: str = "/v1/realtime?model=gpt-realtime", **more: str | None
) -> tuple[int, str]:
    """Status and code of the answer in a session's place."""
    headers = {
        "connection": "Upgrade, close",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": base64.b64encode(bytes(16)).decode(),
        "authorization": f"Bearer {API_KEY}",
        **more,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if value is not None)
    reader, writer = await asyncio.open_connection("127.0.0.1", r.port)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\n{head}\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), 10)  # to its end: such a connection is not used again
    writer.close()
    top, _, body = answer.partition(b"\r\n\r\n")
    return int(top.split()[1]), orjson.loads(body)["error"]["code"]


def last(r: RunningRouter, operation: str = "realtime") -> dict[str, Any]:
    return [record for record in r.records() if record["operation"] == operation][-1]


async def record(r: RunningRouter, operation: str = "realtime", count: int = 1) -> dict[str, Any]:
    await r.until(lambda: sum(each["operation"] == operation for each in r.records()) >= count)
    return last(r, operation)


class TestOpening:
    @pytest.mark.parametrize(
        "path",
        [
            "/v1/realtime?model=gpt-realtime",
            "/openai/v1/realtime?model=gpt-realtime",
            "/openai/realtime?api-version=2025-04-01-preview&deployment=gpt-realtime",
        ],
    )
    async def test_every_shape_opens_a_session(self, path: str) -> None:
        async with router(azure(), other()) as r:
            async with talk(r, path) as call:
                assert (await call.hear())["type"] == "session.created"
                await call.say("session.update", session={"type": "realtime", "output_modalities": ["text"]})
                await call.until("session.updated")
                await call.say("response.create")
                done = await call.until("response.done")
            assert done["response"]["usage"]["output_tokens"] == 3
            head = r.clouds["azure"].received.last
            assert head is not None
            assert head.target == "/openai/v1/realtime?model=rt-dep"
            assert head.header("api-key") == CANARY
            assert API_KEY not in str(head.headers)
            assert (await record(r))["outcome"] == "ok"
            assert r.clouds["cw"].received.connections == 0

    async def test_a_browser_tells_its_key_as_a_subprotocol(self) -> None:
        async with router(azure()) as r:
            protocols = ("realtime", f"openai-insecure-api-key.{API_KEY}", "openai-beta.realtime-v1")
            async with talk(r, key="", protocols=protocols) as call:
                assert call.ws.protocol == "realtime"
                await call.hear()
            head = r.clouds["azure"].received.last
            assert head is not None
            assert head.header("sec-websocket-protocol") == "realtime"
            assert head.header("openai-beta") == "realtime=v1"
            assert API_KEY not in str(head.headers)

    @pytest.mark.parametrize(
        ("path", "fields", "status", "code"),
        [
            ("", {"authorization": None}, 401, "invalid_api_key"),
            ("", {"api-key": "another"}, 401, "invalid_api_key"),
            ("", {"sec-websocket-protocol": "openai-insecure-api-key.another"}, 401, "invalid_api_key"),
            ("", {"sec-websocket-version": "8"}, 426, "websocket_version"),
            ("", {"sec-websocket-key": "short"}, 400, "invalid_upgrade"),
            ("", {"content-length": "3"}, 400, "invalid_upgrade"),
            ("", {"upgrade": None, "connection": "close"}, 426, "upgrade_required"),
            ("/v1/realtime", {}, 400, "missing_model"),
            ("/v1/realtime?model=a&model=gpt-realtime", {}, 400, "duplicate_key"),
            ("/v1/realtime?model=gpt-realtime&call_id=rtc_1", {}, 400, "unsupported_query"),
            ("/v1/realtime?model=nonsense", {}, 404, "model_not_found"),
            ("/v1/realtime?model=gpt-4o", {}, 404, "unsupported_operation"),
            ("/v1/realtime/calls", {}, 404, "unknown_path"),
        ],
    )
    async def test_what_is_no_session_is_refused_before_anybody_is_dialled(
        self, path: str, fields: dict[str, str | None], status: int, code: str
    ) -> None:
        async with router(azure(), Cloud("chat")) as r:
            assert await refused(r, path or "/v1/realtime?model=gpt-realtime", **fields) == (status, code)
            assert r.clouds["azure"].received.connections == 0

    async def test_an_upgrade_elsewhere_is_a_request_like_all(self) -> None:
        async with router(Cloud("azure")) as r, aiohttp.ClientSession() as client:
            body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
            headers = {"authorization": f"Bearer {API_KEY}", "upgrade": "websocket", "connection": "upgrade"}
            async with client.post(f"{r.url}/v1/chat/completions", json=body, headers=headers) as answer:
                assert answer.status == 200

    async def test_bytes_before_the_switch_end_it(self) -> None:
        async with router(azure()) as r:
            reader, writer = await asyncio.open_connection("127.0.0.1", r.port)
            writer.write(
                b"GET /v1/realtime?model=gpt-realtime HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\n"
                b"upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
                b"authorization: Bearer %b\r\n\r\nGET /v1/models HTTP/1.1\r\n\r\n" % API_KEY.encode()
            )
            answer = await asyncio.wait_for(reader.read(), 10)
            assert answer.count(b"HTTP/1.1 ") == 1  # neither a switch nor a second answer
            assert answer.startswith(b"HTTP/1.1 400")
            writer.close()


class TestPlacement:
    async def test_another_deployment_is_asked_before_the_switch(self) -> None:
        async with router(azure("first"), azure("second", tier=1)) as r:
            r.clouds["first"].faults.add("status", status=503)
            async with talk(r) as call:
                await call.hear()
            attempts = (await record(r))["attempts"]
            assert [(each["deployment"], each["outcome"]) for each in attempts] == [
                ("first/rt-dep", "overloaded"),
                ("second/rt-dep", "served"),
            ]

    async def test_the_holder_is_offered_each_session_first(self) -> None:
        async with router(azure(), other(), workloads=held()) as r:
            async with talk(r, key=INTERNAL_KEY) as call:
                await call.hear()
            assert (await record(r))["cloud"] == "azure"
            r.clouds["azure"].faults.add("status", status=429)
            async with talk(r, key=INTERNAL_KEY) as call:
                await call.hear()
            gone = await record(r, count=2)
            assert gone["cloud"] == "coreweave"
            assert gone["left_holder"]
            assert gone["refusals"] == [["azure/rt-dep", "azure", "throttled"]]

    async def test_an_exclusive_session_never_leaves_its_cloud(self) -> None:
        async with router(azure(), other()) as r:
            r.clouds["azure"].faults.add("status", status=503)
            assert (await refused(r))[0] >= 500
            assert r.clouds["cw"].received.connections == 0
            heal(r.backend("azure"))

    async def test_a_frame_without_a_permit_is_not_written(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The planted bug: the session believes that it may stay, and the barrier at the send says no."""
        async with router(azure()) as r, talk(r) as call:
            await call.hear()
            before = len(r.clouds["azure"].sessions[-1].events)
            runtime = r.worker.assembly.runtime
            monkeypatch.setattr(runtime, "permit", lambda _: Permit("api", frozenset({"coreweave"}), "x"))
            await call.say("response.create")
            assert (await call.close_code())[0] == 1012
            assert runtime.violations == 1
            assert len(r.clouds["azure"].sessions[-1].events) == before

    async def test_a_client_error_of_the_deployment_is_the_clients(self) -> None:
        async with router(azure("first"), azure("second", tier=1)) as r:
            r.clouds["first"].faults.add("status", status=400, body="unsupported_parameter")
            status, _ = await refused(r)
            assert status == 400
            assert r.clouds["second"].received.connections == 0

    async def test_a_switch_that_is_none_is_not_believed(self) -> None:
        async with router(azure()) as r:
            r.clouds["azure"].faults.add("interim_1xx", status=103)
            r.clouds["azure"].faults.add("redirect", value="http://elsewhere.example/")
            assert (await refused(r))[0] >= 500
            heal(r.backend("azure"))


class TestRelay:
    async def test_messages_pass_whole_whatever_their_kind_and_size(self) -> None:
        async with router(azure()) as r, talk(r, max_msg_size=0) as call:
            await call.hear()
            for size in (0, 1, 125, 126, 65_535, 65_536, 1 << 20):
                await call.ws.send_bytes(bytes(size))
                message = await call.ws.receive()
                assert (message.type, message.data) == (WSMsgType.BINARY, bytes(size))
            await call.say("conversation.item.create", item={"type": "message", "text": "ü\u2028" * 1000})
            assert (await call.hear())["item"]["text"] == "ü\u2028" * 1000

    async def test_a_binary_message_cannot_smuggle_an_event(self) -> None:
        async with router(azure()) as r, talk(r) as call:
            await call.hear()
            for payload in (
                b'{"type":"response.create","type":"x"}',
                '{"type":"response.create"}'.encode("utf-16"),
                b"\xef\xbb\xbf" + b'{"type":"response.create"}',
            ):
                await call.ws.send_bytes(payload)
                assert (await call.hear())["error"]["code"] in ("duplicate_key", "invalid_event")
            assert r.clouds["azure"].sessions[-1].events == []

    @pytest.mark.parametrize(
        ("event", "code"),
        [
            ('{"type":"response.create","type":"response.create"}', "duplicate_key"),
            ('{"type":"response.create","\\u0074ype":"session.update"}', "duplicate_key"),
            ('{"type":"session.update","session":{"model":"gpt-4o"}}', "model_mismatch"),
            ('{"type":"session.update","session":{"model":"gpt-realtime","model":"gpt-4o"}}', "duplicate_key"),
            ("[1]", "invalid_event"),
            ("{", "invalid_event"),
            ("[" * 100_000, "invalid_event"),
            ('{"type":null}', "invalid_event"),
        ],
    )
    async def test_an_event_that_could_be_read_otherwise_goes_no_further(self, event: str, code: str) -> None:
        async with router(azure(), Cloud("chat")) as r, talk(r) as call:
            await call.hear()
            await call.ws.send_str(event)
            assert (await call.hear())["error"]["code"] in (code, "invalid_json")
            assert r.clouds["azure"].sessions[-1].events == []
            await call.say("response.create")  # and the session goes on
            await call.until("response.done")

    async def test_the_deployments_name_stands_for_the_model(self) -> None:
        async with router(azure(), aliases={"voice": "gpt-realtime"}) as r:
            async with talk(r, "/v1/realtime?model=voice") as call:
                await call.hear()
                await call.say("session.update", session={"model": "voice", "x": 1})
                await call.hear()
            assert r.clouds["azure"].sessions[-1].events == [
                {"type": "session.update", "session": {"model": "rt-dep", "x": 1}}
            ]

    async def test_a_slow_client_holds_the_deployment_back(self) -> None:
        async with router(azure(settings=Settings(tokens=Distribution(20_000.0)))) as r, talk(r) as call:
            await call.hear()
            transport = call.transport  # as one that stalls
            transport.pause_reading()
            await call.say("response.create", response={"output_modalities": ["audio"]})
            runtime = r.worker.assembly.runtime
            session: Any = next(iter(runtime.sessions._open))
            await r.until(lambda: session._upstream.paused)
            transport.resume_reading()
            hearing = asyncio.create_task(call.until("response.done"))  # unread, it would stall once more
            await r.until(lambda: not session._upstream.paused)
            await hearing

    async def test_a_message_that_is_too_long_ends_the_session(self) -> None:
        async with router(azure(), server={"body_bytes_max": 100_000}) as r:
            async with talk(r) as call:
                await call.hear()
                await call.ws.send_bytes(bytes(100_001))
                assert (await call.close_code())[0] == 1009
            assert (await record(r))["outcome"] == "client_error"

    async def test_half_messages_of_all_are_bounded_together(self) -> None:
        bounds = {"body_bytes_max": 100_000, "buffered_bytes_max": 150_000}
        async with router(azure(), server=bounds) as r, talk(r) as one, talk(r) as two:
            for call in (one, two):
                await call.hear()
            half = b"\x82\xff" + (90_000).to_bytes(8) + bytes(4) + bytes(80_000)
            one.transport.write(half)
            server = r.worker.assembly.gateway.server
            await r.until(lambda: server.buffered_bytes >= 80_000)
            two.transport.write(half)
            assert (await two.close_code())[0] == 1013


class TestEnds:
    @pytest.mark.parametrize("code", [1000, 1001, 3000, 4321])
    async def test_a_clients_close_reaches_the_deployment(self, code: int) -> None:
        async with router(azure()) as r:
            async with talk(r) as call:
                await call.hear()
                await call.ws.close(code=code, message=b"bye")
            upstream = r.clouds["azure"].sessions[-1]
            await r.until(lambda: upstream.closed == code)
            assert (await record(r))["outcome"] == "ok"

    @pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1001, "going"), (1011, "sorry"), (4000, "own")])
    async def test_a_deployments_close_reaches_the_client(self, code: int, reason: str) -> None:
        async with router(azure()) as r:
            r.clouds["azure"].faults.add("early_close", after_events=1, value=f"{code} {reason}")
            async with talk(r) as call:
                await call.hear()
                await call.say("session.update", session={})
                assert await call.close_code() == (code, reason)
            assert (await record(r))["outcome"] == "ok"

    @pytest.mark.parametrize("kind", ["reset_at", "cut_at", "extra_bytes"])
    async def test_a_cut_is_an_error_that_the_client_sees(self, kind: str) -> None:
        async with router(azure()) as r:
            r.clouds["azure"].faults.add(kind, after_events=3)
            async with talk(r) as call:
                await call.hear()
                await call.say("response.create")
                error = await call.until("error")
                assert error["error"]["code"] == "stream_broken"
                assert (await call.close_code())[0] == 1011
            ended = await record(r)
            assert (ended["outcome"], ended["attempts"][-1]["outcome"]) == ("stream_broken", "broken")
            response = last(r, "realtime_response")
            assert response["outcome"] == "stream_broken"
            assert response["attempts"][0]["estimated"]
            assert len(ended["attempts"]) == 1  # never a second one

    async def test_a_client_that_is_gone_takes_the_deployment_along(self) -> None:
        async with router(azure(settings=SLOW)) as r:
            async with talk(r) as call:
                await call.hear()
                await call.say("response.create")
                await call.until("response.output_audio.delta")
                call.transport.abort()
                began = asyncio.get_running_loop().time()
                await r.until(lambda: r.clouds["azure"].sessions[-1].closed is not None)
                assert asyncio.get_running_loop().time() - began < 1.0
            ended = await record(r)
            assert (ended["outcome"], ended["status"]) == ("client_gone", 499)
            assert last(r, "realtime_response")["outcome"] == "client_gone"
            assert last(r, "realtime_response")["usage"]["completion_tokens"] > 0

    async def test_a_drain_ends_sessions_when_its_time_is_over(self) -> None:
        async with router(azure(), leaves=True) as r, talk(r) as call:
            await call.hear()
            server = r.worker.assembly.gateway.server
            server.drain()
            await call.say("session.update", session={})
            await call.until("session.updated")  # until then it goes on
            server.cut(RefusedError("The router is going down. Send the request again."))
            assert (await call.close_code())[0] == 1001
            await r.until(lambda: not server.connections)

    async def test_a_session_ends_when_its_cloud_is_taken_away(self) -> None:
        async with router(azure(), other(), workloads=held()) as r:
            async with talk(r, key=INTERNAL_KEY) as call:
                await call.hear()
                file = File(r)
                file.now["workloads"]["internal"]["placement"] = {"rule": "exclusive", "cloud": "coreweave"}
                assert (await file.put())[0] == 200
                assert (await call.until("error"))["error"]["code"] == "withdrawn"
                assert (await call.close_code())[0] == 1012
            await r.until(lambda: r.clouds["azure"].sessions[-1].closed == 1006)  # not even a close went up
            assert (await record(r))["attempts"][-1]["outcome"] == "answered"  # no fault of the deployment's

    async def test_a_session_ends_with_its_key(self) -> None:
        async with router(azure()) as r, talk(r) as call:
            await call.hear()
            file = File(r)
            file.now["keys"] = file.now["keys"][1:]
            assert (await file.put())[0] == 200
            assert (await call.until("error"))["error"]["code"] == "invalid_api_key"
            assert (await call.close_code())[0] == 1008

    async def test_a_session_lasts_as_long_as_a_request_may(self) -> None:
        async with router(azure(), timeouts={"total_s": 0.5}) as r, talk(r) as call:
            await call.hear()
            assert (await call.until("error"))["error"]["code"] == "session_expired"
            assert (await call.close_code())[0] == 1001

    async def test_a_deployment_that_stops_within_a_response_is_given_up(self) -> None:
        async with router(azure(), timeouts={"idle_s": 0.3}) as r:
            r.clouds["azure"].faults.add("stall_mid_stream", after_events=2)
            async with talk(r) as call:
                await call.hear()
                await call.say("response.create")
                assert (await call.until("error"))["error"]["code"] == "upstream_timeout"
                assert (await call.close_code())[0] == 1011

    async def test_an_end_that_answers_no_ping_is_gone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sessions, "PING_EVERY_S", 0.2)
        monkeypatch.setattr(sessions, "LOOK_EVERY_S", 0.1)
        async with router(azure()) as r, talk(r) as alive, talk(r, autoping=False) as dead:
            for call in (alive, dead):
                await call.hear()
            # One reads, and so answers; the other reads and does not answer.
            reading = asyncio.create_task(alive.ws.receive())
            seen = [await asyncio.wait_for(dead.ws.receive(), 5) for _ in range(2)]
            assert [message.type for message in seen] == [WSMsgType.PING, WSMsgType.CLOSE]
            await asyncio.sleep(0.5)
            assert not reading.done()
            reading.cancel()


class TestMoney:
    async def test_each_response_is_billed_when_it_ends(self) -> None:
        async with router(azure(deployment_extra={"price": PRICE})) as r, talk(r) as call:
            await call.hear()
            await call.say("input_audio_buffer.append", audio=base64.b64encode(bytes(9600)).decode())
            await call.say("response.create")
            await call.until("response.done")
            first = await record(r, "realtime_response")  # the session is open
            assert first["usage"] == {
                "prompt_tokens": 22,
                "completion_tokens": 3,
                "audio_prompt_tokens": 2,
                "audio_completion_tokens": 3,
            }
            assert first["cost_nano_usd"] == 22 * 4_000 + 3 * 64_000
            assert await r.metric("router_sessions_open", operation="realtime") == 1
            assert await r.metric("router_session_messages_total", direction="in") == 2

    async def test_a_response_whose_begin_was_not_told_is_billed_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sessions, "_BEGUN", "response.otherwise")
        async with router(azure()) as r, talk(r) as call:
            await call.hear()
            await call.say("response.create")
            await call.until("response.done")
            assert (await record(r, "realtime_response"))["usage"]["completion_tokens"] == 3

    async def test_it_is_written_down_before_the_client_hears_of_it(self) -> None:
        async with router(azure()) as r, talk(r) as call:
            books, told = r.worker.assembly.books, []
            real = books.request
            server = r.worker.assembly.gateway.server

            def request(record: Any) -> None:
                queued = b"".join(bytes(data) for _, data in server.outbox._queued if not isinstance(data, End))
                told.append((record.operation, b"response.done" in queued))
                real(record)

            books.request = request  # type: ignore[method-assign]
            await call.hear()
            await call.say("response.create")
            await call.until("response.done")
            assert told == [("realtime_response", False)]  # and the outbox commits before it lets go of what follows

    async def test_a_kill_loses_no_response_that_a_client_was_told_of(self, tmp_path: Path) -> None:
        """What is in the mapped segment when its client hears of it is there after a kill -9: the kernel has it."""
        async with router(azure(), ledger={"dir": str(tmp_path / "ledger")}) as r, talk(r) as call:
            await call.hear()
            for number in (1, 2, 3):
                await call.say("response.create")
                await call.until("response.done")
                kept = [
                    record.id
                    for path in tmp_path.rglob("*")
                    if path.is_file() and path.parent.name == "0"
                    for _, records in walk(path.read_bytes())
                    for record in records
                    if record.operation == "realtime_response"
                ]
                assert len(set(kept)) == len(kept) == number

    async def test_a_key_has_so_many_responses_a_minute(self) -> None:
        async with router(azure(), keys=limited(rpm=40)) as r:  # a burst of four: the opening, and three responses
            async with talk(r) as call:
                await call.hear()
                ends = []
                for number in range(5):
                    await call.say("response.create", event_id=f"mine-{number}")
                    ends.append(await call.until("response.done", "error"))
                assert [end["type"] for end in ends] == ["response.done"] * 3 + ["error"] * 2
                assert ends[-1]["error"]["code"] == "rate_limit_exceeded"
                assert ends[-1]["error"]["event_id"] == "mine-4"
            asked = [event for event in r.clouds["azure"].sessions[-1].events if event["type"] == "response.create"]
            assert len(asked) == 3

    async def test_a_response_that_nobody_asked_for_is_cancelled_beyond_the_limit(self) -> None:
        keys = limited(rpm=10)  # a burst of one, which the opening takes
        async with router(azure(settings=SLOW), keys=keys) as r, talk(r) as call:
            await call.hear()
            await call.say("session.update", session={"turn_detection": {"type": "server_vad"}})
            await call.say("input_audio_buffer.commit")
            assert (await call.until("error"))["error"]["code"] == "rate_limit_exceeded"
            assert (await call.until("response.done"))["response"]["status"] == "cancelled"

    async def test_a_session_holds_a_place_for_its_life(self) -> None:
        async with router(azure(), keys=limited(concurrent=1)) as r:
            async with talk(r) as call:
                await call.hear()
                assert await refused(r) == (429, "rate_limit_exceeded")
            await record(r)
            async with talk(r) as call:
                await call.hear()

    async def test_tokens_are_taken_and_given_back(self) -> None:
        async with router(azure(), keys=limited(tpm=100_000)) as r:
            async with talk(r) as call:
                await call.hear()
                await call.say("response.create", response={"max_output_tokens": 4000})
                await call.until("response.done")
            await record(r)
            gate = r.worker.assembly.limits.gates["key/api/tpm"]
            assert gate.left(asyncio.get_running_loop().time()) >= gate.full - 23 - 1


class TestResponses:
    async def test_a_response_goes_on_from_one_of_its_own_session_alone(self) -> None:
        async with router(text_cloud()) as r, talk(r, "/v1/responses") as call:
            await call.say("response.create", model="gpt-4o", input="hi")
            mine = (await call.until("response.completed"))["response"]["id"]
            for more in (
                {"previous_response_id": "resp_of_somebody"},
                {"previous_response_id": mine, "conversation": "conv_of_somebody"},
                {"previous_response_id": mine, "background": True},
                {"input": [{"type": "input_file", "file_id": "file-of-somebody"}]},
            ):
                await call.say("response.create", **{"model": "gpt-4o", "input": "hi", **more})
                assert (await call.hear())["error"]["code"] == "previous_response_not_found"
            await call.say("response.create", model="gpt-4o", input="more", previous_response_id=mine)
            await call.until("response.completed")
            assert len(r.clouds["azure"].sessions[-1].events) == 2

    async def test_an_error_within_a_response_is_its_end_and_not_the_sessions(self) -> None:
        """The deployment says no more of it, for longer than a response may stand still."""
        async with router(text_cloud(), timeouts={"idle_s": 0.3}) as r, talk(r, "/v1/responses") as call:
            r.clouds["azure"].faults.add("error_event", after_events=3, times=1)
            await call.say("response.create", model="gpt-4o", input="hi")
            assert (await call.until("error"))["error"]["code"] == "server_error"
            await asyncio.sleep(1.0)
            await call.say("response.create", model="gpt-4o", input="hi")
            await call.until("response.completed")
            await record(r, "responses", 2)
            cut, whole = (each for each in r.records() if each["operation"] == "responses")
            assert (cut["outcome"], cut["usage"]["completion_tokens"]) == ("upstream_error", 2)
            assert (whole["outcome"], whole["usage"]["completion_tokens"]) == ("ok", 3)

    async def test_the_first_event_names_the_model(self) -> None:
        async with router(text_cloud(), aliases={"newest": "gpt-4o"}) as r:
            async with talk(r, "/v1/responses") as call:
                for lane in ("a", "b"):
                    await call.say("response.create", model="newest", input="hi", stream_id=lane)
                    done = await call.until("response.completed")
                    assert done["stream_id"] == lane
            assert [event["model"] for event in r.clouds["azure"].sessions[-1].events] == ["llm", "llm"]
            assert (await record(r, "responses", 2))["usage"] == {"prompt_tokens": 11, "completion_tokens": 3}
            assert (await record(r, "responses_websocket"))["outcome"] == "ok"

    async def test_its_responses_have_a_home_that_later_sessions_find(self, tmp_path: Path) -> None:
        """Another key knows nothing of them."""
        operations = {"llm": ["responses", "responses_websocket"]}
        clouds = [
            Cloud(name, deployments={"llm": "gpt-4o"}, operations=operations, settings=SHORT, tier=tier)
            for tier, name in enumerate(("first", "second"))
        ]
        async with router(*clouds, ledger={"dir": str(tmp_path / "ledger")}) as r:
            r.clouds["first"].faults.add("status", status=503, times=1)
            async with talk(r, "/v1/responses") as call:
                await call.say("response.create", model="gpt-4o", input="hi")
                mine = (await call.until("response.completed"))["response"]["id"]
            heal(r.backend("first"))
            follow = {"model": "gpt-4o", "input": "more", "previous_response_id": mine}
            async with talk(r, "/v1/responses") as call:
                await call.say("response.create", **follow)
                await call.until("response.completed")
            async with talk(r, "/v1/responses", INTERNAL_KEY) as call:
                await call.say("response.create", **follow)
                assert (await call.hear())["error"]["code"] == "not_found"
            assert [len(r.clouds[name].sessions) for name in ("first", "second")] == [0, 2]

    async def test_a_session_stays_with_its_model(self) -> None:
        cloud = Cloud(
            "azure",
            deployments={"llm": "gpt-4o", "other": "gpt-5"},
            operations={"llm": ["responses_websocket"], "other": ["responses_websocket"]},
            settings=SHORT,
        )
        async with router(cloud) as r, talk(r, "/v1/responses") as call:
            await call.say("response.create", model="gpt-4o", input="hi")
            await call.until("response.completed")
            await call.say("response.create", model="gpt-5", input="hi", stream_id="x")
            error = await call.hear()
            assert (error["error"]["code"], error["stream_id"], error["status"]) == ("model_mismatch", "x", 400)

    @pytest.mark.parametrize(
        ("event", "code"),
        [
            ({"type": "response.create", "model": "nonsense"}, "model_not_found"),
            ({"type": "response.create"}, "missing_model"),
            ({"type": "session.update"}, "invalid_request"),
        ],
    )
    async def test_a_first_event_that_leads_nowhere_ends_it(self, event: dict[str, Any], code: str) -> None:
        async with router(text_cloud()) as r:
            async with talk(r, "/v1/responses") as call:
                await call.ws.send_json(event)
                assert (await call.hear())["error"]["code"] == code
                assert (await call.close_code())[0] == 1008
            assert r.clouds["azure"].received.connections == 0

    async def test_no_deployment_is_told_in_the_session(self) -> None:
        async with router(text_cloud()) as r:
            r.clouds["azure"].faults.add("status", status=503)
            async with talk(r, "/v1/responses") as call:
                await call.say("response.create", model="gpt-4o", input="hi")
                assert (await call.hear())["type"] == "error"
                await call.close_code()
            heal(r.backend("azure"))

    async def test_a_client_that_leaves_on_the_way_leaves_nothing_behind(self) -> None:
        async with router(text_cloud()) as r:
            r.clouds["azure"].faults.add("stall_before_head")
            async with talk(r, "/v1/responses") as call:
                await call.say("response.create", model="gpt-4o", input="hi")
                await r.until(lambda: r.clouds["azure"].received.requests)
                call.transport.abort()
            assert (await record(r, "responses_websocket"))["outcome"] == "client_gone"


def limited(**limits: int) -> list[dict[str, Any]]:
    from router.config.keys import digest

    return [
        {"name": "api", "workload": "api", "sha256": digest(API_KEY).hex(), "models": ["*"], "limits": limits},
        {"name": "internal", "workload": "internal", "sha256": digest(INTERNAL_KEY).hex(), "models": ["*"]},
    ]
