"""Deployments and requests that are no more than what a choice looks at."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from router.model.decision import Decision, Leave
from router.model.plan import Permit
from router.model.policy import Policy
from router.proxy.backend import Standing
from router.proxy.context import Context
from router.proxy.fleet import Tier
from router.proxy.runtime import Runtime


@dataclass(eq=False)
class FakeBackend:
    """Refuses for as long as it is told to: always (`standing`), or this request (`now`)."""

    standing: str = ""
    now: str = ""
    avoided: int = 0

    def refusal(self, _now: float) -> str:
        return self.standing

    def refusal_of(self, _tokens: int, _now: float) -> str:
        return self.now


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
