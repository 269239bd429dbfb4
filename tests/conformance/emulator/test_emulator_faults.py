"""Each scripted fault as a client sees it on a bare socket; under asyncio's loop and uvloop's (conftest)."""

import asyncio
import json
import random
import ssl
import time
from pathlib import Path
from typing import Any

import h11
import pytest
import trustme

from router.emulator import Deployment, EmulatedCloud, Endpoint, Settings
from router.emulator.faults import FaultBook
from tests.conformance.emulator.kit import CHAT, CHAT_PATH, RawClient, parse


async def test_refuse_closes_the_port_for_a_while(azure: EmulatedCloud) -> None:
    client = RawClient(azure)
    azure.faults.add("refuse", for_s=30)
    with pytest.raises(ConnectionRefusedError):
        await client.raw(b"")
    azure.faults.clear()
    assert (await client.post(CHAT_PATH, CHAT)).status == 200

    azure.faults.add("refuse", for_s=0.05)
    async with asyncio.timeout(5):
        while True:
            try:
                assert (await client.post(CHAT_PATH, CHAT)).status == 200
                break
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)


async def test_resets_come_before_and_behind_the_head(azure: EmulatedCloud) -> None:
    client = RawClient(azure)
    azure.faults.add("reset_before_head", times=1)
    azure.faults.add("reset_after_head", times=1)

    assert await client.raw(client.chat(stream=True)) == (b"", "reset")
    data, end = await client.raw(client.chat(stream=True))
    assert end == "reset"
    assert data.startswith(b"HTTP/1.1 200")
    assert data.endswith(b"\r\n\r\n")
    assert azure.received.aborted == 0, "it was not the client who left"


async def test_stalls(azure: EmulatedCloud) -> None:
    client = RawClient(azure)
    azure.faults.add("stall_before_head", times=1)
    assert await client.raw(client.chat(), patience_s=0.1) == (b"", "silent")

    azure.faults.add("stall_mid_stream", after_events=3, times=1)
    data, end = await client.raw(client.chat(stream=True), patience_s=0.5)
    assert (end, data.count(b"data: ")) == ("silent", 3)

    azure.faults.add("stall_mid_stream", after_events=3, delay_ms=50)
    started = time.monotonic()
    assert (await client.post(CHAT_PATH, {**CHAT, "stream": True})).body.endswith(b"[DONE]\n\n")
    assert time.monotonic() - started >= 0.049


@pytest.mark.parametrize(("kind", "end"), [("cut_at", "eof"), ("reset_at", "reset")])
@pytest.mark.parametrize("at_byte", [0, 1, 20, 900])
async def test_an_answer_ends_at_a_byte(azure: EmulatedCloud, kind: str, end: str, at_byte: int) -> None:
    client = RawClient(azure)
    whole, _ = await client.raw(client.chat(stream=True))
    azure.faults.add(kind, at_byte=at_byte)

    data, ended = await client.raw(client.chat(stream=True))

    assert (len(data), ended) == (at_byte, end)
    assert data[:15] == whole[:at_byte][:15]


async def test_an_early_close_looks_like_an_end(azure: EmulatedCloud) -> None:
    client = RawClient(azure)
    azure.faults.add("early_close", after_events=4, times=1)
    data, end = await client.raw(client.chat(stream=True))
    reply = parse(data)
    assert end == "eof"
    assert (reply.status, len(reply.events())) == (200, 4)
    assert "transfer-encoding" not in reply.headers
    assert "content-length" not in reply.headers

    azure.faults.add("early_close", at_byte=700, times=1)
    assert [len(part) if isinstance(part, bytes) else part for part in await client.raw(client.chat())] == [700, "eof"]


