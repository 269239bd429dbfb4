"""Which stored things a request's body names: every id in it that an endpoint would look up."""

import json
from collections.abc import Iterator
from typing import Final

from router.base.errors import InvalidRequestError

_IDS: Final = frozenset(
    {
        *("previous_response_id", "response_id", "conversation", "conversation_id", "container", "container_id"),
        *("file_id", "file_ids", "input_file_id", "training_file", "validation_file"),
        *("vector_store_id", "vector_store_ids", "eval_id", "batch_id"),
    }
)
# What stands below is the client's own, and no endpoint looks anything up by it.
_OPAQUE: Final = frozenset({"metadata", "attributes", "parameters", "schema", "arguments", "item", "item_schema"})


class _Object(list[tuple[str, object]]):
    """A JSON object with all its fields, also those that stand in it twice: an endpoint may read either."""


def named_ids(body: bytes | bytearray) -> dict[str, str]:
    """Returns the ids, and the field that each stands in. Raises InvalidRequestError for what is no JSON."""
    try:
        value = json.loads(body, object_pairs_hook=_Object)
    except (ValueError, RecursionError):
        raise InvalidRequestError("The body is not valid JSON.", code="invalid_json") from None
    return dict(_found(value))


def _found(value: object) -> Iterator[tuple[str, str]]:
    pending = [value]
    while pending:
        at = pending.pop()
        if isinstance(at, _Object):
            fields = dict(at)
            for name, inner in at:
                if name in _IDS:
                    yield from ((text, name) for text in _texts(inner))
                elif name == "id" and fields.get("type") == "file_id" and isinstance(inner, str):
                    yield inner, name  # as evals name the file that they read
                if name not in _OPAQUE:
                    pending.append(inner)
        elif isinstance(at, list):
            pending += at


def _texts(value: object) -> list[str]:
    """Of an id, a list of them, or an object that has one."""
    if isinstance(value, _Object):
        value = [inner for name, inner in value if name == "id"]
    texts = value if isinstance(value, list) else [value]
    return [text for text in texts if isinstance(text, str) and text]
