"""`inference-router report entries`: the ledger itself, one line for each request or each attempt."""

import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click
import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from router.cli.report.period import check
from router.cli.report.period import since as since_option
from router.cli.report.period import until as until_option
from router.cli.report.printing import opened, output, write_csv
from router.cli.report.store import config, read

if TYPE_CHECKING:
    from router.ledger.store import Store


@click.command()
@config
@click.option("--of", "name", type=click.Choice(("requests", "attempts")), default="requests", show_default=True)
@since_option
@until_option
@click.option("--format", "form", type=click.Choice(("csv", "jsonl")), default="csv", show_default=True)
@output
def entries(file: str, name: str, since: float, until: float | None, form: str, output: Path | None) -> None:
    """Write every entry of requests that arrived in a period, in their order. Long ones show how far they are."""
    check(since, until)
    end = until if until is not None else time.time()
    with opened(output) as out:
        read(file, lambda store, _: _write(store, name, since, end, form, out))


async def _write(store: "Store", name: str, since: float, until: float, form: str, out: TextIO) -> None:
    from router.ledger.export import TABLES, count
    from router.ledger.export import entries as pages

    table = TABLES[name]
    names = ["at" if column.name == "at_us" else str(column.name) for column in table.c]
    at = names.index("at")
    if form == "csv":
        write_csv(out, [names])
    with _progress(out) as progress:
        shown = progress.add_task(name, total=await count(store, table, since, until))
        async for page in pages(store, table, since, until):
            rows = [_row(row, at) for row in page]
            if form == "csv":
                write_csv(out, rows)
            else:
                out.writelines(f"{orjson.dumps(dict(zip(names, row, strict=True))).decode()}\n" for row in rows)
            progress.advance(shown, len(rows))


def _row(row: Sequence[Any], at: int) -> list[Any]:
    cells = list(row)
    cells[at] = datetime.fromtimestamp(cells[at] / 1e6, UTC).isoformat(timespec="microseconds")
    return cells


def _progress(out: TextIO) -> Progress:
    """On standard error, where that is a terminal which the entries themselves do not fill."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    hidden = not sys.stderr.isatty() or out.isatty()
    return Progress(*columns, console=Console(stderr=True), disable=hidden, transient=True)
