"""When a stream commits, fails, costs and is whole."""

import json

import pytest

from router.accounting.stream import before_done, is_hidden_usage, watch_for, without_hidden_usage
from router.model.operation import Ending
from router.model.outcome import Usage

FILTER = (
    b'data: {"id":"","object":"","created":0,"model":"","prompt_filter_results":[{"prompt_index":0,'
    b'"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}}}],"choices":[]}\n\n'
)
DONE = b"data: [DONE]\n\n"
USAGE = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}\n\n'


def chunk(delta: object = None, finish: str | None = None, index: int = 0) -> bytes:
    choice: dict[str, object] = {"index": index, "finish_reason": finish}
    if delta is not None:
        choice["delta"] = delta
    return b"data: " + json.dumps({"id": "c", "choices": [choice], "usage": None}).encode() + b"\n\n"


def event(kind: str, **fields: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


ROLE = chunk({"role": "assistant", "content": "", "refusal": None})
WORD = chunk({"content": "hello"})
STOP = chunk({}, "stop")


@pytest.mark.parametrize(
    ("payload", "committed"),
    [
        (FILTER, False),
        (ROLE, False),
        (b": ping\n\n", False),
        (DONE, False),
        (USAGE, False),
        (b"data: not json\n\n", False),
        (b'data: {"choices":"odd"}\n\n', False),
        (b'data: {"choices":[{"delta":"odd","index":{}}]}\n\n', False),
        (chunk(), False),  # an asynchronous filter's annotation has no delta
        (chunk({}), False),
        (WORD, True),
        (chunk({"content": " "}), True),
        (chunk({"role": "assistant", "content": "at once"}), True),
        (chunk({"reasoning_content": "hm"}), True),
        (chunk({"refusal": "no"}), True),
        (chunk({"tool_calls": [{"index": 0, "id": "call_1", "function": {"name": "f"}}]}), True),
        (chunk({"function_call": {"name": "f"}}), True),
        (chunk({"audio": {"id": "a"}}), True),
        (STOP, True),
        (chunk({}, "content_filter"), True),
        (b'data: {"choices":[{"text":"legacy","index":0,"finish_reason":null}]}\n\n', True),
        (b'data: {"choices":[{"text":"","index":0,"finish_reason":null}]}\n\n', False),
        (FILTER + ROLE + WORD, True),
        (b'data: {"choices":\ndata: [{"delta":{"content":"x"}}]}\n\n', True),
        (b'data:{"choices":[{"delta":{"content":"x"}}]}\r\n\r\n', True),
        (b'data: {"choices":[]}\r\rdata: {"choices":[{"delta":{"content":"x"}}]}\r\r', True),
        (b'event: chunk\ndata: {"choices":[{"delta":{"content":"x"}}]}\n\n', True),
    ],
)
def test_chat_commits_at_the_first_content(payload: bytes, committed: bool) -> None:
    watch = watch_for(Ending.CHAT)
    watch.observe(payload)
    assert watch.committed is committed


@pytest.mark.parametrize(
    ("events", "complete"),
    [
        ([FILTER, ROLE, WORD, STOP, DONE], True),
        ([FILTER, ROLE, WORD, STOP], False),
        ([FILTER, ROLE, WORD, DONE], False),
        ([FILTER, DONE], False),
        ([], False),
        ([STOP, chunk(), DONE], True),  # annotations come after the finish
        ([STOP, USAGE, DONE], True),
        ([WORD, chunk({"content": "b"}, index=1), STOP, DONE], False),
        ([WORD, chunk({"content": "b"}, index=1), STOP, chunk({}, "length", index=1), DONE], True),
        ([WORD, STOP, chunk({"content": "b"}, index=1), DONE], False),
        ([WORD, chunk({}, ""), DONE], False),  # an empty reason is none
        ([WORD, STOP, b'data: {"error":{"message":"late"}}\n\n', DONE], False),
    ],
)
def test_chat_is_whole_when_every_index_is_finished_and_done_came(events: list[bytes], complete: bool) -> None:
    watch = watch_for(Ending.CHAT, needs_done=True)
    for one in events:
        watch.observe(one)
    assert watch.complete is complete


@pytest.mark.parametrize(
    ("events", "early"),
    [
        ([ROLE, WORD, STOP, DONE], False),
        ([ROLE, WORD, STOP, USAGE, DONE], False),
        ([ROLE, WORD, DONE], True),
        ([DONE, WORD, STOP], True),
        ([WORD, chunk({"content": "b"}, index=1), STOP, DONE], True),
    ],
)
def test_a_done_before_the_stream_is_whole_is_told_apart(events: list[bytes], early: bool) -> None:
    """An SDK stops reading at `[DONE]` and takes what it has for the answer: it must not be passed on too early."""
    one_by_one, at_once = watch_for(Ending.CHAT), watch_for(Ending.CHAT)
    for one in events:
        one_by_one.observe(one)
    at_once.observe(b"".join(events))
    assert one_by_one.early_done is at_once.early_done is early
    assert before_done(b": c\n\n" + WORD + b"data:[DONE]\n\n" + STOP) == b": c\n\n" + WORD


def test_done_may_be_missing_where_the_dialect_does_not_send_it() -> None:
    watch = watch_for(Ending.CHAT, needs_done=False)
    watch.observe(WORD + STOP)
    assert watch.complete
    assert not watch.done


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        (b'data: {"error":{"message":"boom","code":400}}\n\n', {"message": "boom", "code": 400}),
        (b'data: {"error":"boom"}\n\n', "boom"),
        (b'data: {"choices":[],"error":{"message":"boom"}}\n\n', {"message": "boom"}),
        (b'data: {"choices":"odd","error":{"message":"boom"}}\n\n', {"message": "boom"}),
        (b'data: {"object":"error","message":"flat"}\n\n', {"object": "error", "message": "flat"}),
        (b'event: error\ndata: {"message":"named"}\n\n', {"message": "named"}),
        (b'event: error\ndata: {"choices":[],"message":"named"}\n\n', {"choices": [], "message": "named"}),
        (b"event: error\ndata: plain words\n\n", "plain words"),
        (b'data: {"choices":[],"error":null}\n\n', None),
        (b'data: {"object":"chat.completion.chunk"}\n\n', None),
        (WORD, None),
    ],
)
def test_chat_errors_are_seen_in_every_shape(payload: bytes, error: object) -> None:
    watch = watch_for(Ending.CHAT)
    watch.observe(payload)
    assert watch.error == error
    watch.observe(b'data: {"error":"second"}\n\n')
    assert watch.error == (error or "second")


