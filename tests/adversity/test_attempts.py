"""What fails before the commit point is invisible; what fails after it is never hidden."""

import asyncio
from typing import Any

import orjson
import pytest

from router.emulator import Distribution, Settings
from tests.adversity.client import Reply, ask, chat, responses, sent
from tests.router_kit import Cloud, RunningRouter, router

QUICK: dict[str, Any] = {
    "connect_s": 0.5,
    "commit_stream_s": 0.3,
    "commit_json_s": 0.3,
    "idle_s": 0.3,
    "total_s": 20,
    "commit_after_ms": 5000,
}
NAMES = ("first", "second", "third", "fourth")
Script = tuple[str, dict[str, Any]]

BEFORE_HEAD: dict[str, Script] = {
    "refused": ("refuse", {"for_s": 30}),
    "reset": ("reset_before_head", {}),
    "stalled": ("stall_before_head", {}),
    "cut": ("cut_at", {"at_byte": 12}),
    "500": ("status", {"status": 500}),
    "502": ("status", {"status": 502, "body": "html"}),
    "503": ("status", {"status": 503}),
    "504": ("status", {"status": 504}),
    "408": ("status", {"status": 408}),
    "429": ("status", {"status": 429}),
    "401": ("status", {"status": 401}),
    "403": ("status", {"status": 403}),
    "404": ("status", {"status": 404}),
    "redirect": ("redirect", {}),
    "transfer-encoding": ("bad_transfer_encoding", {"value": "gzip, chunked"}),
    "content-length": ("bad_content_length", {"value": "12x"}),
}
BEFORE_CONTENT: dict[str, Script] = {
    "reset behind the head": ("reset_after_head", {}),
    "closed behind the head": ("early_close", {"after_events": 0}),
    "cut behind the empty chunk": ("early_close", {"after_events": 1}),
    "stalled behind the empty chunk": ("stall_mid_stream", {"after_events": 1}),
    "malformed behind the empty chunk": ("malformed_chunk", {"after_events": 1}),
    "an error at once": ("error_event", {"after_events": 0}),
    "an error behind the empty chunk": ("error_event", {"after_events": 1}),
}
AFTER_CONTENT: dict[str, Script] = {
    "closed": ("early_close", {"after_events": 5}),
    "stalled": ("stall_mid_stream", {"after_events": 5}),
    "malformed": ("malformed_chunk", {"after_events": 5}),
    "an error": ("error_event", {"after_events": 5}),
    "reset": ("reset_at", {"at_byte": 3000}),
    "cut": ("cut_at", {"at_byte": 3000}),
    "without finish": ("no_finish", {}),
    "without done": ("no_done", {}),
}


def tiers(count: int, settings: Settings | None = None, **more: Any) -> list[Cloud]:
    """Azure clouds that are tried in this order."""
    return [Cloud(name, tier=tier, settings=settings or Settings(), **more) for tier, name in enumerate(NAMES[:count])]


def attempts(r: RunningRouter) -> list[tuple[str, str]]:
    """Endpoint and outcome of each attempt of the last request."""
    return [(each["deployment"].split("/")[0], each["outcome"]) for each in r.records()[-1].get("attempts", [])]


def requests(r: RunningRouter) -> list[int]:
    return [cloud.received.requests for cloud in r.clouds.values()]


async def finished(r: RunningRouter, count: int) -> None:
    await r.until(lambda: len(r.records()) >= count)
    assert len(r.records()) == count


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("fault", BEFORE_HEAD)
async def test_what_fails_before_the_head_is_served_by_another(fault: str, stream: bool) -> None:
    kind, values = BEFORE_HEAD[fault]
    async with router(*tiers(2), timeouts=QUICK) as r:
        r.clouds["first"].faults.add(kind, **values)

        reply = await ask(r, chat(stream=stream))

        assert (reply.status, reply.whole) == (200, True)
        assert reply.complete if stream else reply.json["choices"]
        assert requests(r) == [0 if kind == "refuse" else 1, 1]
        await finished(r, 1)
        assert [name for name, _ in attempts(r)] == ["first", "second"]
        assert attempts(r)[1] == ("second", "served")
        assert r.records()[0]["outcome"] == "ok"


