"""A client that keeps every byte apart, so that it can say how an answer ended; h11 reads for it, as for the clouds.

For a test:

    reply = await ask(r, chat(stream=True))
    reply.status, reply.headers, reply.body     # what came
    reply.whole                                 # False: cut, reset, or closed in the middle
    async with sent(r, chat(stream=True)) as call:
        await call.head()                       # up to here and no further; leaving the block hangs up
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import h11
import orjson

from tests.router_kit import API_KEY

TEN_S = 10.0


class Addressed(Protocol):
    """A router at a port of loopback."""

    @property
    def port(self) -> int: ...


@dataclass
class Reply:
    """What came of an answer. `whole`: its framing ended well."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    whole: bool = False

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.json["error"]["code"])

    @property
    def events(self) -> list[str]:
        """The data of each event."""
        return [line[6:] for line in self.body.decode().splitlines() if line.startswith("data: ")]

    @property
    def complete(self) -> bool:
        """A stream of chat that an SDK takes for a whole one, and rightly: finished, and not in error."""
        return self.whole and '"finish_reason":"' in self.body.decode() and self.events[-1:] == ["[DONE]"]

    @property
    def told_error(self) -> bool:
        """The stream says itself that it failed."""
        return any('"error":' in event for event in self.events)

    @property
    def said(self) -> str:
        """The words of a chat stream."""
        chunks = [orjson.loads(event) for event in self.events if event != "[DONE]"]
        deltas = [choice["delta"] for chunk in chunks for choice in chunk.get("choices", [])]
        return "".join(delta.get("content") or "" for delta in deltas)


@dataclass(frozen=True)
class Ask:
    """A request as it is written."""

    path: str
    body: bytes
    key: str = API_KEY
    headers: tuple[tuple[str, str], ...] = ()

    def wire(self, *, close: bool) -> bytes:
        lines = [
            f"POST {self.path} HTTP/1.1",
            "host: router",
            f"authorization: Bearer {self.key}",
            "content-type: application/json",
            f"content-length: {len(self.body)}",
            *(f"{name}: {value}" for name, value in self.headers),
            *(["connection: close"] if close else []),
        ]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + self.body


def chat(*, stream: bool = False, key: str = API_KEY, **fields: Any) -> Ask:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}], **fields}
    return Ask("/v1/chat/completions", orjson.dumps({**body, "stream": True} if stream else body), key)


def responses(*, stream: bool = False, key: str = API_KEY, **fields: Any) -> Ask:
    body = {"model": "gpt-4o", "input": "hello", **fields}
    return Ask("/v1/responses", orjson.dumps({**body, "stream": True} if stream else body), key)


class Call:
    """One request on its way. The connection is its own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ask: Ask) -> None:
        self.reader, self.writer, self.ask = reader, writer, ask
        self.reply = Reply()
        self._rest = b""
        self._h11 = h11.Connection(h11.CLIENT)
        # h11 has to be told of the request that this client writes by hand.
        self._h11.send(h11.Request(method="POST", target=ask.path, headers=[("host", "router")]))
        self._h11.send(h11.EndOfMessage())

    def send(self, *, close: bool = False, halves: bool = False) -> None:
        """`halves`: the last half of the body is kept back for `send_rest`."""
        wire = self.ask.wire(close=close)
        kept = len(self.ask.body) // 2 if halves else 0
        self.writer.write(wire[: len(wire) - kept])
        self._rest = wire[len(wire) - kept :]

    def send_rest(self) -> None:
        self.writer.write(self._rest)

    async def head(self) -> Reply:
        """Reads until the head is here."""
        while not self.reply.status and await self._step():
            pass
        return self.reply

    async def some(self, text: bytes) -> Reply:
        """Reads until `text` is in the body."""
        while text not in self.reply.body and await self._step():
            pass
        return self.reply

    async def rest(self) -> Reply:
        """Reads to the end of the answer, whole or not."""
        while await self._step():
            pass
        return self.reply

    def hang_up(self) -> None:
        self.writer.transport.abort()

    async def _step(self) -> bool:
        """Takes the next event; False at the end."""
        try:
            event = self._h11.next_event()
            while event is h11.NEED_DATA:
                self._h11.receive_data(await self.reader.read(65536))
                event = self._h11.next_event()
        except (ConnectionError, h11.RemoteProtocolError):
            return False
        if isinstance(event, h11.Response):
            self.reply.status = event.status_code
            self.reply.headers = {name.decode(): value.decode() for name, value in event.headers}
        elif isinstance(event, h11.Data):
            self.reply.body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            # Without a length and without chunks any close looks like the end.
            self.reply.whole = bool(self.reply.headers.keys() & {"content-length", "transfer-encoding"})
            return False
        else:
            return not isinstance(event, h11.ConnectionClosed)
        return True


@contextlib.asynccontextmanager
async def sent(r: Addressed, ask: Ask, *, close: bool = False, halves: bool = False) -> AsyncIterator[Call]:
    """A request that has been written, or the first half of its body; leaving the block hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", r.port)
    call = Call(reader, writer, ask)
    try:
        call.send(close=close, halves=halves)
        yield call
    finally:
        call.hang_up()


async def ask(r: Addressed, request: Ask, *, within_s: float = TEN_S) -> Reply:
    """The whole answer, or what came of it. Raises TimeoutError where it does not end in time."""
    async with asyncio.timeout(within_s), sent(r, request, close=True) as call:
        return await call.rest()
