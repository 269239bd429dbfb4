"""One suite that every provider passes behind a whole router, over real sockets and with OpenAI's own client."""

import asyncio
import time
from email.utils import formatdate
from typing import Any

import openai
import orjson
import pytest

from router.emulator import Distribution, Fault, Kind
from router.jobs import tokens
from tests.conformance.providers.kit import CASES, EMBEDDINGS, MESSAGES, MODEL, Case, behind, sdk
from tests.router_kit import RunningRouter

# What a status of the cloud becomes where nobody else can serve: our own affairs are a 502 to the client.
STATUSES = {400: 400, 404: 502, 408: 504, 424: 502, 429: 429, 500: 500, 503: 503, 529: 529}


async def ask(r: RunningRouter, model: str = MODEL, **fields: Any) -> Any:
    async with sdk(r) as client:
        return await client.chat.completions.create(model=model, messages=MESSAGES, **fields)


async def error_of(r: RunningRouter, model: str = MODEL, **fields: Any) -> openai.APIStatusError:
    with pytest.raises(openai.APIStatusError) as caught:
        await ask(r, model, **fields)
    return caught.value


def served(r: RunningRouter) -> int:
    """Requests that reached the cloud, those for tokens left out."""
    received = r.clouds["only"].received
    return received.requests - received.by_operation["token"]


async def test_chat_is_served_under_the_deployments_name(case: Case) -> None:
    async with behind(case) as r:
        answer = await ask(r, max_tokens=5)

        assert (answer.choices[0].message.content or "").startswith(case.deployment)
        last = r.clouds["only"].received.last
        assert last is not None
        fields = orjson.loads(last.body)
        assert "deployments" in last.path or fields["model"] == case.deployment
        assert fields["max_tokens"] == 5
        assert last.header("accept-encoding") == "identity"


async def test_streams_have_usage_where_the_client_asks_and_nowhere_else(case: Case) -> None:
    async with behind(case, tokens=Distribution(4.0)) as r:
        stream = await ask(r, stream=True)
        plain = [chunk async for chunk in stream]
        stream = await ask(r, stream=True, stream_options={"include_usage": True})
        told = [chunk async for chunk in stream]

        assert not any(chunk.usage for chunk in plain)
        assert told[-1].usage is not None
        assert told[-1].usage.completion_tokens == 4
        texts = ["".join(c.choices[0].delta.content or "" for c in chunks if c.choices) for chunks in (plain, told)]
        assert texts[0] == texts[1]
        assert texts[0].startswith(case.deployment)
        await r.until(lambda: len(r.records()) == 2)
        assert [record["usage"]["completion_tokens"] for record in r.records()] == [4, 4]


async def test_embeddings_are_served_where_there_are_any(case: Case) -> None:
    async with behind(case) as r, sdk(r) as client:
        if case.has_embeddings:
            answer = await client.embeddings.create(model=EMBEDDINGS, input=["a", "b"])
            assert [each.index for each in answer.data] == [0, 1]
        else:
            with pytest.raises(openai.NotFoundError):
                await client.embeddings.create(model=MODEL, input="a")
            assert served(r) == 0


async def test_every_error_has_openais_shape_and_tells_nothing_of_the_cloud(case: Case) -> None:
    """A model for each status: one that was refused may be left alone for a while."""
    async with behind(case, *map(str, STATUSES), reveal="none") as r:
        for status, shown in STATUSES.items():
            r.clouds["only"].faults.add("status", status=status, deployment=f"{case.deployment}-{status}")
            error = await error_of(r, str(status), stream=status == 500)

            assert error.status_code == shown, status
            body = error.response.json()["error"]
            assert body.keys() >= {"message", "type", "param", "code"}
            assert isinstance(body["message"], str)
            assert isinstance(body["code"], str)
            assert case.provider in ("azure_openai", "openai") or not body["code"].isdecimal()
            for secret in ("canary", "127.0.0.1", "only", case.deployment, "Bearer", "Signature"):
                assert secret not in error.response.text


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_credential_takes_the_endpoint_out(case: Case, status: int) -> None:
    async with behind(case) as r:
        r.clouds["only"].faults.add("status", status=status)
        error = await error_of(r)
        assert error.status_code == 502  # not 401: the client's own key is right
        before = served(r)
        assert (await error_of(r)).status_code in (502, 503)
        assert served(r) == before


