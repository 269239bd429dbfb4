"""What another configuration changes, and whether traffic may then go where it may not go now.

Pure: of two snapshots. Each section says by name what there is, as texts; what differs between two such descriptions is
a change. No value of a secret is in it, only that it is another one.
"""

import enum
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from math import inf
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from router.config.allowances import budgets_in, dollars, limited_in, rates_in
from router.config.changes import differing, fixed_in
from router.config.reach import exclusive_ahead, moments_ahead, reach_ahead
from router.config.snapshot import Snapshot
from router.model.fleet import BaseUrl, Deployment, Price, Secret
from router.model.limits import Limits
from router.model.plan import Plan
from router.placement import Clause, Exclusive, FirstRefusal, Rule, Spread, Within, written


@dataclass(frozen=True, slots=True)
class Field:
    """One property of what was changed. None: it has none."""

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is not as it was. `exclusive`: its traffic is kept to one cloud by the old configuration.

    `reach`: whether the old configuration's traffic may go further by the new one, less far, or elsewhere; empty where
    that does not change.
    """

    section: str
    name: str
    kind: Literal["added", "removed", "changed"]
    fields: tuple[Field, ...]
    reach: Literal["", "wider", "narrower", "other"] = ""
    exclusive: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """`before`, `after`: versions. `restart`: the paths in the file whose change a running router cannot take over."""

    before: str
    after: str
    restart: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()

    @property
    def loosened(self) -> tuple[Change, ...]:
        """Those by which exclusive traffic may go where it may not go now: of rules and of keys, which plans follow."""
        return tuple(
            each
            for each in self.changes
            if each.exclusive and each.reach in {"wider", "other"} and each.section != "plans"
        )


class _Fact(NamedTuple):
    """`usual`: what it is where nobody says anything, so it is not told of what is new or gone."""

    value: str | Secret
    usual: bool = False


_Facts: TypeAlias = dict[str, _Fact]
_Things: TypeAlias = dict[str, _Facts]
_Asked: TypeAlias = tuple[str, str, str]


def compare(old: Snapshot, new: Snapshot, wall: float) -> Comparison:
    """All that differs from the moment `wall` (wall seconds) on; what only held before it is history."""
    old, new = old.seen_at(wall), new.seen_at(wall)
    changes: list[Change] = [*_placements(old, new, wall), *_plans(old, new, wall)]
    for section, described in _SECTIONS.items():
        changes += _differences(section, described(old), described(new))
    both = old.deployments.keys() & new.deployments.keys()  # of what is new or gone, the price is told with it
    was, now = ({name: _priced(each.deployments[name]) for name in sorted(both)} for each in (old, new))
    changes += _differences("prices", was, now)
    changes += _keys(old, new, wall)
    restart = tuple(differing(fixed_in(old), fixed_in(new)))
    return Comparison(old.version, new.version, restart, tuple(changes))


def _differences(section: str, old: _Things, new: _Things) -> Iterator[Change]:
    for name in dict.fromkeys((*old, *new)):
        was, now = old.get(name), new.get(name)
        if was is None or now is None:
            facts = was if was is not None else now
            assert facts is not None
            told = [(key, fact) for key, fact in facts.items() if not fact.usual]
            if now is None:
                yield Change(section, name, "removed", tuple(Field(key, _shown(fact), None) for key, fact in told))
            else:
                yield Change(section, name, "added", tuple(Field(key, None, _shown(fact)) for key, fact in told))
        else:
            changed = (_field(key, was.get(key), now.get(key)) for key in dict.fromkeys((*was, *now)))
            if found := tuple(field for field in changed if field is not None):
                yield Change(section, name, "changed", found)


def _field(name: str, was: _Fact | None, now: _Fact | None) -> Field | None:
    before, after = (fact.value if fact is not None else None for fact in (was, now))
    if before == after:
        return None
    shown = _shown(now)
    if isinstance(before, Secret) and isinstance(after, Secret):
        shown = "(another secret)"
    return Field(name, _shown(was), shown)


def _shown(fact: _Fact | None) -> str | None:
    if fact is None:
        return None
    return "(a secret)" if isinstance(fact.value, Secret) else fact.value


# -- where traffic may go


def _placements(old: Snapshot, new: Snapshot, wall: float) -> Iterator[Change]:
    """Each workload's rule, with the reach that it has from now on."""
    for change in _differences("placement", _rules(old), _rules(new)):
        name = change.name
        reach = _reach(old, new, name, name, wall) if change.kind == "changed" else ""
        exclusive = name in old.workloads and exclusive_ahead(old, name, wall)
        yield Change("placement", name, change.kind, change.fields, reach, exclusive)


