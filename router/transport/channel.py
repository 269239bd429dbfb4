"""One end of the line between the supervisor and a worker: calls, answers, and words that need no answer.

A frame is its length (4 bytes, big-endian) and a msgpack array. Both ends may call. What may be called is a table of
coroutine functions by name; their annotations say how arguments are read, so that a new verb is one line of it.
"""

import asyncio
import logging
import struct
from collections.abc import Callable, Coroutine, Mapping
from time import monotonic
from typing import Any, Final, TypeAlias, TypeVar, cast, get_type_hints

import msgspec

from router.base.errors import place_of

_LENGTH: Final = struct.Struct(">I")
_UNREAD_BYTES_MAX: Final = 8 << 20  # of words that the other end has not taken: it hangs, and will end or be ended
_logger: Final = logging.getLogger(__name__)

Verb: TypeAlias = Callable[..., Coroutine[Any, Any, object]]
T = TypeVar("T")


class FailedError(Exception):
    """The other end could not do what it was asked to; the text says why, and may be shown."""


class ClosedError(ConnectionError):
    """The other end is gone."""


NO_ANSWER: Final = (ClosedError, FailedError, TimeoutError)


class _Call(msgspec.Struct, array_like=True, tag=0, frozen=True):
    id: int  # 0: nobody waits for an answer
    verb: str
    arguments: msgspec.Raw


class _Result(msgspec.Struct, array_like=True, tag=1, frozen=True):
    id: int
    value: msgspec.Raw


class _Failure(msgspec.Struct, array_like=True, tag=2, frozen=True):
    id: int
    unknown_name: bool  # a LookupError, which is the asker's mistake
    text: str


_Frame: TypeAlias = _Call | _Result | _Failure
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Frame).decode


class Channel(asyncio.Protocol):
    """A protocol over a connected socket. Until `serve`, the other end's calls wait in their order."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self.heard_at = monotonic()  # when the other end last said anything
        self._verbs: dict[str, tuple[Verb, Any]] | None = None
        self._early: list[_Call] = []
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._calls = 0
        self._waiting: dict[int, asyncio.Future[msgspec.Raw]] = {}
        self._serving: set[asyncio.Task[None]] = set()

    def serve(self, verbs: Mapping[str, Verb]) -> None:
        """From now on the other end may call these."""
        self._verbs = {name: (verb, _arguments_of(verb)) for name, verb in verbs.items()}
        for call in self._early:
            self._take(call)
        self._early.clear()

    async def call(self, kind: type[T], timeout_s: float, verb: str, *arguments: object) -> T:
        """Asks the other end and returns its answer, read as `kind`.

        Raises LookupError and FailedError as the other end says, ClosedError, TimeoutError.
        """
        if self.closed.is_set():
            raise ClosedError(verb)
        self._calls += 1
        number = self._calls
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self._send(_Call(number, verb, msgspec.Raw(_encode(arguments))))
            async with asyncio.timeout(timeout_s):
                raw = await answer
        finally:
            del self._waiting[number]
        return msgspec.msgpack.decode(raw, type=kind)

    def tell(self, verb: str, *arguments: object) -> None:
        """Says something that needs no answer. Is lost where the other end is gone or hangs."""
        transport = self._transport
        if transport is not None and transport.get_write_buffer_size() < _UNREAD_BYTES_MAX:
            self._send(_Call(0, verb, msgspec.Raw(_encode(arguments))))

    def close(self) -> None:
        """At once; what was not written yet is lost, and what the other end asked for is left undone."""
        if self._transport is not None:
            self._transport.abort()
        self._leave_undone()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's do not derive from it

    def data_received(self, data: bytes) -> None:
        self.heard_at = monotonic()
        received = self._received
        received += data
        position = 0
        while len(received) >= position + _LENGTH.size:
            (length,) = _LENGTH.unpack_from(received, position)
            end = position + _LENGTH.size + length
            if len(received) < end:
                break
            self._take(_decode(memoryview(received)[position + _LENGTH.size : end].tobytes()))
            position = end
        del received[:position]

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None
        self.closed.set()
        self._leave_undone()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(ClosedError("the other end is gone"))

    def _leave_undone(self) -> None:
        """What is half done for somebody who is gone must not be taken for a word of who comes after him."""
        for task in self._serving:
            task.cancel()

    def _take(self, frame: _Frame) -> None:
        if isinstance(frame, _Call):
            if self._verbs is None:
                self._early.append(frame)
                return
            task = asyncio.get_running_loop().create_task(self._serve(frame))
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
            return
        answer = self._waiting.get(frame.id)
        if answer is None or answer.done():
            return  # it came too late
        if isinstance(frame, _Result):
            answer.set_result(frame.value)
        else:
            answer.set_exception(LookupError(frame.text) if frame.unknown_name else FailedError(frame.text))

    async def _serve(self, call: _Call) -> None:
        reply: _Frame
        assert self._verbs is not None
        try:
            verb, kind = self._verbs[call.verb]
            value = await verb(*msgspec.msgpack.decode(call.arguments, type=kind))
            reply = _Result(call.id, msgspec.Raw(_encode(value)))
        except (FailedError, OSError, ValueError) as error:
            reply = _Failure(call.id, unknown_name=False, text=str(error))
        except Exception as error:  # noqa: BLE001 - whatever it was, the other end waits for an answer
            unknown_name = isinstance(error, LookupError) and not isinstance(error, KeyError | IndexError)
            text = str(error)
            if not unknown_name:  # our bug: the other end must not wait for an answer that never comes
                _logger.error("%s failed: %s at %s", call.verb, type(error).__name__, place_of(error))
                text = f"it failed ({type(error).__name__})"
            reply = _Failure(call.id, unknown_name, text)
        if call.id:
            self._send(reply)

    def _send(self, frame: _Frame) -> None:
        if self._transport is not None:
            self._transport.write(_framed(frame))


def frame(verb: str, *arguments: object) -> bytes:
    """What `tell` sends, for somebody who has no loop."""
    return _framed(_Call(0, verb, msgspec.Raw(_encode(arguments))))


def _framed(frame: _Frame) -> bytes:
    payload = _encode(frame)
    return _LENGTH.pack(len(payload)) + payload


def _arguments_of(verb: Verb) -> Any:
    """The tuple type of what a verb takes."""
    hints = get_type_hints(verb)
    hints.pop("return", None)
    return tuple.__class_getitem__(tuple(hints.values()))
