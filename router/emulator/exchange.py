"""Writes one answer to one connection, and whatever a scripted fault does to it."""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import replace
from http import HTTPStatus
from itertools import chain
from typing import Final, Protocol

import orjson

from router.emulator.answer import DONE, Answer, Headers, data_event
from router.emulator.bodies import About, error_body
from router.emulator.cloud_errors import google_error, usual_error
from router.emulator.faults import Fault, Kind
from router.emulator.service import Handled
from router.emulator.settings import Distribution, Settings


class EndedError(Exception):
    """The connection was ended on purpose: nothing more can be written."""


class Wire(Protocol):
    """What an exchange does to its connection. Everything waits where the client reads slowly."""

    async def interim(self, status: int, headers: Headers) -> None: ...

    async def head(self, status: int, headers: Headers) -> None: ...

    async def data(self, data: bytes) -> None: ...

    async def finish(self) -> None:
        """Ends the message as its framing wants it."""

    async def raw(self, data: bytes) -> None:
        """Bytes past all framing."""

    def allow(self, size: int, *, reset: bool) -> None:
        """Ends the connection once so many more bytes are written: with a reset, or cleanly."""

    async def stall(self) -> None:
        """Does nothing until the client leaves."""

    async def close(self) -> None:
        """Sends what is written, then FIN (close_notify first). Raises EndedError."""

    async def reset(self) -> None:
        """Sends what is written, then RST. Raises EndedError."""


_EXTRA: Final = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
_STREAM_ERRORS: Final = {
    "bedrock": orjson.dumps({"error": {"type": "throttlingException", "message": "Too many requests, please wait."}}),
    "vertex": google_error(429, "RESOURCE_EXHAUSTED", "Resource exhausted. Please try again later."),
}
_STREAM_ENDINGS: Final = (b".completed\n", b".incomplete\n", b".done\n")


