"""The limits of keys, workloads and models in the life of a request: taken on arrival, settled at its end.

A request takes all that it needs or nothing, and gives back what it did not use, once. What has no limit costs it the
look at one attribute.
"""

from collections.abc import Callable, Mapping
from math import inf
from time import monotonic
from typing import Final, Protocol, TypeAlias

from router.base.errors import BudgetSpentError, LimitedError
from router.config.allowances import limits_in
from router.config.snapshot import Snapshot
from router.limits.source import Source
from router.limits.terms import Money, Terms, shadowed, terms_of
from router.model.keys import ApiKey
from router.model.limits import UNLIMITED, Limits
from router.model.outcome import RequestRecord
from router.proxy.allowance import Allowance, Charge, Gate, Gates, Stop
from router.proxy.context import Context
from router.proxy.replies import retry_after

PATIENCE_S: Final = 0.05  # for a superior's answer
ANY_MOMENT_S: Final = 1.0  # a place comes free whenever a request ends

_WHAT: Final = {"rpm": "requests a minute", "tpm": "tokens a minute", "concurrent": "requests at one time"}
_WHOSE: Final = {"key": "this key", "workload": "all keys of its kind"}
Take: TypeAlias = Callable[[Context, Allowance, float], Stop | None]


class Asked(Protocol):
    """A question that a superior was asked."""

    answered: bool


class Supply(Protocol):
    """Where sources come from: this process itself, or a superior of whom they are leased."""

    def source(self, limit_id: str, terms: Terms) -> Source: ...

    def adapt(self, limit_id: str, terms: Terms) -> None:
        """Other figures for a limit that is in use."""
        ...

    def release(self, limit_id: str) -> None:
        """There is no such limit any more."""
        ...

    def ask(self, limit_id: str, wake: Callable[[], None]) -> Asked:
        """Tells the superior at once what this lease lacks; wakes when it has answered."""
        ...