@pytest.mark.parametrize("fault", BEFORE_CONTENT)
async def test_a_stream_that_fails_before_its_content_is_served_by_another(fault: str) -> None:
    kind, values = BEFORE_CONTENT[fault]
    async with router(*tiers(2), timeouts=QUICK) as r:
        r.clouds["first"].faults.add(kind, **values)

        reply = await ask(r, chat(stream=True))

        assert reply.status == 200
        assert reply.complete
        assert not reply.told_error
        assert requests(r) == [1, 1]


@pytest.mark.parametrize("shape", ["nested", "flat"])
async def test_an_error_as_third_event_of_responses_is_before_its_content(shape: str) -> None:
    async with router(*tiers(2), timeouts=QUICK) as r:
        r.clouds["first"].faults.add("error_event", after_events=2, shape=shape)

        reply = await ask(r, responses(stream=True))

        assert reply.status == 200
        assert b"event: response.completed" in reply.body
        assert b"event: error" not in reply.body
        assert reply.body.count(b"event: response.created") == 1
        assert requests(r) == [1, 1]


@pytest.mark.parametrize("fault", AFTER_CONTENT)
async def test_what_fails_after_its_content_is_told_and_never_tried_again(fault: str) -> None:
    kind, values = AFTER_CONTENT[fault]
    # Paced: where fault and content come in one read, nothing of it goes on, and another deployment may serve.
    paced = Settings(tokens=Distribution(20.0), token_gap_ms=Distribution(3.0))
    async with router(*tiers(2, paced), timeouts=QUICK) as r:
        r.clouds["first"].faults.add(kind, **values)

        reply = await ask(r, chat(stream=True))

        assert reply.status == 200
        assert not reply.whole
        assert not reply.complete
        assert reply.told_error
        assert requests(r) == [1, 0]
        await finished(r, 1)
        assert r.records()[0]["outcome"] == "stream_broken"
        assert attempts(r) == [("first", "broken")]


@pytest.mark.parametrize("kind", ["cut_at", "reset_at"])
async def test_a_json_answer_cut_behind_its_head_is_cut_for_the_client_too(kind: str) -> None:
    async with router(*tiers(2, Settings(tokens=Distribution(4000.0))), timeouts=QUICK) as r:
        r.clouds["first"].faults.add(kind, at_byte=9000)

        reply = await ask(r, chat())

        assert reply.status == 200
        assert not reply.whole
        assert requests(r) == [1, 0]


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, "unsupported_parameter"),
        (400, "context_length"),
        (422, None),
        (400, "content_filter"),
        (413, None),
        (409, None),
    ],
)
async def test_a_clients_own_error_is_an_answer(status: int, body: str | None, stream: bool) -> None:
    async with router(*tiers(2), timeouts=QUICK) as r:
        more = {} if body is None else {"body": body}
        r.clouds["first"].faults.add("status", status=status, **more)

        reply = await ask(r, chat(stream=stream))

        assert (reply.status, reply.whole) == (status, True)
        assert reply.json["error"]["message"]
        assert requests(r) == [1, 0]
        await finished(r, 1)
        assert attempts(r) == [("first", "answered")]


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_at_most_three_sends(stream: bool) -> None:
    async with router(*tiers(4), timeouts=QUICK) as r:
        for cloud in r.clouds.values():
            cloud.faults.add("status", status=500)

        reply = await ask(r, chat(stream=stream))

        assert reply.status == 500
        assert reply.json["error"]["message"]
        assert requests(r) == [1, 1, 1, 0]


