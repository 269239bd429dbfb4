"""One answer, before it is on the wire, and what is known when it is made."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from router.emulator.settings import Deployment, Settings

Headers = tuple[tuple[str, str], ...]

_WORDS: Final = ("river", "stone", "lantern", "copper", "meadow", "signal", "harbour", "amber", "window", "orbit")


@dataclass(slots=True)
class Answer:
    """What goes back. `events` (None: `body` is all) go out one by one, the first `at_once` without a wait."""

    status: int
    content_type: str
    body: bytes = b""
    events: Iterator[bytes] | None = None
    at_once: int = 0
    tokens: int = 0  # what a body that is not streamed takes the time of
    headers: Headers = ()


class RefusedError(Exception):
    """The cloud answers with an error."""

    def __init__(self, status: int, body: bytes, headers: Headers = ()) -> None:
        super().__init__(status)
        self.answer = Answer(status, "application/json", body, headers=headers)


@dataclass(frozen=True, slots=True)
class Ask:
    """What one request asks of one deployment. `fields`: the JSON body, or the text parts of a form."""

    operation: str
    fields: Mapping[str, Any]
    files: Mapping[str, bytes]
    deployment: Deployment
    settings: Settings
    source: str  # the endpoint's id: two clouds with one seed do not say the same
    request_id: str
    created: int  # wall seconds
    length: int  # words that the answer would have without a limit of the request
    prompt_tokens: int
    azure: bool
    filtered: bool  # content filter annotations

    @property
    def streamed(self) -> bool:
        return self.fields.get("stream") in (True, "true", "True")

    @property
    def asynchronous(self) -> bool:
        return self.filtered and self.settings.async_filter

    def limit(self, *names: str) -> int | None:
        """The first of these fields that is a number."""
        return next((self.fields[name] for name in names if isinstance(self.fields.get(name), int)), None)

    def words(self, index: int = 0, limit: int | None = None) -> list[str]:
        """The answer as words whose concatenation is the text: the deployment's name, then what the seed gives."""
        rng = random.Random(f"{self.settings.seed}/{self.source}/{self.deployment.name}/{index}")
        count = self.length if limit is None else min(self.length, max(1, limit))
        return [self.deployment.name, *(" " + rng.choice(_WORDS) for _ in range(count - 1))]

    def pieces(self, words: list[str]) -> Iterator[str]:
        """The words as an event each carries them."""
        step = self.settings.chunk_tokens
        return ("".join(words[at : at + step]) for at in range(0, len(words), step))


@dataclass(slots=True)
class Tokens:
    """Usage, counted while the answer is made."""

    prompt: int
    completion: int = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }


def json_answer(value: object, tokens: int = 0) -> Answer:
    return Answer(200, "application/json", orjson.dumps(value), tokens=tokens)


def stream_answer(events: Iterator[bytes], at_once: int = 0) -> Answer:
    return Answer(200, "text/event-stream; charset=utf-8", events=events, at_once=at_once)


def data_event(value: object) -> bytes:
    """An event that is all data, as chat has them."""
    return b"data: " + orjson.dumps(value) + b"\n\n"


def typed_event(value: Mapping[str, Any]) -> bytes:
    """An event under its own type's name, as the responses API has them."""
    return b"event: " + str(value["type"]).encode() + b"\ndata: " + orjson.dumps(value) + b"\n\n"


DONE: Final = b"data: [DONE]\n\n"