@pytest.mark.parametrize(
    ("script", "status", "headers", "text"),
    [
        ({"status": 429}, 429, {}, "exceeded the token rate limit"),
        ({"status": 429, "retry_after": 7}, 429, {"retry-after": "7"}, "retry after 7 seconds"),
        ({"status": 429, "retry_after_ms": "12.5"}, 429, {"retry-after-ms": "12.5"}, "429"),
        ({"status": 429, "retry_after": "Wed, 21 Oct 2037 07:28:00 GMT"}, 429, {}, "429"),
        ({"status": 429, "body": "capacity"}, 429, {}, "currently experiencing high demand"),
        ({"status": 429, "body": "insufficient_quota"}, 429, {}, "insufficient_quota"),
        ({"status": 400}, 400, {}, '"code":"content_filter"'),
        ({"status": 400, "body": "vllm_flat"}, 400, {}, '"object":"error"'),
        ({"status": 401}, 401, {}, "Access denied due to invalid subscription key"),
        ({"status": 401, "body": "unauthorized_token"}, 401, {}, '"statusCode":401'),
        ({"status": 403}, 403, {}, "Firewall"),
        ({"status": 404}, 404, {}, "DeploymentNotFound"),
        ({"status": 408}, 408, {}, "The operation was timeout."),
        ({"status": 500}, 500, {}, "InternalServerError"),
        ({"status": 502}, 502, {"content-type": "text/html"}, "Bad Gateway"),
        ({"status": 503, "headers": {"x-should-retry": "true"}}, 503, {"x-should-retry": "true"}, "Unavailable"),
        ({"status": 599, "body": "empty"}, 599, {"content-length": "0"}, ""),
    ],
)
async def test_error_answers(
    azure: EmulatedCloud, script: dict[str, Any], status: int, headers: dict[str, str], text: str
) -> None:
    azure.faults.add("status", **script)

    reply = await RawClient(azure).post(CHAT_PATH, {**CHAT, "stream": True})

    assert reply.status == status
    assert headers.items() <= reply.headers.items()
    assert text in reply.body.decode()
    assert ("retry-after" in reply.headers) == ("retry_after" in script)
    assert reply.headers["x-ratelimit-limit-tokens"] == "450000"


async def test_a_redirect(azure: EmulatedCloud) -> None:
    azure.faults.add("redirect", value="http://192.0.2.1/")

    reply = await RawClient(azure).post(CHAT_PATH, CHAT)

    assert (reply.status, reply.headers["location"]) == (302, "http://192.0.2.1/")


async def test_error_events_in_a_200(azure: EmulatedCloud) -> None:
    client = RawClient(azure)
    responses = {"model": "gpt-4o-ptu", "input": "a", "stream": True}
    azure.faults.add("error_event", times=1)
    first = await client.post(CHAT_PATH, {**CHAT, "stream": True})
    azure.faults.add("error_event", after_events=3, times=1)
    later = await client.post(CHAT_PATH, {**CHAT, "stream": True})
    azure.faults.add("error_event", after_events=2, value="too_many_requests", times=1)
    nested = await client.post("/openai/v1/responses", responses)
    azure.faults.add("error_event", shape="flat", times=1)
    flat = await client.post("/openai/v1/responses", responses)

    assert [first.status, first.events()[0]["error"]["code"]] == [200, "rate_limit_exceeded"]
    assert [len(later.events()), "error" in later.events()[3]] == [4, True]
    assert b"[DONE]" not in later.body
    assert [event["type"] for event in nested.events()] == ["response.created", "response.in_progress", "error"]
    assert nested.events()[2]["error"]["code"] == "too_many_requests"
    assert flat.body.startswith(b"event: error\n")
    assert flat.events()[0]["code"] == "rate_limit_exceeded"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_malformed_chunk(azure: EmulatedCloud, stream: bool) -> None:
    client = RawClient(azure)
    azure.faults.add("malformed_chunk", after_events=1)

    data, end = await client.raw(client.chat(stream=stream))

    assert end == "eof"
    assert b"\r\nzz\r\n" in data
    with pytest.raises(h11.RemoteProtocolError):
        parse(data)


async def test_extra_bytes_come_behind_the_answer(azure: EmulatedCloud) -> None:
    client = RawClient(azure)
    azure.faults.add("extra_bytes", times=1)
    data, _ = await client.raw(client.chat())
    assert data.count(b"HTTP/1.1 200 OK") == 2

    azure.faults.add("extra_bytes", value="junk", delay_ms=20)
    data, _ = await client.raw(client.chat(stream=True))
    assert data.endswith(b"0\r\n\r\njunk")


@pytest.mark.parametrize("status", [100, 102, 103])
async def test_interim_answers(azure: EmulatedCloud, status: int) -> None:
    azure.faults.add("interim_1xx", status=status, headers={"link": "</a>"})
    client = RawClient(azure)

    data, _ = await client.raw(client.chat())

    assert data.startswith(b"HTTP/1.1 %d " % status)
    assert data.split(b"\r\n\r\n", 1)[1].startswith(b"HTTP/1.1 200 ")


async def test_streams_without_their_ends(azure: EmulatedCloud) -> None:
    client = RawClient(azure)
    azure.faults.add("no_done", times=1)
    no_done = await client.post(CHAT_PATH, {**CHAT, "stream": True})
    azure.faults.add("no_finish")
    no_finish = await client.post(CHAT_PATH, {**CHAT, "stream": True})
    response = await client.post("/openai/v1/responses", {"model": "gpt-4o-ptu", "input": "a", "stream": True})
    picture = {"model": "gpt-4o-ptu", "prompt": "a", "stream": True}
    image = await client.post("/openai/v1/images/generations", picture)

    assert b"[DONE]" not in no_done.body
    assert no_done.events()[-1]["choices"][0]["finish_reason"] == "stop"
    assert no_finish.body.endswith(b"[DONE]\n\n")
    assert not [c for event in no_finish.events() for c in event["choices"] if c["finish_reason"]]
    assert response.events()[-1]["type"] == "response.output_item.done"
    assert [event["type"] for event in image.events()] == ["image_generation.partial_image"]


