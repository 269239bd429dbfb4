"""How the control plane answers: JSON, and errors in OpenAI's shape."""

from typing import Final

import orjson
from aiohttp import web

_TYPES: Final = {401: "authentication_error", 403: "permission_error"}


def json_answer(value: object, status: int = 200) -> web.Response:
    """Raises TypeError for what is no plain value, so that a secret cannot slip out as text."""
    body = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    return web.Response(status=status, body=body, content_type="application/json")


def error(status: int, code: str, message: str, **more: object) -> web.Response:
    """An error object; `more`: what a program can use beside its message."""
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return json_answer({"error": {"message": message, "type": kind, "param": None, "code": code, **more}}, status)
