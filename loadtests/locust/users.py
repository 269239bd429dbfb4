"""Who asks what. Weights are shares of users and, within a class, of requests; no log of real traffic stands behind
them, so they lean to what is hard: streams, large bodies, clients that leave.

| class | weight | why |
|---|---|---|
| ApiUser | 70 | customers' applications: most of a gateway's keys, interactive, so half of it streams |
| InternalUser | 25 | evaluations and synthetic data: whole answers, long prompts, in the holder's cloud or another |
| LeavingUser | 5 | a closed tab: few, but each leaves a stream that somebody pays for unless it is ended |
"""

import itertools
import random
import time
from collections.abc import Callable
from typing import Any, ClassVar, Final

from locust import User, tag, task

from loadtests.locust import bodies, checks
from loadtests.locust.client import Answer, Connection

CHAT: Final = "/v1/chat/completions"
EMBEDDINGS: Final = "/v1/embeddings"
RESPONSES: Final = "/v1/responses"
POST, TTFT, GAP, TOKENS = "POST", "TTFT", "GAP", "TOKENS/S"
_INPUTS: Final = 4
_numbers = itertools.count()


class RouterUser(User):
    """One client with one connection and one request at a time."""

    abstract = True
    workload: ClassVar[str]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        options = self.environment.parsed_options
        assert options is not None
        assert self.host is not None
        self.rng = random.Random()
        self.model, self.embedding_model = options.chat_model, options.embedding_model
        self.key = getattr(options, f"{self.workload}_key")
        self._think_s: float = options.think_s
        self.connection = Connection(self.host, options.timeout_s)

    def wait_time(self) -> float:
        """Seconds until the next request: people and programs do not ask in step."""
        return self.rng.uniform(0.5, 1.5) * self._think_s

    def on_stop(self) -> None:
        self.connection.close()

    def ask(self, name: str, path: str, body: bytes, check: Callable[[bytes], None]) -> None:
        """A request whose answer comes whole."""
        answer: Answer | None = None
        began = time.perf_counter()
        try:
            answer = self.connection.post(path, self.key, body)
            self._judge_head(answer, "application/json")
            check(bytes(answer.body))
        except (checks.FailedError, KeyError, TypeError, AttributeError) as error:
            self._fire(name, began, answer, _as_failure(error))
        else:
            self._fire(name, began, answer, None)

    def follow(self, name: str, path: str, body: bytes, stream: checks.Stream, leave_after: int = 0) -> None:
        """A request whose answer comes in events. `leave_after`: hangs up after so many with text; 0: stays."""
        answer: Answer | None = None
        began = time.perf_counter()
        times = _Times(began)

        def on_event(event: bytes, now: float) -> bool:
            if stream.event(event):
                times.note(now)
            return not leave_after or stream.tokens < leave_after

        try:
            answer = self.connection.post(path, self.key, body, on_event)
            self._judge_head(answer, checks.EVENT_STREAM)
            if not leave_after or stream.tokens < leave_after:
                checks.require(not answer.body, "bytes behind the last event")
                stream.end()
        except (checks.FailedError, KeyError, TypeError, AttributeError) as error:
            self._fire(name, began, answer, _as_failure(error))
        else:
            self._fire(name, began, answer, None)
        self._log(name, times)

    def _judge_head(self, answer: Answer, content_type: str) -> None:
        if answer.status != 200:
            checks.refuse(answer.status, answer.headers.get("content-type", ""), bytes(answer.body))
        checks.head(answer.headers, content_type)

    def _fire(self, name: str, began: float, answer: Answer | None, error: Exception | None) -> None:
        self.environment.events.request.fire(
            request_type=POST,
            name=name,
            response_time=(time.perf_counter() - began) * 1000,
            response_length=answer.size if answer is not None else 0,
            exception=error,
            context={},
        )

    def _log(self, name: str, times: "_Times") -> None:
        """Beside the requests, not among them: a gap is no request, and must not count in their rates and totals."""
        stats = self.environment.stats
        for kind, values in ((TTFT, times.first_ms), (GAP, times.gaps_ms), (TOKENS, times.rates)):
            if values:
                entry = stats.get(name, kind)
                for value in values:
                    entry.log(value, 0)


