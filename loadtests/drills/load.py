"""The clients: requests leave at a constant rate whatever becomes of them, and latency counts from when each was due.

A request that finds no free connection opens one, so a slow answer never holds up another request.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, cast

import httptools

TICK_S: Final = 0.001
DRAIN_S: Final = 20.0
LEAVE_S: Final = 0.1
NUMBER_DIGITS: Final = 7
_PROMPT: Final = "Say one true thing about rivers, and say it in as few words as you can. " * 3


@dataclass(frozen=True, slots=True)
class Traffic:
    """What one sort of client sends. `stream_every` 2: every second request is a stream; 0: none."""

    name: str  # begins the marker of each of its requests, so without a hyphen
    key: str
    rate: float  # requests a second
    model: str = "gpt-4o"
    stream_every: int = 2
    max_tokens: int = 50
    azure_key: bool = False  # the credential goes as Azure's clients send it; for traffic past the router
    path: str = "/v1/chat/completions"
    leave_every: int = 0  # each so-manieth client hangs up within LEAVE_S; 0: none does
    fresh: bool = False  # each request has a connection of its own


class Shot:
    """One request and what the client saw of its answer. Times are monotonic seconds, 0 where it never came to it."""

    __slots__ = (
        *("begun", "done", "due", "ended", "first", "left"),
        *("marker", "number", "port", "request_id", "status", "stream", "text", "told", "traffic"),
    )

    def __init__(self, traffic: Traffic, number: int, due: float) -> None:
        self.traffic, self.number, self.due = traffic, number, due
        self.marker = f"{traffic.name}-{number:0{NUMBER_DIGITS}}"
        self.stream = bool(traffic.stream_every) and number % traffic.stream_every == 0
        self.begun = self.first = self.ended = 0.0
        self.port = 0  # of the client's end of the connection that it was sent on
        self.request_id = ""  # the router's own; all of one process begin alike, up to the last hyphen
        self.status = 0
        self.done = False  # the framing ended well, and a stream with [DONE]
        self.told = False  # the answer says itself that it failed
        self.left = False  # the client hung up, on purpose
        self.text = b""  # the end of what came: an error's words

    @property
    def ok(self) -> bool:
        return self.status == 200 and self.done and not self.told

    @property
    def failed_before_commit(self) -> bool:
        return self.status != 200

    @property
    def first_s(self) -> float:
        """From when it was due to the first byte of the body."""
        return self.first - self.due if self.first else float("inf")

    def wire(self) -> bytes:
        traffic = self.traffic
        credential = f"api-key: {traffic.key}" if traffic.azure_key else f"authorization: Bearer {traffic.key}"
        stream = ',"stream":true' if self.stream else ""
        close = "connection: close\r\n" if traffic.fresh else ""
        body = (
            f'{{"model":"{traffic.model}","messages":[{{"role":"user","content":"{_PROMPT}"}}],'
            f'"max_tokens":{traffic.max_tokens},"user":"{self.marker}"{stream}}}'
        )
        return (
            f"POST {traffic.path} HTTP/1.1\r\nhost: router\r\n{credential}\r\nx-request-id: {self.marker}\r\n"
            f"{close}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}"
        ).encode()


class Client(asyncio.Protocol):
    """One keep-alive connection, one request at a time."""

    def __init__(self, free: list["Client"], alive: set["Client"], on_end: Callable[[], None]) -> None:
        self._free, self._alive, self._on_end = free, alive, on_end
        self._transport: asyncio.Transport | None = None
        self._shot: Shot | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._lost = False
        self._port = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclasses of it
        self._port = transport.get_extra_info("sockname")[1]
        self._alive.add(self)

    def send(self, shot: Shot) -> None:
        assert self._transport is not None
        self._shot = shot
        shot.begun, shot.port = time.monotonic(), self._port
        if self._lost:
            self._end()
        else:
            self._transport.write(shot.wire())
            every = shot.traffic.leave_every
            if every and shot.number % every == 0:
                asyncio.get_running_loop().call_later(LEAVE_S * random.random(), self._leave, shot)

    def _leave(self, shot: Shot) -> None:
        if self._shot is shot:
            shot.left = True
            self.close()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def connection_lost(self, _: Exception | None) -> None:
        self._lost = True
        self._alive.discard(self)
        if self in self._free:
            self._free.remove(self)
        self._end()

    def on_header(self, name: bytes, value: bytes) -> None:
        if name == b"x-request-id" and self._shot is not None:
            self._shot.request_id = value.decode()

    def on_headers_complete(self) -> None:
        if self._shot is not None:
            self._shot.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        shot = self._shot
        if shot is None:
            return
        shot.first = shot.first or time.monotonic()
        shot.text = (shot.text + body)[-300:]
        shot.told = shot.told or b'"error":' in body

    def on_message_complete(self) -> None:
        shot = self._shot
        if shot is None:
            return
        shot.done = not shot.stream or shot.status != 200 or shot.text.endswith(b"data: [DONE]\n\n")
        if shot.ok:
            shot.text = b""
        keep = self._parser.should_keep_alive()
        self._end()
        if keep and not self._lost:
            self._free.append(self)
        else:
            self.close()

    def _end(self) -> None:
        shot, self._shot = self._shot, None
        if shot is not None:
            shot.ended = time.monotonic()
            self._on_end()


class Load:
    """Sends the traffics at their rates from `start` to `finish`; `shots` holds every request, in order of their due.

    Use it as `async with Load(port, traffics) as load`, and sleep inside: leaving the block waits for open answers.
    """

    def __init__(self, port: int, traffics: Sequence[Traffic]) -> None:
        self.port, self.traffics = port, traffics
        self.shots: list[Shot] = []
        self.began = 0.0
        self._open = 0
        self._free: list[Client] = []
        self._clients: set[Client] = set()
        self._dials: set[asyncio.Task[None]] = set()
        self._sent = [0] * len(traffics)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Load":
        self.began = time.monotonic() + 0.01
        self._task = asyncio.create_task(self._tick())
        return self

    async def __aexit__(self, kind: object, *_exc: object) -> None:
        try:
            await self.finish(0.0 if kind else DRAIN_S)
        finally:
            for client in tuple(self._clients):
                client.close()
            for dial in self._dials:
                dial.cancel()

    async def finish(self, patience_s: float = DRAIN_S) -> None:
        """Sends no more, and waits for the answers that are open, at most so long. A second call does nothing."""
        if self._task is None:
            return
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._task = None
        deadline = time.monotonic() + patience_s
        while self._open and time.monotonic() < deadline:
            await asyncio.sleep(0.01)

    def between(self, since: float, until: float, *names: str) -> list[Shot]:
        """Requests due in this time, of these traffics; no name: of all."""
        return [one for one in self.shots if since <= one.due < until and (not names or one.traffic.name in names)]

    async def _tick(self) -> None:
        while True:
            now = time.monotonic()
            for index, traffic in enumerate(self.traffics):
                # Traffics of one rate leave in turn, not at the same instant.
                offset = index / (len(self.traffics) * traffic.rate)
                while (due := self.began + offset + self._sent[index] / traffic.rate) <= now:
                    self._fire(Shot(traffic, self._sent[index], due))
                    self._sent[index] += 1
            await asyncio.sleep(TICK_S)

    def _fire(self, shot: Shot) -> None:
        self.shots.append(shot)
        self._open += 1
        if self._free and not shot.traffic.fresh:
            self._free.pop().send(shot)
            return
        dial = asyncio.create_task(self._dial(shot))
        self._dials.add(dial)
        dial.add_done_callback(self._dials.discard)

    async def _dial(self, shot: Shot) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, client = await loop.create_connection(
                lambda: Client(self._free, self._clients, self._ended), "127.0.0.1", self.port
            )
        except OSError:
            shot.ended = time.monotonic()
            self._ended()
            return
        client.send(shot)

    def _ended(self) -> None:
        self._open -= 1
