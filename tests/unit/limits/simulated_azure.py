"""A standard deployment as Azure describes it, for the twin to be wrong about.

Written from the documents, not from the twin and not from the emulator: it counts with a tokeniser of its own, starts
its minute when it likes, has another client, loses part of its quota, and says of all that what it is told to say.
"""

import heapq
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from router.health.cooldown import Cooldown
from router.limits.quota_twin import QuotaTwin

Headers = dict[bytes, bytes]
NETWORK_S: Final = (0.004, 0.02)


@dataclass(frozen=True)
class Reality:
    """What is true, and what is said of it."""

    tpm: int = 300_000
    rpm: int | None = None
    slices_s: tuple[int, ...] = (1, 10)  # over which the requests are checked
    phase_s: float = 17.3  # when the minute starts again
    bias: float = 1.0  # their count of a prompt over ours, for all
    spread: tuple[float, float] = (1.0, 1.0)  # and for each
    unseen: Callable[[float], float] = lambda _: 0.0  # tokens a second that somebody else uses
    limit: Callable[[float], float] = lambda _: 1.0  # share of the quota that is in force
    headers: str = "shown"  # or missing, untracked, left_only
    made: str = "arrival"  # when the headers' figures are read: at the request's arrival, or at its answer
    whole: Callable[[float], int] = math.ceil  # how seconds are rounded
    first_byte_s: float = 0.5  # median
    wait: str = "seconds"  # how a 429 says it: in whole seconds, in ms, or not at all


