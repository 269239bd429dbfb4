"""The JSON of an error in OpenAI's shape, from which the SDKs raise their own classes."""

import orjson

from router.base.errors import RouterError


def error_body(error: RouterError) -> bytes:
    """Writes the body of one of the router's own errors."""
    return error_json(error.message, error.type, error.param, error.code)


def error_json(message: str, type_: str, param: str | None, code: str | None) -> bytes:
    """Writes the four fields that the shape demands."""
    return orjson.dumps({"error": {"message": message, "type": type_, "param": param, "code": code}})
