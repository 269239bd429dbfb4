"""Active probes: they cost no tokens, run only where no traffic tells anything, and have the second-last word.

What each provider can be asked without a token differs; where nothing can, a connection has to do. The answer goes to
`Health.probed` of every deployment at the endpoint, since no such question knows about deployments.
"""

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from time import monotonic
from types import MappingProxyType
from typing import Final

from router.base.errors import ConnectError, UpstreamError, UpstreamTimeoutError
from router.health.settings import HealthSettings
from router.jobs.outward import Outward, ProbeTarget, Rounds
from router.model.fleet import AuthKind, Endpoint
from router.providers.targets import encode_path, encode_segment

JITTER: Final = 0.25  # routers that started together shall not ask together
ENGINE_HEALTH: Final = MappingProxyType({"vllm": "/health", "sglang": "/health", "nim": "/v1/health/ready"})
_CONNECT_ONLY: Final = ("oci", "vertex")


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What an endpoint's answer says of it. `ok` None: nothing; then `reason` may still be `credential`."""

    ok: bool | None
    reason: str  # `ok`, `credential`, `throttled`, `unknown`, or what failed: `connect`, `timeout`, `broken`, `status`
    status: int = 0
    took_s: float = 0.0


class Probes:
    """The job. `on_result` gets an endpoint's id."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        settings: Callable[[], HealthSettings],
        endpoints: Callable[[], Iterable[ProbeTarget]],
        on_result: Callable[[str, ProbeResult], None],
    ) -> None:
        self._settings, self._endpoints, self._on_result = settings, endpoints, on_result
        self._outward = Outward(reuse=False)
        self._rounds = Rounds(loop, self._due, self._ask)
        self._rng = random.Random()
        self._asked: dict[str, tuple[float, float]] = {}  # by endpoint: when, and this time's jitter

    def start(self) -> None:
        self._rounds.start()

    async def stop(self) -> None:
        await self._rounds.stop()
        await self._outward.close()

    def _due(self, now: float) -> Iterator[ProbeTarget]:
        settings = self._settings()
        for target in self._endpoints():
            name = target.endpoint.id
            if not target.endpoint.probe:
                continue
            # An endpoint that is out has no traffic that could tell of its return.
            every_s = min(settings.probe_every_s, settings.open_s) if target.out else settings.probe_every_s
            if name not in self._asked:  # the first ones are spread over a whole period
                self._asked[name] = now - every_s * self._rng.random(), 1.0
            asked_at, jitter = self._asked[name]
            heard_at = asked_at if target.out else max(asked_at, target.last_traffic_at)
            if now - heard_at >= every_s * jitter:
                self._asked[name] = now, self._rng.uniform(1 - JITTER, 1 + JITTER)
                yield target

    async def _ask(self, target: ProbeTarget) -> None:
        result = await probe(self._outward, target, self._settings().probe_timeout_s)
        self._on_result(target.endpoint.id, result)


async def probe(outward: Outward, target: ProbeTarget, timeout_s: float) -> ProbeResult:
    """Asks one endpoint. Never raises for what it does."""
    endpoint = target.endpoint
    question = question_for(endpoint)
    # Without the credential, which may still be on its way, the answer would be a 401 of our own making.
    known = bool(target.credential) or endpoint.credential.kind is AuthKind.NONE
    began = monotonic()
    try:
        if question is None or not known:
            await outward.connect(target, timeout_s)
            return ProbeResult(True, "ok", 0, monotonic() - began)
        status, _ = await outward.get(target, question, timeout_s)
    except ConnectError:
        return ProbeResult(False, "connect", 0, monotonic() - began)
    except UpstreamTimeoutError:
        return ProbeResult(False, "timeout", 0, monotonic() - began)
    except UpstreamError:
        return ProbeResult(False, "broken", 0, monotonic() - began)
    ok, reason = meaning_of(status)
    return ProbeResult(ok, reason, status, monotonic() - began)


def question_for(endpoint: Endpoint) -> str | None:
    """Path and query of what may be asked for nothing; None: only whether it takes connections."""
    path = endpoint.base_url.path
    if endpoint.load in ENGINE_HEALTH:  # beside the API, not below it
        return _encoded(path.removesuffix("/v1")) + ENGINE_HEALTH[endpoint.load]
    if endpoint.provider in _CONNECT_ONLY:
        return None
    if endpoint.provider != "azure_openai":
        return _encoded(path) + "/models"
    resource = _encoded(path.removesuffix("/openai/v1").removesuffix("/openai")) + "/openai"
    if endpoint.api_version == "v1":
        return resource + "/v1/models"
    return f"{resource}/models?api-version={encode_segment(endpoint.api_version).decode()}"


def meaning_of(status: int) -> tuple[bool | None, str]:
    """An answer that is neither a success nor the server's own failure says that somebody is there, and no more."""
    if 200 <= status < 300:
        return True, "ok"
    if status in (401, 403):
        return None, "credential"
    if status == 429:
        return None, "throttled"
    return (False, "status") if status >= 500 else (None, "unknown")


def _encoded(path: str) -> str:
    return encode_path(path).decode()
