"""`inference-router report refusals`: what the decision log adds up to."""

import csv
import io
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import click
import orjson
from rich import box
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from router.accounting.chain import Verifier
from router.accounting.refusals import PARTS, RefusalReport, Row
from router.cli.audit import read_segments, writers_in
from router.cli.check import WIDTH_OF_A_PIPE
from router.cli.loading import load_or_exit
from router.cli.report.period import seconds_of
from router.model.decision import REFUSALS

_REASON: Final = "reason"
_COUNTS: Final = ("requests", "offers", "accepted", "refused")

_Line = tuple[str | int, ...]


def _seconds(_: click.Context, __: click.Parameter, value: str) -> float:
    seconds = seconds_of(value)
    if seconds is None:
        raise click.BadParameter(f"{value!r} is no duration: write 90m, 24h or 7d")
    return seconds


def _parts(_: click.Context, __: click.Parameter, value: str) -> tuple[str, ...]:
    parts = tuple(part.strip() for part in value.split(",") if part.strip())
    if unknown := [part for part in parts if part not in PARTS and part != _REASON]:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join((_REASON, *PARTS))}")
    return parts


@click.command()
@click.option(
    "--dir", "folder", type=click.Path(exists=True, file_okay=False, path_type=Path), help="The log's folder."
)
@click.option("--config", "file", type=click.Path(dir_okay=False), help="A configuration that names the folder.")
@click.option("--since", callback=_seconds, default="24h", show_default=True, help="How far back: 90m, 24h, 7d.")
@click.option(
    "--by",
    "parts",
    callback=_parts,
    default="cloud,model,hour,reason",
    show_default=True,
    help=f"What makes a row: {', '.join(PARTS)}; `{_REASON}` splits refusals into columns.",
)
@click.option("--format", "form", type=click.Choice(("table", "csv", "json")), default="table", show_default=True)
def refusals(folder: Path | None, file: str | None, since: float, parts: tuple[str, ...], form: str) -> None:
    """Show offers, acceptances and refusals, of all requests that arrived since then. Hours are UTC."""
    if (folder is None) == (file is None):
        raise click.UsageError("say either --dir or --config")
    if file is not None:
        settings = load_or_exit(file, os.environ).decision_log
        if settings is None:
            raise click.UsageError(f"{file} has no decision_log")
        folder = Path(settings.folder)
    assert folder is not None
    found = RefusalReport([part for part in parts if part != _REASON], time.time() - since)
    writers = writers_in(folder)
    if not writers:
        raise click.UsageError(f"{folder} holds no decision log")
    for name, each in writers.items():
        verifier = Verifier(name)
        for _ in read_segments(verifier, each, found.read):
            pass
        if verifier.findings:
            click.echo(f"warning: the log of writer {name} is not as it was written: see `audit verify`", err=True)
    _print(found, split=_REASON in parts, form=form)


def _print(found: RefusalReport, *, split: bool, form: str) -> None:
    rows = found.rows()
    reasons: tuple[str, ...] = REFUSALS if split else ()
    if form == "table":
        reasons = tuple(reason for reason in reasons if any(row.outcomes[reason] for _, row in rows))
    columns = (*found.parts, *_COUNTS, *reasons)
    lines: list[_Line] = [(*key, *_numbers(row, reasons)) for key, row in rows]
    if form == "json":
        shown = [dict(zip(columns, line, strict=True)) for line in lines]
        click.echo(orjson.dumps(shown, option=orjson.OPT_INDENT_2))
    elif form == "csv":
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([columns, *lines])
        click.echo(text.getvalue(), nl=False)
    else:
        console = Console() if sys.stdout.isatty() else Console(width=WIDTH_OF_A_PIPE, color_system=None)
        console.print(page(columns, lines, len(found.parts), console.width))


def _numbers(row: Row, reasons: Sequence[str]) -> Iterator[int]:
    yield from (row.requests, row.offers, row.accepted, row.refused)
    yield from (row.outcomes[reason] for reason in reasons)


def page(columns: Sequence[str], lines: Sequence[_Line], words: int, width: int) -> RenderableType:
    """The report as people read it; where `width` has no room for a column a reason, these follow as lines."""
    whole = _table(columns, lines, words)
    console = Console(width=WIDTH_OF_A_PIPE)
    if not lines:
        return Group(whole, Text("No offer in that time."))
    if Measurement.get(console, console.options, whole).maximum <= width:
        return whole
    counts = words + len(_COUNTS)
    told = [
        (*line[:words], reason, count)
        for line in lines
        for reason, count in zip(columns[counts:], line[counts:], strict=True)
        if count
    ]
    parts: list[RenderableType] = [_table(columns[:counts], [line[:counts] for line in lines], words)]
    if told:
        parts.append(Text())
        parts.append(_table((*columns[:words], _REASON, "refused"), told, words + 1))
    return Group(*parts)


def _table(columns: Sequence[str], lines: Sequence[_Line], words: int) -> Table:
    """`words` columns that make a row, and numbers, which are added up below."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, show_footer=bool(lines), pad_edge=False)
    for index, column in enumerate(columns):
        if index < words:
            table.add_column(column, footer="all" if index == 0 else "", overflow="fold")
        else:
            total = sum(number for line in lines if isinstance(number := line[index], int))
            # A request that was offered to two rows counts in both, so that these do not add up.
            footer = "" if column == "requests" else str(total)
            table.add_column(column, justify="right", footer=footer, no_wrap=True)
    for line in lines:
        table.add_row(*map(str, line))
    return table
