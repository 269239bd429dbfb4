"""Laws of reading streams: against a reference that is fed byte by byte, and under every grouping."""

import json

from hypothesis import example, given, settings
from hypothesis import strategies as st

from router.accounting.events import last_event_end, read_events, split_events
from router.accounting.stream import ChatWatch, StreamWatch, is_hidden_usage, watch_for, without_hidden_usage
from router.accounting.usage import read_usage
from router.model.operation import Ending


class Reference:
    """The event-stream grammar, one byte at a time: slow and plain."""

    def __init__(self) -> None:
        self.boundary = 0  # just after the last blank line whose end is certain
        self.events: list[tuple[bytes, bytes]] = []
        self._position = 0
        self._line = b""
        self._after_cr = False
        self._blank_by_cr = False
        self._name, self._data = b"", list[bytes]()

    def feed(self, payload: bytes) -> "Reference":
        for value in payload:
            self._byte(bytes([value]))
        return self

    def _byte(self, byte: bytes) -> None:
        if self._after_cr and byte == b"\n":
            self._position += 1
            if self._blank_by_cr:
                self.boundary = self._position
            self._after_cr = self._blank_by_cr = False
            return
        if self._blank_by_cr:
            self.boundary = self._position  # no LF came: the CR was the whole line end
        self._after_cr = self._blank_by_cr = False
        self._position += 1
        if byte in b"\r\n":
            blank = not self._line
            self._end_line()
            self._after_cr = byte == b"\r"
            self._blank_by_cr = blank and self._after_cr
            if blank and byte == b"\n":
                self.boundary = self._position
        else:
            self._line += byte

    def _end_line(self) -> None:
        line, self._line = self._line, b""
        if not line:
            if self._data:
                self.events.append((self._name, b"\n".join(self._data)))
            self._name, self._data = b"", []
            return
        field, _, value = line.partition(b":")
        value = value[1:] if value.startswith(b" ") else value
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._name = value


LAW = settings(deadline=None, max_examples=200)  # a loaded machine is no failure

LINE_ENDS = st.sampled_from([b"\n", b"\n", b"\r\n", b"\r"])
LINES = st.sampled_from(
    [b"", b"", b"data: a", b"data:b", b"data", b"data:  c", b"event: e", b"event", b": comment", b"id: 1", b"x", b"da"]
)
PAYLOADS = st.lists(st.tuples(LINES, LINE_ENDS).map(b"".join) | st.binary(max_size=3), max_size=12).map(b"".join)


@LAW
@given(PAYLOADS)
@example(b"\r\n")
@example(b"data: a\r\n\r\n\r")
@example(b"a\n\r\n\r\r")
def test_the_last_event_ends_where_the_reference_says(buffer: bytes) -> None:
    assert last_event_end(buffer) == Reference().feed(buffer).boundary
    assert last_event_end(bytearray(buffer)) == last_event_end(buffer)


@LAW
@given(PAYLOADS)
def test_events_are_read_as_the_reference_reads_them(payload: bytes) -> None:
    assert read_events(payload) == Reference().feed(payload).events


@LAW
@given(PAYLOADS)
def test_splitting_loses_no_byte_and_no_event(payload: bytes) -> None:
    parts = split_events(payload)
    assert b"".join(parts) == payload
    assert [event for part in parts for event in read_events(part)] == read_events(payload)
    assert all(len(read_events(part)) <= 1 for part in parts)