def test_the_usage_chunk_is_counted_and_can_be_hidden() -> None:
    watch = watch_for(Ending.CHAT)
    watch.observe(FILTER + WORD + STOP)
    assert (watch.usage, watch.usage_chunk) == (None, False)
    watch.observe(USAGE + DONE)
    assert (watch.usage, watch.usage_chunk) == (Usage(5, 2), True)
    assert without_hidden_usage(b": c\n\n" + FILTER + STOP + USAGE + DONE) == b": c\n\n" + FILTER + STOP + DONE


def test_usage_beside_content_is_counted_but_not_hidden() -> None:
    payload = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}],"usage":{"prompt_tokens":1}}\n\n'
    watch = watch_for(Ending.CHAT)
    watch.observe(payload)
    assert (watch.usage, watch.usage_chunk) == (Usage(1), False)


def test_usage_that_cannot_be_read_does_not_undo_what_was_read() -> None:
    watch = watch_for(Ending.CHAT)
    watch.observe(USAGE)
    watch.observe(b'data: {"choices":[],"usage":{"seconds":1}}\n\n')
    assert watch.usage == Usage(5, 2)


@pytest.mark.parametrize(
    ("one", "hidden"),
    [
        (USAGE, True),
        (USAGE.replace(b"\n", b"\r\n"), True),
        (FILTER, False),
        (b'data: {"choices":[],"usage":null}\n\n', False),
        (b'data: {"usage":{"prompt_tokens":1}}\n\n', False),
        (b'data: {"choices":[{"index":0}],"usage":{"prompt_tokens":1}}\n\n', False),
        (WORD, False),
        (DONE, False),
        (b": ping\n\n", False),
    ],
)
def test_only_a_chunk_without_choices_and_with_usage_is_hidden(one: bytes, hidden: bool) -> None:
    assert is_hidden_usage(one) is hidden


