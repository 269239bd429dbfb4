"""What each attempt is recorded to have billed, wherever its answer was cut."""

import orjson
import pytest

from router.model.outcome import AttemptRecord, Usage
from tests.wire.test_relay import ASK, ASK_JSON, EVENTS, HEAD, JSON, JSON_HEAD, chunked
from tests.wire.whole_router import Exchange, body_of

PROMPT = len(body_of(stream=True)) // 4 + 1
PROMPT_JSON = len(body_of(stream=False)) // 4 + 1
TEXTS = sum(b'"content":"' in event and b'"content":""' not in event for event in EVENTS)


def billed(one: Exchange) -> AttemptRecord:
    """Of the only attempt; the client is charged for what it got of that one."""
    one.check()
    (attempt,) = one.record.attempts
    price = one.backend.deployment.price
    assert price is not None
    if attempt.usage is None:
        assert (attempt.cost_nano_usd, attempt.price, attempt.estimated) == (0, "", False)
    else:
        assert attempt.price == price.version
        plain = attempt.usage.prompt_tokens - attempt.usage.cached_tokens
        assert attempt.cost_nano_usd >= plain * price.prompt_nano_usd_per_mtok // 1_000_000
    return attempt


def charged(one: Exchange) -> tuple[Usage | None, int]:
    return one.record.usage, one.record.cost_nano_usd


def test_what_was_reported_is_what_was_billed() -> None:
    one = Exchange(ASK).answer(HEAD + chunked(EVENTS))
    attempt = billed(one)
    assert attempt.usage is not None
    assert (attempt.usage.prompt_tokens, attempt.estimated) == (12, False)
    assert charged(one) == (attempt.usage, attempt.cost_nano_usd)
    assert attempt.cost_nano_usd > 0


@pytest.mark.parametrize("whole", range(len(EVENTS)))
def test_a_stream_that_the_deployment_cuts_is_billed_for_what_came(whole: int) -> None:
    one = Exchange(ASK).answer(HEAD + chunked(EVENTS[:whole], b""), [len(HEAD)]).close()
    attempt = billed(one)
    assert attempt.usage is not None
    if any(b'"prompt_tokens"' in event for event in EVENTS[:whole]):
        assert (attempt.usage.prompt_tokens, attempt.estimated) == (12, False), "it had said so before it was cut"
        return
    assert (attempt.usage.prompt_tokens, attempt.estimated) == (PROMPT, True)
    texts = sum(b'"content":"' in event and b'"content":""' not in event for event in EVENTS[:whole])
    assert texts <= attempt.usage.completion_tokens <= texts + 2, "an event a token, and those that end it"
    if one.record.outcome == "stream_broken":
        assert charged(one) == (attempt.usage, attempt.cost_nano_usd)
    else:
        assert charged(one) == (None, 0), "the client got nothing"


def test_a_client_that_leaves_has_used_what_it_was_sent() -> None:
    one = Exchange(ASK).answer(HEAD + chunked(EVENTS[:4], b""))
    one.client.transport.lose(None)
    one.loop.run()
    attempt = billed(one)
    assert one.record.outcome == "client_gone"
    assert attempt.estimated
    assert attempt.usage is not None
    assert attempt.usage.prompt_tokens == PROMPT
    assert attempt.usage.completion_tokens > 0
    assert charged(one) == (attempt.usage, attempt.cost_nano_usd)


def test_an_answer_that_reports_nothing_is_estimated() -> None:
    body = orjson.dumps({"id": "x", "choices": [{"index": 0, "message": {"content": "a" * 400}}]})
    one = Exchange(ASK_JSON).answer(JSON_HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    attempt = billed(one)
    assert (attempt.usage, attempt.estimated) == (Usage(PROMPT_JSON, len(body) // 4), True)
    assert charged(one) == (attempt.usage, attempt.cost_nano_usd)


def test_a_json_answer_that_is_cut_is_billed_for_its_prompt_at_least() -> None:
    one = Exchange(ASK_JSON).answer(JSON_HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(JSON), JSON[:-30])).close()
    attempt = billed(one)
    assert (attempt.usage, attempt.estimated) == (Usage(PROMPT_JSON, (len(JSON) - 30) // 4), True)


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (429, {"code": "429", "message": "slow down"}, None),
        (500, {"message": "no"}, None),
        (400, {"code": "context_length_exceeded", "message": "too long"}, None),
        (400, {"code": "content_filter", "message": "filtered"}, Usage(PROMPT_JSON)),
    ],
)
def test_a_refusal_is_free_and_a_filtered_prompt_is_not(
    status: int, error: dict[str, str], expected: Usage | None
) -> None:
    body = orjson.dumps({"error": error})
    head = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
    one = Exchange(ASK_JSON).answer(head + body)
    attempt = billed(one)
    assert (attempt.usage, attempt.estimated) == (expected, expected is not None)


def test_an_error_in_place_of_the_first_event_is_a_refusal() -> None:
    event = b'data: {"error":{"code":"server_error","message":"no"}}\n\n'
    one = Exchange(ASK).answer(HEAD + chunked([event]))
    assert one.record.attempts[0].status == 200
    assert billed(one).usage is None
