"""Sessions over WebSocket as a cloud serves them: realtime, and responses over a socket.

The frames are read and written by aiohttp, whose protocol takes a connection over with its head replayed: another
implementation than the one that is tested here.
"""

import asyncio
import base64
import random
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import parse_qs

import orjson
from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from router.emulator.faults import Fault, Kind
from router.emulator.received import Request
from router.emulator.settings import Deployment, Settings

REALTIME: Final = "realtime"
RESPONSES_WEBSOCKET: Final = "responses_websocket"
PATHS: Final = {"/realtime": REALTIME, "/responses": RESPONSES_WEBSOCKET}
# What befalls a session; all other kinds befall the answer in its place.
OF_SESSIONS: Final = frozenset(
    {
        Kind.SLOW_HEAD,
        Kind.CUT_AT,
        Kind.RESET_AT,
        Kind.EARLY_CLOSE,
        Kind.STALL_MID_STREAM,
        Kind.ERROR_EVENT,
        Kind.EXTRA_BYTES,
    }
)
_MESSAGE_BYTES_MAX: Final = 64 << 20
_AUDIO: Final = base64.b64encode(bytes(2400)).decode()  # 50 ms of silence


class EndsError(Exception):
    """A fault has ended the session."""


def asks_for_session(request: Request) -> bool:
    return request.method == "GET" and (request.header("upgrade") or "").lower() == "websocket"


def model_in_query(request: Request) -> str | None:
    """As v1 names it, or as Azure's classic shape does."""
    query = parse_qs(request.target.partition("?")[2])
    return next(iter(query.get("model") or query.get("deployment") or ()), None)


def take_over(
    request: Request, transport: asyncio.Transport, run: Callable[[web.WebSocketResponse], Awaitable[None]]
) -> asyncio.Protocol:
    """Hands the connection to aiohttp, which answers the handshake. Returns the protocol to be told what comes."""

    async def handle(asked: web.BaseRequest) -> web.WebSocketResponse:
        offered = asked.headers.get("sec-websocket-protocol", "")
        ws = web.WebSocketResponse(
            protocols=[name.strip() for name in offered.split(",") if name.strip() == "realtime"],
            max_msg_size=_MESSAGE_BYTES_MAX,
            compress=False,
            timeout=1.0,
        )
        await ws.prepare(asked)
        await run(ws)
        return ws

    protocol: asyncio.Protocol = web.Server(handle, access_log=None)()
    lines = "".join(f"{name}: {value}\r\n" for name, value in request.headers)
    protocol.connection_made(transport)
    protocol.data_received(f"{request.method} {request.target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1"))
    return protocol


