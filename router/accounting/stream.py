"""Watches a stream of events as it passes: has it begun, did it report an error, is it whole, what did it cost.

A watch is shown de-chunked payload in whole events and never raises: what it cannot read is no content, and a stream
that it cannot read is not complete. `ChatWatch.observe` runs for every relayed chunk of every chat stream.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import takewhile
from typing import Any, Final

import msgspec

from router.accounting.events import read_events, read_plain, split_events
from router.accounting.usage import UNREADABLE, usage_of
from router.model.operation import Ending
from router.model.outcome import Usage


class StreamWatch(ABC):
    """What was seen of one stream so far."""

    __slots__ = ("committed", "deltas", "done", "early_done", "error", "look_closer", "usage", "usage_chunk")

    def __init__(self) -> None:
        self.committed = False  # a delta, a tool call or a terminal mark was seen: the commit point
        self.deltas = 0  # events since then that brought text: most often a token each
        self.done = False  # `[DONE]` was seen
        self.error: object | None = None  # the first error object, as decoded; for `Dialect.judge_event`
        self.usage: Usage | None = None
        self.usage_chunk = False  # a chunk was seen that exists only because usage was asked for
        self.early_done = False  # `[DONE]` was seen before the stream was whole: clients would take it for the end
        self.look_closer = False  # one of these two: what came last may hold events that not every client may see

    @property
    @abstractmethod
    def complete(self) -> bool:
        """The stream proved by its own rule that it is whole."""

    @abstractmethod
    def observe(self, payload: bytes) -> None:
        """Takes one or more whole events."""


class EventWatch(StreamWatch):
    """Looks at each event by itself."""

    __slots__ = ()

    def observe(self, payload: bytes) -> None:
        plain = read_plain(payload)
        for name, data in read_events(payload) if plain is None else (plain,):
            if data.startswith(b"[DONE]"):
                self.done = True
                if not self.complete:
                    self.early_done = self.look_closer = True
            elif data:
                self._see(name, data)

    @abstractmethod
    def _see(self, name: bytes, data: bytes) -> None:
        """Takes one event that has data."""

    def _see_error(self, name: bytes, data: bytes) -> None:
        """Keeps the error that an event reports, if it reports one and is the first to."""
        if self.error is None:
            self.error = error_in(name, data)


class _Ended(msgspec.Struct, gc=False):
    """All that matters of a choice once the stream is committed. `Any`: wrong types are looked at, never raised."""

    index: int | float | str | bool | None = 0  # whatever it is, it must be hashable
    finish_reason: Any = None


class _Choice(_Ended, gc=False):
    delta: Any = None
    text: Any = None


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: Any = None
    error: Any = None


class _LaterChunk(msgspec.Struct, gc=False):
    choices: list[_Ended] | None = None
    usage: Any = None
    error: Any = None


_decode_chunk: Final = msgspec.json.Decoder(_Chunk).decode
_decode_later_chunk: Final = msgspec.json.Decoder(_LaterChunk).decode
_decode_any: Final = msgspec.json.Decoder().decode


class ChatWatch(EventWatch):
    """Chat and legacy completions: whole when every index seen has a finish_reason, and `[DONE]` where it is sent."""

    __slots__ = ("_decode", "_finished", "_needs_done", "_seen")

    def __init__(self, *, needs_done: bool) -> None:
        super().__init__()
        self._needs_done = needs_done
        self._seen: set[object] = set()
        self._finished: set[object] = set()
        self._decode: Callable[[bytes], _Chunk | _LaterChunk] = _decode_chunk

    @property
    def complete(self) -> bool:
        finished = bool(self._finished) and self._finished == self._seen
        return finished and self.error is None and (self.done or not self._needs_done)

    def observe(self, payload: bytes) -> None:
        data = payload[6:-2]
        # 10, 13: LF, CR. None in it, so this is one event of one line; as integers they cost a fifth of b"\n" in data.
        if 10 in data or 13 in data or not payload.startswith(b"data: {"):
            super().observe(payload)
        else:
            self._see(b"", data)

    def _see(self, name: bytes, data: bytes) -> None:
        try:
            chunk = self._decode(data)
        except UNREADABLE:
            self._see_error(name, data)
            return
        self.deltas += 1
        choices = chunk.choices
        if choices:
            for choice in choices:
                if choice.finish_reason is not None or not self.committed or choice.index not in self._seen:
                    self._see_choice(choice)
        if chunk.usage is not None:
            self.usage = usage_of(chunk.usage) or self.usage
            if choices is not None and not choices:
                self.usage_chunk = self.look_closer = True
        if chunk.error or choices is None or name:
            self._see_error(name, data)

    def _see_choice(self, choice: _Ended) -> None:
        self._seen.add(choice.index)
        if choice.finish_reason:
            self._finished.add(choice.index)
        if not self.committed and (choice.finish_reason or _has_content(choice)):
            self.committed = True
            self.deltas = 1  # what came before said nothing
            self._decode = _decode_later_chunk


def _has_content(choice: _Ended) -> bool:
    """A delta that says more than whose turn it is. `role` alone comes before the model has begun."""
    if not isinstance(choice, _Choice):
        return False
    delta = choice.delta
    return bool(choice.text) or (isinstance(delta, dict) and any(v for key, v in delta.items() if key != "role"))


class _Response(msgspec.Struct, gc=False):
    usage: Any = None
    error: Any = None


class _Event(msgspec.Struct, gc=False):
    type: Any = None
    usage: Any = None
    error: Any = None
    response: _Response | None = None


_decode_event: Final = msgspec.json.Decoder(_Event).decode


class TypedWatch(EventWatch):
    """Streams whose events carry a `type`, in their data or as the event's name."""

    __slots__ = ("_ended",)

    def __init__(self) -> None:
        super().__init__()
        self._ended = False

    @property
    def complete(self) -> bool:
        return self._ended

    def _see(self, name: bytes, data: bytes) -> None:
        try:
            event = _decode_event(data)
        except UNREADABLE:
            self._see_error(name, data)
            return
        kind = event.type if isinstance(event.type, str) else name.decode("latin-1")
        if event.error or kind == "error":
            self._see_error(b"error", data)
        elif "." in kind:  # `ping` and `keepalive` have none
            self._see_typed(kind, event)

    @abstractmethod
    def _see_typed(self, kind: str, event: _Event) -> None:
        """Takes one event that is no error."""