async def test_at_most_two_failed_connects_are_made_good() -> None:
    async with router(*tiers(4), timeouts=QUICK) as r:
        for name in NAMES[:2]:
            r.clouds[name].faults.add("refuse", for_s=30)
        assert (await ask(r, chat())).status == 200
        assert requests(r) == [0, 0, 1, 0]

        r.clouds["third"].faults.add("refuse", for_s=30)
        for backend in r.worker.assembly.fleet.backends.values():
            backend.pool.close()  # no connection that is left from before
        reply = await ask(r, chat())

        assert reply.status in (502, 503)
        assert requests(r) == [0, 0, 1, 0]


@pytest.mark.parametrize("silent", [False, True], ids=["no TLS", "silent"])
async def test_a_handshake_that_fails_is_a_failed_connect(silent: bool) -> None:
    """TLS belongs to the connect and to its deadline; the half of a connection that it leaves is not counted."""
    listening = await asyncio.start_server(_never_answers if silent else _answers_plainly, "127.0.0.1", 0)
    async with listening, router(*tiers(2), timeouts=QUICK) as r:
        config = orjson.loads(r.file.read_bytes())
        config["endpoints"]["first"]["base_url"] = f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        r.file.write_bytes(orjson.dumps(config))
        assert (await r.worker.reload()).ok

        began = asyncio.get_running_loop().time()
        assert (await ask(r, responses(store=True))).status == 200, "nothing was sent"
        assert asyncio.get_running_loop().time() - began < QUICK["connect_s"] + 0.5

        await finished(r, 1)
        assert attempts(r) == [("first", "connect"), ("second", "served")]


async def _answers_plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
    writer.close()


async def _never_answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


async def test_failed_connects_and_sends_are_counted_apart() -> None:
    async with router(*tiers(4), timeouts=QUICK) as r:
        r.clouds["first"].faults.add("refuse", for_s=30)
        r.clouds["second"].faults.add("status", status=500)
        r.clouds["third"].faults.add("reset_before_head")

        assert (await ask(r, chat())).status == 200
        assert requests(r) == [0, 1, 1, 1]
        await finished(r, 1)
        outcomes = [("first", "connect"), ("second", "server_error"), ("third", "broken"), ("fourth", "served")]
        assert attempts(r) == outcomes


async def test_what_stores_is_sent_once() -> None:
    async with router(*tiers(2), timeouts=QUICK) as r:
        r.clouds["first"].faults.add("status", status=500)
        assert (await ask(r, responses(store=True))).status == 500
        assert requests(r) == [1, 0]

        assert (await ask(r, responses(store=False))).status == 200
        assert requests(r) == [2, 1]

        r.clouds["first"].faults.clear()
        r.clouds["first"].faults.add("refuse", for_s=30)
        r.worker.assembly.fleet.backends["first/gpt-4o-dep"].pool.close()
        assert (await ask(r, responses(store=True))).status == 200, "a failed connect sent nothing"
        assert requests(r) == [2, 2]


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_our_own_credential_fault_is_no_business_of_the_client(status: int) -> None:
    async with router(*tiers(2), timeouts=QUICK) as r:
        for cloud in r.clouds.values():
            cloud.faults.add("status", status=status)

        reply = await ask(r, chat())

        assert reply.status == 502
        assert reply.code == "upstream_error"
        assert requests(r) == [1, 1]

        # An operator has to act: nobody is asked again for a while, and that is no throttling.
        again = await ask(r, chat())
        assert again.status == 503
        assert requests(r) == [1, 1]


async def test_a_redirect_is_never_followed() -> None:
    async with router(*tiers(1), Cloud("cw", "coreweave", "openai"), timeouts=QUICK) as r:
        r.clouds["first"].faults.add("redirect", value=f"{r.clouds['cw'].base_url}/chat/completions")

        reply = await ask(r, chat())

        assert reply.status == 502
        assert "location" not in reply.headers
        assert r.clouds["cw"].received.connections == 0


