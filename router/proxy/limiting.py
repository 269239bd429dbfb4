"""The limits of keys, workloads and models in the life of a request: taken on arrival, settled at its end.

A request takes all that it needs or nothing, and gives back what it did not use, once. What has no limit costs it the
look at one attribute.
"""

from collections.abc import Callable, Iterable, Mapping
from math import ceil, inf
from time import monotonic
from typing import Final, Protocol, TypeAlias

from router.base.errors import BudgetSpentError, LimitedError
from router.config.allowances import limits_in
from router.config.snapshot import Snapshot
from router.limits.source import Source
from router.limits.terms import Money, Places, Rate, Terms, shadowed, terms_of
from router.model.keys import ApiKey
from router.model.limits import UNLIMITED, Limits
from router.model.outcome import RequestRecord
from router.proxy.allowance import Allowance, Charge, Gate, Gates
from router.proxy.context import Context
from router.proxy.replies import retry_after
from router.telemetry.reading import Numbers

ANY_MOMENT_S: Final = 1.0  # a place comes free whenever a request ends

_WHAT: Final = {"rpm": "requests a minute", "tpm": "tokens a minute", "concurrent": "requests at one time"}
_WHOSE: Final = {"key": "this key", "workload": "all keys of its kind"}
_MINUTE_S: Final = 60.0
Take: TypeAlias = Callable[[Context, Allowance, float], Gate | None]


class Asked(Protocol):
    """A question that a superior was asked."""

    answered: bool


class Supply(Protocol):
    """Where sources come from: this process itself, or a superior of whom they are leased."""

    patience_s: float  # for the superior's answer

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

    def begin(self, spent: Mapping[str, int]) -> None:
        """What is known to be spent of budgets in their present periods, in nano-dollars."""
        ...

    def numbers(self) -> Numbers:
        """What there is to tell of the superior."""
        ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


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
                gate.retire()
                self._supply.release(gate.id)
                continue
            gate.shadow = gate.limit in shadowed(limits)
            if terms != gate.terms:
                gate.adopt(terms)
                self._supply.adapt(gate.id, terms)

    def allowance(self, key: ApiKey) -> Allowance | None:
        """What limits a key; None where nothing does. Good until the next `adopt`."""
        name = key.name
        if name not in self._allowances:
            of_key, of_workload = self._gates("key", name), self._gates("workload", key.workload)
            limited = of_key or of_workload or self._limits["model"]
            self._allowances[name] = Allowance(of_key, of_workload) if limited else None
        return self._allowances[name]

    def admit(self, ctx: Context, allowance: Allowance, now: float) -> Gate | None:
        """Takes the request itself, and its place. Returns the gate whose superior has to be asked first.

        Raises LimitedError. Unless it returns None, it has taken nothing.
        """
        for gate in allowance.arrival:
            wait_s = gate.take(1.0, now)
            if wait_s and not self._only_counts(ctx, gate, 1.0, wait_s, now):
                return self._stop(ctx, allowance.arrival, gate, wait_s, now)
        ctx.admitted = allowance
        if ctx.untaken:
            _count_shadowed(ctx.untaken)
        return None

    def charge(self, ctx: Context, allowance: Allowance, now: float) -> Gate | None:
        """Takes what the body says that it will use, and what its model limits. Returns and raises as `admit`."""
        charge = allowance.charges.get(ctx.plan) or self._charge(ctx, allowance)
        for gate in charge.arrival:
            wait_s = gate.take(1.0, now)
            if wait_s and not self._only_counts(ctx, gate, 1.0, wait_s, now):
                return self._stop(ctx, charge.gates, gate, wait_s, now)
        tokens = ctx.tokens
        for gate in charge.tokens:
            wait_s = gate.take(tokens, now)
            if wait_s and not self._only_counts(ctx, gate, tokens, wait_s, now):
                return self._stop(ctx, charge.gates, gate, wait_s, now)
        if charge.money:
            facts = ctx.facts
            assert facts is not None
            money = ctx.reserved_nano_usd = charge.cost_nano_usd(facts.prompt_tokens, tokens - facts.prompt_tokens)
            for gate in charge.money:
                wait_s = gate.take(money, now)
                if wait_s and not self._only_counts(ctx, gate, money, wait_s, now):
                    return self._stop(ctx, charge.gates, gate, wait_s, now)
        ctx.charged = charge
        if ctx.untaken:
            _count_shadowed([gate for gate in ctx.untaken if gate in charge.gates])
        return None

    async def wait(self, ctx: Context, take: Take, allowance: Allowance, at: Gate | None) -> None:
        """Asks the superior, and takes again, for as long as an answer usually needs. `at`: where `take` stopped.

        Raises as `take`, and ClientGoneError.
        """
        supply, inbound = self._supply, ctx.inbound
        now = monotonic()
        until = now + supply.patience_s
        self.waits += 1
        while at is not None:
            if now >= until:
                raise self._refusal(ctx, at, ANY_MOMENT_S, now)
            asked = supply.ask(at.id, inbound.wake)
            while not asked.answered and now < until:
                await inbound.park(until, _nothing)  # its body may wake it too
                now = monotonic()
            at = take(ctx, allowance, now)

    def settle(self, ctx: Context, record: RequestRecord, now: float) -> None:
        """Gives back places, and what was reserved of tokens and money and not used; takes what was used beyond."""
        charge = ctx.charged
        if charge is None or ctx.untaken:
            self._settle_part(ctx, record, now)
            return
        for gate in charge.all_places:
            gate.put(1.0, now)
        if charge.tokens:
            unused = _unused(ctx, record)
            for gate in charge.tokens:
                gate.put(unused, now)
        if charge.money:
            unspent = _unspent(ctx, record)
            for gate in charge.money:
                gate.put(unspent, now)

    def _settle_part(self, ctx: Context, record: RequestRecord, now: float) -> None:
        """Likewise of one that ended before its body was read, or passed gates that only count."""
        admitted, charge = ctx.admitted, ctx.charged
        assert admitted is not None
        back = [(gate, 1.0) for gate in (charge.all_places if charge is not None else admitted.places)]
        if charge is not None:
            back += [(gate, _unused(ctx, record)) for gate in charge.tokens]
            back += [(gate, _unspent(ctx, record)) for gate in charge.money]
        for gate, units in back:
            if gate not in ctx.untaken:
                gate.put(units, now)

    def _only_counts(self, ctx: Context, gate: Gate, units: float, wait_s: float, now: float) -> bool:
        """Whether a request passes a gate that has too little for it, since that refuses nobody yet."""
        if not gate.shadow:
            return False
        if wait_s < 0.0:
            self.owe(gate, units, now)
        else:
            ctx.untaken += (gate,)
        return True

    def owe(self, gate: Gate, units: float, now: float) -> None:
        """Takes what this process may not have: nobody waits for its superior, but those who come next are to know."""
        gate.put(-units, now)
        self._supply.ask(gate.id, _nothing)

    def _stop(self, ctx: Context, gates: Gates, at: Gate, wait_s: float, now: float) -> Gate:
        """Gives back what was taken of `gates` before `at`. Raises LimitedError where no superior knows better."""
        for gate in gates[: gates.index(at)]:
            if gate not in ctx.untaken:
                gate.put(_units(ctx, gate), now)
        ctx.untaken = tuple(gate for gate in ctx.untaken if gate not in gates)
        if wait_s < 0.0:
            return at
        raise self._refusal(ctx, at, wait_s, now)

    def _refusal(self, ctx: Context, gate: Gate, wait_s: float, now: float) -> LimitedError:
        """Whoever is refused for its body has not been served either: what it took on arrival is not used."""
        if ctx.admitted is not None:
            for taken in ctx.admitted.arrival:
                if taken not in ctx.untaken:
                    taken.put(1.0, now)
            ctx.admitted = None
        return refusal_by(gate, wait_s)

    def charge_of(self, ctx: Context, allowance: Allowance) -> Charge:
        """What requests of this plan take."""
        return allowance.charges.get(ctx.plan) or self._charge(ctx, allowance)

    def _charge(self, ctx: Context, allowance: Allowance) -> Charge:
        plan = ctx.plan
        assert plan is not None
        of_model = self._gates("model", plan.plan.model)
        charge = allowance.charges[plan] = Charge(allowance, of_model, plan)
        return charge

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