INDEX = st.integers(0, 2)
DELTA = st.sampled_from([None, {}, {"role": "assistant", "content": ""}, {"content": "a"}, {"tool_calls": [{}]}, 3])
CHOICE = st.fixed_dictionaries(
    {"index": INDEX | st.none()},
    optional={"delta": DELTA, "finish_reason": st.sampled_from([None, "stop", ""]), "text": st.sampled_from(["", "a"])},
)
USAGE = st.sampled_from([None, {}, {"prompt_tokens": 1}, {"input_tokens": 2, "output_tokens": 1}, 5])
CHUNK = st.fixed_dictionaries(
    {},
    optional={
        "choices": st.lists(CHOICE, max_size=3) | st.none() | st.just("odd"),
        "usage": USAGE,
        "error": st.sampled_from([None, {}, {"message": "m"}, "m"]),
        "type": st.sampled_from(
            ["error", "response.created", "response.completed", "response.failed", "a.delta", "a.done", "ping", 1]
        ),
        "response": st.fixed_dictionaries({}, optional={"usage": USAGE, "error": st.none() | st.just({"code": "c"})}),
        "object": st.sampled_from(["error", "chat.completion.chunk"]),
    },
)
DATA = CHUNK.map(lambda value: json.dumps(value).encode()) | st.sampled_from([b"[DONE]", b"{", b"", b"[]", b"null"])
NAME = st.sampled_from([b"", b"", b"event: error\n", b"event: a.delta\n", b": comment\n"])
EVENT = st.builds(
    lambda name, data, pretty, end: (name + (b"data: " if pretty else b"data:") + data + b"\n\n").replace(b"\n", end),
    NAME,
    DATA,
    st.booleans(),
    st.sampled_from([b"\n", b"\n", b"\r\n", b"\r"]),
)


def state(watch: StreamWatch) -> tuple[object, ...]:
    return watch.committed, watch.complete, watch.done, watch.error, watch.usage, watch.usage_chunk


@LAW
@given(st.sampled_from(Ending), st.booleans(), st.lists(EVENT, max_size=8), st.data())
def test_any_grouping_of_events_leaves_the_same_state(
    ending: Ending, needs_done: bool, events: list[bytes], data: st.DataObject
) -> None:
    single, grouped = (watch_for(ending, needs_done=needs_done) for _ in range(2))
    group = b""
    for event in events:
        single.observe(event)
        group += event
        if data.draw(st.booleans()):
            grouped.observe(group)
            group = b""
    grouped.observe(group)
    assert state(grouped) == state(single)


@LAW
@given(st.lists(EVENT, max_size=8))
def test_a_stream_that_reported_an_error_is_never_whole_chat(events: list[bytes]) -> None:
    watch = ChatWatch(needs_done=False)
    for event in events:
        watch.observe(event)
    assert not (watch.complete and watch.error is not None)
    assert not (watch.complete and not watch.committed)


@LAW
@given(st.lists(EVENT, max_size=8))
def test_hiding_the_usage_chunk_takes_nothing_else(events: list[bytes]) -> None:
    assert without_hidden_usage(b"".join(events)) == b"".join(event for event in events if not is_hidden_usage(event))
    watch = watch_for(Ending.CHAT)
    for event in events:
        watch.observe(event)
    assert watch.usage_chunk or not any(map(is_hidden_usage, events))


@LAW
@given(st.sampled_from(Ending), st.lists(st.binary(max_size=40) | EVENT | PAYLOADS, max_size=6))
def test_a_watch_never_raises(ending: Ending, payloads: list[bytes]) -> None:
    watch = watch_for(ending)
    for payload in payloads:
        watch.observe(payload)
        watch.observe(b"data: {" + payload + b"\n\n")
        watch.observe(b"data: " + b"[" * 2000 + payload + b"\n\n")
    state(watch)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["usage", "choices", "index", "delta", "finish_reason", "error", "type", "response", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@LAW
@given(st.sampled_from(Ending), st.lists(JSON, max_size=4))
def test_a_watch_never_raises_on_odd_json(ending: Ending, values: list[object]) -> None:
    watch = watch_for(ending)
    for value in values:
        watch.observe(b"data: " + json.dumps(value).encode() + b"\n\n")
    state(watch)


@LAW
@given(JSON | st.binary())
def test_usage_never_raises(value: object) -> None:
    body = value if isinstance(value, bytes) else json.dumps({"usage": value}).encode()
    usage = read_usage(body)
    assert usage is None or usage.prompt_tokens >= 0