async def test_silence_behind_the_head_commits_after_a_while_and_comments_follow() -> None:
    times = {**QUICK, "commit_stream_s": 5, "idle_s": 5, "commit_after_ms": 100, "comment_every_s": 0.1}
    async with router(*tiers(2), timeouts=times) as r:
        r.clouds["first"].faults.add("stall_mid_stream", after_events=1, delay_ms=600)

        async with sent(r, chat(stream=True)) as call:
            began = asyncio.get_running_loop().time()
            await call.head()
            assert 0.09 <= asyncio.get_running_loop().time() - began < 0.5
            reply = await call.some(b"[DONE]")

        assert reply.body.count(b": keep-alive\n\n") >= 2
        assert reply.body.index(b": keep-alive") < reply.body.index(b'"content":')
        assert requests(r) == [1, 0]


async def test_once_committed_by_silence_there_is_no_second_attempt() -> None:
    async with router(*tiers(2), timeouts={**QUICK, "commit_stream_s": 5, "commit_after_ms": 100}) as r:
        r.clouds["first"].faults.add("stall_mid_stream", after_events=1)

        reply = await ask(r, chat(stream=True))

        assert (reply.status, reply.whole, reply.told_error) == (200, False, True)
        assert requests(r) == [1, 0]


async def test_comments_are_no_progress() -> None:
    """A stream that is silent for `idle_s` ends, whatever the router itself says meanwhile."""
    times = {**QUICK, "idle_s": 0.5, "comment_every_s": 0.1}
    async with router(*tiers(1, Settings(tokens=Distribution(40.0))), timeouts=times) as r:
        r.clouds["first"].faults.add("stall_mid_stream", after_events=5)

        reply = await ask(r, chat(stream=True))

        assert reply.body.count(b": keep-alive\n\n") >= 2
        assert reply.told_error
        assert not reply.whole


async def test_the_whole_request_has_a_deadline() -> None:
    times = {**QUICK, "commit_json_s": 60, "total_s": 0.4}
    async with router(*tiers(3), timeouts=times) as r:
        r.clouds["first"].faults.add("stall_before_head")

        reply = await ask(r, chat())

        assert reply.status == 504
        assert requests(r) == [1, 0, 0]


async def test_a_stream_in_progress_ends_at_the_requests_deadline() -> None:
    slow = Settings(tokens=Distribution(200.0), token_gap_ms=Distribution(20.0))
    async with router(*tiers(1, slow), timeouts={**QUICK, "total_s": 0.5}) as r:
        reply = await ask(r, chat(stream=True))

        assert (reply.status, reply.whole, reply.told_error) == (200, False, True)


async def test_each_client_gets_the_answer_of_one_deployment_alone() -> None:
    """What was held of a failed attempt is thrown away, not joined with the next one's."""
    async with router(*tiers(2), timeouts=QUICK) as r:
        r.clouds["first"].faults.add("error_event", after_events=1)

        reply = await ask(r, chat(stream=True))

        assert len([event for event in reply.events if '"role":"assistant"' in event]) == 1
        assert len({orjson.loads(event)["id"] for event in reply.events[1:-1]}) == 1
        assert reply.said


async def test_one_of_two_killed_under_load_costs_no_request_that_had_not_begun() -> None:
    """Both are in one tier; one dies with a reset of all that it has, and refuses from then on."""
    pair = [Cloud(name, settings=Settings(head_ms=Distribution(15.0))) for name in ("left", "right")]
    async with router(*pair, timeouts={**QUICK, "commit_json_s": 5, "commit_stream_s": 5}) as r:
        replies: list[Reply] = []

        async def client(stream: bool) -> None:
            for _ in range(12):
                reply = await ask(r, chat(stream=stream))
                replies.append(reply)

        async with asyncio.TaskGroup() as clients:
            for index in range(20):
                clients.create_task(client(index % 2 == 0))
            await r.until(lambda: len(replies) > 40)
            await r.clouds["left"].close()

        assert len(replies) == 240
        begun = [reply for reply in replies if reply.status == 200 and not reply.whole]
        assert all(reply.told_error for reply in begun)
        assert [reply.status for reply in replies if reply.status != 200] == []
        assert len(begun) <= 20, "at most what was being relayed when it died"
        assert r.clouds["left"].received.requests < r.clouds["right"].received.requests
