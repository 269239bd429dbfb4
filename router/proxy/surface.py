"""Which paths are served: one table from path to what is asked, for every family that clients use."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final
from urllib.parse import unquote_to_bytes

from router.base.errors import NotFoundError, RouterError
from router.model.operation import OPERATIONS, Operation
from router.proxy.realtime.paths import require_upgrade
from router.proxy.stateful.paths import Stored, find_stored

_V1: Final = ("/v1", "/openai/v1")
_DEPLOYMENTS: Final = b"/openai/deployments/"


@dataclass(frozen=True, slots=True)
class Ask:
    """What a path asks for: an operation of a model; where it is None, something that is stored, what the key has used,
    or the models or one of them.
    """

    operation: Operation | None
    model: str | None = None  # named by the path, which then decides
    usage: bool = False
    stored: Stored | None = None
    session: Operation | None = None  # over WebSocket

    @property
    def name(self) -> str:
        """As logs and metrics have it."""
        if self.operation is not None:
            return self.operation.name
        if self.stored is not None:
            return self.stored.route.resource.name
        if self.session is not None:
            return self.session.name
        return "usage" if self.usage else "models"


class MethodNotAllowedError(RouterError):
    """The path is served, with another method."""

    status, type, code = 405, "invalid_request_error", "method_not_allowed"


_MODELS: Final = Ask(None)
_POSTED: Final = tuple(op for op in OPERATIONS.values() if not op.socket)
_EXACT: Final[Mapping[bytes, Ask]] = MappingProxyType(
    {
        **{(base + op.path).encode(): Ask(op) for base in _V1 for op in _POSTED},
        **{f"/openai{op.path}".encode(): Ask(op) for op in _POSTED if not op.deployment_scoped},
        b"/openai/models": _MODELS,
        **{f"{base}/models".encode(): _MODELS for base in _V1},
        **{f"{base}/usage".encode(): Ask(None, usage=True) for base in _V1},
    }
)
_ONE_MODEL: Final = (b"/v1/models/", b"/openai/v1/models/", b"/openai/models/")
_STORED: Final = (b"/v1", b"/openai/v1", b"/openai")
_SCOPED: Final[Mapping[bytes, Operation]] = MappingProxyType(
    {op.path.encode(): op for op in OPERATIONS.values() if op.deployment_scoped}
)


def find_ask(method: bytes, target: bytes) -> Ask:
    """Reads a request line's target. Raises NotFoundError, or MethodNotAllowedError with `Allow`."""
    path = target.partition(b"?")[0] if b"?" in target else target
    ask = _EXACT.get(path)
    if ask is None:
        ask = _stored(method, path) or _named_in_path(path)
    if ask.stored is not None:
        return ask
    expected = b"GET" if ask.operation is None else b"POST"
    if method != expected:
        raise _takes(expected.decode())
    return ask


def route_of(method: bytes, target: bytes, ask: Ask) -> str:
    """Method and path as a trace shows them: a model's name that the client wrote into the path is left out."""
    path = target.partition(b"?")[0].decode("ascii", "replace")
    if ask.model is not None and ask.operation is not None:
        path = f"{_DEPLOYMENTS.decode()}{{model}}{ask.operation.path}"
    elif ask.model is not None:
        path = f"{path[: path.index('/models/')]}/models/{{model}}"
    elif ask.stored is not None:
        path = f"{path[: path.index(ask.stored.route.resource.path)]}{ask.stored.route.path.replace('{}', '{id}')}"
    return f"{method.decode()} {path}"


def _stored(method: bytes, path: bytes) -> Ask | None:
    """Something that is stored, by its path in any family. Raises MethodNotAllowedError."""
    for prefix in _STORED:
        if path.startswith(prefix) and (found := find_stored(path[len(prefix) :])):
            stored = found.get(method.decode("latin-1"))
            if stored is None:
                raise _takes(", ".join(sorted(found)))
            return Ask(None, stored=stored)
    return None


def _takes(allowed: str) -> MethodNotAllowedError:
    return MethodNotAllowedError(f"This path takes {allowed} only.", headers={"allow": allowed})


def _named_in_path(path: bytes) -> Ask:
    for prefix in _ONE_MODEL:
        if path.startswith(prefix) and len(path) > len(prefix):
            return Ask(None, _decoded(path[len(prefix) :]))
    if path.startswith(_DEPLOYMENTS):
        name, slash, rest = path[len(_DEPLOYMENTS) :].partition(b"/")
        operation = _SCOPED.get(slash + rest)
        if name and operation is not None:
            return Ask(operation, _decoded(name))
    require_upgrade(path)
    raise NotFoundError(
        "There is nothing at this path. Clients use a base URL that ends in /v1 (OpenAI) or the bare host (Azure).",
        code="unknown_path",
    )


def _decoded(segment: bytes) -> str:
    """A name from a path, decoded once. It is looked up as it is and never put into another path."""
    try:
        return unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        raise NotFoundError("The model's name in the path is not UTF-8.", code="model_not_found") from None