def _reach(old: Snapshot, new: Snapshot, was: str, now: str, wall: float) -> Literal["", "wider", "narrower", "other"]:
    """How far traffic of one workload goes that is another's by the new configuration, or the same's."""
    wider = narrower = False
    for moment in (*sorted({*moments_ahead(old, wall), *moments_ahead(new, wall)}), None):
        before, after = reach_ahead(old, was, wall, moment), reach_ahead(new, now, wall, moment)
        wider |= not before.covers(after)
        narrower |= not after.covers(before)
    if wider and narrower:
        return "other"
    return "wider" if wider else "narrower" if narrower else ""


def _rules(snapshot: Snapshot) -> _Things:
    return {
        name: {
            "rule": _Fact(_clause_text(workload.schedule.clause)),
            "rule_version": _Fact(workload.permit.rule_version, usual=True),
        }
        for name, workload in snapshot.workloads.items()
    }


def _clause_text(clause: Clause) -> str:
    text = _rule_text(clause.rule)
    if clause.since > -inf:
        text += f" from {written(clause.since)}"
    if clause.condition is not None and clause.condition.declared == inf:
        text += f" until {clause.condition.name} is declared met"
    elif clause.until < inf:
        text += f" until {written(clause.until)}"
    return text if clause.otherwise is None else f"{text}; else {_clause_text(clause.otherwise)}"


def _rule_text(rule: Rule) -> str:
    match rule:
        case Within(inner, zones):
            return f"{_rule_text(inner)} in {', '.join(sorted(zones))}"
        case Exclusive(cloud):
            text = f"exclusive: {cloud}"
        case FirstRefusal(holder, then, attempts):
            order = ", then ".join(" or ".join(sorted(group)) for group in then)
            text = f"first_refusal: {holder} ({attempts} attempts), then {order}"
        case Spread(names):
            text = f"spread: {', '.join(sorted(names))}"
        case _:
            text = rule.reason
    return text if rule.prefer.value == "balanced" else f"{text} by {rule.prefer.value}"


def _plans(old: Snapshot, new: Snapshot, wall: float) -> Iterator[Change]:
    """What each workload's requests are offered to, now and wherever that becomes another difference later."""
    known: list[Change] = []
    for moment in sorted({wall, *moments_ahead(old, wall), *moments_ahead(new, wall)}):
        found = list(_plans_at(old.seen_at(moment).plans, new.seen_at(moment).plans))
        since = f" from {written(moment)}" if moment > wall else ""
        for each in found:
            if each not in known:
                yield Change(each.section, each.name + since, each.kind, each.fields, each.reach, each.exclusive)
        known = found


