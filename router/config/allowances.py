"""What keys, workloads and models may use: their `limits` and `budget`."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

from router.config.document import Document
from router.config.faults import Path, listed, suggest
from router.config.schema import AllowanceSection, BudgetSection, ModelSection
from router.config.snapshot import Snapshot
from router.model.keys import ApiKey
from router.model.limits import UNLIMITED, Limits
from router.model.plan import Plan

_NANO: Final = 1_000_000_000
_RATES: Final = ("rpm", "tpm", "concurrent")
_RATES_AS_KEPT: Final = {name: name for name in _RATES}
_MONEY: Final = {"day_usd": "day_nano_usd", "month_usd": "month_nano_usd"}  # as it is written: as it is kept


def read_allowance(doc: Document, path: Path, limits: AllowanceSection | None, budget: BudgetSection | None) -> Limits:
    """The limits of one section. `path`: of the section that has `limits` and `budget`."""
    if limits is None and budget is None:
        return UNLIMITED
    shadow: set[str] = set()
    rates: dict[str, int] = {}
    burst_share = UNLIMITED.burst_share
    if limits is not None:
        rates = {name: value for name in _RATES if (value := getattr(limits, name)) is not None}
        shadow |= _shadowed(doc, (*path, "limits"), limits.shadow, rates, _RATES)
        if limits.burst_share is not None:
            burst_share = limits.burst_share
            if not rates.keys() & {"rpm", "tpm"}:
                doc.fault((*path, "limits", "burst_share"), "says nothing without `rpm` or `tpm`")
    money: dict[str, int] = {}
    if budget is not None:
        written = {name: value for name in _MONEY if (value := getattr(budget, name)) is not None}
        shadow |= {_MONEY[name] for name in _shadowed(doc, (*path, "budget"), budget.shadow, written, tuple(_MONEY))}
        money = {_MONEY[name]: max(1, round(value * _NANO)) for name, value in written.items()}
    return Limits(**rates, **money, burst_share=burst_share, shadow=frozenset(shadow))


def _shadowed(
    doc: Document, path: Path, shadow: bool | list[str], limits: Collection[str], known: tuple[str, ...]
) -> set[str]:
    """The names of those that refuse nobody yet. `limits`: those that are set."""
    if not limits and not doc.has_fault(path):
        doc.fault(path, f"limits nothing: set {listed(known)}")
    if isinstance(shadow, bool):
        return set(limits) if shadow else set()
    for index, name in enumerate(shadow):
        place = (*path, "shadow", index)
        if name not in known:
            hint = suggest(name, known) if doc.literal(place) else ""
            doc.fault(place, f"{doc.shown(place)} is not {listed(known)}{hint}")
        elif name not in limits:
            doc.fault(place, f"{doc.shown(place)} is not set here, so there is nothing to count")
    return set(shadow).intersection(limits)


def read_model_limits(
    doc: Document, sections: Mapping[str, ModelSection], models: Collection[str] | None, aliases: Mapping[str, str]
) -> dict[str, Limits]:
    """By model. `models`: all that are served; None where the fleet has faults of its own."""
    found: dict[str, Limits] = {}
    for model, section in sections.items():
        path: Path = ("models", model)
        if model in aliases:
            doc.fault(path, f"is an alias: limit {aliases[model]}, and all its names are limited together")
        elif models is not None and model not in models:
            doc.fault(path, f"is served by no deployment{suggest(model, models)}")
        if section.limits is None and section.budget is None and not doc.has_fault(path):
            doc.fault(path, "says nothing: it takes `limits` and `budget`")
        found[model] = read_allowance(doc, path, section.limits, section.budget)
    return found


def budget_warnings(
    keys: Collection[ApiKey],
    workloads: Mapping[str, Limits],
    models: Mapping[str, Limits],
    plans: Iterable[Plan],
    *,
    kept: bool,
) -> list[str]:
    """For budgets that some answers cost nothing of, since nobody knows their price, or that a restart forgets.

    `kept`: there is a ledger, which remembers what was spent.
    """
    of_keys = {key.workload for key in keys if has_budget(key.limits)}
    warnings: set[str] = set()
    for plan in plans:
        if has_budget(models.get(plan.model, UNLIMITED)):
            where = f"models.{plan.model}.budget"
        elif has_budget(workloads[plan.workload]):
            where = f"workloads.{plan.workload}.budget"
        elif plan.workload in of_keys:
            where = f"keys of {plan.workload}: budget"
        else:
            continue
        if not kept:
            warnings.add("ledger: there is none, so what was spent of budgets is forgotten with each restart")
        unpriced = [each.id for tier in plan.tiers for each in tier if each.price is None]
        warnings |= {f"{where}: what {name} serves costs nothing of it: it has no `price`" for name in unpriced}
    return sorted(warnings)


def as_written(limits: Limits) -> dict[str, object]:
    """As a file has them, as plain JSON values; empty where nothing is limited."""
    names = _RATES_AS_KEPT | _MONEY
    found: dict[str, object] = {
        name: value / _NANO if name in _MONEY else value
        for name, kept in names.items()
        if (value := getattr(limits, kept)) is not None
    }
    if found.keys() & {"rpm", "tpm"}:
        found["burst_share"] = limits.burst_share
    if limits.shadow:
        found["shadow"] = [name for name, kept in names.items() if kept in limits.shadow]
    return found


def rates_in(limits: Limits) -> dict[str, str]:
    """What bounds traffic, for people, by how a file calls it."""
    found = {
        name: f"{value:,}{_counting(limits, name)}" for name in _RATES if (value := getattr(limits, name)) is not None
    }
    if found.keys() & {"rpm", "tpm"} and limits.burst_share != UNLIMITED.burst_share:
        found["burst_share"] = f"{limits.burst_share:g}"
    return found


def budgets_in(limits: Limits) -> dict[str, str]:
    """Likewise what bounds money."""
    return {
        name: f"{dollars(value)}{_counting(limits, kept)}"
        for name, kept in _MONEY.items()
        if (value := getattr(limits, kept)) is not None
    }


def dollars(nano_usd: int) -> str:
    """To the last digit that says something."""
    return f"${nano_usd / _NANO:,.9f}".rstrip("0").rstrip(".")


def _counting(limits: Limits, kept: str) -> str:
    return " (shadow)" if kept in limits.shadow else ""


def limited_in(snapshot: Snapshot) -> Iterator[tuple[str, str, Limits]]:
    """Whatever the file may limit: of which kind it is (`key`, `workload`, `model`), its name, and its limits."""
    yield from (("key", name, key.limits) for name, key in {key.name: key for key in snapshot.file_keys}.items())
    yield from (("workload", name, workload.limits) for name, workload in snapshot.workloads.items())
    yield from (("model", model, limits) for model, limits in snapshot.model_limits.items())


def has_budget(limits: Limits) -> bool:
    """Whether money is counted."""
    return limits.day_nano_usd is not None or limits.month_nano_usd is not None


def limits_in(snapshot: Snapshot) -> dict[str, Mapping[str, Limits]]:
    """All that is limited now, by scope (`key`, `workload`, `model`) and name."""
    return {
        "key": {key.name: key.limits for key in snapshot.keys.values() if key.limits != UNLIMITED},
        "workload": {name: workload.limits for name, workload in snapshot.workloads.items()},
        "model": snapshot.model_limits,
    }
