"""What a right answer is. Everything is checked: a fast answer that is wrong is worse than a slow one.

Four ways to fail, from the client's side. Only the last is never honest: it claims success, or says nothing of use.
"""

import re
from typing import Any, Final, Protocol

import orjson

EVENT_STREAM: Final = "text/event-stream"
_DONE: Final = b"[DONE]"
_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
_ENDINGS: Final = ("response.completed", "response.incomplete")


class FailedError(Exception):
    """A request that was not served. Its text names the cause, and nothing of the one request: so texts add up."""


class RefusedError(FailedError):
    """An error in OpenAI's shape."""


class ToldError(FailedError):
    """A stream that broke and said so, by an error event."""


class CutError(FailedError):
    """The connection could not be made, or ended early, or was silent for too long."""


class WrongAnswerError(FailedError):
    """An answer that is not what it claims to be."""


def require(fact: bool, what: str) -> None:
    if not fact:
        raise WrongAnswerError(what)


def refuse(status: int, content_type: str, body: bytes) -> None:
    """Judges an answer that is no 200. Always raises: RefusedError where it has the shape of an error."""
    error = _object(body, "an error that is no JSON").get("error") if content_type.startswith("application/json") else 0
    if not isinstance(error, dict):
        raise WrongAnswerError(f"{status} without an error object")
    require(isinstance(error.get("message"), str) and bool(error["message"]), f"{status} without a message")
    require(isinstance(error.get("type"), str), f"{status} without a type")
    require({"param", "code"} <= error.keys(), f"{status} without param or code")
    raise RefusedError(f"{status} {error['code']}")


def head(headers: dict[str, str], content_type: str) -> None:
    """Judges the head of a 200."""
    require(headers.get("content-type", "").startswith(content_type), f"not {content_type}")
    require(_ID.fullmatch(headers.get("x-request-id", "")) is not None, "without x-request-id")


def chat(body: bytes) -> None:
    answer = _object(body)
    require(answer.get("object") == "chat.completion", "no chat.completion")
    choices = answer.get("choices") or []
    require(len(choices) == 1, "not one choice")
    require(isinstance(choices[0]["message"]["content"], str), "a choice without text")
    require(choices[0].get("finish_reason") in ("stop", "length"), "a choice without its end")
    usage = answer.get("usage") or {}
    total = usage.get("prompt_tokens", 0) + usage.get("completion_tokens", 0)
    require(0 < total == usage.get("total_tokens"), "usage that does not add up")


def embeddings(body: bytes, inputs: int) -> None:
    data = _object(body).get("data") or []
    require(len(data) == inputs, "not a vector for each input")
    require([each.get("index") for each in data] == list(range(inputs)), "vectors out of order")
    lengths = {len(each["embedding"]) for each in data}
    require(len(lengths) == 1 and 0 not in lengths, "vectors of different lengths")


def response(answer: object, marker: str) -> None:
    """A response, whole or as its stream's last event has it. `marker`: what we sent as metadata."""
    require(isinstance(answer, dict) and answer.get("object") == "response", "no response")
    assert isinstance(answer, dict)
    require(answer.get("status") in ("completed", "incomplete"), "a response without its end")
    require(bool(answer.get("output")), "a response without output")
    require((answer.get("metadata") or {}).get("marker") == marker, "the answer to another request")


def whole_response(body: bytes, marker: str) -> None:
    response(_object(body), marker)


class Stream(Protocol):
    """Reads a stream event by event; `tokens`: events with text so far."""

    tokens: int

    def event(self, event: bytes) -> bool:
        """Whether it carries text. Raises ToldError, WrongAnswerError."""
        ...

    def end(self) -> None:
        """Judges what has come when the framing ended well."""
        ...


class ChatStream:
    """Reads a chat stream event by event; `tokens`: events with text so far."""

    def __init__(self) -> None:
        self.tokens = 0
        self._open: set[int] = set()
        self._ended: set[int] = set()
        self._done = False

    def event(self, event: bytes) -> bool:
        """Whether it carries text. Raises ToldError, WrongAnswerError."""
        data = _data(event)
        if data is None:
            return False
        require(not self._done, "an event behind [DONE]")
        if data == _DONE:
            self._done = True
            return False
        chunk = _object(data, "an event that is no JSON")
        _told(chunk)
        choices = chunk.get("choices")
        require(isinstance(choices, list), "a chunk without choices")
        assert isinstance(choices, list)
        require(bool(choices) or not chunk.get("usage"), "usage that nobody asked for")
        texts = [self._choice(choice) for choice in choices]
        return any(texts)

    def end(self) -> None:
        """Judges what has come when the framing ended well."""
        require(self._done, "a stream without [DONE]")
        require(bool(self._open) and self._open == self._ended, "a stream without finish_reason")

    def _choice(self, choice: dict[str, Any]) -> bool:
        index = choice.get("index", -1)
        self._open.add(index)
        if choice.get("finish_reason"):
            self._ended.add(index)
        delta = choice.get("delta") or {}
        if not delta.get("content"):
            return False
        require(index not in self._ended or bool(choice.get("finish_reason")), "text behind its finish_reason")
        self.tokens += 1
        return True


class ResponseStream:
    """Reads a stream of the responses API event by event."""

    def __init__(self, marker: str) -> None:
        self.tokens = 0
        self._marker = marker
        self._number = -1
        self._text = ""
        self._ended = False

    def event(self, event: bytes) -> bool:
        """Whether it carries text. Raises ToldError, WrongAnswerError."""
        data = _data(event)
        if data is None:
            return False
        require(not self._ended, "an event behind the last one")
        found = _object(data, "an event that is no JSON")
        _told(found)
        kind, number = found.get("type"), found.get("sequence_number")
        require(number == self._number + 1, "events out of order")
        self._number += 1
        if kind == "response.output_text.delta":
            self.tokens += 1
            self._text += found["delta"]
            return True
        if kind == "response.output_text.done":
            require(found.get("text") == self._text, "deltas that are not the text")
        elif kind in _ENDINGS:
            response(found.get("response"), self._marker)
            self._ended = True
        return False

    def end(self) -> None:
        require(self._ended, "a stream without response.completed")


def _data(event: bytes) -> bytes | None:
    """The data of an event; None: it has none, and is a comment."""
    found = None
    for line in event.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            require(found is None, "an event with two lines of data")
            found = value.removeprefix(b" ")
        else:
            require(field in (b"", b"event", b"id", b"retry"), "a line that is no SSE")
    return found


def _told(found: dict[str, Any]) -> None:
    """Raises ToldError where the event is an error."""
    error = found.get("error") if found.get("type") != "error" else found.get("error", found)
    if error:
        raise ToldError(str(error.get("code")) if isinstance(error, dict) else "no code")


def _object(body: bytes, what: str = "an answer that is no JSON") -> dict[str, Any]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise WrongAnswerError(what) from None
    require(isinstance(found, dict), what)
    assert isinstance(found, dict)
    return found