def spellings(case: Case) -> dict[str, tuple[dict[str, Any], float]]:
    """How clouds say to wait, and the seconds that it means."""
    now = time.time()
    date = {"retry_after": formatdate(now + 30, usegmt=True), "headers": {"date": formatdate(now, usegmt=True)}}
    waits: dict[str, tuple[dict[str, Any], float]] = {
        "milliseconds": ({"retry_after_ms": "7000"}, 7),
        "seconds": ({"retry_after": 8}, 8),
        "date": (date, 30),
        "both": ({"retry_after_ms": "2500", "retry_after": 60}, 3),
        "words": ({"body": "capacity"}, 60),
        "details": ({"body": "google_retry_info"}, 60),
    }
    if case.provider != "azure_openai":  # which writes its own limits there, in bare seconds
        waits["limits"] = {"body": "vllm_nested", "headers": {"x-ratelimit-reset-tokens": "6m0s"}}, 60
    return waits


async def test_every_spelling_of_a_wait_is_understood(case: Case) -> None:
    waits = spellings(case)
    async with behind(case, *waits) as r:
        for name, (fault, wait_s) in waits.items():
            r.clouds["only"].faults.add("status", status=429, deployment=f"{case.deployment}-{name}", **fault)
            error = await error_of(r, name)

            assert isinstance(error, openai.RateLimitError)
            assert wait_s - 1 <= float(error.response.headers["retry-after"]) <= wait_s + 1, name
            before = served(r)
            assert (await error_of(r, name)).status_code == 429  # and until then nothing is sent
            assert served(r) == before


async def test_a_throttle_without_a_word_is_a_short_wait(case: Case) -> None:
    async with behind(case) as r:
        r.clouds["only"].faults.add("status", status=429, times=1)
        error = await error_of(r)

        assert isinstance(error, openai.RateLimitError)
        assert 0 < float(error.response.headers["retry-after"]) <= 60


async def test_a_credential_that_the_cloud_does_not_know_is_noticed(case: Case) -> None:
    """A wrong key, a wrong secret, a signature by another key: our affair, so a 502, and nothing is sent after it."""
    if case.has_tokens:
        pytest.skip("a wrong secret gets no token: test_identities has that")
    async with behind(case, cloud=case.spoilt(), reveal="none") as r:
        error = await error_of(r)
        assert error.status_code == 502
        assert "signature" not in error.response.text.lower()
        before = served(r)
        await error_of(r)
        assert served(r) == before == 1


async def test_a_stream_without_its_done_ends_as_the_dialect_has_it(case: Case) -> None:
    """Azure always sends one: without it the stream was cut. Others may not: their finish reason has to do."""
    async with behind(case) as r:
        r.clouds["only"].faults.add("no_done", times=1)
        stream = await ask(r, stream=True)
        if case.provider == "azure_openai":
            with pytest.raises(openai.APIError):
                [chunk async for chunk in stream]
        else:
            assert [chunk async for chunk in stream][-1].choices[0].finish_reason == "stop"


async def test_an_error_in_place_of_the_first_event_is_no_success(case: Case) -> None:
    async with behind(case) as r:
        r.clouds["only"].faults.add("error_event", after_events=0, times=1)
        error = await error_of(r, stream=True)

        assert isinstance(error, openai.RateLimitError)


@pytest.mark.parametrize("case", [case for case in CASES.values() if case.has_tokens], ids=lambda case: case.name)
async def test_tokens_that_expire_cost_no_request(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The emulated cloud issues tokens of three seconds, and refuses them afterwards."""
    monkeypatch.setattr(tokens, "LOOK_EVERY_S", 0.05)
    async with behind(case, token_life_s=3.0) as r, sdk(r) as client:
        received = r.clouds["only"].received
        assert received.by_operation["token"] == 1
        used = set()
        deadline = asyncio.get_running_loop().time() + 4.5
        while asyncio.get_running_loop().time() < deadline:
            await client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=1)
            assert received.last is not None
            used.add(received.last.header("authorization"))
            await asyncio.sleep(0.02)

        assert received.by_operation["token"] in range(3, 9)
        assert len(used) >= 3


@pytest.mark.parametrize("case", [case for case in CASES.values() if case.has_tokens], ids=lambda case: case.name)
async def test_an_endpoint_without_a_token_is_left_out_until_one_comes(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(tokens, "RETRY_MAX_S", 0.1)
    async with behind(case, faults=(Fault(Kind.STATUS, operation="token", status=503),)) as r:
        error = await error_of(r)
        assert error.status_code == 503
        assert "unhealthy" in error.message
        assert served(r) == 0

        r.clouds["only"].faults.clear()
        await r.until(lambda: r.clouds["only"].received.by_operation["token"] > 1)
        async with asyncio.timeout(5):
            while True:
                try:
                    await ask(r)
                    break
                except openai.InternalServerError:
                    await asyncio.sleep(0.02)
