"""Legacy completions: a text for each prompt, streamed and not."""

from collections.abc import Iterator
from typing import Any

from router.emulator.answer import DONE, Answer, Ask, RefusedError, Tokens, data_event, json_answer, stream_answer
from router.emulator.answers.chat import CHOICES_MAX
from router.emulator.answers.filters import CHOICE_RESULTS, PROMPT_FILTER, first_chunk
from router.emulator.bodies import openai_error


def completions(ask: Ask) -> Answer:
    if "prompt" not in ask.fields:
        raise RefusedError(400, openai_error("'prompt' is missing", "invalid_request_error", None, "prompt"))
    if ask.streamed:
        return stream_answer(_events(ask), at_once=1 if ask.filtered else 0)
    tokens = Tokens(ask.prompt_tokens)
    choices = []
    for index in range(_count(ask)):
        words = _words(ask, index)
        tokens.completion += len(words)
        choice = {"index": index, "text": "".join(words), "finish_reason": _finish(ask, words), "logprobs": None}
        choices.append({**choice, "content_filter_results": CHOICE_RESULTS} if ask.filtered else choice)
    value = {**_head(ask), "choices": choices, "usage": tokens.as_json()}
    if ask.filtered:
        value["prompt_filter_results"] = PROMPT_FILTER
    return json_answer(value, tokens.completion)


def _count(ask: Ask) -> int:
    """A choice for each of a list of texts, `n` times."""
    prompt = ask.fields["prompt"]
    prompts = len(prompt) if isinstance(prompt, list) and prompt and isinstance(prompt[0], str) else 1
    return min(prompts * max(1, ask.limit("n") or 1), CHOICES_MAX)


def _words(ask: Ask, index: int) -> list[str]:
    return ask.words(index, ask.limit("max_tokens"))


def _finish(ask: Ask, words: list[str]) -> str:
    return "length" if len(words) < ask.length else "stop"


def _head(ask: Ask) -> dict[str, Any]:
    return {
        "id": f"cmpl-{ask.request_id}",
        "object": "text_completion",
        "created": ask.created,
        "model": ask.deployment.model,
    }


def _events(ask: Ask) -> Iterator[bytes]:
    options = ask.fields.get("stream_options")
    counted = isinstance(options, dict) and options.get("include_usage") is True
    usage: dict[str, Any] = {"usage": None} if counted else {}
    head = {**_head(ask), **usage}
    annotated = {"content_filter_results": CHOICE_RESULTS} if ask.filtered else {}
    tokens = Tokens(ask.prompt_tokens)
    if ask.filtered:
        yield data_event({**first_chunk(), **usage})
    for index in range(_count(ask)):
        words = _words(ask, index)
        tokens.completion += len(words)
        for piece in ask.pieces(words):
            choice = {"index": index, "text": piece, "finish_reason": None, "logprobs": None, **annotated}
            yield data_event({**head, "choices": [choice]})
        last = {"index": index, "text": "", "finish_reason": _finish(ask, words), "logprobs": None, **annotated}
        yield data_event({**head, "choices": [last]})
    if counted:
        yield data_event({**head, "choices": [], "usage": tokens.as_json()})
    yield DONE
