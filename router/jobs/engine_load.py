"""Reads the queue and KV-cache gauges of self-hosted engines, a second apart: what only they can know of their load."""

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from types import MappingProxyType
from typing import Final

from router.base.errors import UpstreamError
from router.health.engine import EngineLoad, read_gauges
from router.jobs.outward import Outward, ProbeTarget, Rounds
from router.providers.targets import encode_path

EVERY_S: Final = 1.0
JITTER: Final = 0.25
TIMEOUT_S: Final = 2.0
PAGES: Final = MappingProxyType({"vllm": "/metrics", "sglang": "/metrics", "nim": "/v1/metrics"})


class EngineLoads:
    """The job. `on_load` gets an endpoint's id; an unreadable page is a load of which nothing is known."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        endpoints: Callable[[], Iterable[ProbeTarget]],
        on_load: Callable[[str, EngineLoad], None],
    ) -> None:
        self._endpoints, self._on_load = endpoints, on_load
        self._outward = Outward(reuse=True)
        self._rounds = Rounds(loop, self._due, self._ask)
        self._rng = random.Random()
        self._next_at: dict[str, float] = {}  # by endpoint

    def start(self) -> None:
        self._rounds.start()

    async def stop(self) -> None:
        await self._rounds.stop()
        await self._outward.close()

    def _due(self, now: float) -> Iterator[ProbeTarget]:
        for target in self._endpoints():
            name = target.endpoint.id
            if target.endpoint.load in PAGES and now >= self._next_at.get(name, 0.0):
                self._next_at[name] = now + EVERY_S * self._rng.uniform(1 - JITTER, 1 + JITTER)
                yield target

    async def _ask(self, target: ProbeTarget) -> None:
        endpoint = target.endpoint
        page = encode_path(endpoint.base_url.path.removesuffix("/v1")).decode() + PAGES[endpoint.load]
        load = EngineLoad(at=monotonic())
        try:
            status, body = await self._outward.get(target, page, TIMEOUT_S)
        except UpstreamError:
            pass
        else:
            if status == 200:
                load = read_gauges(body.decode("utf-8", "replace"), endpoint.load, monotonic())
        self._on_load(endpoint.id, load)
