"""images/generations and images/edits: the smallest PNG, as often as it was asked for."""

from collections.abc import Iterator
from typing import Any, Final

from router.emulator.answer import Answer, Ask, RefusedError, json_answer, stream_answer, typed_event
from router.emulator.bodies import openai_error

_PNG: Final = (  # one transparent pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
_OUTPUT_TOKENS: Final = 272
_IMAGES_MAX: Final = 10


def generations(ask: Ask) -> Answer:
    return _images(ask, "image_generation")


def edits(ask: Ask) -> Answer:
    """Takes a form with a picture, or JSON that refers to one."""
    if not any(name.startswith("image") for name in (*ask.files, *ask.fields)):
        raise RefusedError(400, openai_error("'image' is missing", "invalid_request_error", None, "image"))
    return _images(ask, "image_edit")


def _images(ask: Ask, kind: str) -> Answer:
    if not ask.fields.get("prompt"):
        raise RefusedError(400, openai_error("'prompt' is missing", "invalid_request_error", None, "prompt"))
    if ask.streamed:
        return stream_answer(_events(ask, kind))
    data = [{"b64_json": _PNG, "revised_prompt": ask.deployment.name} for _ in range(_number(ask, "n", 1))]
    return json_answer({"created": ask.created, "data": data, "usage": _usage(ask)}, ask.length)


def _number(ask: Ask, name: str, default: int) -> int:
    """A number of a JSON body, or of a form, where it is text."""
    given = ask.fields.get(name, default)
    count = int(given) if isinstance(given, int) or (isinstance(given, str) and given.isdecimal()) else default
    return min(count, _IMAGES_MAX)


def _usage(ask: Ask) -> dict[str, Any]:
    return {
        "input_tokens": ask.prompt_tokens,
        "output_tokens": _OUTPUT_TOKENS,
        "total_tokens": ask.prompt_tokens + _OUTPUT_TOKENS,
        "input_tokens_details": {"text_tokens": ask.prompt_tokens, "image_tokens": 0},
    }


def _events(ask: Ask, kind: str) -> Iterator[bytes]:
    common = {
        "b64_json": _PNG,
        "created_at": ask.created,
        "size": "1024x1024",
        "quality": "low",
        "background": "opaque",
        "output_format": "png",
    }
    for index in range(_number(ask, "partial_images", 1)):
        yield typed_event({"type": f"{kind}.partial_image", **common, "partial_image_index": index})
    yield typed_event({"type": f"{kind}.completed", **common, "usage": _usage(ask)})
