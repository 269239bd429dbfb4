"""The responses API: one message or one function call, streamed as typed events and not."""

from collections.abc import Iterator
from typing import Any

from router.emulator.answer import Answer, Ask, RefusedError, json_answer, stream_answer, typed_event
from router.emulator.answers.chat import arguments, called_tool
from router.emulator.answers.filters import CHOICE_RESULTS, PROMPT_RESULTS
from router.emulator.bodies import openai_error


def responses(ask: Ask) -> Answer:
    if "input" not in ask.fields and "prompt" not in ask.fields:
        raise RefusedError(400, openai_error("'input' is missing", "invalid_request_error", None, "input"))
    words = ask.words(0, ask.limit("max_output_tokens"))
    tool = called_tool(ask.fields)
    if ask.streamed:
        return stream_answer(_numbered(_tool_events(ask, tool) if tool else _text_events(ask, words)), at_once=2)
    return json_answer(whole_response(ask), len(words))


def whole_response(ask: Ask) -> dict[str, Any]:
    """As it is at its end, streamed or not."""
    words = ask.words(0, ask.limit("max_output_tokens"))
    tool = called_tool(ask.fields)
    item = (
        _call(ask, tool, "completed", arguments(ask)) if tool else _message(ask, "completed", [_part("".join(words))])
    )
    return _ended(ask, item, words, cut=not tool)


def _response(ask: Ask, status: str, output: list[Any]) -> dict[str, Any]:
    asked = ask.fields
    value: dict[str, Any] = {
        "id": f"resp_{ask.request_id}",
        "object": "response",
        "created_at": ask.created,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": asked.get("instructions"),
        "max_output_tokens": asked.get("max_output_tokens"),
        "model": ask.deployment.model,
        "output": output,
        "parallel_tool_calls": asked.get("parallel_tool_calls", True),
        "previous_response_id": asked.get("previous_response_id"),
        "metadata": asked.get("metadata") or {},
        "temperature": asked.get("temperature", 1.0),
        "top_p": asked.get("top_p", 1.0),
        "tool_choice": asked.get("tool_choice", "auto"),
        "tools": asked.get("tools", []),
        "usage": None,
    }
    if ask.azure or "user" in asked:
        value["user"] = asked.get("user")  # Azure always says it
    if status == "in_progress":
        return {key: inner for key, inner in value.items() if key != "usage"}
    if ask.filtered:
        value["content_filters"] = [
            {"blocked": False, "source_type": "prompt", "content_filter_results": PROMPT_RESULTS},
            {"blocked": False, "source_type": "completion", "content_filter_results": CHOICE_RESULTS},
        ]
    return value


def _ended(ask: Ask, item: dict[str, Any], words: list[str], *, cut: bool) -> dict[str, Any]:
    """The whole response; `incomplete` where a text was cut by its limit."""
    short = cut and len(words) < ask.length
    value = _response(ask, "incomplete" if short else "completed", [item])
    if short:
        value["incomplete_details"] = {"reason": "max_output_tokens"}
    value["usage"] = {
        "input_tokens": ask.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": len(words),
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": ask.prompt_tokens + len(words),
    }
    return value


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _message(ask: Ask, status: str, content: list[Any]) -> dict[str, Any]:
    head = {"id": f"msg_{ask.request_id}", "type": "message", "role": "assistant"}
    return {**head, "status": status, "content": content}


def _call(ask: Ask, name: str, status: str, given: str) -> dict[str, Any]:
    head = {"id": f"fc_{ask.request_id}", "type": "function_call", "call_id": f"call_{ask.request_id}"}
    return {**head, "name": name, "arguments": given, "status": status}


def _numbered(events: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    for number, event in enumerate(events):
        yield typed_event({**event, "sequence_number": number})


def _begun(ask: Ask) -> Iterator[dict[str, Any]]:
    for kind in ("response.created", "response.in_progress"):
        yield {"type": kind, "response": _response(ask, "in_progress", [])}


def _text_events(ask: Ask, words: list[str]) -> Iterator[dict[str, Any]]:
    place = {"item_id": f"msg_{ask.request_id}", "output_index": 0, "content_index": 0}
    text = "".join(words)
    yield from _begun(ask)
    yield {"type": "response.output_item.added", "output_index": 0, "item": _message(ask, "in_progress", [])}
    yield {"type": "response.content_part.added", **place, "part": _part("")}
    for piece in ask.pieces(words):
        yield {"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []}
    yield {"type": "response.output_text.done", **place, "text": text, "logprobs": []}
    yield {"type": "response.content_part.done", **place, "part": _part(text)}
    ended = _ended(ask, _message(ask, "completed", [_part(text)]), words, cut=True)
    yield {"type": "response.output_item.done", "output_index": 0, "item": ended["output"][0]}
    yield {"type": f"response.{ended['status']}", "response": ended}


def _tool_events(ask: Ask, name: str) -> Iterator[dict[str, Any]]:
    place = {"item_id": f"fc_{ask.request_id}", "output_index": 0}
    text = arguments(ask)
    middle = len(text) // 2
    yield from _begun(ask)
    yield {"type": "response.output_item.added", "output_index": 0, "item": _call(ask, name, "in_progress", "")}
    for half in (text[:middle], text[middle:]):
        yield {"type": "response.function_call_arguments.delta", **place, "delta": half}
    yield {"type": "response.function_call_arguments.done", **place, "name": name, "arguments": text}
    item = _call(ask, name, "completed", text)
    yield {"type": "response.output_item.done", "output_index": 0, "item": item}
    yield {"type": "response.completed", "response": _ended(ask, item, ask.words(), cut=False)}
