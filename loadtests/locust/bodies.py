"""What is asked. Bodies that are large are made once and sent again: to make one costs more than to answer it."""

import base64
import random
from functools import cache
from typing import Any, Final

import orjson

LARGE_BYTES: Final = (16 * 1024, 150 * 1024)
IMAGE_BYTES: Final = (24 * 1024, 120 * 1024)  # of the picture; a data URL is a third more
VARIANTS: Final = 12
MAX_TOKENS: Final = 24
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_WORDS: Final = ("the", "river", "contract", "cloud", "answers", "quietly", "under", "budget", "light", "seven")


def chat(model: str, user: str, rng: random.Random, *, stream: bool) -> bytes:
    """A question of one or two sentences behind a system prompt: about 600 bytes."""
    system = "You are a support agent. Answer in one sentence, and say so when you do not know. " * 3
    return _chat(model, user, system, _sentence(rng, 40), stream=stream)


@cache
def large(model: str, user: str, variant: int, *, stream: bool) -> bytes:
    """Retrieved documents in front of a question. Sizes are spread evenly over the orders of magnitude."""
    rng = random.Random(variant)
    low, high = LARGE_BYTES
    size = int(low * (high / low) ** (variant / (VARIANTS - 1)))
    page = _sentence(rng, 200) + "\n"
    return _chat(model, user, (page * (size // len(page) + 1))[: size - 200], _sentence(rng, 10), stream=stream)


@cache
def image(model: str, user: str, variant: int) -> bytes:
    """A question about a picture, which is in the request as a data URL."""
    rng = random.Random(variant)
    picture = base64.b64encode(_PNG + rng.randbytes(rng.randint(*IMAGE_BYTES))).decode()
    parts = [
        {"type": "text", "text": "What is wrong with this invoice?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}", "detail": "low"}},
    ]
    return _body(model, user, {"messages": [{"role": "user", "content": parts}], "max_tokens": MAX_TOKENS})


def embeddings(model: str, user: str, rng: random.Random, inputs: int) -> bytes:
    """Passages to be indexed."""
    return _body(model, user, {"input": [_sentence(rng, 30) for _ in range(inputs)]})


def responses(model: str, user: str, marker: str, rng: random.Random, *, stream: bool) -> bytes:
    fields = {"input": _sentence(rng, 30), "max_output_tokens": MAX_TOKENS, "metadata": {"marker": marker}}
    return _body(model, user, {**fields, **({"stream": True} if stream else {}), "store": False})


def _chat(model: str, user: str, system: str, question: str, *, stream: bool) -> bytes:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    fields: dict[str, Any] = {"messages": messages, "max_tokens": MAX_TOKENS, "temperature": 0.7}
    return _body(model, user, {**fields, **({"stream": True} if stream else {})})


def _body(model: str, user: str, fields: dict[str, Any]) -> bytes:
    """`user` comes early: a witness that looks for it need not read a picture."""
    return orjson.dumps({"model": model, "user": user, **fields})


def _sentence(rng: random.Random, words: int) -> str:
    return " ".join(rng.choices(_WORDS, k=words))