class Limiting:
    """All limits of one process. Gates are made when a limit is first used, and outlive a reload that keeps it."""

    def __init__(self, supply: Supply) -> None:
        self._supply = supply
        self._limits: Mapping[str, Mapping[str, Limits]] = {}  # by scope and name
        self._allowances: dict[str, Allowance | None] = {}  # by key
        self.gates: dict[str, Gate] = {}  # by id
        self.waits = 0  # of requests for a superior

    def adopt(self, snapshot: Snapshot) -> None:
        """Takes over other limits. What was used stays used, and what runs gives back to where it took from."""
        self._limits = limits_in(snapshot)
        self._allowances = {}
        for gate in tuple(self.gates.values()):
            limits = self._limits[gate.scope].get(gate.name, UNLIMITED)
            terms = terms_of(limits).get(gate.limit)
            if terms is None:
                del self.gates[gate.id]
                self._supply.release(gate.id)
                continue
            gate.shadow = gate.limit in shadowed(limits)
            if terms != gate.terms:
                gate.terms = terms
                self._supply.adapt(gate.id, terms)

    def allowance(self, key: ApiKey) -> Allowance | None:
        """What limits a key; None where nothing does. Good until the next `adopt`."""
        name = key.name
        if name not in self._allowances:
            of_key, of_workload = self._gates("key", name), self._gates("workload", key.workload)
            limited = of_key or of_workload or self._limits["model"]
            self._allowances[name] = Allowance(of_key, of_workload) if limited else None
        return self._allowances[name]

    def admit(self, ctx: Context, allowance: Allowance, now: float) -> Stop | None:
        """Takes the request itself, and its place. Returns the gate whose superior has to be asked first.

        Raises LimitedError.
        """
        if allowance.arrival and (stop := self._take(ctx, allowance.arrival, 1.0, now)) is not None:
            return self._unless_for_good(stop)
        ctx.admitted = allowance
        if ctx.untaken:
            _count_shadowed(ctx.untaken)
        return None

    def charge(self, ctx: Context, allowance: Allowance, now: float) -> Stop | None:
        """Takes what the body says that it will use, and what its model limits. Returns and raises as `admit`."""
        plan, facts, known = ctx.plan, ctx.facts, len(ctx.untaken)
        assert plan is not None
        assert facts is not None
        charge = allowance.charges.get(plan)
        if charge is None:
            charge = allowance.charges[plan] = self._charge(allowance, ctx)
        stop = self._take(ctx, charge.arrival, 1.0, now) if charge.arrival else None
        if stop is None and charge.tokens:
            stop = self._take(ctx, charge.tokens, ctx.tokens, now)
            if stop is not None:
                _give_back(ctx, charge.arrival, 1.0, now)
        if stop is None and charge.money:
            ctx.reserved_nano_usd = charge.cost_nano_usd(facts.prompt_tokens, ctx.tokens - facts.prompt_tokens)
            stop = self._take(ctx, charge.money, ctx.reserved_nano_usd, now)
            if stop is not None:
                _give_back(ctx, charge.tokens, ctx.tokens, now)
                _give_back(ctx, charge.arrival, 1.0, now)
        if stop is not None:
            ctx.untaken = ctx.untaken[:known]
            return self._unless_for_good(stop)
        ctx.charged = charge
        if len(ctx.untaken) > known:
            _count_shadowed(ctx.untaken[known:])
        return None

    async def wait(self, ctx: Context, take: Take, allowance: Allowance, stop: Stop) -> None:
        """Asks the superior, and takes again, for as long as an answer usually needs.

        Raises as `take`, and ClientGoneError.
        """
        supply, inbound = self._supply, ctx.inbound
        now = monotonic()
        until = now + PATIENCE_S
        self.waits += 1
        at: Stop | None = stop
        while at is not None:
            if now >= until:
                raise self._refusal(Stop(at.gate, ANY_MOMENT_S))
            asked = supply.ask(at.gate.id, inbound.wake)
            while not asked.answered and now < until:
                await inbound.park(until, _nothing)  # its body may wake it too
                now = monotonic()
            at = take(ctx, allowance, now)

    def settle(self, ctx: Context, record: RequestRecord, now: float) -> None:
        """Gives back places, and what was reserved of tokens and money and not used; takes what was used beyond."""
        admitted, charged = ctx.admitted, ctx.charged
        assert admitted is not None
        _give_back(ctx, admitted.places, 1.0, now)
        if charged is None:
            return
        if charged.places:
            _give_back(ctx, charged.places, 1.0, now)
        if charged.tokens:
            used = 0
            for attempt in record.attempts:
                if attempt.usage is not None:
                    used += attempt.usage.prompt_tokens + attempt.usage.completion_tokens
            _give_back(ctx, charged.tokens, ctx.tokens - used, now)
        if charged.money:
            spent = sum([attempt.cost_nano_usd for attempt in record.attempts])
            _give_back(ctx, charged.money, ctx.reserved_nano_usd - spent, now)

    def _take(self, ctx: Context, gates: Gates, units: float, now: float) -> Stop | None:
        """Takes so much of each, or of none: then returns the first that had too little."""
        for gate in gates:
            wait_s = gate.take(units, now)
            if wait_s:
                if gate.shadow:
                    if wait_s < 0.0:
                        gate.put(-units, now)  # nobody waits for what refuses nobody: it is owed, and told later
                    else:
                        ctx.untaken += (gate,)
                    continue
                _give_back(ctx, gates[: gates.index(gate)], units, now)
                ctx.untaken = tuple(each for each in ctx.untaken if each not in gates)
                return Stop(gate, wait_s)
        return None

    def _unless_for_good(self, stop: Stop) -> Stop:
        if stop.wait_s >= 0.0:
            raise self._refusal(stop)
        return stop

    def _refusal(self, stop: Stop) -> LimitedError:
        gate, wait_s = stop
        gate.refused += 1
        headers = retry_after(wait_s) if wait_s < inf else {"x-should-retry": "false"}
        if isinstance(gate.terms, Money):
            return BudgetSpentError(
                f"The budget of {_whose(gate)} for this {gate.terms.period} is used up.", headers=headers
            )
        if wait_s == inf:
            text = (
                f"The request is larger than the limit of {_WHAT[gate.limit]} of {_whose(gate)}. Send less at a time."
            )
        else:
            text = f"The limit of {_WHAT[gate.limit]} of {_whose(gate)} is reached. Retry after the wait."
        return LimitedError(text, headers=headers)

    def _charge(self, allowance: Allowance, ctx: Context) -> Charge:
        assert ctx.plan is not None
        of_model = self._gates("model", ctx.plan.plan.model)
        return Charge(of_model, allowance.gates + of_model, ctx.plan)

    def _gates(self, scope: str, name: str) -> Gates:
        limits = self._limits[scope].get(name, UNLIMITED)
        return tuple(self._gate(scope, name, limit, terms, limits) for limit, terms in terms_of(limits).items())

    def _gate(self, scope: str, name: str, limit: str, terms: Terms, limits: Limits) -> Gate:
        limit_id = f"{scope}/{name}/{limit}"
        gate = self.gates.get(limit_id)
        if gate is None:
            gate = self.gates[limit_id] = Gate(scope, name, limit, terms, self._supply.source(limit_id, terms))
            gate.shadow = limit in shadowed(limits)
        return gate


def _give_back(ctx: Context, gates: Gates, units: float, now: float) -> None:
    """To all but those that let the request pass without a unit of theirs."""
    untaken = ctx.untaken
    for gate in gates:
        if not untaken or gate not in untaken:
            gate.put(units, now)


def _count_shadowed(gates: Gates) -> None:
    for gate in gates:
        gate.shadowed += 1


def _whose(gate: Gate) -> str:
    return _WHOSE.get(gate.scope) or f"the model `{gate.name}`"


def _nothing() -> None:
    """Passing the deadline is a wake like any other."""