class _Times:
    """When the events with text of one stream came."""

    def __init__(self, began: float) -> None:
        self._began, self._last = began, 0.0
        self.first_ms: list[float] = []
        self.gaps_ms: list[float] = []

    def note(self, now: float) -> None:
        if self._last:
            self.gaps_ms.append((now - self._last) * 1000)
        else:
            self.first_ms.append((now - self._began) * 1000)
        self._last = now

    @property
    def rates(self) -> list[float]:
        """Events with text a second, from the first to the last: the emulator and most clouds send a token in each."""
        took_ms = sum(self.gaps_ms)
        return [len(self.gaps_ms) / took_ms * 1000] if took_ms else []


def _as_failure(error: Exception) -> checks.FailedError:
    """What is missing in an answer is its fault, not ours."""
    return error if isinstance(error, checks.FailedError) else checks.WrongAnswerError("an answer without its fields")


class ApiUser(RouterUser):
    """A customer's application."""

    weight = 70
    workload = "api"

    @tag("stream")
    @task(8)
    def chat_stream(self) -> None:
        body = bodies.chat(self.model, self.workload, self.rng, stream=True)
        self.follow("chat stream", CHAT, body, checks.ChatStream())

    @tag("chat")
    @task(4)
    def chat(self) -> None:
        body = bodies.chat(self.model, self.workload, self.rng, stream=False)
        self.ask("chat", CHAT, body, checks.chat)

    @tag("embeddings")
    @task(3)
    def embeddings(self) -> None:
        body = bodies.embeddings(self.embedding_model, self.workload, self.rng, _INPUTS)
        self.ask("embeddings", EMBEDDINGS, body, lambda answer: checks.embeddings(answer, _INPUTS))

    @tag("large")
    @task(2)
    def large_stream(self) -> None:
        body = bodies.large(self.model, self.workload, self.rng.randrange(bodies.VARIANTS), stream=True)
        self.follow("large prompt stream", CHAT, body, checks.ChatStream())

    @tag("responses")
    @task(1)
    def response(self) -> None:
        marker = f"load-{next(_numbers)}"
        body = bodies.responses(self.model, self.workload, marker, self.rng, stream=False)
        self.ask("responses", RESPONSES, body, lambda answer: checks.whole_response(answer, marker))

    @tag("responses", "stream")
    @task(1)
    def response_stream(self) -> None:
        marker = f"load-{next(_numbers)}"
        body = bodies.responses(self.model, self.workload, marker, self.rng, stream=True)
        self.follow("responses stream", RESPONSES, body, checks.ResponseStream(marker))

    @tag("image")
    @task(1)
    def image(self) -> None:
        body = bodies.image(self.model, self.workload, self.rng.randrange(bodies.VARIANTS))
        self.ask("image", CHAT, body, checks.chat)


class InternalUser(RouterUser):
    """Work of one's own: evaluations, synthetic data."""

    weight = 25
    workload = "internal"

    @tag("chat")
    @task(5)
    def chat(self) -> None:
        body = bodies.chat(self.model, self.workload, self.rng, stream=False)
        self.ask("internal chat", CHAT, body, checks.chat)

    @tag("large")
    @task(3)
    def large(self) -> None:
        body = bodies.large(self.model, self.workload, self.rng.randrange(bodies.VARIANTS), stream=False)
        self.ask("internal large prompt", CHAT, body, checks.chat)

    @tag("stream")
    @task(2)
    def chat_stream(self) -> None:
        body = bodies.chat(self.model, self.workload, self.rng, stream=True)
        self.follow("internal chat stream", CHAT, body, checks.ChatStream())


class LeavingUser(RouterUser):
    """Reads the beginning of a stream, and is gone."""

    weight = 5
    workload = "api"

    @tag("leave")
    @task
    def leave(self) -> None:
        body = bodies.chat(self.model, self.workload, self.rng, stream=True)
        self.follow("stream left in its middle", CHAT, body, checks.ChatStream(), self.rng.randint(1, 12))
