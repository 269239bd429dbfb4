"""The audience's own traffic: two flows of chat streams, each with its key, as clients would send them."""

import asyncio
import random
import time
from dataclasses import dataclass
from typing import Final

import aiohttp
import orjson

from router.cli.story.script import MARK

_WHOLE: Final = b"data: [DONE]\n\n"
_WORDS: Final = ("Good morning.", "Translate this sentence into five languages.", "Why is the sky blue at noon? " * 8)


@dataclass(frozen=True, slots=True)
class Flow:
    """One workload's clients. `rate`: requests a second, evenly at random."""

    workload: str
    key: str
    rate: float
    marked: bool = False  # as a customer's: the clouds count them


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as its client saw it. Times are monotonic seconds. `problem`: empty where the answer came whole."""

    workload: str
    sent_at: float
    ended_at: float
    first_byte_s: float
    problem: str

    @property
    def cut(self) -> bool:
        """The answer began well and did not become whole, and the client could see it."""
        return self.problem == CUT


CUT: Final = "the stream broke off"


class Clients:
    """Sends, and keeps what came back in `seen`."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self.seen: list[Seen] = []
        self.sent = 0
        self._http, self._url = http, url
        self._rng = random.Random(7)

    async def send(self, flow: Flow, until: float) -> None:
        """Sends requests of a flow until then (monotonic seconds), and returns when all of them have ended."""
        due = time.monotonic()
        async with asyncio.TaskGroup() as group:
            while (due := due + self._rng.expovariate(flow.rate)) < until:
                await asyncio.sleep(due - time.monotonic())
                group.create_task(self._ask(flow))

    async def _ask(self, flow: Flow) -> None:
        message = {"role": "user", "content": self._rng.choice(_WORDS)}
        body = orjson.dumps({"model": "gpt-4o", "stream": True, "max_tokens": 32, "messages": [message]})
        if flow.marked:
            body = body[:-1] + b"," + MARK + b"}"
        self.sent += 1
        sent_at = time.monotonic()
        first_byte_s, problem = 0.0, ""
        try:
            headers = {"authorization": f"Bearer {flow.key}", "content-type": "application/json"}
            async with self._http.post(f"{self._url}/chat/completions", data=body, headers=headers) as answer:
                first_byte_s = time.monotonic() - sent_at
                content = await answer.read()
            if answer.status != 200:
                problem = f"status {answer.status}, {_code(content)}"
            elif not content.endswith(_WHOLE):
                problem = CUT
        except (aiohttp.ClientError, TimeoutError) as error:
            problem = CUT if first_byte_s else type(error).__name__
        self.seen.append(Seen(flow.workload, sent_at, time.monotonic(), first_byte_s, problem))


def _code(content: bytes) -> str:
    try:
        return str(orjson.loads(content)["error"]["code"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return "without a code"
