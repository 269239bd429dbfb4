"""What the messages of a session say, as far as the router has to know, and what it says in them itself.

A client's message is read strictly: what the deployment might read otherwise than we do is not passed on. A
deployment's message is passed on whatever it is.
"""

from typing import Any, Final

import msgspec
import orjson
from msgspec import UNSET, Raw, UnsetType

from router.accounting.usage import UNREADABLE
from router.base.errors import InvalidRequestError, RouterError
from router.proxy.facts import Splice
from router.proxy.json_keys import top_level_values

_READ: Final = (
    "type",
    "event_id",
    "model",
    "session",
    "response",
    "stream_id",
    "previous_response_id",
    "conversation",
    "background",
)
_NULL: Final = Raw(b"null")
# What a decoder of JSON may skip before an object, in any of the codings that one guesses.
_BLANK: Final = b" \t\r\n\x00\xef\xbb\xbf\xff\xfe"
_COUNT_DIGITS_MAX: Final = 8


class _Settings(msgspec.Struct, gc=False):
    """Of a session or of one response."""

    model: str | UnsetType | None = UNSET
    max_output_tokens: Raw = _NULL
    max_response_output_tokens: Raw = _NULL


class ClientEvent(msgspec.Struct, gc=False):
    """An event of a client, as far as it is read."""

    type: str
    event_id: str | None = None
    model: str | UnsetType | None = UNSET
    session: _Settings | UnsetType | None = UNSET
    response: _Settings | UnsetType | None = UNSET
    stream_id: str | None = None
    background: bool | None = None

    @property
    def output_tokens_max(self) -> int:
        """What it allows for an answer; 0 where it does not say."""
        for settings in (self.response, self.session):
            if isinstance(settings, _Settings):
                for said in (settings.max_output_tokens, settings.max_response_output_tokens):
                    digits = bytes(said)
                    if len(digits) <= _COUNT_DIGITS_MAX and digits.isdigit():
                        return int(digits)
        return 0


class _ServerType(msgspec.Struct, gc=False):
    type: str = ""


class _Response(msgspec.Struct, gc=False):
    id: str = ""
    status: str | None = None
    usage: Any = None


class _Error(msgspec.Struct, gc=False):
    event_id: str | None = None


class ServerEvent(msgspec.Struct, gc=False):
    """An event of a deployment that begins or ends a response."""

    type: str
    response: _Response | None = None
    error: _Error | None = None
    stream_id: str | None = None


_decode_client: Final = msgspec.json.Decoder(ClientEvent).decode
_decode_type: Final = msgspec.json.Decoder(_ServerType).decode
_decode_server: Final = msgspec.json.Decoder(ServerEvent).decode


def may_be_event(payload: bytes) -> bool:
    """Whether a binary message could be read as an event, by a deployment that does not mind its kind."""
    return payload.lstrip(_BLANK).startswith(b"{")


def read_client_event(payload: bytes) -> tuple[ClientEvent, dict[str, list[tuple[int, int]]]]:
    """Returns a client's event, and where its values stand. Raises InvalidRequestError."""
    try:
        event = _decode_client(payload)
    except RecursionError:
        raise InvalidRequestError("The event is nested too deeply.", code="invalid_json") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"The event cannot be read: {error}.", code="invalid_event") from None
    places = top_level_values(payload)
    for name in _READ:
        if len(places.get(name, ())) > 1:
            raise _stands_twice(name)
    return event, places


def model_places(
    event: ClientEvent, payload: bytes, places: dict[str, list[tuple[int, int]]]
) -> list[tuple[str, Splice]]:
    """Each model that an event names, and where. Raises InvalidRequestError where one stands twice in one place."""
    found: list[tuple[str, Splice]] = []
    if isinstance(event.model, str):
        found.append((event.model, Splice(*places["model"][0])))
    for name, settings in (("session", event.session), ("response", event.response)):
        if not isinstance(settings, _Settings):
            continue
        start, end = places[name][0]
        inner = top_level_values(payload[start:end]).get("model", [])
        if len(inner) > 1:
            raise _stands_twice(f"{name}.model")
        if isinstance(settings.model, str):
            found.append((settings.model, Splice(start + inner[0][0], start + inner[0][1])))
    return found


def spliced(payload: bytes, splices: list[Splice], text: bytes) -> bytes:
    """The same with `text` at these places."""
    for splice in sorted(splices, key=lambda each: each.start, reverse=True):
        payload = payload[: splice.start] + text + payload[splice.end :]
    return payload


def type_of(payload: bytes) -> str:
    """Of a deployment's message; empty for what is no event."""
    try:
        return _decode_type(payload).type
    except UNREADABLE:
        return ""


def read_server_event(payload: bytes) -> ServerEvent | None:
    """None for what cannot be read."""
    try:
        return _decode_server(payload)
    except UNREADABLE:
        return None


def error_event(error: RouterError, event_id: str | None, stream_id: str | None, *, own_id: str, nested: bool) -> bytes:
    """The router's own word in a session. `nested`: in the shape of realtime, whose error names the event at fault."""
    said: dict[str, object] = {
        "type": error.type,
        "code": error.code,
        "message": error.message,
        "param": error.param,
    }
    if nested:
        return orjson.dumps({"type": "error", "event_id": own_id, "error": {**said, "event_id": event_id}})
    lane = {"stream_id": stream_id} if stream_id is not None else {}
    return orjson.dumps({"type": "error", "status": error.status, "error": said, **lane})


def cancel_event(response_id: str, own_id: str) -> bytes:
    """Stops a response that nobody may have."""
    return orjson.dumps({"type": "response.cancel", "event_id": own_id, "response_id": response_id})


def _stands_twice(name: str) -> InvalidRequestError:
    return InvalidRequestError(f"The field `{name}` stands more than once.", code="duplicate_key", param=name)
