"""What a hostile client, or a bug of ours, makes of a session: bounded memory, an end that is seen, nothing left."""

import asyncio
from typing import Any

import orjson
import pytest
from aiohttp import WSMsgType

from router.proxy.realtime import session as sessions
from tests.adversity.test_sessions import azure, record, talk, text_cloud
from tests.router_kit import RunningRouter, router

PING = b"\x89\xfd" + bytes(4) + bytes(125)  # masked, 131 bytes; its answer has 127
NOT_AN_EVENT = b"\x81\x81" + bytes(4) + b"x"  # seven bytes; its answer has some 200
QUEUED_BYTES_MAX = 1 << 20  # what a transport takes before it says that it is full, and one read's answers


def only(r: RunningRouter) -> Any:
    return next(iter(r.worker.assembly.runtime.sessions._open))


@pytest.mark.parametrize("frame", [PING, NOT_AN_EVENT], ids=["pings", "errors"])
async def test_who_asks_and_never_reads_takes_no_memory(frame: bytes) -> None:
    async with router(azure()) as r, talk(r) as call:
        await call.hear()
        session = only(r)
        queue = session._client._transport.get_write_buffer_size
        call.transport.pause_reading()
        most, sent = 0, 0
        while sent < 40 << 20 and not call.transport.is_closing() and len(r.worker.assembly.runtime.sessions):
            call.transport.write(frame * (256 * 1024 // len(frame)))
            sent += 256 * 1024
            await asyncio.sleep(0)
            most = max(most, queue() if not session._client.lost else 0)
            if most > QUEUED_BYTES_MAX:
                break
        assert most < QUEUED_BYTES_MAX


async def test_pings_are_answered_by_who_reads_again() -> None:
    async with router(azure()) as r, talk(r) as call:
        await call.hear()
        session = only(r)
        session._client.pause_writing()
        await call.ws.ping(b"not answered")
        await call.ws.send_str("x")
        await call.until("error")
        session._client.resume_writing()
        await call.ws.ping(b"seen")
        await call.say("session.update", session={})
        await call.until("session.updated")


class TestForeignIds:
    """A deployment may know what is another key's, whatever event names it."""

    @pytest.mark.parametrize(
        "event",
        [
            {"type": "response.append", "previous_response_id": "resp_of_somebody"},
            {"type": "response.update", "input": [{"type": "input_file", "file_id": "file-of-somebody"}]},
            {"type": "response.create", "model": "gpt-4o", "response": {"previous_response_id": "resp_of_somebody"}},
            {"type": "response.create", "model": "gpt-4o", "response": {"conversation": {"id": "conv_of_somebody"}}},
        ],
    )
    async def test_over_websocket_in_events_of_any_kind(self, event: dict[str, Any]) -> None:
        async with router(text_cloud()) as r, talk(r, "/v1/responses") as call:
            await call.say("response.create", model="gpt-4o", input="hi")
            await call.until("response.completed")
            await call.ws.send_json(event)
            assert (await call.hear())["error"]["code"] == "previous_response_not_found"
            assert len(r.clouds["azure"].sessions[-1].events) == 1

    @pytest.mark.parametrize("escaped", [False, True])
    async def test_in_realtime(self, escaped: bool) -> None:
        variables = {"item": {"type": "input_file", "file_id": "file-of-somebody"}}
        text = orjson.dumps({"type": "session.update", "session": {"prompt": {"id": "p", "variables": variables}}})
        async with router(azure()) as r, talk(r) as call:
            await call.hear()
            await call.ws.send_str((text.replace(b"file_id", rb"fil\u0065_id") if escaped else text).decode())
            assert (await call.hear())["error"]["code"] == "previous_response_not_found"
            await call.say("response.create", response={"conversation": "none", "instructions": '"file_id": "x"'})
            await call.until("response.done")


class TestBugs:
    async def test_in_the_first_event(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with router(text_cloud()) as r, talk(r, "/v1/responses") as call:
            monkeypatch.setattr(sessions, "json_facts", broken)
            await call.say("response.create", model="gpt-4o", input="hi")
            assert (await call.close_code())[0] == 1011
            await r.until(lambda: not len(r.worker.assembly.runtime.sessions))
            assert (await record(r, "responses_websocket"))["outcome"] == "stream_broken"  # it was sent a 101
            await r.until(lambda: not r.worker.assembly.gateway.server.connections)

    @pytest.mark.parametrize("name", ["model_places", "read_server_event"])
    async def test_in_a_message_of_either_end(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        async with router(azure()) as r, talk(r) as call:
            await call.hear()
            with monkeypatch.context() as patch:
                patch.setattr(sessions, name, broken)
                await call.say("response.create")
                while (await asyncio.wait_for(call.ws.receive(), 10)).type is WSMsgType.TEXT:
                    pass
            await r.until(lambda: not len(r.worker.assembly.runtime.sessions))
            await r.until(lambda: r.clouds["azure"].sessions[-1].closed is not None)


def broken(*_: Any, **__: Any) -> Any:
    raise KeyError("a bug")