def _plans_at(old: Mapping[_Asked, Plan], new: Mapping[_Asked, Plan]) -> Iterator[Change]:
    grouped: dict[tuple[str, str, tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for asked in dict.fromkeys((*old, *new)):
        was, now = (_tiers(plans[asked]) if asked in plans else () for plans in (old, new))
        if was != now:
            grouped.setdefault((asked[0], asked[1], was, now), []).append(asked[2])
    for (workload, model, was, now), operations in grouped.items():
        asked = (workload, model, operations[0])
        tiers = range(max(len(was), len(now)))
        changed = ((f"tier {each + 1}", _at(was, each), _at(now, each)) for each in tiers)
        yield Change(
            "plans",
            f"{workload}: {model} ({', '.join(operations)})",
            "changed" if was and now else "removed" if was else "added",
            tuple(Field(*field) for field in changed if field[1] != field[2]),
            _moved(old[asked], new[asked]) if was and now else "",
            was != () and old[asked].reason.startswith("exclusive:"),
        )


def _at(tiers: tuple[str, ...], index: int) -> str | None:
    return tiers[index] if index < len(tiers) else None


def _tiers(plan: Plan) -> tuple[str, ...]:
    return tuple(", ".join(f"{each.cloud}: {each.id}" for each in tier) for tier in plan.tiers)


def _moved(old: Plan, new: Plan) -> Literal["", "wider", "narrower", "other"]:
    """By the clouds that its deployments are at."""
    was, now = ({each.cloud for tier in plan.tiers for each in tier} for plan in (old, new))
    if now - was:
        return "other" if was - now else "wider"
    return "narrower" if was - now else ""


def _keys(old: Snapshot, new: Snapshot, wall: float) -> Iterator[Change]:
    """Keys of the files. One that changes its workload takes its traffic with it, and so does a secret its key."""
    of_new = {key.name: key.workload for key in new.file_keys}
    for change in _differences("keys", _keys_of(old), _keys_of(new)):
        before = _workloads_before(old, new, change.name)
        now = of_new.get(change.name)
        reach: Literal["", "wider", "narrower", "other"] = ""
        if now is not None:
            reach = _both([_reach(old, new, was, now, wall) for was in before if was != now])
        exclusive = any(exclusive_ahead(old, was, wall) for was in before)
        yield Change("keys", change.name, change.kind, change.fields, reach, exclusive)


def _workloads_before(old: Snapshot, new: Snapshot, name: str) -> list[str]:
    """Those of whoever will come with that key: by its name, its secrets and its certificates."""
    own = {each for key in new.file_keys if key.name == name for each in (key.sha256, *key.certificates)}
    return sorted(
        {
            key.workload
            for key in old.file_keys
            if key.name == name or not own.isdisjoint((key.sha256, *key.certificates))
        }
    )


def _both(reaches: Iterable[str]) -> Literal["", "wider", "narrower", "other"]:
    found = set(reaches) - {""}
    if found == {"wider"}:
        return "wider"
    if found == {"narrower"}:
        return "narrower"
    return "other" if found else ""


def _keys_of(snapshot: Snapshot) -> _Things:
    things: _Things = {}
    for key in snapshot.file_keys:
        same = [each for each in snapshot.file_keys if each.name == key.name]
        facts = things[key.name] = _facts(key, ("name", "sha256", "limits", "models", "expires_at"))
        facts["models"] = _Fact("all" if key.models is None else ", ".join(sorted(key.models)) or "none")
        facts["sha256"] = _Fact(Secret(" ".join(sorted(each.sha256.hex() for each in same))), usual=True)
        ends = sorted({written(each.expires_at) or "never" for each in same})
        facts["expires"] = _Fact(", ".join(ends), usual=ends == ["never"])
    return things


# -- the other sections, each by the names of what it has


def _hosts(snapshot: Snapshot) -> _Things:
    return {cloud: {"hosts": _Fact(", ".join(sorted(set(hosts))))} for cloud, hosts in snapshot.hosts.items()}


def _conditions(snapshot: Snapshot) -> _Things:
    return {
        each.name: {"declared": _Fact(written(each.declared) or "not met"), "by": _Fact(each.by, not each.by)}
        for each in snapshot.conditions
    }


def _endpoints(snapshot: Snapshot) -> _Things:
    return {name: _facts(endpoint, ("id",)) for name, endpoint in snapshot.endpoints.items()}


def _deployments(snapshot: Snapshot) -> _Things:
    return {
        name: {
            "cloud": _Fact(each.cloud),
            **_facts(each, ("endpoint", "name", "price", "flat_nano_usd_per_month")),
        }
        for name, each in snapshot.deployments.items()
    }


def _priced(deployment: Deployment) -> _Facts:
    facts = {}
    price = deployment.price
    if price is not None:
        facts = {
            field.name.replace("nano_usd", "usd"): _Fact(dollars(value))
            for field in fields(Price)
            if (value := getattr(price, field.name)) is not None
        }
    if deployment.flat_nano_usd_per_month:
        facts["flat_usd_per_month"] = _Fact(dollars(deployment.flat_nano_usd_per_month))
    return facts


def _of_limits(told: Callable[[Limits], dict[str, str]]) -> Callable[[Snapshot], _Things]:
    def described(snapshot: Snapshot) -> _Things:
        return {
            f"{kind} {name}": {key: _Fact(text) for key, text in found.items()}
            for kind, name, limits in limited_in(snapshot)
            if (found := told(limits))
        }

    return described


def _treatment(snapshot: Snapshot) -> _Things:
    return {
        name: {
            **_facts(workload.policy, ("holder_attempts",)),
            "reveal": _Fact("upstream" if workload.reveal_upstream else "none", not workload.reveal_upstream),
        }
        for name, workload in snapshot.workloads.items()
    }


def _aliases(snapshot: Snapshot) -> _Things:
    return {alias: {"means": _Fact(model)} for alias, model in snapshot.aliases.items()}


def _settings(snapshot: Snapshot) -> _Things:
    sections = {
        "server": snapshot.server,
        "timeouts": snapshot.timeouts,
        "health": snapshot.health,
        "resilience": snapshot.retries,
        "limits": snapshot.limits,
        "decision_log": snapshot.decision_log,
        "ledger": snapshot.ledger,
        "tracing": snapshot.tracing,
        "redis": snapshot.redis,
    }
    return {name: _facts(section) for name, section in sections.items() if section is not None}


_SECTIONS: Final[Mapping[str, Callable[[Snapshot], _Things]]] = {
    "clouds": _hosts,
    "conditions": _conditions,
    "endpoints": _endpoints,
    "deployments": _deployments,
    "limits": _of_limits(rates_in),
    "budgets": _of_limits(budgets_in),
    "treatment": _treatment,
    "aliases": _aliases,
    "settings": _settings,
}


# -- values as texts


def _facts(thing: Any, without: Iterable[str] = (), prefix: str = "") -> _Facts:
    """The fields of a dataclass, those of the ones in it by dotted names. What no `repr` may show is a secret."""
    facts: _Facts = {}
    for field in fields(thing):
        if field.name in without or not field.compare:
            continue
        name, value = f"{prefix}{field.name}", getattr(thing, field.name)
        usual = field.default is not MISSING and value == field.default
        if isinstance(value, BaseUrl):
            facts[name] = _Fact(f"{value.scheme}://{value.authority}{value.path}")
        elif is_dataclass(value):
            inner = _facts(value, prefix=f"{name}.")
            facts |= {key: _Fact(fact.value, usual or fact.usual) for key, fact in inner.items()}
        elif isinstance(value, Mapping):  # of headers, which may be credentials
            facts |= {f"{name}.{key}": _Fact(_secret(each)) for key, each in value.items()}
        elif value is not None:
            facts[name] = _Fact(_text(value) if field.repr else _secret(value), usual)
    return facts


def _secret(value: object) -> Secret:
    return value if isinstance(value, Secret) else Secret(repr(value))


def _text(value: object) -> str | Secret:
    match value:
        case Secret():
            return value
        case enum.Enum():
            return value.name.lower() if isinstance(value, int) else str(value.value)
        case bool():
            return "true" if value else "false"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,g}"
        case frozenset() | set():
            return ", ".join(sorted(map(str, value)))
        case tuple() | list():
            return ", ".join(map(str, value))
        case _:
            return str(value)
