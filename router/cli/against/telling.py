"""What a replay found, for people and for programs."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

import click
from rich.console import Console

from router.cli.against.log import Reader
from router.cli.against.printing import WIDTH
from router.cli.against.replay import Found, sums_by
from router.cli.loading import count
from router.cli.report.printing import moment, table, usd
from router.config.snapshot import Snapshot

_PARTS: Final = ("workload", "cloud", "deployment")


def as_json(found: Found, reader: Reader, notes: Sequence[str]) -> dict[str, Any]:
    """All of it, as plain values."""
    numbers = asdict(found)
    for name in ("rows", "moves", "lost"):
        del numbers[name]
    return {
        **numbers,
        "rows": [dict(zip(_PARTS, names, strict=True)) | asdict(row) for names, row in sorted(found.rows.items())],
        "moves": [{**move._asdict(), "requests": times} for move, times in sorted(found.moves.items())],
        "lost": [
            {"workload": workload, "model": model, "why": why, "requests": times}
            for (workload, model, why), times in sorted(found.lost.items())
        ],
        "last": moment(reader.last_at) if reader.last_at else None,
        "notes": list(notes),
    }


def show(found: Found, notes: Sequence[str]) -> None:
    """On standard output."""
    width = min(shutil.get_terminal_size().columns, 120) if sys.stdout.isatty() else WIDTH
    console = Console(width=width) if sys.stdout.isatty() else Console(width=width, color_system=None)
    aside = f"; {found.aside:,} others were never for a deployment to serve" if found.aside else ""
    click.echo(f"\nreplayed: {count_of(found.requests)}{aside}")
    _show_exits(found)
    for part, name in enumerate(_PARTS):
        made = table(f"\nby {name}", [name], ["before", "after", "cost before $", "cost after $"])
        for each, row in sums_by(found, part):
            money = map(usd, (row.before_nano_usd, row.after_nano_usd))
            made.add_row(each, f"{row.before:,}", f"{row.after:,}", *money)
        if found.rows:
            console.print(made)
    click.echo(f"\n{click.wrap_text(_known(found), width)}")
    for note in notes:
        click.echo(click.wrap_text(f"note: {note}", width, subsequent_indent="  "))


def _show_exits(found: Found) -> None:
    if found.exclusive_left:
        click.secho(f"{count_of(found.exclusive_left)} of exclusive traffic would go to another cloud", fg="red")
    for move, times in sorted(found.moves.items()):
        click.echo(f"  {move.workload}: {count_of(times)} from {move.before} to {move.after}")
    for (workload, model, why), times in sorted(found.lost.items()):
        click.secho(f"  {workload}: {count_of(times)} for {model} could not be served: {why}", fg="red")
    if found.gained:
        click.secho(f"  {count_of(found.gained)} that nobody served would be", fg="green")
    if found.elsewhere:
        click.echo(f"  {count_of(found.elsewhere)} would go to another deployment of the same cloud")
    if not (found.moves or found.lost or found.gained or found.elsewhere):
        click.echo("  every one would be served where it was")


def count_of(requests: int) -> str:
    return f"{requests:,} request" if requests == 1 else f"{requests:,} requests"


def _known(found: Found) -> str:
    parts = [f"known from the ledger for {found.known:,}"]
    if found.estimated:
        parts.append(f"estimated for {found.estimated:,} (by the mean of their model and operation)")
    if found.unknown:
        parts.append(f"not known for {found.unknown:,}")
    text = f"tokens are {', '.join(parts)}; costs are by token, before by the old file's prices, after by the new ones"
    return f"{text}; {found.unpriced:,} have no price in one of them and are in no cost" if found.unpriced else text


def version_notes(reader: Reader, old: Snapshot) -> list[str]:
    """What the log was written under, where that is not what it is compared with."""
    others = sorted(reader.versions.keys() - {old.version})
    if not others:
        return []
    named = ", ".join(others[:5]) + (f" and {count(len(others) - 5, 'other')}" if len(others) > 5 else "")
    return [
        f"the log was also written under {named}, and the old file is version {old.version}: what those placed "
        "otherwise is counted as moved"
    ]