class Session:
    """One session. It answers each event that asks for something, at the pace of the settings."""

    def __init__(self, operation: str, deployment: Deployment | None, settings: Settings, rng: random.Random) -> None:
        """`deployment`: None where the events name it."""
        self.events: list[dict[str, Any]] = []  # of the client, as they came
        self.closed: int | None = None  # the code that the client closed with; 1006: it was gone
        self._operation, self._deployment, self._settings = operation, deployment, settings
        self._length, self._rng = max(1, round(settings.tokens.sample(rng))), rng
        self.fault: Fault | None = None
        self.late_s = 0.0  # the switch comes so late
        self._sent = 0
        self._spoken: dict[str, Any] = {}  # settings of the session
        self._heard_bytes = 0
        self._running: dict[str, asyncio.Task[None]] = {}
        self._transport: asyncio.Transport | None = None

    async def run(self, ws: web.WebSocketResponse, transport: asyncio.Transport) -> None:
        self._ws, self._transport = ws, transport
        try:
            if self._operation == REALTIME:
                await self._send("session.created", session=self._shown())
            async for message in ws:
                await self._take(message)
        except (EndsError, ConnectionError):
            pass
        finally:
            self.closed = ws.close_code if ws.close_code is not None else WSCloseCode.ABNORMAL_CLOSURE
            for task in self._running.values():
                task.cancel()

    async def _take(self, message: WSMessage) -> None:
        if message.type is WSMsgType.BINARY:
            await self._ws.send_bytes(message.data)  # no cloud does this: it shows that bytes pass
            return
        if message.type is not WSMsgType.TEXT:
            return
        event = orjson.loads(message.data)
        self.events.append(event)
        if self._operation == REALTIME:
            await self._realtime(event)
        elif event.get("type") == "response.create":
            self._respond(event)
        else:
            await self._send("error", status=400, error=_error("unknown event", None))

    async def _realtime(self, event: dict[str, Any]) -> None:
        match event.get("type"):
            case "session.update":
                self._spoken = event["session"]
                await self._send("session.updated", session=self._shown() | self._spoken)
            case "input_audio_buffer.append":
                self._heard_bytes += len(base64.b64decode(event["audio"]))
            case "input_audio_buffer.commit":
                await self._send("input_audio_buffer.committed", item_id=_id("item"))
                if self._spoken.get("turn_detection"):  # the end of a turn was heard
                    self._respond({})
            case "conversation.item.create":
                await self._send("conversation.item.added", item=event["item"] | {"id": _id("item")})
            case "response.create":
                self._respond(event)
            case "response.cancel":
                await self._cancel(event)
            case other:
                error = _error(f"Invalid value: '{other}'.", "invalid_value")
                await self._send("error", error=error | {"event_id": event.get("event_id")})

    def _respond(self, event: dict[str, Any]) -> None:
        response_id = _id("resp")
        answer = self._speak if self._operation == REALTIME else self._write
        self._running[response_id] = asyncio.get_running_loop().create_task(answer(response_id, event))

    async def _cancel(self, event: dict[str, Any]) -> None:
        running = self._running.pop(event.get("response_id") or next(iter(self._running), ""), None)
        if running is None:
            error = _error("Cancellation failed: no active response found", "response_cancel_not_active")
            await self._send("error", error=error | {"event_id": event.get("event_id")})
        else:
            running.cancel()

    async def _speak(self, response_id: str, event: dict[str, Any]) -> None:
        """A realtime response: words and sound."""
        asked = event.get("response") or {}
        modalities = asked.get("output_modalities") or self._spoken.get("output_modalities") or ["audio"]
        sent, status = 0, "completed"
        shown: dict[str, Any] = {"object": "realtime.response", "id": response_id, "output": []}
        try:
            await self._send("response.created", response=shown | {"status": "in_progress", "usage": None})
            for sent in range(1, self._length + 1):
                await self._pause(sent)
                if "audio" in modalities:
                    await self._send("response.output_audio.delta", response_id=response_id, delta=_AUDIO)
                else:
                    await self._send("response.output_text.delta", response_id=response_id, delta=f"word{sent} ")
        except asyncio.CancelledError:
            status = "cancelled"
        except (EndsError, ConnectionError):
            return
        usage = self._usage(sent, spoken="audio" in modalities)
        if not self._ws.closed:
            await self._send("response.done", response=shown | {"status": status, "usage": usage})
        self._running.pop(response_id, None)

    async def _write(self, response_id: str, event: dict[str, Any]) -> None:
        """A response of the responses API."""
        lane = {"stream_id": event["stream_id"]} if "stream_id" in event else {}
        if self._deployment is not None and event.get("model") not in (None, self._deployment.name):
            await self._send("error", status=404, error=_error("The model does not exist.", "model_not_found"), **lane)
            return
        shown: dict[str, Any] = {"object": "response", "id": response_id, "model": event.get("model"), "output": []}
        await self._send("response.created", response=shown | {"status": "in_progress", "usage": None}, **lane)
        try:
            for number in range(1, self._length + 1):
                await self._pause(number)
                await self._send("response.output_text.delta", delta=f"word{number} ", **lane)
            usage = {
                "input_tokens": 11,
                "output_tokens": self._length,
                "total_tokens": 11 + self._length,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens_details": {"reasoning_tokens": 0},
            }
            await self._send("response.completed", response=shown | {"status": "completed", "usage": usage}, **lane)
        except (EndsError, ConnectionError):
            return
        self._running.pop(response_id, None)

    def _usage(self, tokens: int, *, spoken: bool) -> dict[str, Any]:
        heard = self._heard_bytes // 4800  # a token is 100 ms of 24 kHz PCM16
        audio = tokens if spoken else 0
        return {
            "total_tokens": 20 + heard + tokens,
            "input_tokens": 20 + heard,
            "output_tokens": tokens,
            "input_token_details": {"text_tokens": 20, "audio_tokens": heard, "cached_tokens": 0},
            "output_token_details": {"text_tokens": tokens - audio, "audio_tokens": audio},
        }

    def _shown(self) -> dict[str, Any]:
        return {
            "type": REALTIME,
            "id": _id("sess"),
            "object": "realtime.session",
            "model": self._deployment.name if self._deployment is not None else None,
        }

    async def _pause(self, number: int) -> None:
        wait_ms = self._settings.first_token_ms if number == 1 else self._settings.token_gap_ms
        await asyncio.sleep(wait_ms.sample(self._rng) / 1000)

    async def _send(self, kind: str, **fields: Any) -> None:
        fault, sent = self.fault, self._sent
        self._sent += 1
        if fault is not None and sent == fault.after_events:
            await self._befall(fault)
        await self._ws.send_str(orjson.dumps({"type": kind, "event_id": _id("event"), **fields}).decode())

    async def _befall(self, fault: Fault) -> None:
        transport = self._transport
        assert transport is not None
        match fault.kind:
            case Kind.STALL_MID_STREAM:
                await asyncio.sleep((fault.delay_ms or 3_600_000) / 1000)
            case Kind.ERROR_EVENT:
                error = _error("The server had an error.", "server_error")
                await self._ws.send_str(
                    orjson.dumps({"type": "error", "event_id": _id("event"), "error": error}).decode()
                )
                if self._operation != REALTIME:  # where a response ends with one
                    raise EndsError
            case Kind.EXTRA_BYTES:  # that are no frame
                transport.write((fault.value or "GET / HTTP/1.1\r\n\r\n").encode("latin-1"))
            case Kind.EARLY_CLOSE if fault.value is not None:  # `CODE reason`: as a session is closed
                code, _, reason = fault.value.partition(" ")
                await self._ws.close(code=int(code), message=reason.encode())
                raise EndsError
            case Kind.RESET_AT:
                transport.abort()
                raise EndsError
            case _:
                transport.close()
                raise EndsError


def _error(message: str, code: str | None) -> dict[str, Any]:
    return {"type": "invalid_request_error", "code": code, "message": message, "param": None}


def _id(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex[:20]}"