class ResponsesWatch(TypedWatch):
    """The Responses API: whole when it said completed, incomplete or failed."""

    __slots__ = ()

    def _see_typed(self, kind: str, event: _Event) -> None:
        if kind in ("response.completed", "response.incomplete", "response.failed"):
            self._ended = True
            response = event.response or _Response()
            self.usage = usage_of(response.usage) or self.usage
            if kind == "response.failed":
                # No commit: what failed before its first content may succeed elsewhere.
                self.error = self.error or response.error or _FAILED
                return
        elif kind.endswith(".delta"):
            self.deltas += 1
        elif kind in _RESPONSE_FRAME or kind.endswith(".added"):
            return
        self.committed = True


_RESPONSE_FRAME: Final = frozenset({"response.created", "response.in_progress", "response.queued"})  # without content
_FAILED: Final = {"code": "server_error", "message": "The response failed."}


class DoneEventWatch(TypedWatch):
    """Speech, transcription and images: whole at an event whose type ends in `.done` or `.completed`."""

    __slots__ = ()

    def _see_typed(self, kind: str, event: _Event) -> None:
        self.committed = True
        if kind.endswith((".done", ".completed")):
            self._ended = True
            self.usage = usage_of(event.usage) or self.usage


class FramingWatch(StreamWatch):
    """Anything else: its first byte is content, and HTTP's framing alone says whether it is whole."""

    __slots__ = ()

    @property
    def complete(self) -> bool:
        return True

    def observe(self, payload: bytes) -> None:
        self.committed = self.committed or bool(payload)


def watch_for(ending: Ending, *, needs_done: bool = False) -> StreamWatch:
    """Makes the watch of one stream. `needs_done`: the dialect ends chat streams with `[DONE]`."""
    match ending:
        case Ending.CHAT:
            return ChatWatch(needs_done=needs_done)
        case Ending.RESPONSES:
            return ResponsesWatch()
        case Ending.DONE_EVENT:
            return DoneEventWatch()
        case Ending.FRAMING:
            return FramingWatch()


def error_in(name: bytes, data: bytes) -> object | None:
    """Returns the error that an event reports: nested under `error`, flat, or named by `event: error`."""
    try:
        value = _decode_any(data)
    except UNREADABLE:
        return data.decode("utf-8", "replace") if name == b"error" else None
    if not isinstance(value, dict):
        return value if name == b"error" else None
    nested: object = value.get("error")
    if nested:
        return nested
    flat = name == b"error" or value.get("type") == "error" or value.get("object") == "error"
    return value if flat else None


def is_hidden_usage(event: bytes) -> bool:
    """Says whether an event is the extra chunk that `include_usage` adds: no choices, and a usage that is not null."""
    for _, data in read_events(event):
        try:
            chunk = _decode_later_chunk(data)
        except UNREADABLE:
            return False
        return chunk.usage is not None and chunk.choices is not None and not chunk.choices
    return False


def without_hidden_usage(payload: bytes) -> bytes:
    """Returns whole events less the hidden usage chunk, byte for byte. Needed only once `usage_chunk` is set."""
    return b"".join(event for event in split_events(payload) if not is_hidden_usage(event))


def before_done(payload: bytes) -> bytes:
    """Returns the whole events before `[DONE]`, byte for byte. Needed only once `early_done` is set."""
    events = takewhile(
        lambda event: not any(data.startswith(b"[DONE]") for _, data in read_events(event)), split_events(payload)
    )
    return b"".join(events)
