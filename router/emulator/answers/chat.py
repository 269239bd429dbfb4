"""chat/completions, streamed and not, with tool calls, several choices and Azure's annotations."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from router.emulator.answer import DONE, Answer, Ask, RefusedError, Tokens, data_event, json_answer, stream_answer
from router.emulator.answers.filters import CHOICE_RESULTS, PROMPT_FILTER, first_chunk, late_annotation
from router.emulator.bodies import openai_error

CHOICES_MAX: Final = 128
_LIMITS: Final = ("max_completion_tokens", "max_tokens")


def chat(ask: Ask) -> Answer:
    messages = ask.fields.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RefusedError(
            400, openai_error("'messages' must be a list that is not empty", "invalid_request_error", None, "messages")
        )
    if ask.streamed:
        return stream_answer(_events(ask), at_once=1 if ask.filtered else 0)
    tokens = Tokens(ask.prompt_tokens)
    choices = [_choice(ask, index, tokens) for index in range(_count(ask))]
    value = {**_head(ask, "chat.completion"), "choices": choices, "usage": tokens.as_json()}
    if ask.filtered:
        value["prompt_filter_results"] = PROMPT_FILTER
    return json_answer(value, tokens.completion)


def called_tool(fields: Mapping[str, Any]) -> str | None:
    """The function that the answer calls: where there are tools and a choice other than none."""
    choice, tools = fields.get("tool_choice"), fields.get("tools")
    if not isinstance(tools, list) or choice in (None, "none"):
        return None
    names = (_function_name(each) for each in (choice, *tools))
    return next((name for name in names if name is not None), None)


def _function_name(tool: object) -> str | None:
    """Of a tool or a choice of one, as chat nests it or as responses writes it flat."""
    if not isinstance(tool, dict):
        return None
    function = tool.get("function", tool)
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else None


def arguments(ask: Ask) -> str:
    """The arguments of a called function: who called it."""
    return orjson.dumps({"deployment": ask.deployment.name}).decode()


def _count(ask: Ask) -> int:
    return min(max(1, ask.limit("n") or 1), CHOICES_MAX)


def _head(ask: Ask, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{ask.request_id}",
        "object": kind,
        "created": ask.created,
        "model": ask.deployment.model,
        "system_fingerprint": "fp_emulated",
    }


def _choice(ask: Ask, index: int, tokens: Tokens) -> dict[str, Any]:
    words = ask.words(index, ask.limit(*_LIMITS))
    tokens.completion += len(words)
    message: dict[str, Any] = {"role": "assistant", "content": "".join(words), "refusal": None}
    finish = "length" if len(words) < ask.length else "stop"
    tool = called_tool(ask.fields)
    if tool:
        function = {"name": tool, "arguments": arguments(ask)}
        message["content"] = None
        message["tool_calls"] = [{"id": f"call_{ask.request_id}", "type": "function", "function": function}]
        finish = "tool_calls"
    choice = {"index": index, "message": message, "finish_reason": finish, "logprobs": None}
    if ask.filtered:
        choice["content_filter_results"] = {} if tool else CHOICE_RESULTS
    return choice


def _events(ask: Ask) -> Iterator[bytes]:
    options = ask.fields.get("stream_options")
    counted = isinstance(options, dict) and options.get("include_usage") is True
    usage: dict[str, Any] = {"usage": None} if counted else {}
    tokens = Tokens(ask.prompt_tokens)
    if ask.filtered:
        yield data_event({**first_chunk(), **usage})
    head = {**_head(ask, "chat.completion.chunk"), **usage}
    for choice in _choices(ask, tokens):
        yield data_event({**head, "choices": [choice]})
    if ask.asynchronous:
        for index in range(_count(ask)):
            length = len("".join(ask.words(index, ask.limit(*_LIMITS))))
            yield data_event({**late_annotation(index, length), **usage})
    if counted:
        yield data_event({**head, "choices": [], "usage": tokens.as_json()})
    yield DONE


def _choices(ask: Ask, tokens: Tokens) -> Iterator[dict[str, Any]]:
    """The chunks' choices: all first ones, then the deltas in turn, then all last ones."""
    marks: dict[str, Any] = {"content_filter_results": {}} if ask.filtered and not ask.asynchronous else {}
    annotated = {"content_filter_results": CHOICE_RESULTS} if marks else {}
    indexes = range(_count(ask))
    tool = called_tool(ask.fields)
    for index in indexes:
        first = {"role": "assistant", "content": None if tool else "", "refusal": None}
        yield {"index": index, "delta": first, "finish_reason": None, "logprobs": None, **marks}
    said = {index: ask.words(index, ask.limit(*_LIMITS)) for index in indexes}
    tokens.completion += sum(len(words) for words in said.values())
    if tool:
        for index in indexes:
            for call in _tool_deltas(ask, tool):
                calls = {"tool_calls": [call]}
                yield {"index": index, "delta": calls, "finish_reason": None, "logprobs": None, **marks}
    else:
        streams = [(index, iter(list(ask.pieces(words)))) for index, words in said.items()]
        for piece, index in _in_turn(streams):
            delta = {"content": piece}
            yield {"index": index, "delta": delta, "finish_reason": None, "logprobs": None, **annotated}
    for index in indexes:
        finish = "tool_calls" if tool else "length" if len(said[index]) < ask.length else "stop"
        yield {"index": index, "delta": {}, "finish_reason": finish, "logprobs": None, **marks}


def _tool_deltas(ask: Ask, name: str) -> Iterator[dict[str, Any]]:
    """A call with empty arguments, then the arguments in halves."""
    yield {
        "index": 0,
        "id": f"call_{ask.request_id}",
        "type": "function",
        "function": {"name": name, "arguments": ""},
    }
    text = arguments(ask)
    middle = len(text) // 2
    for half in (text[:middle], text[middle:]):
        yield {"index": 0, "function": {"arguments": half}}


def _in_turn(streams: list[tuple[int, Iterator[str]]]) -> Iterator[tuple[str, int]]:
    while streams:
        for one in list(streams):
            piece = next(one[1], None)
            if piece is None:
                streams.remove(one)
            else:
                yield piece, one[0]
