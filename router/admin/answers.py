"""How the control plane answers: JSON, and errors in OpenAI's shape."""

from typing import Final

import orjson
from aiohttp import web

_TYPES: Final = {401: "authentication_error", 403: "permission_error"}


def json_answer(value: object, status: int = 200) -> web.Response:
    """For people too. Raises TypeError as `json_body`."""
    return web.Response(status=status, body=json_body(value, orjson.OPT_INDENT_2), content_type="application/json")


def json_body(value: object, option: int = 0) -> bytes:
    """Raises TypeError for what is no plain value, so that a secret cannot slip out as text."""
    return orjson.dumps(value, option=option | orjson.OPT_APPEND_NEWLINE)


def error(status: int, code: str, message: str, **more: object) -> web.Response:
    """An error object; `more`: what a program can use beside its message."""
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return json_answer({"error": {"message": message, "type": kind, "param": None, "code": code, **more}}, status)
