"""Where sessions are opened, and what a request that opens one says in its head."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import parse_qsl

from router.base.errors import InvalidRequestError, Origin, RouterError, UnauthorizedError
from router.model.operation import REALTIME, RESPONSES_WEBSOCKET, Operation
from router.transport.websocket_frames import is_key, listed

_SESSIONS: Final[Mapping[bytes, Operation]] = MappingProxyType(
    {
        b"/v1/realtime": REALTIME,
        b"/openai/v1/realtime": REALTIME,
        b"/openai/realtime": REALTIME,
        b"/v1/responses": RESPONSES_WEBSOCKET,
        b"/openai/v1/responses": RESPONSES_WEBSOCKET,
    }
)
_KEY_PROTOCOL: Final = b"openai-insecure-api-key."  # how a browser, which can set no header, tells its key
_BETA_PROTOCOL: Final = b"openai-beta."
_SPOKEN: Final = b"realtime"  # the subprotocol that is agreed, where a client offers it
# What a query may say. Whatever else stands there (a call to join, say) may be state of one endpoint.
_NAMES: Final = frozenset({"model", "deployment"})
_IGNORED: Final = frozenset({"api-version"})


class UpgradeRequiredError(RouterError):
    """The path is served over WebSocket alone."""

    status, type, code, origin = 426, "invalid_request_error", "upgrade_required", Origin.CLIENT


def find_session(method: bytes, target: bytes) -> Operation | None:
    """What a request that asks for WebSocket opens; None where it is one like all others, whatever it asks for."""
    return _SESSIONS.get(target.partition(b"?")[0]) if method == b"GET" else None


def require_upgrade(path: bytes) -> None:
    """Raises UpgradeRequiredError for a path that has nothing but sessions."""
    if _SESSIONS.get(path) is REALTIME:
        raise UpgradeRequiredError("This path is served over WebSocket alone.", headers={"upgrade": "websocket"})


def presented(fields: Mapping[bytes, bytes]) -> Mapping[bytes, bytes]:
    """The fields of the head with the key among them, also where it is told as a subprotocol.

    Raises UnauthorizedError for two different ones.
    """
    keys = {
        offered.removeprefix(_KEY_PROTOCOL)
        for offered in offers(fields)
        if offered.startswith(_KEY_PROTOCOL) and offered != _KEY_PROTOCOL
    }
    if not keys:
        return fields
    if len(keys) > 1:
        raise UnauthorizedError("There are two different API keys in this request.")
    # Beside a header with another key: `authenticate` compares the two.
    name = b"api-key" if b"api-key" not in fields else b"authorization"
    if name in fields and b"api-key" in fields:
        return fields
    value = keys.pop()
    return {**fields, name: value if name == b"api-key" else b"Bearer " + value}


def offers(fields: Mapping[bytes, bytes]) -> list[bytes]:
    """The subprotocols that the client offers."""
    return listed(fields[b"sec-websocket-protocol"]) if b"sec-websocket-protocol" in fields else []


def spoken(fields: Mapping[bytes, bytes]) -> bytes:
    """The one of them that is agreed; empty where none is. Never one that holds a key."""
    return _SPOKEN if _SPOKEN in offers(fields) else b""


def beta(fields: Mapping[bytes, bytes]) -> bytes:
    """What goes up as `OpenAI-Beta`: the header's value, or what a browser says as a subprotocol; else nothing."""
    said = fields.get(b"openai-beta")
    if said is not None:
        return said
    for offered in offers(fields):
        if offered.startswith(_BETA_PROTOCOL):
            feature, dash, version = offered.removeprefix(_BETA_PROTOCOL).rpartition(b"-")
            return feature + b"=" + version if dash else b""
    return b""


def check_handshake(fields: Mapping[bytes, bytes], minor: int, *, has_body: bool) -> None:
    """Raises InvalidRequestError for a handshake that is not RFC 6455's, version 13."""
    upgrade = {token.lower() for token in listed(fields.get(b"upgrade", b""))}
    if minor != 1 or b"websocket" not in upgrade or b"upgrade" not in _tokens(fields, b"connection"):
        raise InvalidRequestError("The request does not ask for WebSocket as RFC 6455 says.", code="invalid_upgrade")
    if fields.get(b"sec-websocket-version") != b"13":
        raise UpgradeRequiredError(
            "The only version of WebSocket spoken here is 13.",
            code="websocket_version",
            headers={"sec-websocket-version": "13"},
        )
    if has_body or not is_key(fields.get(b"sec-websocket-key", b"")):
        raise InvalidRequestError(
            "The handshake has a body, or no Sec-WebSocket-Key of 16 bytes in base64.", code="invalid_upgrade"
        )


def model_of(target: bytes) -> str:
    """The model that a query names. Raises InvalidRequestError for none, for two, and for what is not served here."""
    try:
        pairs = parse_qsl(target.partition(b"?")[2].decode("ascii"), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise InvalidRequestError("The query is not UTF-8.", code="invalid_query") from None
    names = [value for name, value in pairs if name in _NAMES]
    unknown = [name for name, _ in pairs if name not in _NAMES and name not in _IGNORED]
    if unknown:
        raise InvalidRequestError(
            "The query of a session names its model, and nothing else that is served here.", code="unsupported_query"
        )
    if len(names) > 1:
        raise InvalidRequestError("The query names more than one model.", code="duplicate_key", param="model")
    if not names or not names[0]:
        raise InvalidRequestError("The query names no `model`.", code="missing_model", param="model")
    return names[0]


def _tokens(fields: Mapping[bytes, bytes], name: bytes) -> set[bytes]:
    return {token.lower() for token in listed(fields.get(name, b""))}