def refusal_by(gate: Gate, wait_s: float) -> LimitedError:
    """Counts what a gate has refused, and says so."""
    gate.refused += 1
    headers = retry_after(wait_s) if wait_s < inf else {"x-should-retry": "false"}
    if isinstance(gate.terms, Money):
        return BudgetSpentError(_refusal_text(gate, wait_s), headers=headers)
    return LimitedError(_refusal_text(gate, wait_s), headers=headers)


def _refusal_text(gate: Gate, wait_s: float) -> str:
    """What was reached, and when it is worth asking again. What a workload or a model has in all is not for clients."""
    whose = _WHOSE.get(gate.scope) or f"the model `{gate.name}`"
    terms = gate.terms
    if isinstance(terms, Money):
        return f"The budget of {whose} for this {terms.period} has too little left for this request."
    amount = round(terms.per_s * _MINUTE_S) if isinstance(terms, Rate) else terms.count
    limit = f"limit of {amount:,} {_WHAT[gate.limit]}" if gate.scope == "key" else f"limit of {_WHAT[gate.limit]}"
    if wait_s == inf:
        return f"The request is larger than the {limit} of {whose} ever lets through."
    if isinstance(terms, Places):
        return f"The {limit} of {whose} is reached. Try again when one of them has ended."
    return f"The {limit} of {whose} is reached. Try again in {ceil(wait_s * 1000) / 1000:g} s."


def _unused(ctx: Context, record: RequestRecord) -> int:
    """Of the tokens that were reserved; less than 0 where more were used."""
    unused = ctx.tokens
    for attempt in record.attempts:
        usage = attempt.usage
        if usage is not None:
            unused -= usage.prompt_tokens + usage.completion_tokens
    return unused


def _unspent(ctx: Context, record: RequestRecord) -> int:
    """Likewise of the money."""
    return ctx.reserved_nano_usd - sum([attempt.cost_nano_usd for attempt in record.attempts])


def _units(ctx: Context, gate: Gate) -> float:
    """What a request takes of a gate, once its body is read."""
    return {"tpm": ctx.tokens, "day_usd": ctx.reserved_nano_usd, "month_usd": ctx.reserved_nano_usd}.get(gate.limit, 1)


def _count_shadowed(gates: Iterable[Gate]) -> None:
    for gate in gates:
        gate.shadowed += 1


def _nothing() -> None:
    """Passing the deadline is a wake like any other."""
