"""Deployments and requests that are no more than what a choice looks at."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from types import SimpleNamespace
from typing import Any, cast

from router.model.decision import Decision, Leave
from router.model.plan import Permit
from router.model.policy import Policy
from router.proxy.backend import Standing
from router.proxy.context import Context
from router.proxy.fleet import Tier
from router.proxy.runtime import Runtime


class FakeQuota:
    """Notes who was turned away."""

    def __init__(self) -> None:
        self.away: list[str] = []
        self.shares: object = None
        self._share_wait_s = 0.0

    def divide(self, wait_s: float) -> None:
        """There are parts, and what is over one waits so long."""
        self.shares, self._share_wait_s = object(), wait_s

    def share_wait_s(self, *_: object) -> float:
        return self._share_wait_s

    def turned_away(self, name: str, *_: object) -> None:
        self.away.append(name)


@dataclass(eq=False)
class FakeBackend:
    """Refuses for as long as it is told to: always (`standing`), or this request (`now`)."""

    standing: str = ""
    now: str = ""
    avoided: int = 0
    quota: FakeQuota = field(default_factory=FakeQuota)

    def refusal(self, _now: float) -> str:
        return self.standing

    def refusal_of(self, _tokens: int, _now: float) -> str:
        return self.now

    def wait_s(self, _tokens: int, _now: float) -> float:
        return inf


@dataclass(eq=False)
class FakeTarget:
    id: str
    cloud: str = "azure"
    backend: FakeBackend = field(default_factory=FakeBackend)

    def __repr__(self) -> str:
        return self.id


class First:
    """A balancer whose choice is known."""

    def pick(self, candidates: Sequence[Any], _work: object, _now: float) -> Any:
        assert candidates, "a balancer is never asked for one of none"
        return candidates[0]


class Log:
    """Takes records, or says that it cannot."""

    def __init__(self, *, full: bool = False) -> None:
        self.full, self.records = full, list[Leave | Decision]()

    def write(self, record: Leave | Decision) -> bool:
        if not self.full:
            self.records.append(record)
        return not self.full


def permit(*clouds: str) -> Permit:
    return Permit("internal", frozenset(clouds), "v1")


def request(*tiers: Sequence[FakeTarget], holder: str = "", holder_tiers: int = 0, attempts: int = 2) -> Context:
    """A request with a plan of these tiers, of which the first are its holder's."""
    standing = Standing()
    live = tuple(Tier(cast(Any, tuple(tier)), First(), standing) for tier in tiers)
    plan = SimpleNamespace(
        tiers=live,
        holder=holder,
        holder_tiers=holder_tiers,
        absent=(),
        home="",
        traffic=SimpleNamespace(policy=Policy(holder_attempts=attempts)),
        labels=("gpt-4o", "chat", f"first_refusal:{holder}", "v1"),
        targets=lambda: (target for tier in live for target in tier.targets),
    )
    inbound = SimpleNamespace(started_at=0.0)
    snapshot = SimpleNamespace(timeouts=SimpleNamespace(total_s=10.0))
    ctx = Context("req_1", cast(Any, inbound), cast(Any, snapshot))
    ctx.plan, ctx.facts = cast(Any, plan), cast(Any, SimpleNamespace(prompt_tokens=1))
    key = SimpleNamespace(name="acme", workload="internal", weight=1.0, priority=None)
    ctx.caller = cast(Any, SimpleNamespace(key=key))
    return ctx


def runtime(log: Log) -> Runtime:
    return cast(Any, SimpleNamespace(decisions=log, clock=SimpleNamespace(wall=lambda: 1.0)))
