"""`inference-router check FILE`: all faults at once, or who may use what, and why."""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from math import inf
from pathlib import Path

import click
import orjson
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from router.cli.loading import count, load_or_exit
from router.config.allowances import as_written, budgets_in, limited_in, rates_in
from router.config.faults import ConfigError
from router.config.load import load
from router.config.snapshot import Snapshot, Workload
from router.model.fleet import Deployment
from router.model.keys import ApiKey
from router.placement import written

WIDTH_OF_A_PIPE = 10_000  # nothing is cut or wrapped where no terminal says how wide it is
_WIDTH_OF_LISTS = 100  # of routes, whose cells are lists: they wrap; machines read JSON
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@dataclass(frozen=True, slots=True)
class Route:
    """One line of the table: operations of one workload and model that share their tiers."""

    workload: str
    model: str
    operations: tuple[str, ...]
    tiers: tuple[tuple[Deployment, ...], ...]
    reason: str
    rule_version: str


@click.command()
@click.argument("file", type=click.Path(dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Write JSON, for machines.")
@click.option("--against", "old", type=click.Path(dir_okay=False), help="Show what FILE changes of this one.")
@click.option("--replay", "log", type=_FOLDER, help="With --against: try FILE on the requests of this decision log.")
@click.option("--since", help="With --replay: leave out what arrived before, as 24h or 2031-02-01.")
def check(file: str, as_json: bool, old: str | None, log: Path | None, since: str | None) -> None:
    """Name all faults of FILE (exit status 1; on standard error, or as JSON), or show what it routes where.

    Against another one: exit status 0 nothing changes, 3 something does, 4 exclusive traffic may go where it may not go
    by the other one, 1 either file has faults.
    """
    if old is not None:
        against: Callable[..., int] = import_module("router.cli.against.command").against
        sys.exit(against(file, old, log, since, as_json=as_json))
    if log is not None or since is not None:
        raise click.UsageError("--replay needs --against, and --since --replay: it is the old file that the log is of.")
    if as_json:
        return _check_as_json(file)
    snapshot = load_or_exit(file)
    show(snapshot, Console() if sys.stdout.isatty() else Console(width=_WIDTH_OF_LISTS, color_system=None))
    for line in _windows(snapshot):
        click.echo(line)
    for alias, model in sorted(snapshot.aliases.items()):
        click.echo(f"alias: {alias} means {model}")
    keys = _keys(snapshot)
    for name, key in keys.items():
        if key.expires_at != inf:
            click.echo(
                f"key: {name} {'ends' if key in snapshot.keys.values() else 'has ended'} at {written(key.expires_at)}"
            )
    for kind, name, limits in limited_in(snapshot):
        if told := {**rates_in(limits), **budgets_in(limits)}:
            click.echo(f"limits: {kind} {name}: {', '.join(f'{what} {value}' for what, value in told.items())}")
    for warning in snapshot.warnings:
        click.secho(f"warning: {warning}", fg="yellow")
    numbers = {"endpoint": len(snapshot.endpoints), "deployment": len(snapshot.deployments), "key": len(keys)}
    counts = ", ".join(count(number, noun) for noun, number in numbers.items())
    click.echo(f"{file}: good; {counts}; version {snapshot.version}")
    return None


def _check_as_json(file: str) -> None:
    """The routes or the faults, either way as one JSON object on standard output."""
    try:
        shown = _as_json(load(file, os.environ))
    except ConfigError as error:
        shown = {"faults": error.faults}
    click.echo(orjson.dumps(shown, option=orjson.OPT_INDENT_2))
    if "faults" in shown:
        sys.exit(1)


def _keys(snapshot: Snapshot) -> dict[str, ApiKey]:
    """Of the file, by name: the two of one that is being rotated differ in nothing that is shown."""
    return {key.name: key for key in snapshot.file_keys}


def schedules(snapshot: Snapshot) -> dict[str, list[Workload]]:
    """By workload all of its rules, in the order in which they hold."""
    found: dict[str, dict[float, Workload]] = {}
    for phase in snapshot.phases:
        for name, workload in phase.workloads.items():
            found.setdefault(name, {})[workload.period.since] = workload
    return {name: list(rules.values()) for name, rules in found.items()}


def _windows(snapshot: Snapshot) -> Iterator[str]:
    """What holds for a time only, and what that depends on."""
    for name, rules in schedules(snapshot).items():
        if rules[1:]:
            for each in rules:
                now = " (now)" if each.period == snapshot.workloads[name].period else ""
                begin, end = written(each.period.since) or "the beginning", written(each.period.until) or "the end"
                what = f"{each.reason}, rule version {each.permit.rule_version}"
                yield f"window: {name}: from {begin} to {end}: {what}{now}"
    for condition in snapshot.conditions:
        declared = written(condition.declared)
        said = f"declared met for {declared} by {condition.by}" if declared else "not declared met"
        yield f"condition: {condition.name}: {said}"


def routes(snapshot: Snapshot) -> list[Route]:
    """The plans as people read them, in the order of the file."""
    grouped: dict[tuple[str, str, tuple[tuple[Deployment, ...], ...]], list[str]] = {}
    for (workload, model, operation), plan in snapshot.plans.items():
        grouped.setdefault((workload, model, plan.tiers), []).append(operation)
    return [
        Route(
            workload,
            model,
            tuple(operations),
            tiers,
            snapshot.workloads[workload].reason,
            snapshot.workloads[workload].permit.rule_version,
        )
        for (workload, model, tiers), operations in grouped.items()
    ]


def show(snapshot: Snapshot, console: Console) -> None:
    """A table for each workload, narrow enough for a terminal of 80 columns."""
    for name, workload in snapshot.workloads.items():
        heading = Text.assemble((name, "bold"), f": {workload.reason} (rule version {workload.permit.rule_version})")
        table = Table(box=box.SIMPLE_HEAD, title=heading, title_justify="left", title_style="")
        for column in ("model and operations", "tier", "deployments"):
            table.add_column(column, overflow="fold")
        for route in routes(snapshot):
            if route.workload != name:
                continue
            for number, tier in enumerate(route.tiers, 1):
                asked = Text.assemble((route.model, "bold"), *(f"\n  {operation}" for operation in route.operations))
                table.add_row(
                    asked if number == 1 else "",
                    str(number),
                    Text("\n".join(f"{each.cloud}: {each.id}" for each in tier)),
                    end_section=number == len(route.tiers),
                )
        console.print(table)


def _as_json(snapshot: Snapshot) -> dict[str, object]:
    windows = schedules(snapshot)
    return {
        "version": snapshot.version,
        "workloads": {
            name: {
                "reason": workload.reason,
                "rule_version": workload.permit.rule_version,
                "clouds": sorted(workload.permit.clouds),
                "zones": sorted(workload.period.rule.zones),
                "holder": workload.period.rule.holder,
                "reveal": "upstream" if workload.reveal_upstream else "none",
                "limits": as_written(workload.limits),
                "windows": [
                    {
                        "since": written(each.period.since),
                        "until": written(each.period.until),
                        "reason": each.reason,
                        "rule_version": each.permit.rule_version,
                    }
                    for each in windows[name]
                ],
            }
            for name, workload in snapshot.workloads.items()
        },
        "routes": [
            {
                "workload": route.workload,
                "model": route.model,
                "operations": route.operations,
                "tiers": [[{"deployment": each.id, "cloud": each.cloud} for each in tier] for tier in route.tiers],
                "reason": route.reason,
                "rule_version": route.rule_version,
            }
            for route in routes(snapshot)
        ],
        "conditions": [
            {"name": each.name, "declared": written(each.declared), "by": each.by} for each in snapshot.conditions
        ],
        "aliases": dict(snapshot.aliases),
        "keys": [
            {
                "name": name,
                "workload": key.workload,
                "expires": written(key.expires_at),
                "limits": as_written(key.limits),
            }
            for name, key in _keys(snapshot).items()
        ],
        "models": {model: {"limits": as_written(limits)} for model, limits in snapshot.model_limits.items()},
        "warnings": snapshot.warnings,
    }
