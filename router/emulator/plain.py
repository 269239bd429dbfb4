"""Plain mode: one fixed answer, as fast as Python can give it, for measuring what stands in front of it.

Reads a request only as far as it must: the end of the head, Content-Length, and whether a stream is wanted. It is not
strict and not for conformance. Streams cost one integer each between events: one timer paces them all.
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import orjson

_STREAM: Final = (b'"stream":true', b'"stream": true')
_USAGE: Final = (b'"include_usage":true', b'"include_usage": true')
_SLOTS: Final = 16  # paced streams are spread over so many phases of a gap, so that they do not come in one burst
_HEAD_OF_STREAM: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n"
    b"apim-request-id: 00000000-0000-4000-8000-000000000000\r\nx-ms-region: loopback\r\n\r\n"
)
_LENGTH_REQUIRED: Final = b"HTTP/1.1 411 Length Required\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_USAGE_COUNTS: Final[Mapping[str, int]] = {"prompt_tokens": 250, "completion_tokens": 50, "total_tokens": 300}


@dataclass(frozen=True, slots=True)
class PlainSettings:
    """`answer_bytes`: of the JSON body, at least 400. `gap_ms` 0: an event each turn of the loop.

    `first_at_once`: a stream's first event does not wait for the pace.
    """

    answer_bytes: int = 600
    stream_events: int = 50
    gap_ms: float = 0.0
    first_at_once: bool = False


class PlainServer:
    """The answers, prebuilt, and the streams that run."""

    def __init__(self, settings: PlainSettings) -> None:
        body = _chat_completion(settings.answer_bytes)
        self.answer = (
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
            b"apim-request-id: 00000000-0000-4000-8000-000000000000\r\nx-ms-region: loopback\r\n\r\n%b"
        ) % (len(body), body)
        self.events = _events(settings.stream_events, usage=False)
        self.events_with_usage = _events(settings.stream_events, usage=True)
        self.first_at_once = settings.first_at_once
        self._loop = asyncio.get_running_loop()
        self._slots: list[set[PlainConnection]] = [set() for _ in range(_SLOTS if settings.gap_ms else 1)]
        self._slot_s = settings.gap_ms / 1000 / len(self._slots)
        self._turn = 0
        self._due = 0.0
        self._ticking = False

    async def listen(self, host: str, port: int, tls: ssl.SSLContext | None) -> asyncio.Server:
        """Raises OSError where it cannot."""
        return await self._loop.create_server(lambda: PlainConnection(self), host, port, ssl=tls, backlog=4096)

    def enter(self, stream: "PlainConnection") -> int:
        """Has `stream` advanced once a gap from now on; returns its slot, for `leave`."""
        # The slot just served is the one whose turn is a whole gap away.
        slot = (self._turn - 1) % len(self._slots)
        self._slots[slot].add(stream)
        if not self._ticking:
            self._ticking = True
            self._due = self._loop.time()
            self._schedule()
        return slot

    def leave(self, stream: "PlainConnection", slot: int) -> None:
        self._slots[slot].discard(stream)

    def _schedule(self) -> None:
        if self._slot_s:
            self._due = max(self._due + self._slot_s, self._loop.time())
            self._loop.call_at(self._due, self._tick)
        else:
            self._loop.call_soon(self._tick)

    def _tick(self) -> None:
        streams = self._slots[self._turn]
        self._turn = (self._turn + 1) % len(self._slots)
        for stream in list(streams):
            stream.advance()
        self._ticking = any(self._slots)
        if self._ticking:
            self._schedule()


class PlainConnection(asyncio.Protocol):
    """One connection; pipelined requests are answered in turn."""

    __slots__ = ("_at", "_buffer", "_events", "_paused", "_server", "_slot", "_transport")

    def __init__(self, server: PlainServer) -> None:
        self._server = server
        self._transport: asyncio.Transport
        self._buffer = b""
        self._events: list[bytes] | None = None
        self._at = 0
        self._slot = 0
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass

    def connection_lost(self, _exc: Exception | None) -> None:
        if self._events is not None:
            self._server.leave(self, self._slot)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        while data and self._events is None:
            size = self._answer(data)
            if not size:
                break
            data = data[size:]
        self._buffer = data

    def _answer(self, data: bytes) -> int:
        """Answers the request that `data` begins with; returns its size, or 0 when it is not whole yet."""
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return 0
        size = end + 4
        head = data[:end].lower()
        mark = head.find(b"\r\ncontent-length:")
        if mark >= 0:
            stop = head.find(b"\r\n", mark + 17)
            size += int(head[mark + 17 : stop if stop > 0 else end])
            if len(data) < size:
                return 0
        elif b"\r\ntransfer-encoding:" in head:
            self._transport.write(_LENGTH_REQUIRED)
            self._transport.close()
            return 0
        if data.find(b'"stream"', end) >= 0 and any(mark in data for mark in _STREAM):
            self._begin_stream(any(mark in data for mark in _USAGE))
        else:
            self._transport.write(self._server.answer)
        return size

    def _begin_stream(self, with_usage: bool) -> None:
        self._events = self._server.events_with_usage if with_usage else self._server.events
        self._at = 0
        self._transport.write(_HEAD_OF_STREAM)
        self._slot = self._server.enter(self)
        if self._server.first_at_once:
            asyncio.get_running_loop().call_soon(self.advance)  # in a packet of its own

    def advance(self) -> None:
        """Writes the next event; the last one ends the stream."""
        if self._paused or self._events is None:
            return
        self._transport.write(self._events[self._at])
        self._at += 1
        if self._at == len(self._events):
            self._server.leave(self, self._slot)
            self._events = None
            self.data_received(b"")


def _chat_completion(size: int) -> bytes:
    """A chat.completion of exactly `size` bytes."""
    message = {"role": "assistant", "content": "", "refusal": None}
    value: dict[str, Any] = {
        "id": "chatcmpl-plain",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "gpt-4o",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": _USAGE_COUNTS,
    }
    missing = size - len(orjson.dumps(value))
    if missing < 0:
        raise ValueError(f"an answer cannot be smaller than {size - missing} bytes")
    message["content"] = ("measured answer " * (missing // 16 + 1))[:missing]
    return orjson.dumps(value)


def _events(count: int, *, usage: bool) -> list[bytes]:
    """`count` deltas, the finish, the usage chunk where it is asked for, [DONE]; each in a chunk of its own."""
    head: dict[str, Any] = {
        "id": "chatcmpl-plain",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "gpt-4o",
    }
    if usage:
        head["usage"] = None
    choices: list[dict[str, Any]] = [
        {"index": 0, "delta": {"content": f" word{number:04d}"}, "finish_reason": None, "logprobs": None}
        for number in range(count)
    ]
    choices.append({"index": 0, "delta": {}, "finish_reason": "stop", "logprobs": None})
    events = [orjson.dumps({**head, "choices": [choice]}) for choice in choices]
    if usage:
        events.append(orjson.dumps({**head, "choices": [], "usage": _USAGE_COUNTS}))
    framed = [_chunk(b"data: %b\n\n" % event) for event in (*events, b"[DONE]")]
    framed[-1] += b"0\r\n\r\n"
    return framed


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