@pytest.mark.parametrize(
    ("payload", "committed"),
    [
        (event("response.created", response={"status": "in_progress", "usage": None}), False),
        (event("response.in_progress", response={}), False),
        (event("response.queued"), False),
        (event("response.output_item.added", item={"type": "message", "content": []}), False),
        (event("response.content_part.added", part={"text": ""}), False),
        (event("keepalive", sequence_number=3), False),
        (event("error", code="rate_limit_exceeded"), False),
        (event("response.failed", response={"error": {"code": "server_error"}}), False),
        (event("response.output_text.delta", delta="a"), True),
        (event("response.function_call_arguments.delta", delta="{"), True),
        (event("response.web_search_call.in_progress"), True),
        (event("response.completed", response={}), True),
        (event("response.incomplete", response={}), True),
        (b'data: {"type":"response.output_text.delta","delta":"a"}\n\n', True),  # the name may be missing
        (b"event: response.output_text.delta\ndata: {}\n\n", True),  # or stand there alone
    ],
)
def test_responses_commit_at_content_or_a_good_end(payload: bytes, committed: bool) -> None:
    watch = watch_for(Ending.RESPONSES)
    watch.observe(payload)
    assert watch.committed is committed


@pytest.mark.parametrize("kind", ["response.completed", "response.incomplete", "response.failed"])
def test_a_response_is_whole_at_its_terminal_event(kind: str) -> None:
    watch = watch_for(Ending.RESPONSES)
    watch.observe(event("response.created") + event("response.output_text.done", text="a"))
    assert not watch.complete
    watch.observe(event(kind, response={"usage": {"input_tokens": 3, "output_tokens": 4}}))
    assert watch.complete
    assert watch.usage == Usage(3, 4)


def test_responses_errors_are_flat_nested_or_in_a_failed_response() -> None:
    nested = {"type": "server_error", "code": "rate_limit_exceeded", "message": "Try again in 26 seconds."}
    for payload, error in (
        (event("error", sequence_number=2, error=nested), nested),
        (event("error", code="c", message="m"), {"type": "error", "code": "c", "message": "m"}),
        (event("response.failed", response={"error": nested}), nested),
    ):
        watch = watch_for(Ending.RESPONSES)
        watch.observe(payload)
        assert watch.error == error
        assert not watch.committed
    watch = watch_for(Ending.RESPONSES)
    watch.observe(event("response.failed", response={"error": None}))
    assert watch.error is not None


@pytest.mark.parametrize(
    ("begin", "end", "usage"),
    [
        (
            event("speech.audio.delta", audio="AAAA"),
            event("speech.audio.done", usage={"input_tokens": 1, "output_tokens": 2}),
            Usage(1, 2),
        ),
        (
            event("transcript.text.delta", delta="a"),
            event("transcript.text.done", text="a", usage={"input_tokens": 3}),
            Usage(3),
        ),
        (
            event("image_generation.partial_image", b64_json="AAAA"),
            event("image_generation.completed", usage={"input_tokens": 5, "output_tokens": 6}),
            Usage(5, 6),
        ),
        (event("image_edit.partial_image"), event("image_edit.completed"), None),
    ],
)
def test_media_streams_are_whole_at_done_or_completed(begin: bytes, end: bytes, usage: Usage | None) -> None:
    watch = watch_for(Ending.DONE_EVENT)
    watch.observe(begin)
    assert watch.committed
    assert not watch.complete
    watch.observe(end)
    assert watch.complete
    assert watch.usage == usage


def test_framing_has_nothing_to_look_for() -> None:
    watch = watch_for(Ending.FRAMING)
    assert not watch.committed
    watch.observe(b"\x00anything")
    assert watch.committed
    assert watch.complete


@pytest.mark.parametrize(
    ("ending", "events", "deltas"),
    [
        (
            Ending.CHAT,
            [
                b'data: {"choices":[],"prompt_filter_results":[]}\n\n',
                b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n',
                b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n',
                b'data: {"choices":[{"index":0,"delta":{"content":"b"}}]}\n\n'
                b'data: {"choices":[{"index":1,"delta":{"content":"c"}}]}\n\n',
            ],
            3,
        ),
        (
            Ending.RESPONSES,
            [
                b'event: response.created\ndata: {"type":"response.created"}\n\n',
                b'data: {"type":"response.output_item.added"}\n\n',
                b'data: {"type":"response.output_text.delta","delta":"a"}\n\n',
                b'data: {"type":"response.function_call_arguments.delta","delta":"{"}\n\n',
                b'data: {"type":"response.output_text.done"}\n\n',
            ],
            2,
        ),
        (Ending.DONE_EVENT, [b'data: {"type":"speech.audio.delta","audio":"AAAA"}\n\n'], 0),
        (Ending.FRAMING, [b"data: x\n\n"], 0),
    ],
)
def test_events_that_brought_text_are_counted_for_who_has_to_guess(
    ending: Ending, events: list[bytes], deltas: int
) -> None:
    watch = watch_for(ending)
    for event in events:
        watch.observe(event)
    assert watch.deltas == deltas
