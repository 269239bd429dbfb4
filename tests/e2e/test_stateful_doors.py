"""Ways by which one key could reach what another has stored, each by raw HTTP."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from router.emulator.exchange import Exchange
from router.proxy.answer import Answer
from tests.e2e.kit import ASK_HI, RESPONSES, openai_sdk
from tests.e2e.test_stateful import OTHER_KEY, two_clouds, upload
from tests.router_kit import API_KEY, RunningRouter


@pytest.fixture
async def r(tmp_path: Path) -> AsyncIterator[RunningRouter]:
    async with two_clouds(tmp_path) as running:
        yield running


@asynccontextmanager
async def caller(key: str) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(headers={"authorization": f"Bearer {key}"}) as session:
        yield session


def sent(r: RunningRouter) -> int:
    return sum(cloud.received.requests for cloud in r.clouds.values())


async def test_a_form_may_not_name_another_keys_file(r: RunningRouter) -> None:
    async with openai_sdk(r) as client:
        made = await upload(client)
    async with caller(OTHER_KEY) as other:
        async with other.post(f"{r.url}/v1/containers", json={"name": "work"}) as answer:
            container = (await answer.json())["id"]
        before = sent(r)
        form = aiohttp.FormData(default_to_multipart=True)
        form.add_field("file_id", made.id)
        async with other.post(f"{r.url}/v1/containers/{container}/files", data=form) as answer:
            assert answer.status == 404
            assert (await answer.json())["error"]["code"] == "not_found"
    assert sent(r) == before


@pytest.mark.parametrize(
    "name", ["\ud800", "x" * 300, "../files/x", "a b", "\x00"], ids=["surrogate", "long", "path", "space", "nul"]
)
async def test_what_cannot_be_an_id_is_nobodys(r: RunningRouter, name: str) -> None:
    quoted = b'"\\ud800"' if name == "\ud800" else orjson.dumps(name)
    async with caller(API_KEY) as client:
        for path, body in (
            ("vector_stores", b'{"file_ids":[%b]}'),
            ("responses", b'{"model":"gpt-4o","input":"x","previous_response_id":%b}'),
        ):
            headers = {"content-type": "application/json"}
            async with client.post(f"{r.url}/v1/{path}", data=body % quoted, headers=headers) as answer:
                code = (await answer.json())["error"]["code"]
                assert (answer.status, code) in ((404, "not_found"), (400, "invalid_json"))
        async with client.get(f"{r.url}/v1/files", params={"after": name.replace("\ud800", "x")}) as answer:
            assert answer.status == 404
    assert sent(r) == 0


async def test_more_ids_than_a_store_can_be_asked_for(r: RunningRouter) -> None:
    body: dict[str, Any] = {"file_ids": [f"file-{n}" for n in range(60_000)]}
    async with caller(API_KEY) as client:
        async with client.post(f"{r.url}/v1/vector_stores", json=body) as answer:
            assert answer.status == 400
            assert (await answer.json())["error"]["code"] == "too_many_ids"
        async with client.get(f"{r.url}/v1/files") as answer:  # the books go on
            assert answer.status == 200


async def test_a_list_waits_no_longer_for_an_object_than_it_may_stand_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stall(exchange: Exchange) -> None:
        await exchange._wire.raw(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{")
        await exchange._wire.stall()

    monkeypatch.setattr(Exchange, "_misframed", stall)
    async with two_clouds(tmp_path, timeouts={"idle_s": 0.3}) as r:
        async with openai_sdk(r) as sdk:
            await upload(sdk)
        for cloud in r.clouds.values():
            cloud.faults.add("bad_content_length")
        async with caller(API_KEY) as client, asyncio.timeout(5), client.get(f"{r.url}/v1/files") as answer:
            assert answer.status == 503
            assert (await answer.json())["error"]["code"] == "home_unavailable"
        await r.until(lambda: not any(store.in_flight for store in r.worker.assembly.runtime.fleet.stores.values()))


async def test_a_stream_passes_untouched_once_its_id_is_bound(
    r: RunningRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    flowing: list[Answer] = []
    flow = Answer.flow

    def seen(answer: Answer, now: float, gaps: Any) -> None:
        flow(answer, now, gaps)
        flowing.append(answer)

    monkeypatch.setattr(Answer, "flow", seen)
    async with openai_sdk(r) as sdk:
        await sdk.events(RESPONSES, **ASK_HI)
    (answer,) = flowing
    assert answer._untouched
