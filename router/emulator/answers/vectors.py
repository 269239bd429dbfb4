"""Embeddings and moderations: what is answered in numbers."""

import array
import base64
import random
import sys
from typing import Any, Final

from router.emulator.answer import Answer, Ask, RefusedError, json_answer
from router.emulator.bodies import openai_error

_DIMENSIONS: Final = 16  # small, so that tests read quickly; `dimensions` asks for more
_DIMENSIONS_MAX: Final = 4096
_CATEGORIES: Final = (
    "hate",
    "hate/threatening",
    "harassment",
    "harassment/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/intent",
    "self-harm/instructions",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)


def embeddings(ask: Ask) -> Answer:
    inputs = _inputs(ask)
    encoded = ask.fields.get("encoding_format") == "base64"
    data = []
    for index, each in enumerate(inputs):
        vector = _vector(ask, each)
        value: Any = base64.b64encode(_little_endian(vector)).decode() if encoded else vector.tolist()
        data.append({"object": "embedding", "index": index, "embedding": value})
    usage = {"prompt_tokens": ask.prompt_tokens, "total_tokens": ask.prompt_tokens}
    return json_answer({"object": "list", "model": ask.deployment.model, "data": data, "usage": usage})


def moderations(ask: Ask) -> Answer:
    result = {
        "flagged": False,
        "categories": dict.fromkeys(_CATEGORIES, False),
        "category_scores": dict.fromkeys(_CATEGORIES, 0.001),
        "category_applied_input_types": {name: ["text"] for name in _CATEGORIES},
    }
    value = {"id": f"modr-{ask.request_id}", "model": ask.deployment.model, "results": [result] * len(_inputs(ask))}
    return json_answer(value)


def _inputs(ask: Ask) -> list[Any]:
    """Texts or lists of token numbers: a single one of either is a list of one."""
    given = ask.fields.get("input")
    if isinstance(given, str):
        return [given]
    if isinstance(given, list) and given:
        return [given] if isinstance(given[0], int) else given
    raise RefusedError(400, openai_error("'input' is missing or empty", "invalid_request_error", None, "input"))


def _vector(ask: Ask, text: object) -> "array.array[float]":
    rng = random.Random(f"{ask.settings.seed}/{ask.deployment.model}/{text}")
    dimensions = min(ask.limit("dimensions") or _DIMENSIONS, _DIMENSIONS_MAX)
    return array.array("f", (rng.uniform(-1.0, 1.0) for _ in range(dimensions)))


def _little_endian(vector: "array.array[float]") -> bytes:
    if sys.byteorder == "big":
        vector.byteswap()
    return vector.tobytes()
