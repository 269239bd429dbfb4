"""What goes wrong, as the real Python SDKs raise it: each error its own class, and no half answer as a whole one."""

import time
from typing import Any

import openai
import pytest
from openai import (
    APIConnectionError,
    APIError,
    APIStatusError,
    AsyncAzureOpenAI,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    InternalServerError,
    NotFoundError,
    RateLimitError,
    UnprocessableEntityError,
)

from router.emulator.bodies import BODIES, About
from tests.e2e.kit import ASK_HI, CHAT, RESPONSES, SAY_HI, Sdk, azure, every_sdk, openai_sdk, sdk
from tests.router_kit import API_KEY, CANARY, INTERNAL_KEY, RunningRouter, heal, router

UNREVEALED = ("azure", "deployment", "127.0.0.1", "eastus", "chat-dep", CANARY)


async def raised(client: Sdk, method: str = CHAT, **arguments: Any) -> APIStatusError:
    """The error of a call that must fail with a status, which then has the shape that the SDKs expect."""
    with pytest.raises(APIStatusError) as caught:
        await client.call(method, **(arguments or SAY_HI))
    error = caught.value
    assert error.request_id == error.response.headers["x-request-id"]
    assert error.request_id.startswith("req_")
    answer = error.response.json()["error"]
    assert isinstance(answer["message"], str)
    assert answer["message"]
    assert {"message", "type", "param", "code"} <= answer.keys()
    return error


def fail(r: RunningRouter, status: int, **fault: Any) -> None:
    for cloud in r.clouds.values():
        cloud.faults.clear()
        cloud.faults.add("status", status=status, **fault)


# -- who asks, and for what


@pytest.mark.parametrize("key", ["sk-ir-unknown", API_KEY + "x", API_KEY.upper()])
async def test_an_unknown_key_is_an_authentication_error(key: str) -> None:
    async with router(azure()) as r, every_sdk(r, key) as clients:
        for client in clients:
            error = await raised(client)

            assert type(error) is AuthenticationError
            assert error.code == "invalid_api_key"
            assert key not in error.response.text
    assert r.clouds["azure-east"].received.requests == 0


async def test_two_keys_have_to_be_the_same() -> None:
    async with router(azure()) as r:
        named: dict[str, Any] = {"azure_endpoint": r.url, "api_version": "2024-10-21", "max_retries": 0}
        for token, right in ((API_KEY, True), (INTERNAL_KEY, False), ("sk-ir-unknown", False)):
            headers = {"Authorization": f"Bearer {token}"}
            async with sdk(AsyncAzureOpenAI(api_key=API_KEY, default_headers=headers, **named)) as client:
                if right:
                    await client.call(CHAT, **SAY_HI)
                else:
                    assert type(await raised(client)) is AuthenticationError


async def test_an_unknown_model_is_not_found() -> None:
    async with router(azure()) as r, every_sdk(r) as clients:
        for client in clients:
            for method, body in ((CHAT, SAY_HI), (RESPONSES, ASK_HI)):
                error = await raised(client, method, **{**body, "model": "gpt-9/ü?"})

                assert type(error) is NotFoundError
                assert (error.code, error.param) == ("model_not_found", "model")


async def test_a_model_without_the_operation_is_not_found() -> None:
    async with router(azure()) as r, every_sdk(r) as clients:
        for client in clients:
            error = await raised(client, CHAT, **{**SAY_HI, "model": "text-embedding-3-small"})

            assert type(error) is NotFoundError
            assert error.code == "unsupported_operation"


async def test_an_unknown_path_is_not_found_and_a_wrong_method_says_which_is_right() -> None:
    async with router(azure()) as r, every_sdk(r) as clients:
        for client in clients:
            for method in ("files.list", "batches.list", "fine_tuning.jobs.list"):
                error = await raised(client, method, limit=1)
                assert (error.status_code, error.code) == (400, "stateful_needs_ledger")
            error = await raised(client, "get", path="/assistants", cast_to=object)
            assert (error.status_code, error.code) == (404, "unknown_path")
            error = await raised(client, "delete", path="/models", cast_to=object)
            assert (error.status_code, error.code) == (405, "method_not_allowed")
            assert error.response.headers["allow"] == "GET"


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"model": None}, "missing_model", "model"),
        ({"model": ""}, "missing_model", "model"),
        ({"model": 7}, "invalid_type", "model"),
        ({"stream": "yes"}, "invalid_type", "stream"),
        ({"stream_options": [1]}, "invalid_type", "stream_options"),
    ],
)
async def test_a_body_that_cannot_be_routed_is_a_bad_request(change: dict[str, Any], code: str, param: str) -> None:
    async with router(azure()) as r, openai_sdk(r) as client:
        error = await raised(client, **SAY_HI, extra_body=change)
        assert type(error) is BadRequestError
        assert (error.code, error.param) == (code, param)
        await client.call(CHAT, **SAY_HI)  # and the process goes on

    assert r.clouds["azure-east"].received.requests == 1