@dataclass
class SimulatedAzure:
    """The server's side: counters, and nothing of what the router believes."""

    reality: Reality
    rng: random.Random
    minute: int = -1
    tokens: float = 0.0
    requests: dict[int, tuple[int, int]] = field(default_factory=dict)  # by slice length: its number, and its count
    others_at: float = 0.0

    def arrive(self, tokens: float, now: float) -> tuple[bool, float]:
        """Counts a request; returns whether it is admitted, and else the seconds to wait."""
        reality = self.reality
        self.roll(now)
        wait_s = 0.0
        for length in reality.slices_s if reality.rpm is not None else ():
            number, count = self.requests.get(length, (-1, 0))
            current = int((now + reality.phase_s) // length)
            count = count + 1 if number == current else 1
            self.requests[length] = current, count
            if count > self.slice_limit(length, now):
                wait_s = max(wait_s, (current + 1) * length - (now + reality.phase_s))
        if wait_s:
            return False, wait_s
        if self.tokens + tokens > self.token_limit(now):
            return False, self.minute_left_s(now)
        self.tokens += tokens
        return True, 0.0

    def roll(self, now: float) -> None:
        """Lets time pass: the minute ends, and others use what is theirs to use."""
        minute = int((now + self.reality.phase_s) // 60)
        if minute != self.minute:
            self.minute, self.tokens, self.others_at = minute, 0.0, max(self.others_at, now - 0.1)
        used = self.reality.unseen(now) * (now - self.others_at) * self.rng.uniform(0.5, 1.5)
        self.tokens = min(self.tokens + used, max(self.token_limit(now), self.tokens))
        self.others_at = now

    def token_limit(self, now: float) -> float:
        return self.reality.tpm * self.reality.limit(now)

    def slice_limit(self, length: int, now: float) -> int:
        return max(1, math.floor((self.reality.rpm or 0) * self.reality.limit(now) * length / 60))

    def minute_left_s(self, now: float) -> float:
        return 60.0 - (now + self.reality.phase_s) % 60.0

    def headers(self, now: float) -> Headers:
        reality = self.reality
        self.roll(now)
        if reality.headers == "missing":
            return {}
        left = max(0, int(self.token_limit(now) - self.tokens))
        if reality.headers == "left_only":
            return {b"x-ratelimit-remaining-tokens": b"%d" % left}
        if reality.headers == "untracked":
            named = {b"x-ratelimit-limit-tokens": -1, b"x-ratelimit-remaining-tokens": -1}
            named |= {b"x-ratelimit-limit-requests": -1, b"x-ratelimit-remaining-requests": -1}
            return {name: b"%d" % value for name, value in (named | {b"x-ratelimit-reset-tokens": 0}).items()}
        told = {
            b"x-ratelimit-limit-tokens": int(self.token_limit(now)),
            b"x-ratelimit-remaining-tokens": left,
            b"x-ratelimit-reset-tokens": reality.whole(self.minute_left_s(now)),
        }
        if reality.rpm is not None:
            length = max(reality.slices_s)
            number, count = self.requests.get(length, (-1, 0))
            count = count if number == int((now + reality.phase_s) // length) else 0
            told[b"x-ratelimit-limit-requests"] = int(reality.rpm * reality.limit(now))
            told[b"x-ratelimit-remaining-requests"] = max(0, self.slice_limit(length, now) - count)
            told[b"x-ratelimit-reset-requests"] = reality.whole(length - (now + reality.phase_s) % length)
        return {name: b"%d" % value for name, value in told.items()}


@dataclass
class Result:
    """What a run came to."""

    offered: int = 0
    sent: int = 0
    refused: int = 0
    avoided: int = 0  # the twin said that it would be refused
    parked: int = 0  # told to wait
    tokens: float = 0.0  # admitted, by their count


@dataclass
class Run:
    """A router before one simulated deployment, another region being free: what is not sent here goes there."""

    reality: Reality
    per_s: float  # requests that are offered
    prompt: tuple[int, int] = (50, 450)  # tokens, by our estimate
    completion_max: int = 250
    seconds: float = 900.0
    seed: int = 1
    twin: QuotaTwin | None = None
    result: Result = field(default_factory=Result)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.azure = SimulatedAzure(self.reality, random.Random(self.seed + 1))
        self.cooldown = Cooldown()
        self.events: list[tuple[float, int, Callable[[float], None]]] = []
        self.order = 0

    def go(self) -> Result:
        count = 0
        for at in self._arrivals():
            self._settle_until(at)
            self._offer(at)
            count += 1
        self._settle_until(math.inf)
        self.result.offered = count
        return self.result

    def _arrivals(self) -> Iterator[float]:
        at = self.rng.expovariate(self.per_s)
        while at < self.seconds:
            yield at
            at += self.rng.expovariate(self.per_s)

    def _later(self, at: float, act: Callable[[float], None]) -> None:
        self.order += 1
        heapq.heappush(self.events, (at, self.order, act))

    def _settle_until(self, until: float) -> None:
        while self.events and self.events[0][0] <= until:
            at, _, act = heapq.heappop(self.events)
            act(at)

    def _offer(self, now: float) -> None:
        rng, reality = self.rng, self.reality
        prompt = rng.randint(*self.prompt)
        theirs = prompt * reality.bias * rng.uniform(*reality.spread) + self.completion_max * reality.bias
        network_s, first_byte_s = rng.uniform(*NETWORK_S), reality.first_byte_s * rng.lognormvariate(0.0, 0.5)
        ours = prompt + self.completion_max
        if self.cooldown.active(now):
            self.result.parked += 1
            return
        if self.twin is not None:
            if self.twin.wait_s(ours, now) > 0.0:
                self.result.avoided += 1
                return
            self.twin.charge(ours, now)
        self.result.sent += 1
        self._later(now + network_s, lambda at: self._arrive(theirs, network_s, first_byte_s, at))

    def _arrive(self, theirs: float, network_s: float, first_byte_s: float, now: float) -> None:
        admitted, wait_s = self.azure.arrive(theirs, now)
        if not admitted:
            headers = self.azure.headers(now)
            told = {"seconds": float(math.ceil(wait_s)), "ms": math.ceil(wait_s * 1000) / 1000}.get(self.reality.wait)
            self._later(now + network_s, lambda at: self._refused(headers, told, at))
            return
        self.result.tokens += theirs
        if self.reality.made == "arrival":
            headers = self.azure.headers(now)
            self._later(now + first_byte_s + network_s, lambda at: self._answered(headers, at))
        else:
            self._later(now + first_byte_s, lambda at: self._answer(network_s, at))

    def _answer(self, network_s: float, now: float) -> None:
        headers = self.azure.headers(now)
        self._later(now + network_s, lambda at: self._answered(headers, at))

    def _refused(self, headers: Headers, wait_s: float | None, now: float) -> None:
        self.result.refused += 1
        self.cooldown.start("throttled", wait_s, now)
        if self.twin is not None:
            self.twin.answered(headers, 429, now)
            self.twin.refused(wait_s, now)

    def _answered(self, headers: Headers, now: float) -> None:
        if self.twin is not None:
            self.twin.answered(headers, 200, now)


def compare(reality: Reality, per_s: float, *, seconds: float = 900.0, seed: int = 1) -> tuple[Result, Result]:
    """The same run without and with the twin."""
    without = Run(reality, per_s, seconds=seconds, seed=seed).go()
    twin = QuotaTwin(reality.tpm, reality.rpm, 0.0)
    return without, Run(reality, per_s, seconds=seconds, seed=seed, twin=twin).go()
