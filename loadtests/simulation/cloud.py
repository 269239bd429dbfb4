"""What is true of the deployments, which no router sees: slots, a queue before them, a quota, and what goes wrong."""

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

MINUTE_S: Final = 60.0
KINDS: Final = ("slow", "die", "throttle")


class Timeline:
    """The fake clock, and what is to happen."""

    def __init__(self) -> None:
        self.now = 0.0
        self._number = 0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, when: float, do: Callable[[], None]) -> None:
        self._number += 1  # of two at one instant the one that was said first
        heapq.heappush(self._heap, (when, self._number, do))

    def run(self, until: float) -> None:
        while self._heap and self._heap[0][0] <= until:
            self.now, _, do = heapq.heappop(self._heap)
            do()
        self.now = until


@dataclass(frozen=True, slots=True)
class Event:
    """`kind`: `slow` (first bytes take `factor` times as long), `die`, `throttle` (1/`factor` of the quota is left)."""

    kind: str
    deployment: int
    since_s: float
    until_s: float
    factor: float = 10.0


@dataclass(slots=True, eq=False)
class Job:
    """A request at a deployment. Exactly one of the three calls comes first; `on_end` or `on_failure` comes last."""

    first_byte_s: float
    rest_s: float
    on_first_byte: Callable[[], None]
    on_end: Callable[[], None]
    on_failure: Callable[[], None]
    over: bool = False


@dataclass(slots=True, eq=False)
class Cloud:
    """One deployment: `slots` requests run at one time, the others queue, tokens beyond the quota are refused."""

    timeline: Timeline
    slots: int
    speed: float  # of usual; times are divided by it
    quota_tokens: int  # a minute
    minute_ends: float  # its minutes are not anybody else's
    slow: float = 1.0
    dead: bool = False
    squeezed: float = 1.0
    running: dict[int, Job] = field(default_factory=dict)
    queue: deque[Job] = field(default_factory=deque)
    _used: int = 0

    @property
    def in_flight(self) -> int:
        return len(self.running) + len(self.queue)

    def refused_s(self, tokens: int) -> float:
        """Takes tokens of the quota. Seconds to wait where it is used up, else 0."""
        now = self.timeline.now
        if self._used_now() + tokens > self.quota_tokens / self.squeezed:
            return self.minute_ends - now
        self._used += tokens
        return 0.0

    def rate_headers(self) -> dict[bytes, bytes]:
        limit = int(self.quota_tokens / self.squeezed)
        left = max(0, limit - self._used_now())
        return {
            b"x-ratelimit-limit-tokens": b"%d" % limit,
            b"x-ratelimit-remaining-tokens": b"%d" % left,
            b"x-ratelimit-reset-tokens": b"%d" % (self.minute_ends - self.timeline.now + 1),
        }

    def take(self, job: Job) -> None:
        if len(self.running) < self.slots:
            self._start(job)
        else:
            self.queue.append(job)

    def change(self, event: Event, begins: bool) -> None:
        if event.kind == "slow":
            self.slow = event.factor if begins else 1.0
        elif event.kind == "throttle":
            self.squeezed = event.factor if begins else 1.0
        else:
            self.dead = begins
            lost = [*self.running.values(), *self.queue] if begins else []
            if begins:
                self.running.clear()
                self.queue.clear()
            for job in lost:
                job.over = True
                job.on_failure()

    def _used_now(self) -> int:
        while self.timeline.now >= self.minute_ends:
            self.minute_ends += MINUTE_S
            self._used = 0
        return self._used

    def _start(self, job: Job) -> None:
        self.running[id(job)] = job
        first_at = self.timeline.now + job.first_byte_s * self.slow / self.speed
        self.timeline.at(first_at, lambda: None if job.over else job.on_first_byte())
        self.timeline.at(first_at + job.rest_s / self.speed, lambda: None if job.over else self._end(job))

    def _end(self, job: Job) -> None:
        job.over = True
        del self.running[id(job)]
        job.on_end()
        if self.queue and len(self.running) < self.slots:
            self._start(self.queue.popleft())
