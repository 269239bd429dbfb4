"""A client that knows only sockets, and the providers' schemas."""

import asyncio
import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h11
import jsonschema

from router.emulator import EmulatedCloud

SPECS = Path(__file__).parent.parent / "specs"
CHAT = {"model": "gpt-4o-ptu", "messages": [{"role": "user", "content": "What is a lantern?"}]}
CHAT_PATH = "/openai/v1/chat/completions"


@functools.cache
def _definitions(file: str) -> dict[str, Any]:
    return json.loads((SPECS / f"{file}.json").read_text())["$defs"]


def validate(file: str, definition: str, value: object) -> None:
    """Raises ValidationError where `value` is not what the provider's own description says."""
    schema = {"$ref": f"#/$defs/{definition}", "$defs": _definitions(file)}
    jsonschema.Draft202012Validator(schema).validate(value)


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def events(self) -> list[Any]:
        """The data of all events, [DONE] left out."""
        assert self.body.endswith(b"\n\n")
        lines = [line for block in self.body.decode().strip().split("\n\n") for line in block.split("\n")]
        data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
        return [json.loads(text) for text in data if text != "[DONE]"]


def request_bytes(method: str, path: str, body: bytes, headers: dict[str, str]) -> bytes:
    head = {"host": "127.0.0.1", "content-length": str(len(body)), **headers}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


@dataclass
class RawClient:
    """One request a connection, read to its end."""

    cloud: EmulatedCloud
    key: str = "secret"

    def chat(self, *, keep: bool = False, **fields: Any) -> bytes:
        """A chat request; the connection ends with its answer unless it is to be kept."""
        body = json.dumps({**CHAT, **fields}).encode()
        headers = {"api-key": self.key, "content-type": "application/json"}
        return request_bytes("POST", CHAT_PATH, body, headers if keep else {**headers, "connection": "close"})

    async def raw(self, data: bytes, patience_s: float = 5.0) -> tuple[bytes, str]:
        """All bytes of the answer, and how the connection ended: eof, reset, or silent when patience ran out."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.cloud.port)
        got = b""
        try:
            writer.write(data)
            async with asyncio.timeout(patience_s):
                while True:
                    piece = await reader.read(65536)
                    if not piece:
                        return got, "eof"
                    got += piece
        except TimeoutError:
            return got, "silent"
        except ConnectionResetError:
            return got, "reset"
        finally:
            writer.close()

    async def send(
        self, method: str, path: str, fields: object = None, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Reply:
        if fields is not None:
            body = json.dumps(fields).encode()
        given = {"content-type": "application/json", "authorization": f"Bearer {self.key}", "connection": "close"}
        data, _ = await self.raw(request_bytes(method, path, body, {**given, **(headers or {})}))
        return parse(data)

    async def post(self, path: str, fields: object) -> Reply:
        return await self.send("POST", path, fields)


def parse(data: bytes) -> Reply:
    """Reads one whole answer with h11; raises RemoteProtocolError where it is broken."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    connection.receive_data(b"")
    reply = Reply(0, {}, b"")
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Response):
            reply.status = event.status_code
            reply.headers = {name.decode(): value.decode() for name, value in event.headers}
        elif isinstance(event, h11.Data):
            reply.body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return reply