class Exchange:
    """One answer on its way out."""

    def __init__(
        self, wire: Wire, handled: Handled, fault: Fault | None, settings: Settings, rng: random.Random
    ) -> None:
        self._wire, self._settings, self._rng = wire, settings, rng
        self._fault = fault
        self._kind = fault.kind if fault else None
        self._answer = spoiled(handled.answer, fault, handled.about) if fault else handled.answer
        self._headers = self._all_headers(handled)

    async def run(self) -> None:
        """Raises EndedError when a fault ended the connection."""
        await self._before_head()
        if self._kind in (Kind.BAD_CONTENT_LENGTH, Kind.BAD_TRANSFER_ENCODING, Kind.EARLY_CLOSE):
            await self._misframed()
        else:
            await self._framed()
        if self._fault and self._kind is Kind.EXTRA_BYTES:
            await self._delay()
            await self._wire.raw((self._fault.value or _EXTRA).encode())

    def _all_headers(self, handled: Handled) -> Headers:
        answer = self._answer
        return (("content-type", answer.content_type), *handled.headers, *answer.headers)

    async def _before_head(self) -> None:
        fault, wire = self._fault, self._wire
        if fault is not None:
            if fault.kind is Kind.RESET_BEFORE_HEAD:
                await wire.reset()
            elif fault.kind is Kind.STALL_BEFORE_HEAD:
                await self._stall()
            elif fault.kind is Kind.SLOW_HEAD:
                await self._delay()
            elif fault.kind is Kind.INTERIM_1XX:
                await wire.interim(fault.status or 103, fault.headers)
            elif fault.kind in (Kind.CUT_AT, Kind.RESET_AT) or (fault.kind is Kind.EARLY_CLOSE and fault.at_byte):
                wire.allow(fault.at_byte, reset=fault.kind is Kind.RESET_AT)
        await self._pause(self._settings.head_ms)
        if self._answer.events is None and self._answer.tokens:
            await self._pause(self._settings.first_token_ms)
            await self._pause(self._settings.token_gap_ms, self._answer.tokens)

    async def _framed(self) -> None:
        """The usual way: a length for a body, chunks for a stream."""
        wire, answer = self._wire, self._answer
        chunked = answer.events is not None or self._kind is Kind.MALFORMED_CHUNK
        framing = ("transfer-encoding", "chunked") if chunked else ("content-length", str(len(answer.body)))
        await wire.head(answer.status, (*self._headers, framing))
        if self._kind is Kind.RESET_AFTER_HEAD:
            await wire.reset()
        await self._parts(wire.data)
        await wire.finish()

    async def _parts(self, write: "WriteMethod") -> None:
        """The body, or the events at their pace; a fault that waits for the k-th of them comes between."""
        answer, fault = self._answer, self._fault
        count = 0
        for part in [answer.body] if answer.events is None else answer.events:
            if fault is not None and count == fault.after_events:
                await self._between(fault)
            if answer.events is not None and count >= answer.at_once:
                first = count == answer.at_once
                await self._pause(self._settings.first_token_ms if first else self._settings.token_gap_ms)
            await write(part)
            count += 1
        if fault is not None and count <= fault.after_events:
            await self._between(fault)  # the stream was shorter than the script expected

    async def _between(self, fault: Fault) -> None:
        if fault.kind is Kind.STALL_MID_STREAM:
            await self._stall()
        elif fault.kind is Kind.MALFORMED_CHUNK:
            await self._wire.raw(b"zz\r\nthis is no chunk\r\n")
            await self._wire.close()
        elif fault.kind is Kind.EARLY_CLOSE and not fault.at_byte:
            await self._wire.close()

    async def _misframed(self) -> None:
        """Heads that lie about the body, or say nothing about its end; the connection closes behind them."""
        wire, answer, fault = self._wire, self._answer, self._fault
        assert fault is not None
        if fault.kind is Kind.BAD_CONTENT_LENGTH:
            if answer.events is not None:
                self._answer = answer = replace(answer, body=b"".join(answer.events), events=None)
            await wire.raw(self._raw_head(("content-length", fault.value or str(len(answer.body) + fault.delta))))
            await self._parts(wire.raw)
        elif fault.kind is Kind.BAD_TRANSFER_ENCODING:
            await wire.raw(self._raw_head(("transfer-encoding", fault.value or "xchunked")))
            await self._parts(self._raw_chunk)
            await wire.raw(b"0\r\n\r\n")
        else:
            await wire.raw(self._raw_head(("connection", "close")))
            await self._parts(wire.raw)
        await wire.close()

    async def _raw_chunk(self, data: bytes) -> None:
        await self._wire.raw(b"%x\r\n%b\r\n" % (len(data), data))

    def _raw_head(self, framing: tuple[str, str]) -> bytes:
        lines = [f"HTTP/1.1 {self._answer.status} {reason_of(self._answer.status)}"]
        lines += [f"{name}: {value}" for name, value in (*self._headers, framing)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    async def _stall(self) -> None:
        if self._fault and self._fault.delay_ms is not None:
            await self._delay()
        else:
            await self._wire.stall()

    async def _delay(self) -> None:
        await asyncio.sleep((self._fault.delay_ms or 0.0) / 1000 if self._fault else 0.0)

    async def _pause(self, wait_ms: Distribution, times: int = 1) -> None:
        if wait_ms.median > 0:
            await asyncio.sleep(wait_ms.sample(self._rng) * times / 1000)


class WriteMethod(Protocol):
    async def __call__(self, data: bytes) -> None: ...


def spoiled(answer: Answer, fault: Fault, about: About) -> Answer:
    """The answer with the faults of its content; other faults leave it as it is."""
    if fault.kind is Kind.STATUS:
        return _error(fault, about)
    if fault.kind is Kind.REDIRECT:
        location = (("location", fault.value or "http://127.0.0.1:9/elsewhere"), *fault.headers)
        return Answer(fault.status or 302, "text/plain", headers=location)
    if fault.kind is Kind.ERROR_EVENT:
        events = answer.events if answer.events is not None else iter(())
        return replace(
            answer, status=200, content_type="text/event-stream", events=_with_error(events, fault, about), headers=()
        )
    if answer.events is not None and fault.kind is Kind.NO_DONE:
        return replace(answer, events=(event for event in answer.events if event != DONE))
    if answer.events is not None and fault.kind is Kind.NO_FINISH:
        return replace(answer, events=(event for event in answer.events if not _finishes(event)))
    return answer


def _error(fault: Fault, about: About) -> Answer:
    status = fault.status or 500
    if fault.retry_after is not None and fault.retry_after.isdecimal():
        about = replace(about, wait_s=int(fault.retry_after))
    if fault.body is None:
        usual = usual_error(status, about)
        content_type, body, own = usual.content_type, usual.body, usual.headers
    else:
        (content_type, body), own = error_body(fault.body, status, about), ()
    waits = (("retry-after", fault.retry_after), ("retry-after-ms", fault.retry_after_ms))
    given = tuple((name, value) for name, value in waits if value is not None)
    return Answer(status, content_type, body, headers=(*own, *given, *fault.headers))


def _with_error(events: Iterator[bytes], fault: Fault, about: About) -> Iterator[bytes]:
    """The first events, then the error, in the shape of the stream it is in: typed, or all data."""
    before = [event for _, event in zip(range(fault.after_events), events, strict=False)]
    sample = next(chain(before, events), b"")
    detail = {
        "type": "server_error",
        "code": fault.value or "rate_limit_exceeded",
        "message": "Rate limit is exceeded. Try again in 26 seconds.",
        "param": None,
    }
    yield from before
    if about.dialect in _STREAM_ERRORS:
        yield b"data: %b\n\n" % _STREAM_ERRORS[about.dialect]
    elif fault.shape == "flat":
        flat = {"type": "error", "code": detail["code"], "message": detail["message"], "param": None}
        yield b"event: error\ndata: " + orjson.dumps(flat) + b"\n\n"
    elif sample.startswith(b"event:"):
        nested = {"type": "error", "sequence_number": fault.after_events, "error": detail}
        yield b"event: error\ndata: " + orjson.dumps(nested) + b"\n\n"
    else:
        yield data_event({"error": detail})


def _finishes(event: bytes) -> bool:
    if event.startswith(b"event: "):
        name = event[: event.index(b"\n") + 1]
        return name.endswith(_STREAM_ENDINGS) and not name.startswith(
            (b"event: response.output", b"event: response.content", b"event: response.function")
        )
    return b'"finish_reason":"' in event


def reason_of(status: int) -> str:
    """The phrase behind the status."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
