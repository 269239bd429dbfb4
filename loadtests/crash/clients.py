"""Clients that remember which requests they have a whole answer to, and go on whatever happens to the router."""

import asyncio
from typing import Final

from loadtests.crash.site import MODEL, SECRET

CLIENTS: Final = 32
STREAMS_EVERY: Final = 4  # one request in so many asks for a stream
PAUSE_S: Final = 0.02  # before a client whose connection has ended dials again
ANSWER_WITHIN_S: Final = 20.0

_HEAD_END: Final = b"\r\n\r\n"


def _request(body: bytes) -> bytes:
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: router\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {SECRET}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


_WHOLE: Final = _request(b'{"model":"%b","messages":[{"role":"user","content":"hi"}]}' % MODEL.encode())
_STREAM: Final = _request(b'{"model":"%b","stream":true,"messages":[{"role":"user","content":"hi"}]}' % MODEL.encode())


class Clients:
    """All of them. `answered`: the ids of all requests whose answer's last byte has arrived."""

    def __init__(self, port: int, pause_s: float = 0.0) -> None:
        """`pause_s`: of each client, between an answer and the next request."""
        self.answered: list[str] = []
        self.broken = 0  # requests whose connection ended first
        self.refused = 0  # whole answers that were no success
        self._port, self._pause_s = port, pause_s
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._client()) for _ in range(CLIENTS)]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for task in self._tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def _client(self) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                await asyncio.sleep(PAUSE_S)
                continue
            try:
                await self._talk(reader, writer)
            except (OSError, EOFError, TimeoutError):  # an IncompleteReadError is an EOFError
                self.broken += 1
                await asyncio.sleep(PAUSE_S)
            finally:
                writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Asks on one connection until it ends. Raises what reading raises then."""
        number = 0
        while True:
            number += 1
            writer.write(_WHOLE if number % STREAMS_EVERY else _STREAM)
            async with asyncio.timeout(ANSWER_WITHIN_S):
                status, request_id = await _read_answer(reader)
            self.answered.append(request_id)
            self.refused += status != 200
            if self._pause_s:
                await asyncio.sleep(self._pause_s)


async def _read_answer(reader: asyncio.StreamReader) -> tuple[int, str]:
    """Status and request id, once the last byte is there."""
    first, *lines = (await reader.readuntil(_HEAD_END))[: -len(_HEAD_END)].decode("latin-1").split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in lines)
    if "content-length" in fields:
        await reader.readexactly(int(fields["content-length"]))
    else:
        while size := int(await reader.readline() or _gone(), 16):
            await reader.readexactly(size + 2)
        await reader.readexactly(2)
    return int(first.split(" ", 2)[1]), fields["x-request-id"]


def _gone() -> bytes:
    raise EOFError