# -- errors of the cloud


async def test_a_refused_prompt_is_a_bad_request_as_azure_wrote_it() -> None:
    async with router(azure(), azure(endpoint="azure-west")) as r, every_sdk(r) as clients:
        fail(r, 400, body="content_filter")
        for client in clients:
            error = await raised(client)

            assert type(error) is BadRequestError
            assert (error.code, error.param) == ("content_filter", "prompt")
            assert error.body["innererror"]["code"] == "ResponsibleAIPolicyViolation"
        received = sum(cloud.received.requests for cloud in r.clouds.values())
        assert received == len(clients), "a client's own error is an answer, and nobody else is asked"


@pytest.mark.parametrize("status", [400, 422])
async def test_a_clients_own_error_keeps_its_bytes(status: int) -> None:
    async with router(azure()) as r, openai_sdk(r) as client:
        fail(r, status, body="content_filter")
        error = await raised(client)

        assert error.status_code == status
        assert error.response.content == BODIES["content_filter"](About())


@pytest.mark.parametrize(
    ("upstream", "body", "expected", "status"),
    [
        (400, "context_length", BadRequestError, 400),
        (409, "vllm_nested", ConflictError, 409),
        (413, "unsupported_parameter", APIStatusError, 413),
        (422, "unsupported_parameter", UnprocessableEntityError, 422),
        (408, "timeout", InternalServerError, 504),
        (500, "server_error", InternalServerError, 500),
        (502, "html", InternalServerError, 502),
        (503, "overloaded", InternalServerError, 503),
        (504, "empty", InternalServerError, 504),
        (401, "unauthorized", InternalServerError, 502),
        (401, "unauthorized_token", InternalServerError, 502),
        (403, "forbidden", InternalServerError, 502),
        (404, "deployment_not_found", InternalServerError, 502),
        (404, "resource_not_found", InternalServerError, 502),
        (431, "headers_too_large", APIStatusError, 431),
    ],
)
async def test_an_error_of_the_cloud_is_raised_as_what_it_means(
    upstream: int, body: str, expected: type[APIStatusError], status: int
) -> None:
    """What speaks of the router's own credential or deployment is never the client's 401, 403 or 404."""
    async with router(azure()) as r, every_sdk(r) as clients:
        for client in (clients[0], clients[-1]):
            fail(r, upstream, body=body)
            heal(r.worker.assembly.fleet.backends["azure-east/chat-dep"])
            error = await raised(client)

            assert type(error) is expected
            assert error.status_code == status
            text = error.response.text.lower()
            assert not [word for word in UNREVEALED if word in text]


async def test_a_missing_deployment_is_revealed_to_those_who_may_know() -> None:
    async with router(azure()) as r, openai_sdk(r, INTERNAL_KEY) as client:
        fail(r, 404)
        error = await raised(client)

    assert type(error) is InternalServerError
    assert "The API deployment for this resource does not exist" in error.message


async def test_a_deployment_that_hangs_is_an_error_in_time() -> None:
    async with router(azure(), timeouts={"commit_json_s": 0.2, "commit_stream_s": 0.2}) as r, openai_sdk(r) as client:
        r.clouds["azure-east"].faults.add("stall_before_head")
        for more in ({}, {"stream": True}):
            error = await raised(client, **SAY_HI, **more)

            assert type(error) is InternalServerError
            assert (error.status_code, error.code) == (504, "upstream_timeout")


@pytest.mark.parametrize("kind", ["reset_before_head", "cut_at", "refuse"])
async def test_a_deployment_that_cannot_be_reached_is_an_error_of_the_service(kind: str) -> None:
    async with router(azure()) as r, openai_sdk(r) as client:
        r.clouds["azure-east"].faults.add(kind)
        for more in ({}, {"stream": True}):
            error = await raised(client, **SAY_HI, **more)

            assert type(error) is InternalServerError
            assert error.status_code in (502, 503)