async def test_wrong_framing(azure: EmulatedCloud) -> None:
    client = RawClient(azure)
    azure.faults.add("bad_content_length", times=1)
    with pytest.raises(h11.RemoteProtocolError, match="without sending complete message body"):
        parse((await client.raw(client.chat()))[0])

    azure.faults.add("bad_content_length", delta=-5, times=1)
    short = parse((await client.raw(client.chat(stream=True)))[0])
    assert short.body.endswith(b"data: [DO")

    azure.faults.add("bad_content_length", value="5, 6", times=1)
    data, end = await client.raw(client.chat())
    assert b"content-length: 5, 6\r\n" in data
    assert end == "eof"

    azure.faults.add("bad_transfer_encoding", value="chunked, identity", times=1)
    data, end = await client.raw(client.chat(stream=True))
    assert b"transfer-encoding: chunked, identity\r\n" in data
    assert data.endswith(b"0\r\n\r\n")


async def test_slowness(azure: EmulatedCloud) -> None:
    client = RawClient(azure)
    for kind in ("slow_accept", "slow_head"):
        azure.faults.add(kind, delay_ms=60)
        started = time.monotonic()
        reply = await client.post(CHAT_PATH, CHAT)
        assert reply.status == 200
        assert 0.059 <= time.monotonic() - started < 1
        azure.faults.clear()


async def test_faults_find_their_requests(azure: EmulatedCloud) -> None:
    """By operation and deployment; the first that fires is the one; `skip` and `times` count what matches."""
    client = RawClient(azure)
    azure.faults.add("status", status=500, operation="chat", deployment="gpt-4o-ptu", skip=1, times=1)
    azure.faults.add("status", status=503, operation="embeddings")
    chat_only = {**CHAT, "model": "chat-only"}

    async def statuses(*asked: tuple[str, dict[str, Any]]) -> list[int]:
        return [(await client.post(path, fields)).status for path, fields in asked]

    chat = (CHAT_PATH, CHAT)
    assert await statuses((CHAT_PATH, chat_only), chat, (CHAT_PATH, chat_only), chat, chat) == [200, 200, 200, 500, 200]
    assert await statuses(("/openai/v1/embeddings", {"model": "gpt-4o-ptu", "input": "a"})) == [503]


def test_a_share_follows_the_seed_and_a_time_ends() -> None:
    now = [0.0]
    drawn = []
    for _ in range(2):
        book = FaultBook(random.Random(7), lambda: now[0])
        book.add("slow_head", share=0.3)
        drawn.append([book.draw("chat", None) is not None for _ in range(1000)])
    assert drawn[0] == drawn[1]
    assert 250 < sum(drawn[0]) < 350

    book.clear()
    book.add("slow_head", for_s=2.0)
    assert book.draw("chat", None) is not None
    now[0] = 2.0
    assert book.draw("chat", None) is None


async def test_a_cloud_without_faults_keeps_its_word(azure: EmulatedCloud) -> None:
    """The control: no fault, and every answer is whole."""
    reply = await RawClient(azure).post(CHAT_PATH, {**CHAT, "stream": True})

    assert reply.body.endswith(b"[DONE]\n\n")
    assert json.loads(reply.body.split(b"\n\n")[-3].removeprefix(b"data: "))["choices"][0]["finish_reason"] == "stop"


async def test_a_cloud_over_tls_ends_streams_as_scripted(tmp_path: Path) -> None:
    """A close says close_notify first; a reset acts below TLS."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    settings = Settings(tls_cert=str(tmp_path / "cert.pem"), tls_key=str(tmp_path / "key.pem"))
    endpoint = Endpoint("azure_openai", (Deployment("gpt-4o-ptu"),), tls=True, settings=settings)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)

    async def end_of(cloud: EmulatedCloud) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", cloud.port, ssl=trust)
        writer.write(RawClient(cloud).chat(stream=True))
        try:
            return "eof" if await reader.read(-1) else "nothing"
        except ConnectionResetError:
            return "reset"
        finally:
            writer.close()

    async with EmulatedCloud(endpoint) as cloud:
        cloud.faults.add("early_close", after_events=2, times=1)
        assert await end_of(cloud) == "eof"
        cloud.faults.add("reset_after_head", times=1)
        assert await end_of(cloud) == "reset"
