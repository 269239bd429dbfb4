"""Where the requests of a decision log would have gone by another configuration, and for how much.

Pure: it is handed the records. What a deployment was at each moment (out, throttled, busy) it takes from the record of
that request, since a file does not change it: whoever refused then refuses again, and so does whoever stood before the
one that served. A deployment that the old configuration does not have in that place is taken to be able. What would
have come of other queues and other quotas nobody knows, and nothing here says so.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

from router.balancing.prices import cost_nano_usd
from router.config.snapshot import Snapshot
from router.model.decision import ACCEPTED, Decision
from router.model.fleet import Deployment, Price
from router.model.keys import ApiKey
from router.model.outcome import Usage
from router.model.plan import Plan
from router.model.policy import Prefer

_UNSERVED: Final = frozenset({"refused", "upstream_error"})  # outcomes that other deployments might have changed
_DEFAULT_CAPACITY: Final = 100_000.0  # tokens a minute, where a file says nothing
_TOKENS_A_REQUEST: Final = 1000.0  # where it says requests

_Asked: TypeAlias = tuple[str, str]  # model and operation: whose requests are alike


class Placed(NamedTuple):
    """Who serves a request, or why nobody does."""

    deployment: str = ""
    cloud: str = ""
    why: str = ""


class Move(NamedTuple):
    """From one cloud to another, or from a cloud to nobody, who is the empty one."""

    workload: str
    before: str
    after: str


@dataclass(slots=True)
class Row:
    """What one deployment serves of one workload. Costs are of the requests whose tokens and price are known."""

    before: int = 0
    after: int = 0
    before_nano_usd: int = 0
    after_nano_usd: int = 0

    def add(self, other: "Row") -> None:
        self.before += other.before
        self.after += other.after
        self.before_nano_usd += other.before_nano_usd
        self.after_nano_usd += other.after_nano_usd


@dataclass(slots=True)
class Found:
    """The sums. `rows`: by workload (the old one), cloud and deployment."""

    requests: int = 0  # that a deployment served, or might have
    aside: int = 0  # that were none of a deployment's: refused for limits, gone, or never understood
    rows: dict[tuple[str, str, str], Row] = field(default_factory=dict)
    moves: Counter[Move] = field(default_factory=Counter)
    lost: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # by workload, model and why
    gained: int = 0  # that nobody served
    elsewhere: int = 0  # at another deployment of the same cloud
    exclusive_left: int = 0  # under an exclusive rule, and then at another cloud
    known: int = 0  # requests whose tokens the ledger has
    estimated: int = 0  # by the mean of the known ones of their model and operation
    unknown: int = 0  # nobody knows their tokens
    unpriced: int = 0  # their tokens are known or estimated, and a price before or after is not


class Replay:
    """Takes the records one by one; its memory grows with the fleet, not with the log."""

    def __init__(self, old: Snapshot, new: Snapshot) -> None:
        self._old, self._new = old, new
        self._old_keys = {key.name for key in old.file_keys}
        self._new_keys = _keys_after(old, new)
        self._credit: dict[tuple[str, str, str, int, str], float] = {}
        self._used: dict[_Asked, list[int]] = {}  # requests, prompt, completion and cached tokens
        self._pending: Counter[tuple[str, _Asked, Placed, Placed]] = Counter()  # whose tokens are not known
        self.found = Found()

    def take(self, decision: Decision, usage: Usage | None) -> None:
        """The next request. `usage`: None where it is not known."""
        found = self.found
        if not decision.model or not (decision.served_by or (decision.offers and decision.outcome in _UNSERVED)):
            found.aside += 1
            return
        found.requests += 1
        placed = self.place(decision)
        self._count(decision, placed)
        asked, was = (decision.model, decision.operation), Placed(decision.served_by, decision.cloud)
        if not was.deployment and not placed.deployment:
            return
        if usage is None:
            self._pending[decision.workload, asked, was, placed] += 1
            return
        found.known += 1
        sums = self._used.setdefault(asked, [0, 0, 0, 0])
        for index, number in enumerate((1, usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)):
            sums[index] += number
        self._pay(decision.workload, was, placed, usage, 1)

    def finish(self) -> Found:
        """Prices those whose tokens are not known by the mean of others, where there are any."""
        for (workload, asked, before, after), count in self._pending.items():
            sums = self._used.get(asked)
            if sums is None:
                self.found.unknown += count
                continue
            self.found.estimated += count
            self._pay(workload, before, after, Usage(*(number // sums[0] for number in sums[1:])), count)
        self._pending.clear()
        return self.found

    def place(self, decision: Decision) -> Placed:
        """Where the new configuration would have had this request served."""
        workload, why = self._workload(decision)
        if why:
            return Placed(why=why)
        model = self._new.aliases.get(decision.model, decision.model)
        plan = self._new.plans.get((workload, model, decision.operation))
        if plan is None:
            return Placed(why=f"{workload} is not served {model} for {decision.operation}")
        was = self._old.plans.get((decision.workload, decision.model, decision.operation))
        known, out = _stood(was, decision)
        for index, tier in enumerate(plan.tiers):
            able = [each for each in tier if each.id not in out]
            if not able:
                continue
            stays = next((each for each in able if each.id == decision.served_by), None)
            if stays is not None and all(each.id in known for each in able):
                return Placed(stays.id, stays.cloud)
            chosen = self._choose(plan, index, able)
            if stays is not None and chosen.id in known:
                chosen = stays  # the balancer's own choice among those that it had
            return Placed(chosen.id, chosen.cloud)
        return Placed(why="everybody who may serve it had refused")

    def _workload(self, decision: Decision) -> tuple[str, str]:
        """By the key, as for any request; and why it is refused, where it is."""
        key = self._new_keys.get(decision.key)
        if key is not None:
            model = self._new.aliases.get(decision.model, decision.model)
            why = "" if key.may_use(model) else f"its key {key.name} may not use {model}"
            return key.workload, why
        if decision.key in self._old_keys:
            return "", f"its key {decision.key} is gone"
        if decision.workload not in self._new.workloads:  # a key of the store
            return "", f"its workload {decision.workload} is gone"
        return decision.workload, ""

    def _choose(self, plan: Plan, index: int, able: Sequence[Deployment]) -> Deployment:
        """In turns, in proportion to capacity; the cheapest, where the rule prefers that."""
        if plan.prefer is Prefer.COST:
            return min(able, key=_dearness)
        keys = [(plan.workload, plan.model, plan.operation, index, each.id) for each in able]
        weights = [_capacity(each) for each in able]
        for key, weight in zip(keys, weights, strict=True):
            self._credit[key] = self._credit.get(key, 0.0) + weight
        best = max(range(len(able)), key=lambda place: self._credit[keys[place]])
        self._credit[keys[best]] -= sum(weights)
        return able[best]

    def _count(self, decision: Decision, placed: Placed) -> None:
        found, workload = self.found, decision.workload
        if decision.served_by:
            self._row(workload, decision.served_by, decision.cloud).before += 1
        if placed.deployment:
            self._row(workload, placed.deployment, placed.cloud).after += 1
        kept, _, cloud = decision.rule.partition(":")
        # Also of those that nobody served: their own cloud was all that they could ask.
        found.exclusive_left += kept == "exclusive" and placed.cloud not in ("", cloud)
        if not decision.served_by:
            found.gained += bool(placed.deployment)
        elif not placed.deployment:
            found.lost[workload, decision.model, placed.why] += 1
        elif placed.cloud != decision.cloud:
            found.moves[Move(workload, decision.cloud, placed.cloud)] += 1
        else:
            found.elsewhere += placed.deployment != decision.served_by

    def _pay(self, workload: str, before: Placed, after: Placed, usage: Usage, count: int) -> None:
        was = _cost(self._old.deployments.get(before.deployment), usage) if before.deployment else 0
        now = _cost(self._new.deployments.get(after.deployment), usage) if after.deployment else 0
        if was is None or now is None:
            self.found.unpriced += count
            return
        if before.deployment:
            self._row(workload, before.deployment, before.cloud).before_nano_usd += count * was
        if after.deployment:
            self._row(workload, after.deployment, after.cloud).after_nano_usd += count * now

    def _row(self, workload: str, deployment: str, cloud: str) -> Row:
        return self.found.rows.setdefault((workload, cloud, deployment), Row())


def sums_by(found: Found, part: int) -> Iterator[tuple[str, Row]]:
    """The rows added up by workload (0), cloud (1) or deployment (2), in order."""
    sums: dict[str, Row] = {}
    for names, row in found.rows.items():
        sums.setdefault(names[part], Row()).add(row)
    yield from sorted(sums.items())


def _keys_after(old: Snapshot, new: Snapshot) -> dict[str, ApiKey]:
    """By the old names: whoever has its secret or its certificate now, or else its name."""
    found = {key.name: key for key in new.file_keys}
    by_secret = {each: key for key in new.file_keys for each in (key.sha256, *key.certificates)}
    for key in reversed(old.file_keys):  # of one that is rotated, the first secret says it
        for each in (*key.certificates, key.sha256):
            if each in by_secret:
                found[key.name] = by_secret[each]
    return found


def _stood(plan: Plan | None, decision: Decision) -> tuple[frozenset[str], frozenset[str]]:
    """The deployments that the old plan has, and those of all that would not have served this request."""
    last = {offer.deployment: offer.outcome for offer in decision.offers}
    out = {name for name, outcome in last.items() if outcome != ACCEPTED and name != decision.served_by}
    tiers = [[each.id for each in tier] for tier in plan.tiers] if plan is not None else []
    for tier in tiers:
        if decision.served_by in tier:
            break
        out.update(tier)
    else:
        if decision.served_by:  # by another plan than this one, so it says nothing of who stood before it
            out -= {name for tier in tiers for name in tier} - last.keys()
    return frozenset(name for tier in tiers for name in tier), frozenset(out)


def _capacity(deployment: Deployment) -> float:
    if deployment.tpm is not None:
        return float(deployment.tpm)
    return deployment.rpm * _TOKENS_A_REQUEST if deployment.rpm is not None else _DEFAULT_CAPACITY


def _dearness(deployment: Deployment) -> tuple[bool, int]:
    price = deployment.price
    figures = (price.prompt_nano_usd_per_mtok + price.completion_nano_usd_per_mtok) if price is not None else 0
    return price is None, figures


def _cost(deployment: Deployment | None, usage: Usage) -> int | None:
    price: Price | None = deployment.price if deployment is not None else None
    if price is None:
        return None
    return cost_nano_usd(price, usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)
