"""What the router itself says: status lines, its own errors, the list of models."""

import math
from collections.abc import Iterable
from http import HTTPStatus
from time import time
from typing import Final

import orjson

from router.base.errors import RouterError
from router.model.error_body import error_body

_STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_JSON: Final = b"content-type: application/json\r\n"
RETRY_S_MAX: Final = 60  # a longer wait is no wait: the client is told not to retry by itself


def status_line(status: int) -> bytes:
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d Unknown\r\n" % status


def json_headers(request_id: str) -> bytes:
    return _JSON + b"x-request-id: %b\r\n" % request_id.encode()


def error_headers(error: RouterError, request_id: str) -> bytes:
    """The header lines of one of the router's own errors."""
    own = "".join(f"{name}: {value}\r\n" for name, value in error.headers.items())
    return json_headers(request_id) + own.encode()


def whole_error(error: RouterError, request_id: str) -> bytes:
    """A whole answer for bytes that never became a request; the connection ends with it."""
    body = error_body(error)
    return b"%b%bcontent-length: %d\r\nconnection: close\r\n\r\n%b" % (
        status_line(error.status),
        error_headers(error, request_id),
        len(body),
        body,
    )


def error_event(error: RouterError, *, typed: bool) -> bytes:
    """The last words of a broken stream. `typed`: the Responses API, whose events have a name and a type."""
    fields: dict[str, object] = {
        "error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    }
    if typed:
        return b"event: error\ndata: %b\n\n" % orjson.dumps({"type": "error", **fields})
    return b"data: %b\n\n" % orjson.dumps(fields)


def retry_after(wait_s: float) -> dict[str, str]:
    """The headers that make an SDK wait as long as is true, rounded up; over a minute: not to retry by itself."""
    wait_ms = max(1, math.ceil(wait_s * 1000))
    headers = {"retry-after": str(math.ceil(wait_ms / 1000)), "retry-after-ms": str(wait_ms)}
    if wait_s > RETRY_S_MAX:
        headers["x-should-retry"] = "false"
    return headers


def model_object(model: str) -> dict[str, object]:
    return {"id": model, "object": "model", "created": int(time()), "owned_by": "organization-owner"}


def model_list(models: Iterable[str], *, only: str | None) -> bytes:
    """The list that an SDK reads; `only`: that model's object alone."""
    if only is not None:
        return orjson.dumps(model_object(only))
    return orjson.dumps({"object": "list", "data": [model_object(model) for model in sorted(models)]})