# -- too much


async def test_when_all_are_throttled_the_client_learns_the_smallest_true_wait() -> None:
    async with router(azure(), azure(endpoint="azure-west")) as r, every_sdk(r) as clients:
        r.clouds["azure-east"].faults.add("status", status=429, retry_after=31)
        r.clouds["azure-west"].faults.add("status", status=429, retry_after=7)
        for client in clients:
            error = await raised(client)

            assert type(error) is RateLimitError
            assert (error.code, error.type) == ("rate_limit_exceeded", "rate_limit_error")
            headers = error.response.headers
            assert 6000 < int(headers["retry-after-ms"]) <= 7000
            assert headers["retry-after"] == "7"
            assert "x-should-retry" not in headers
        assert [cloud.received.requests for cloud in r.clouds.values()] == [1, 1], "who cools down is left alone"
        await r.until(lambda: len(r.records()) == len(clients))
        assert {record["outcome"] for record in r.records()} == {"refused"}


async def test_one_throttled_deployment_is_nobodys_error() -> None:
    async with router(azure(), azure(endpoint="azure-west")) as r, every_sdk(r) as clients:
        r.clouds["azure-east"].faults.add("status", status=429, retry_after=30)
        for client in clients:
            await client.call(CHAT, **SAY_HI)
            await client.events(CHAT, **SAY_HI)
            await client.events(RESPONSES, **ASK_HI)

        assert r.clouds["azure-east"].received.requests <= 2  # once for each model's own quota at most


async def test_the_sdk_waits_as_it_is_told_and_succeeds() -> None:
    async with router(azure()) as r, openai_sdk(r, max_retries=1) as client:
        r.clouds["azure-east"].faults.add("status", status=429, retry_after_ms=300, times=1)
        began = time.monotonic()
        await client.call(CHAT, **SAY_HI)

        assert 0.3 <= time.monotonic() - began < 2
        assert r.clouds["azure-east"].received.requests == 2


async def test_no_wait_is_longer_than_what_a_sdk_waits_for() -> None:
    async with router(azure()) as r, openai_sdk(r) as client:
        # What one deployment says is believed for a minute at most, so a client can always be told to come back then.
        r.clouds["azure-east"].faults.add("status", status=429, retry_after=86400)
        error = await raised(client)

        assert type(error) is RateLimitError
        assert int(error.response.headers["retry-after"]) <= 60


# -- answers that break

ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": (CHAT, SAY_HI),
    "completions": ("completions.create", {"model": "gpt-3.5-turbo-instruct", "prompt": "hi"}),
    "responses": (RESPONSES, ASK_HI),
    "images_generations": ("images.generate", {"model": "gpt-image-1", "prompt": "a lake", "partial_images": 3}),
    "transcriptions": ("audio.transcriptions.create", {"model": "gpt-4o-transcribe", "file": ("a.wav", b"RIFF")}),
}
BREAKS: dict[str, str] = {
    "early_close": "stream_broken",
    "stall_mid_stream": "stream_broken",
    "malformed_chunk": "stream_broken",
    "no_finish": "stream_broken",
    "error_event": "rate_limit_exceeded",
}


@pytest.mark.parametrize("kind", BREAKS)
@pytest.mark.parametrize("operation", ASKED)
async def test_a_broken_stream_raises_and_never_ends_as_a_success(operation: str, kind: str) -> None:
    method, body = ASKED[operation]
    # A read that is malformed anywhere is dropped whole, so the good events come in reads of their own.
    async with router(azure(tokens=8, gap_ms=4), timeouts={"idle_s": 0.5}) as r, every_sdk(r) as clients:
        # The first events of text, up to four, are before the commit point.
        r.clouds["azure-east"].faults.add(kind, after_events=2 if operation == "images_generations" else 6)
        for client in (clients[0], clients[-1]):
            events: list[Any] = []
            with pytest.raises(APIError) as caught:
                await client.feed(events.append, method, **body, stream=True)

            assert type(caught.value) is APIError, "an event tells of the break"
            assert caught.value.code == BREAKS[kind]
            assert events, "what came before the break was passed on"
        await r.until(lambda: len(r.records()) == 2)
        assert {record["outcome"] for record in r.records()} == {"stream_broken"}


