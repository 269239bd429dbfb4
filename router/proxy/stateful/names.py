"""Which stored things a request's body names: every id in it that an endpoint would look up.

What would have an endpoint look through all that it stores, whoever's that is, is refused.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

from router.base.errors import InvalidRequestError
from router.proxy.multipart import boundary_of, text_fields

_IDS: Final = frozenset(
    {
        *("previous_response_id", "response_id", "conversation", "conversation_id", "container", "container_id"),
        *("file_id", "file_ids", "input_file_id", "training_file", "validation_file"),
        *("vector_store_id", "vector_store_ids", "eval_id", "batch_id"),
    }
)
_FORM_NAMES: Final = frozenset(name.encode() + tail for name in _IDS for tail in (b"", b"[]"))
# What stands below is the client's own, and no endpoint looks anything up by it.
_OPAQUE: Final = frozenset({"metadata", "attributes", "parameters", "schema", "arguments", "item", "item_schema"})
OPAQUE_IN_EVENTS: Final = _OPAQUE - {"item"}  # which is of evals' data; in a session it is what is said
# Its fields are named by the client, and may well be called like these: an endpoint reads what is in them.
_NAMED_BY_CLIENTS: Final = "variables"
# Sources of evals that are made of whatever an endpoint has stored, of all keys.
_ALL_KEYS: Final = frozenset({"stored_completions", "logs"})
_SOURCES: Final = {
    "source": _ALL_KEYS | {"responses"},
    "data_source": _ALL_KEYS,
    "data_source_config": _ALL_KEYS,
}
# Objects are made of all of them, on the loop: so many take some 0.2 s.
COMMAS_MAX: Final = 200_000


class _Object(list[tuple[str, object]]):
    """A JSON object with all its fields, also those that stand in it twice: an endpoint may read either."""


def named_ids(body: bytes | bytearray, opaque: frozenset[str] = _OPAQUE) -> dict[str, str]:
    """Returns the ids, and the field that each stands in. Raises InvalidRequestError for no JSON, or too much."""
    if body.count(b",") > COMMAS_MAX:
        raise InvalidRequestError(
            f"A body that names what is stored may hold {COMMAS_MAX} values at the most.", code="too_many_values"
        )
    try:
        value = json.loads(body, object_pairs_hook=_Object)
    except (ValueError, RecursionError):
        raise InvalidRequestError("The body is not valid JSON.", code="invalid_json") from None
    return dict(_found(value, opaque))


def ids_of_form(body: bytes | bytearray, content_type: bytes) -> dict[str, str]:
    """Likewise of a form. Raises InvalidRequestError for what is none, and where a field stands twice."""
    named: dict[str, str] = {}
    for name, (start, end) in text_fields(body, boundary_of(content_type), _FORM_NAMES).items():
        named[bytes(body[start:end]).decode("utf-8", "replace")] = name.decode()
    return named


def _found(value: object, opaque: frozenset[str]) -> Iterator[tuple[str, str]]:
    pending: list[list[Any]] = [value] if isinstance(value, list) else []  # objects are lists, too
    while pending:
        at = pending.pop()
        if isinstance(at, _Object):
            is_source = ("type", "file_id") in at
            for name, inner in at:
                if name in _IDS:
                    yield from ((text, name) for text in _texts(inner))
                elif name == "id" and is_source and isinstance(inner, str):
                    yield inner, name  # as evals name the file that they read
                if name in _SOURCES:
                    _check_source(inner, name)
                if name == _NAMED_BY_CLIENTS and isinstance(inner, _Object):
                    pending += (each for _, each in inner if isinstance(each, list))
                elif name not in opaque and isinstance(inner, list):
                    pending.append(inner)
        else:
            pending += (each for each in at if isinstance(each, list))


def _check_source(value: object, name: str) -> None:
    if isinstance(value, _Object) and any(
        field == "type" and isinstance(kind, str) and kind in _SOURCES[name] for field, kind in value
    ):
        raise InvalidRequestError(
            "It would read what all keys have stored. Name the file that it is to read.",
            code="shared_source",
            param=name,
        )


def _texts(value: object) -> list[str]:
    """Of an id, a list of them, or an object that has one."""
    if isinstance(value, _Object):
        value = [inner for name, inner in value if name == "id"]
    texts = value if isinstance(value, list) else [value]
    return [text for text in texts if isinstance(text, str) and text]
