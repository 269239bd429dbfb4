"""The tokens that an answer reports.

Chat, completions and embeddings speak of prompt and completion tokens; responses, images and audio of input and
output tokens. Upstreams send odd JSON: what cannot be read is no usage, never an error.
"""

from typing import Any, Final

import msgspec

from router.model.outcome import Usage

UNREADABLE: Final = (msgspec.MsgspecError, ValueError, RecursionError)  # what decoding an upstream's bytes may raise
# Beyond it a number is a lie. Sums of such lies must fit into 64 bits, or nobody could be told the other counters.
_TOKENS_MAX: Final = 1 << 32


class _Cached(msgspec.Struct, gc=False):
    cached_tokens: int | None = None


class _Reasoned(msgspec.Struct, gc=False):
    reasoning_tokens: int | None = None


class _ChatUsage(msgspec.Struct, gc=False):
    prompt_tokens: int
    completion_tokens: int | None = None
    prompt_tokens_details: _Cached | None = None
    completion_tokens_details: _Reasoned | None = None


class _ChatAnswer(msgspec.Struct, gc=False):
    usage: _ChatUsage


class _Answer(msgspec.Struct, gc=False):
    usage: Any = None


_decode_chat: Final = msgspec.json.Decoder(_ChatAnswer).decode
_decode: Final = msgspec.json.Decoder(_Answer).decode


def read_usage(body: bytes) -> Usage | None:
    """Returns what a complete JSON answer reports, None where it reports nothing that can be read."""
    try:
        usage = _decode_chat(body).usage  # usual; whatever is written otherwise takes the lenient way
    except UNREADABLE:
        return _read_leniently(body)
    read, written = usage.prompt_tokens_details, usage.completion_tokens_details
    prompt, completion = usage.prompt_tokens, usage.completion_tokens
    if read is None and written is None and completion is not None and completion >= 0 and 0 <= prompt < _TOKENS_MAX:
        return Usage(prompt, completion if completion < _TOKENS_MAX else 0)
    return Usage(
        _count(prompt),
        _count(completion),
        _count(read.cached_tokens) if read is not None else 0,
        _count(written.reasoning_tokens) if written is not None else 0,
    )


def _read_leniently(body: bytes) -> Usage | None:
    try:
        return usage_of(_decode(body).usage)
    except UNREADABLE:
        return None


def usage_of(reported: object) -> Usage | None:
    """Turns a decoded `usage` object into ours; None for anything else, such as the duration of a recording."""
    if not isinstance(reported, dict):
        return None
    if "prompt_tokens" in reported:
        prompt, completion = reported["prompt_tokens"], reported.get("completion_tokens")
        read, written = reported.get("prompt_tokens_details"), reported.get("completion_tokens_details")
    elif "input_tokens" in reported:
        prompt, completion = reported["input_tokens"], reported.get("output_tokens")
        read, written = reported.get("input_tokens_details"), reported.get("output_tokens_details")
    else:
        return None
    return Usage(
        _count(prompt),
        _count(completion),
        _count(read.get("cached_tokens")) if isinstance(read, dict) else 0,
        _count(written.get("reasoning_tokens")) if isinstance(written, dict) else 0,
    )


def session_usage_of(reported: object) -> Usage | None:
    """Likewise of a session's response, which tells audio and text apart."""
    usage = usage_of(reported)
    if usage is None or not isinstance(reported, dict):
        return None
    read = _details(reported, "input_token_details") or _details(reported, "input_tokens_details")
    written = _details(reported, "output_token_details") or _details(reported, "output_tokens_details")
    return Usage(
        usage.prompt_tokens,
        usage.completion_tokens,
        _count(read.get("cached_tokens")),
        _count(written.get("reasoning_tokens")),
        _count(read.get("audio_tokens")),
        _count(written.get("audio_tokens")),
        _count(_details(read, "cached_tokens_details").get("audio_tokens")),
    )


def _details(reported: dict[str, Any], name: str) -> dict[str, Any]:
    found = reported.get(name)
    return found if isinstance(found, dict) else {}


def _count(value: object) -> int:
    return value if type(value) is int and 0 <= value < _TOKENS_MAX else 0