@pytest.mark.parametrize("kind", ["cut_at", "reset_at"])
@pytest.mark.parametrize("at_byte", [1500, 2111, 2500])
async def test_a_stream_that_is_cut_anywhere_raises(kind: str, at_byte: int) -> None:
    async with router(azure(tokens=12)) as r, every_sdk(r) as clients:
        r.clouds["azure-east"].faults.add(kind, at_byte=at_byte)
        for client in (clients[0], clients[-1]):
            with pytest.raises(APIError) as caught:
                await client.events(CHAT, **SAY_HI)
            assert type(caught.value) in (APIError, InternalServerError)


@pytest.mark.parametrize("kind", ["no_done", "no_finish"])
async def test_a_stream_whose_end_is_missing_is_broken_though_all_of_it_came_at_once(kind: str) -> None:
    """The SDKs stop reading at `[DONE]`: without a finish_reason before it, it must not reach them."""
    async with router(azure()) as r, openai_sdk(r) as client:
        r.clouds["azure-east"].faults.add(kind)
        with pytest.raises(APIError) as caught:
            await client.events(CHAT, **SAY_HI)

    assert caught.value.code == "stream_broken"


async def test_a_stream_that_begins_with_an_error_is_served_by_another() -> None:
    """Azure's 200 whose first events are an error: nothing of it is shown."""
    async with router(azure(), azure(endpoint="azure-west", tier=1)) as r, every_sdk(r) as clients:
        r.clouds["azure-east"].faults.add("error_event", after_events=2)
        for client in (clients[0], clients[-1]):
            events = await client.events(RESPONSES, **ASK_HI)
            assert events[-1].type == "response.completed"

        await r.until(lambda: len(r.records()) == 2)
        first = [(each["deployment"], each["outcome"]) for each in r.records()[0]["attempts"]]
        assert first == [("azure-east/chat-dep", "throttled"), ("azure-west/chat-dep", "served")]


async def test_a_body_that_is_cut_is_a_connection_error() -> None:
    async with router(azure()) as r, every_sdk(r) as clients:
        r.clouds["azure-east"].faults.add("bad_content_length", delta=100)
        for client in (clients[0], clients[-1]):
            with pytest.raises(APIConnectionError):
                await client.call(CHAT, **SAY_HI)

        await r.until(lambda: len(r.records()) == 2)
        assert {record["outcome"] for record in r.records()} == {"stream_broken"}


# -- what only one endpoint has

STATEFUL: list[dict[str, Any]] = [
    {"previous_response_id": "resp_1"},
    {"conversation": "conv_1"},
    {"background": True},
    {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]},
    {"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]},
    {"tools": [{"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["file-1"]}}]},
]


@pytest.mark.parametrize("more", STATEFUL, ids=lambda more: next(iter(more)))
async def test_a_request_that_names_stored_state_needs_its_home(more: dict[str, Any]) -> None:
    async with router(azure(), azure(endpoint="azure-west")) as r, every_sdk(r) as clients:
        for client in clients:
            error = await raised(client, RESPONSES, **{**ASK_HI, **more})

            assert type(error) is BadRequestError
            assert error.code == "stateful_needs_home"
        assert not any(cloud.received.requests for cloud in r.clouds.values())
    async with router(azure()) as r, every_sdk(r) as clients:
        for client in clients:
            await raised(client, RESPONSES, **{**ASK_HI, **more}) if "background" not in more else None
        assert r.clouds["azure-east"].received.requests == (0 if "background" in more else len(clients))


async def test_what_only_mentions_stored_state_is_served() -> None:
    words = '{"file_id": "file-1", "previous_response_id": "resp_1"}'
    body = {"model": "gpt-4o", "input": [{"role": "user", "content": words}], "previous_response_id": None}
    async with router(azure(), azure(endpoint="azure-west")) as r, openai_sdk(r) as client:
        response = await client.call(RESPONSES, **body)

    assert response.status == "completed"


def test_every_class_of_the_sdk_is_met_above() -> None:
    """A new class of error in a newer SDK is noticed here."""
    found = (getattr(openai, name) for name in dir(openai) if name.endswith("Error"))
    assert {each.__name__ for each in found if issubclass(each, APIStatusError)} == {
        "APIStatusError",
        "AuthenticationError",
        "BadRequestError",
        "ConflictError",
        "InternalServerError",
        "NotFoundError",
        "OAuthError",  # of the SDK's own login, never of an answer
        "PermissionDeniedError",  # the router has no 403: what a key may not use does not exist for it
        "RateLimitError",
        "UnprocessableEntityError",
    }
